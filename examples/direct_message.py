"""Send a message to a peer and be sure that it was delivered, once.

Usage: python examples/direct_message.py
"""

import trio

from hostmesh import Wallet, open_sdk


async def main() -> None:
    async with open_sdk(ephemeral_key=True) as alice, open_sdk(ephemeral_key=True) as bob:
        for sdk in (alice, bob):
            await sdk.authenticate(wallet=Wallet.generate())
            await sdk.get_discovery_manager().create_node()

        async def answer(message) -> None:
            print(f"Bob got {message.body} from {message.sender}")

        bob.get_discovery_manager().on_message(answer)
        discovery = alice.get_discovery_manager()
        bob_id = await discovery.connect_to_peer(bob.get_discovery_manager().listen_addresses()[0])
        ack = await discovery.send_message(bob_id, {"type": "greeting", "data": "hello"})
        print(f"delivered after {ack.attempts} attempt(s)")


if __name__ == "__main__":
    trio.run(main)
