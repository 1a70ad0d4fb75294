"""What a client's session signs for its host: receipts, for its own network, by whoever signed the authorisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.support.receipts import job_terms, write_receipts
from tests.unit.sessions.client_kit import NETWORK, start

from hostmesh.errors import ReceiptError
from hostmesh.receipts.receipt import verify_countersignature

if TYPE_CHECKING:
    from conftest import World
else:
    World = Any


async def test_a_receipt(world: World) -> None:
    session = await start(world.manager(), world)
    receipt = write_receipts(job_terms())[-1]
    signature = session.countersign(receipt)
    verify_countersignature(receipt, signature, network=NETWORK, signer=world.wallet.address_bytes)
    with pytest.raises(ReceiptError):
        verify_countersignature(receipt, signature, network="hostmesh", signer=world.wallet.address_bytes)
