"""Checks with canaries which model a host runs: on a simulated network, a host that sells another one is found out.

Usage: python examples/check_models.py
"""

import hashlib

import trio

from hostmesh import Agreement, Calibration, HostCriteria, HostDescription, ModelOffer, Price, Warmth
from hostmesh.testing import FakeEngine, open_nodes, run_sim

MODEL = "tiny-chat"
OFFER = HostDescription(
    models=[ModelOffer(model_id=MODEL, price=Price(micros_per_mtok=250_000, currency="USD"))],
    # A host with one place refuses a job (BUSY) that comes while a canary runs, as while any other job does.
    max_concurrent_jobs=2,
)
# How far two honest engines agree that round differently; for a real model this is measured: docs/canaries.md.
HONEST = [Agreement(characters=40, parted=False)] * 50 + [Agreement(characters=20, parted=True)] * 10
CALIBRATIONS = {MODEL: Calibration(model_id=MODEL, engines={"rounds differently": dict.fromkeys(Warmth, HONEST)})}


def engine_with(weights):
    """An engine whose answers follow from weights, prompt and seed, as a model's do."""

    def answer(work):
        asked = f"{weights} {work.messages[-1].content} {work.parameters.get('seed')}"
        return hashlib.sha256(asked.encode()).hexdigest()[:40]

    return FakeEngine([MODEL], answer=answer)


async def main(network):
    async with (
        open_nodes(network, 2) as (host, client),
        host.sdk.get_host_manager().serve(OFFER, engine_with("smaller weights")),
    ):
        discovery, jobs = client.sdk.get_discovery_manager(), client.sdk.get_job_manager()
        choice = await discovery.find_host(HostCriteria(required_models=[MODEL]))
        async with (
            client.sdk.get_session_manager().open_session(choice, spending_limit_micros=100_000) as session,
            # The reference is an engine of your own. A canary for each real job, to be quick here: 0.1 is the default.
            client.sdk.check_models(
                reference=engine_with("the right weights"),
                calibrations=CALIBRATIONS,
                budget_micros=50_000,
                currency="USD",
                rate=1.0,
            ) as checks,
        ):
            number = 0
            while not checks.evidence:  # your own work goes on as ever
                number += 1
                async with jobs.run(session, prompt=f"Say something about the number {number}.") as job:
                    await job.read_text()
                await trio.sleep(7 * (number % 3) + 5)
        [found] = checks.evidence
        print(found.explain())
        print(f"{number} jobs, {checks.sent} canaries for {checks.budget.spent_micros} micro-USD")
        reputation = discovery.reputation(choice.peer_id, choice.operator_address)
        print(f"{reputation.points} points with {reputation.good} good, {reputation.bad} bad")


run_sim(main)
