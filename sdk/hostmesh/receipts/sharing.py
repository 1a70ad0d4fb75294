"""Shared receipts on the wire: which of them make a page, and a page's sessions as bundles again. Pure.

Spec: docs/protocols/receipt.md, "Between peers".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from hostmesh.errors import MalformedMessageError
from hostmesh.receipts.bundle import JobPapers, ReceiptPapers, SessionBundle, SessionPapers
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.v1 import session_pb2

MAX_PAGE_SESSIONS = 32
MAX_LOOKED = MAX_PAGE_SESSIONS + 1
"""Sessions that are read for a page: one more, to know whether another page follows."""
MAX_SESSION_JOBS = 64
"""The latest are told."""
MAX_PAGE_BYTES = 196_608
"""Of its sessions; the token and what protobuf adds have room beside, up to the method's 204,800."""
MAX_SESSION_BYTES = 65_536
"""So that each has room on a page, and a page for several."""
_SESSION_ID_BYTES = 16
_SIGNATURE_BYTES = 65
_FRAMING_BYTES = 8
"""Tag and length of an element, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPlace:
    """A shared session's place in the order in which they are told."""

    session_id: bytes
    host_peer_id: bytes
    """Raw multihash."""


FIRST = SharedPlace(session_id=b"", host_peer_id=b"")
"""Before all of them."""


def page_of(follow: Iterable[tuple[SharedPlace, SessionBundle]]) -> pb.ListSharedResponse:
    """Return a page.

    Args:
        follow: shared sessions, in their order, :data:`MAX_LOOKED` where there are as many; read while there is room.

    Returns:
        As many of them as it has room for, from the first one on, without those of contract wallets: nobody can verify
        these without asking a chain.
    """
    page = pb.ListSharedResponse()
    size = looked = 0
    last = FIRST
    for place, bundle in follow:
        looked += 1
        message = session_message(bundle)
        if message is not None:
            size += message.ByteSize() + _FRAMING_BYTES
            if len(page.sessions) == MAX_PAGE_SESSIONS or size > MAX_PAGE_BYTES:
                page.next_page_token = token_of(last)
                return page
            page.sessions.append(message)
        last = place
    if looked == MAX_LOOKED:
        page.next_page_token = token_of(last)
    return page


def session_message(bundle: SessionBundle) -> pb.SharedSession | None:
    """Return a session as it is told, with the first ones of its jobs, as there is room.

    Args:
        bundle: each job with its last receipt, the latest job first.

    Returns:
        None: of a contract wallet, or without a job.
    """
    papers = bundle.session
    if not bundle.jobs or not _is_signed_by_keys(papers):
        return None
    message = pb.SharedSession(authorization=papers.authorization, delegation=papers.delegation, grant=papers.grant)
    room = MAX_SESSION_BYTES - message.ByteSize()
    for job in bundle.jobs[:MAX_SESSION_JOBS]:
        last = job.receipts[-1]
        told = pb.SharedJob(
            job_id=job.job_id, quote=job.quote, receipt=last.envelope, countersignature=last.countersignature
        )
        room -= told.ByteSize() + _FRAMING_BYTES
        if room < 0:
            break
        message.jobs.append(told)
    return message


def bundle_of(message: pb.SharedSession, *, network: str) -> SessionBundle:
    """Return a session that was told; nothing of it is verified.

    Args:
        message: within its bounds.
        network: our network's name, which the signatures must be for.
    """
    return SessionBundle(
        session=SessionPapers(
            network=network,
            authorization=message.authorization,
            grant=message.grant,
            delegation=message.delegation,
        ),
        jobs=tuple(
            JobPapers(
                job_id=job.job_id,
                quote=job.quote,
                receipts=(ReceiptPapers(envelope=job.receipt, countersignature=job.countersignature),),
            )
            for job in message.jobs
        ),
    )


def token_of(place: SharedPlace) -> bytes:
    """Return the token of the page that follows a place. Tokens are in the order of pages."""
    return place.session_id + place.host_peer_id


def place_of(token: bytes) -> SharedPlace:
    """Return the place of a token; bytes that no page had are a place like any other.

    >>> place_of(token_of(SharedPlace(session_id=b"s" * 16, host_peer_id=b"h"))).host_peer_id
    b'h'
    """
    if not token:
        return FIRST
    return SharedPlace(session_id=token[:_SESSION_ID_BYTES], host_peer_id=token[_SESSION_ID_BYTES:])


def check_page(page: pb.ListSharedResponse, request: pb.ListSharedRequest) -> None:
    """Check that a page goes on from the one before.

    Raises:
        MalformedMessageError: its token is not after that of the request, so that pages would never end; or a session
            has no job, of which no page tells.
    """
    if page.next_page_token and page.next_page_token <= request.page_token:
        raise MalformedMessageError("a page that leads back to an earlier one", field="next_page_token")
    if any(not session.jobs for session in page.sessions):
        raise MalformedMessageError("a shared session without a job", field="sessions")


def _is_signed_by_keys(papers: SessionPapers) -> bool:
    try:
        signatures = [session_pb2.SessionAuthorization.FromString(papers.authorization).signature]
        if papers.delegation:
            signatures.append(session_pb2.Delegation.FromString(papers.delegation).signature)
    except DecodeError:
        return False
    return all(len(signature) == _SIGNATURE_BYTES for signature in signatures)
