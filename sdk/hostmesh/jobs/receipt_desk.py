"""The host's receipts of all its sessions: opens bills, takes countersignatures, hands out last receipts."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Protocol

import trio

from hostmesh.errors import RpcError, StatusCode
from hostmesh.identity.structs import NO_DIGEST, Receipt
from hostmesh.jobs.account import JobReservation, PayingSession
from hostmesh.jobs.bill import JobBill
from hostmesh.jobs.quotes import QuotedTerms
from hostmesh.jobs.reasons import job_refused
from hostmesh.jobs.session_account import SessionAccount
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.receipts.bundle import SessionPapers
from hostmesh.receipts.chain import JobInput, OutputChain, input_sha256
from hostmesh.receipts.prompt_room import PromptRoom
from hostmesh.receipts.reasons import ReceiptFault, fault
from hostmesh.receipts.receipt import JobState, verify_countersignature
from hostmesh.receipts.store import ReceiptStore
from hostmesh.receipts.terms import JobTerms, SessionTerms
from hostmesh.rpc.context import CallContext
from hostmesh.system import System
from hostmesh.v1 import job_pb2

MAX_CUT_JOBS = 1024
"""Jobs whose last receipt may still be asked for; beyond, one goes that was cut first, and stays unacknowledged: of the
peer that has most of them."""
MAX_CUT_MARKS = 65_536
"""Pieces that these jobs may go back to, of all together: about 12 MB."""
MAX_ACCOUNTS = 8192
"""As many as a host has sessions. Beyond, the one that is idle longest is read from the store when it is next used."""
LOOK_S = 60.0
"""How often sessions are looked at that may be over, and how long a client then still has to countersign."""
END_WAIT_S = 2.0
"""How long a call for a last receipt waits for the job to end: an engine has a second to stop."""


class ClientStandings(Protocol):
    """Remembers how clients pay: ``hostmesh.sessions.admission.client_standing_book.ClientStandingBook``."""

    def paid(self, wallet: bytes, *, cost_micros: int) -> None:
        """Note a job whose last receipt the client countersigned, over what was sent of it."""
        ...

    def overdue(self, wallet: bytes) -> None:
        """Note a job that ended, or a session, because of what the client did not countersign in time."""
        ...


class ReceiptDesk:
    """One a job server.

    Args:
        key: the host's peer key; signs receipts.
        network: the network's name.
        store: keeps receipts and countersignatures.
        system: clocks.
        clients: told how clients pay; None = nobody is.
    """

    def __init__(
        self,
        *,
        key: PeerKey,
        network: str,
        store: ReceiptStore,
        system: System,
        clients: ClientStandings | None = None,
    ) -> None:
        self._key = key
        self._network = network
        self._store = store
        self._system = system
        self._clients = clients
        self._accounts: OrderedDict[bytes, SessionAccount] = OrderedDict()
        self._running: dict[bytes, JobBill] = {}
        self._cut: OrderedDict[bytes, JobBill] = OrderedDict()
        self._looked_s = system.monotonic_s()

    def open_bill(
        self,
        session: PayingSession,
        quote: QuotedTerms,
        *,
        job_input: JobInput,
        salt: bytes,
        reservation: JobReservation,
        most_micros: int,
        prompt: PromptRoom,
    ) -> JobBill:
        """Return the bill of a job that begins. Its quote names it: a quote is good for one job.

        Args:
            session: pays.
            quote: what was agreed.
            job_input: the prompt.
            salt: of the output chain.
            reservation: what the session set aside.
            most_micros: how much that is.
            prompt: what it takes of the slice.

        Raises:
            JobError: RECEIPT_OVERDUE of an earlier job, and the client countersigned nothing since.
            ReceiptError: TOO_MANY_JOBS of the session are unpaid.
            RpcError: SPENDING_LIMIT: the session does not cover what was claimed before a kill beside the job.
            StoreError: what is unpaid of before cannot be read.
        """
        self._look_for_debts()
        account = self._account_of(session)
        if account.is_overdue:
            raise job_refused("RECEIPT_OVERDUE", "the session ended, since no receipt was countersigned in time")
        terms = JobTerms(
            session=account.terms,
            job_id=quote.quote_id,
            price_micros_per_mtok=quote.price_micros_per_mtok,
            max_output_tokens=quote.max_output_tokens,
            context_tokens=quote.context_tokens,
            weights_sha256=quote.weights_sha256 or NO_DIGEST,
            tokenizer_sha256=quote.tokenizer_sha256 or NO_DIGEST,
            chat_template_sha256=quote.chat_template_sha256 or NO_DIGEST,
        )
        chain = OutputChain(
            salt=salt, session_id=session.session_id, job_id=terms.job_id, input_sha256=input_sha256(job_input)
        )
        bill = JobBill(account, terms, chain, reservation, most_micros=most_micros, prompt=prompt)
        # What may fail comes first: a job that has begun is ended by whoever sees it through, and nobody would.
        self._put_papers(session, account.terms, quote)
        account.begin(terms.job_id, bill)
        self._running[terms.job_id] = bill
        return bill

    def end(self, bill: JobBill) -> None:
        """Note that the job of a bill ended, after :meth:`JobBill.close`."""
        self._running.pop(bill.job_id, None)
        bill.account.end(bill.job_id)
        if bill.is_overdue and self._clients is not None:
            self._clients.overdue(bill.account.terms.authorization.client)
            bill.account.is_noted = True
        if bill.was_cut:
            self._cut[bill.job_id] = bill
            while len(self._cut) > MAX_CUT_JOBS or sum(each.marks for each in self._cut.values()) > MAX_CUT_MARKS:
                self._forget_cut()

    def countersign(self, request: job_pb2.CountersignRequest, context: CallContext) -> None:
        """Take a client's signature of a receipt; on disk when this returns. Twice is once.

        Raises:
            ReceiptError: UNKNOWN_RECEIPT or BAD_COUNTERSIGNATURE; nothing changed.
            StoreError: it could not be written; nothing changed.
        """
        issued = self._store.issued(context.session_id, request.job_id, request.sequence)
        if issued is None or issued.receipt.client_peer_id != peer_id_to_bytes(context.peer_id):
            raise fault(ReceiptFault.UNKNOWN_RECEIPT, "no such receipt was issued to this peer")
        receipt = issued.receipt
        verify_countersignature(receipt, request.signature, network=self._network, signer=issued.signer)
        self._store.put_countersignature(context.session_id, request.job_id, request.sequence, request.signature)
        account = self._accounts.get(context.session_id)
        if account is not None:
            account.wake(account.ledger.acknowledged(request.job_id, receipt.cost_micros, self._system.monotonic_s()))
            account.brought_micros = min(account.brought_micros, account.ledger.unacknowledged_micros)
        # Once a job: the last receipt of one that owes something, when its first countersignature comes.
        if self._clients is not None and not issued.countersignature and self._is_paid(receipt):
            self._clients.paid(receipt.client, cost_micros=receipt.cost_micros)

    async def last_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> bytes:
        """Return the last receipt of a job of the caller's session that ended.

        Raises:
            ReceiptError: UNKNOWN_RECEIPT, or PIECES_WENT_BACK: an earlier receipt covers more than the caller received.
            RpcError: FAILED_PRECONDITION: the job runs.
            StoreError: the receipt could not be written.

        Cancellation: safe.
        """
        bill = self._running.get(request.job_id)
        if bill is not None and self.is_of(bill, context):
            with trio.move_on_after(END_WAIT_S):
                await bill.ended.wait()
            if not bill.ended.is_set():
                raise RpcError("the job runs; leave it first", status=StatusCode.FAILED_PRECONDITION)
        bill = self._cut.get(request.job_id)
        if bill is not None and self.is_of(bill, context):
            return bill.final_receipt(request.delivered_pieces)
        last = self._store.last_issued(context.session_id, request.job_id)
        if last is None or last.receipt.client_peer_id != peer_id_to_bytes(context.peer_id):
            raise fault(ReceiptFault.UNKNOWN_RECEIPT, "no receipt of such a job was issued to this peer")
        return last.envelope

    # --- inside ---

    def _put_papers(self, session: PayingSession, terms: SessionTerms, quote: QuotedTerms) -> None:
        papers = self._store.papers
        if papers.put_quote(terms, quote.quote_id, quote.envelope, is_host=True):
            return
        signed = SessionPapers(
            network=self._network,
            authorization=session.signed_authorization,
            grant=session.grant,
            delegation=session.delegation,
        )
        papers.put_session(terms, signed, is_host=True)
        papers.put_quote(terms, quote.quote_id, quote.envelope, is_host=True)

    def _is_paid(self, receipt: Receipt) -> bool:
        """Return whether a receipt that is countersigned pays for its job, as far as honest clients can.

        What was on its way when a connection broke is not theirs to pay. Of a cut job that is forgotten nobody knows
        what was sent.
        """
        state = JobState(receipt.state)
        if state in (JobState.SUCCEEDED, JobState.FAILED) or not state.is_final:
            return state.is_final
        bill = self._cut.get(receipt.job_id)
        if bill is None:
            return False
        ledger = bill.account.ledger
        rest_micros = ledger.owed_micros(receipt.job_id)
        return 4 * rest_micros <= min(ledger.slice_micros, receipt.cost_micros + rest_micros)

    def _look_for_debts(self) -> None:
        """Note whose sessions ended with much unpaid."""
        now = self._system.monotonic_s()
        if self._clients is not None and now - self._looked_s >= LOOK_S:
            self._looked_s = now
            for account in self._accounts.values():
                if account.is_over(for_s=LOOK_S):
                    self._note_debt(account)

    def _note_debt(self, account: SessionAccount) -> None:
        if self._clients is not None and account.owes_much and not account.is_noted:
            self._clients.overdue(account.terms.authorization.client)
            account.is_noted = True

    def _account_of(self, session: PayingSession) -> SessionAccount:
        account = self._accounts.get(session.session_id)
        if account is None:
            terms = SessionTerms(
                network=self._network,
                session_id=session.session_id,
                authorization=session.authorization,
                signer=session.signer,
            )
            account = SessionAccount(terms, session, key=self._key, store=self._store, system=self._system)
            for unpaid in self._store.unpaid(session.session_id):
                account.ledger.restore(
                    unpaid.job_id, issued_micros=unpaid.issued_micros, acknowledged_micros=unpaid.acknowledged_micros
                )
            # What jobs came to that were cut without a receipt over it: the session remembers the sum.
            claimed_micros = self._store.settled_micros(session.session_id) + account.ledger.unacknowledged_micros
            account.ledger.carry(max(0, session.spent_micros - claimed_micros))
            if claimed_micros > session.spent_micros:
                # A host that was killed had written a receipt, and not yet that it was spent.
                behind_micros = claimed_micros - session.spent_micros
                session.reserve(behind_micros).settle(behind_micros)
            account.brought_micros = account.ledger.unacknowledged_micros
        self._accounts[session.session_id] = account
        self._accounts.move_to_end(session.session_id)
        if len(self._accounts) > MAX_ACCOUNTS:
            idle = next((account for account in self._accounts.values() if account.is_idle), None)
            if idle is not None:
                self._note_debt(idle)
                del self._accounts[idle.terms.session_id]
                # They know a ledger that is no more; what they issued is on disk.
                for bill in [bill for bill in self._cut.values() if bill.account is idle]:
                    del self._cut[bill.job_id]
        return account

    def is_of(self, bill: JobBill, context: CallContext) -> bool:
        """Whether a bill is of the session and the peer that make a call."""
        return bill.account.terms.session_id == context.session_id and bill.account.peer_id == context.peer_id

    def _forget_cut(self) -> None:
        """Forget the job that was cut first of the peer whose jobs take most."""
        taken: Counter[PeerId] = Counter()
        for bill in self._cut.values():
            taken[bill.account.peer_id] += 1 + bill.marks
        greediest, _ = taken.most_common(1)[0]
        first = next(bill for bill in self._cut.values() if bill.account.peer_id == greediest)
        del self._cut[first.job_id]
