"""What is said when nobody fits, as errors. Pure."""

from __future__ import annotations

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.funnel import RECORD, Funnel
from hostmesh.discovery.ranking import SpecificStrategy, Strategy
from hostmesh.errors import HostsThrottledError, HostUnfitError, NoHostFoundError

CLOCK_REMEDY = "compare this machine's clock with its peers' (hostmesh doctor), and set it, best by NTP"


def no_host(funnel: Funnel, criteria: HostCriteria, strategy: Strategy) -> NoHostFoundError:
    """Return the error for a search without a result.

    Args:
        funnel: nobody matched.
        criteria: those asked.
        strategy: with SPECIFIC the error speaks of the host named.
    """
    throttled = funnel.rejected.get("throttled", 0)
    relaxation = "" if funnel.relaxation is None else funnel.relaxation.text
    advice = f"a host would match with: {relaxation}" if relaxation else "relax the criteria named"
    if isinstance(strategy, SpecificStrategy):
        return _unfit(funnel, strategy.host_named(criteria), relaxation, advice)
    if throttled:
        return HostsThrottledError(
            f"{throttled} of {funnel.seen} hosts would have been measured, and allow no more calls now: "
            f"{funnel.describe()}",
            seen=funnel.seen,
            rejected=funnel.rejected,
            relaxation=relaxation,
            retry_after_ms=funnel.retry_after_ms,
            remedy=when_to_retry(funnel.retry_after_ms),
        )
    if funnel.seen == 0:
        message = "no host was found"
        advice = "check that a bootstrap node is reachable (wait_ready) or that hosts run on this network"
    elif funnel.rejected.get(RECORD) == funnel.seen:
        message, advice = none_of_now(funnel), CLOCK_REMEDY
    else:
        message = f"no host meets the criteria: {funnel.describe()}"
        advice += and_the_clock(funnel)
    return NoHostFoundError(message, seen=funnel.seen, rejected=funnel.rejected, relaxation=relaxation, remedy=advice)


def none_of_now(funnel: Funnel) -> str:
    """Return what is said where the record of every host was refused for its times."""
    example = next(each.detail for each in funnel.rejections if each.criterion == RECORD)
    return f"no host's record is of now by this machine's clock: {funnel.describe()} ({example})"


def and_the_clock(funnel: Funnel) -> str:
    """Return what to do, beside other things, about records refused for their times; empty = there are none."""
    untimely = funnel.rejected.get(RECORD)
    return f"; records refused for their times: {untimely}, so {CLOCK_REMEDY}" if untimely else ""


def when_to_retry(retry_after_ms: int | None) -> str:
    """Return what to do about hosts that allow this client no more calls."""
    wait = "a moment" if retry_after_ms is None else f"{retry_after_ms} ms"
    return f"search again in {wait}, and less often: equal searches at one time are one, and choices can be kept"


def _unfit(funnel: Funnel, peer_id: str, relaxation: str, advice: str) -> HostUnfitError:
    rejection = next((each for each in funnel.rejections if each.peer_id == peer_id), None)
    if rejection is None:
        criterion, detail = "", "it was not reached at any address that is known, or gave no record that holds"
        advice = "check its peer id, and that the host runs on this network"
    else:
        criterion, detail = rejection.criterion, rejection.detail
        if criterion == "throttled":
            advice = when_to_retry(funnel.retry_after_ms)
        elif criterion == RECORD:
            advice = CLOCK_REMEDY
    return HostUnfitError(
        f"the host {peer_id} will not do: {detail}",
        peer_id=peer_id,
        criterion=criterion,
        detail=detail,
        seen=funnel.seen,
        rejected=funnel.rejected,
        relaxation=relaxation,
        remedy=advice,
    )
