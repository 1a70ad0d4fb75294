"""Sessions of any client with any host, kept in a store as a client keeps them."""

from __future__ import annotations

from dataclasses import replace

from tests.support.receipts import (
    CLIENT,
    HOST,
    NETWORK,
    NOW,
    WALLET,
    authorization,
    job_terms,
    quote,
    seal,
    write_receipts,
)

from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.receipts.bundle import JobPapers, ReceiptPapers, SessionBundle, SessionPapers, verify_session
from hostmesh.receipts.receipt import JobState, countersign, open_sealed
from hostmesh.receipts.store import ReceiptStore
from hostmesh.receipts.terms import SessionTerms
from hostmesh.sessions.authorization import message_from_terms
from hostmesh.sessions.grant import seal_grant


def session_id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def session_with(
    number: int,
    *states: JobState,
    host: PeerKey = HOST,
    wallet: Wallet = WALLET,
    client: PeerKey = CLIENT,
) -> SessionBundle:
    """Return a session of its own number with a job that ended in each of the states, all receipts kept."""
    terms = authorization(
        client=wallet.address_bytes,
        client_peer_id=peer_id_to_bytes(client.peer_id),
        host_peer_id=peer_id_to_bytes(host.peer_id),
        nonce=number.to_bytes(32, "big"),
        spending_limit_micros=1_000_000,
    )
    session_id = session_id_of(number)
    session = SessionTerms(network=NETWORK, session_id=session_id, authorization=terms, signer=wallet.address_bytes)
    papers = SessionPapers(
        network=NETWORK,
        authorization=message_from_terms(terms, wallet.sign(terms, NETWORK)).SerializeToString(),
        grant=seal_grant(host, terms, network=NETWORK, session_id=session_id, now=NOW - 59),
    )
    jobs = []
    for index, state in enumerate(states):
        job_id = number.to_bytes(8, "big") + index.to_bytes(8, "big")
        *begun, last = write_receipts(job_terms(job_id, session))
        if state is JobState.FAILED:
            # It repeats what was claimed before.
            last = replace(begun[-1], sequence=last.sequence, state=int(state))
        receipts = []
        for receipt in (*begun, replace(last, state=int(state))):
            envelope = seal(receipt, key=host)
            signature = countersign(wallet, open_sealed(envelope, network=NETWORK))
            receipts.append(ReceiptPapers(envelope=envelope, countersignature=signature))
        envelope = quote(
            job_id,
            key=host,
            host_peer_id=peer_id_to_bytes(host.peer_id),
            client_peer_id=peer_id_to_bytes(client.peer_id),
        )
        jobs.append(JobPapers(job_id=job_id, quote=envelope, receipts=tuple(receipts)))
    return SessionBundle(session=papers, jobs=tuple(jobs))


def keep(store: ReceiptStore, bundle: SessionBundle, *, is_shared: bool, is_host: bool = False) -> None:
    """Keep a session with its papers; of a client, its countersignatures too."""
    terms, _ = verify_session(bundle.session)
    store.papers.put_session(terms, bundle.session, is_host=is_host)
    for job in bundle.jobs:
        store.papers.put_quote(terms, job.job_id, job.quote, is_host=is_host)
        for papers in job.receipts:
            signed = open_sealed(papers.envelope, network=terms.network)
            if is_host:
                store.put_issued(signed.receipt, signed.envelope, network=terms.network, signer=terms.signer)
            else:
                store.put_countersigned(signed, papers.countersignature, signer=terms.signer)
    if is_shared:
        store.papers.set_shared(terms.authorization.host_peer_id, terms.session_id, True, network=terms.network)
