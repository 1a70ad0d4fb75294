"""What is said when nobody fits, as errors. Pure."""

from __future__ import annotations

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.funnel import Funnel
from hostmesh.discovery.ranking import SpecificStrategy, Strategy
from hostmesh.errors import HostsThrottledError, HostUnfitError, NoHostFoundError


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
    else:
        message = f"no host meets the criteria: {funnel.describe()}"
    return NoHostFoundError(message, seen=funnel.seen, rejected=funnel.rejected, relaxation=relaxation, remedy=advice)


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
