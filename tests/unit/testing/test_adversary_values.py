"""What the kit's adversaries are told: values with bounds, whose examples hold."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest

from hostmesh.testing import DhtLies, HostLies, Slowness, adversary_dht, adversary_host, make_description


@pytest.mark.parametrize("module", [adversary_dht, adversary_host])
def test_docstring_examples(module: object) -> None:
    failed, attempted = doctest.testmod(module)  # type: ignore[arg-type]
    assert attempted > 0
    assert failed == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: DhtLies(honest_requests=-1),
        lambda: HostLies(extra_uptime_s=-1),
        lambda: HostLies(ping_delay_s=-0.1),
        lambda: HostLies(job_delay_s=-0.1),
        lambda: HostLies(extra_tokens=-1),
        lambda: Slowness(byte_every_s=0.0),
        lambda: Slowness(byte_every_s=float("nan")),
    ],
)
def test_what_cannot_be_done_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"negative|some time"):
        make()


def test_who_tells_no_lie_claims_what_it_has() -> None:
    truth = make_description(["a", "b"], location="NZ", capabilities=["fast"])
    assert HostLies().claims(truth) == truth


def test_a_claim_that_is_true_is_made_once() -> None:
    truth = make_description("a", capabilities=["fast"])
    claims = HostLies(extra_models=("a", "b"), capabilities=("fast", "faster")).claims(truth)
    assert (claims.model_ids, claims.capabilities) == (("a", "b"), ("fast", "faster"))
