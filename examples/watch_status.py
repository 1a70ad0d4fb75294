"""Watch a host's load.

Usage: python examples/watch_status.py HOST_MULTIADDR [SNAPSHOTS]
"""

import sys

import trio

from hostmesh import Wallet, open_sdk


async def main(address: str, snapshots: str = "1") -> None:
    async with open_sdk(ephemeral_key=True) as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        peer_id = await discovery.connect_to_peer(address)
        status = sdk.get_status_client()
        print(f"round trip {await status.ping(peer_id) * 1000:.1f} ms")
        async with status.watch_status(peer_id, min_interval_s=1.0) as watch:
            left = int(snapshots)
            async for host in watch:
                print(f"{host.state.value}: {host.active_jobs} of {host.max_concurrent_jobs} slots in use", flush=True)
                left -= 1
                if not left:
                    break


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
