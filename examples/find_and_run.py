"""Find a host by what you need, pay it from a wallet, stream the answer.

Usage: python examples/find_and_run.py BOOTSTRAP_MULTIADDR MODEL PROMPT [WALLET_FILE]
"""

import sys

import trio

from hostmesh import HostCriteria, NoHostFoundError, Wallet, open_sdk


async def main(bootstrap: str, model: str, prompt: str, wallet_file: str | None = None) -> None:
    # ephemeral_key: a new peer id for this run; your wallet is what hosts know you by.
    async with open_sdk(bootstrap_nodes=[bootstrap], ephemeral_key=True) as sdk:
        if wallet_file is None:
            await sdk.authenticate(wallet=Wallet.generate())
        else:
            await sdk.authenticate(keystore=wallet_file)
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        await discovery.wait_ready(timeout_s=10)
        try:
            choice = await discovery.find_host(HostCriteria(required_models=[model], max_latency_ms=500))
        except NoHostFoundError as error:
            sys.exit(f"{error.message}: seen {error.seen}, turned away {error.rejected}. {error.relaxation}")
        print(f"{choice.peer_id} at {choice.price}", file=sys.stderr)
        async with (
            sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session,
            sdk.get_job_manager().run(session, prompt=prompt) as job,
        ):
            async for delta in job:
                print(delta.text, end="", flush=True)
        print(f"\n{job.usage}", file=sys.stderr)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
