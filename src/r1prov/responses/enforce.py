"""An observer that verifies every answer by a policy, and lets none pass that does not hold."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from r1prov.errors import R1ProvError, ResponseNotVerified
from r1prov.limits import (
    MAX_EXCHANGE_BODY_BYTES,
    MAX_SEEN_SIGNATURES,
    RECEIPT_SECONDS,
)
from r1prov.responses.content_digest import FIELD as CONTENT_DIGEST
from r1prov.responses.content_digest import body_digests, content_digest
from r1prov.responses.exchange import BodyDigests, Exchange, Request
from r1prov.responses.fetch import documents_of
from r1prov.responses.keys import origin_of
from r1prov.responses.report import State
from r1prov.responses.structured_fields import BareItem, InnerList, Item, write_dictionary
from r1prov.responses.transport import Work
from r1prov.responses.verify import verify_exchange
from r1prov.verify.findings import Verdict
from r1prov.verify.rule import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from r1prov.responses.capture import SentRequest
    from r1prov.responses.log import Appended, ExchangeLog
    from r1prov.responses.policy import ResponsePolicy
    from r1prov.responses.report import ExchangeReport
    from r1prov.responses.transport import Steps

# Requests by which an answer to another request is told as such.
_REMEMBERED_REQUESTS: Final = 16


class Mode(StrEnum):
    """What becomes of an answer that does not pass."""

    RAISE = "raise"  # it is not handed over; a stream raises at its end
    REPORT = "report"  # it is handed over, and the report says what it is


class SeenSignatures:
    """Remembers which signatures were accepted, for as long as they could be accepted again.

    Args:
        keep: How long; the policy's `max_age` and `skew` say when a signature is too old anyway.
    """

    def __init__(self, keep: timedelta) -> None:
        self._keep = keep.total_seconds()
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: str, token: str) -> bool:
        """Whether `token` was seen before under that key; from now on it was."""
        now = time.monotonic()
        with self._lock:
            while self._seen:
                oldest = next(iter(self._seen))
                if len(self._seen) <= MAX_SEEN_SIGNATURES and now - self._seen[oldest] < self._keep:
                    break
                del self._seen[oldest]
            if (key, token) in self._seen:
                return True
            self._seen[key, token] = now
            return False


class Enforcement:
    """A policy at work: what it wants of requests and answers, and what it has learned.

    It remembers by which schemes each origin has signed: from then on an answer of that origin
    without such a signature is a downgrade. What is learned lasts as long as this object; the
    policy's table `promised` lasts longer.

    Args:
        policy: What counts.
        mode: What becomes of an answer that does not pass.
        on_report: Called with the report of every answer, in the thread that verified it.
        log: Where exchanges are kept, signed or not; nowhere if absent.
        receipt_seconds: How long a receipt is waited for.
        keep: Bytes of each body that are kept at most. A longer stream is judged by its digests;
            any other longer answer is refused, as it cannot be held back.

    Attributes:
        last_report: The report of the answer that was verified last.
        last_record: What became of it in the log.
    """

    holds = True

    def __init__(
        self,
        policy: ResponsePolicy,
        *,
        mode: Mode | str = Mode.RAISE,
        on_report: Callable[[ExchangeReport], None] | None = None,
        log: ExchangeLog | None = None,
        receipt_seconds: float = RECEIPT_SECONDS,
        keep: int = MAX_EXCHANGE_BODY_BYTES,
    ) -> None:
        self.keep = keep
        self.policy = policy
        self._mode = Mode(mode)
        self._on_report = on_report
        self._log = log
        self._receipt_seconds = receipt_seconds
        self._seen = SeenSignatures(policy.max_age + 2 * policy.skew)
        self._offered: dict[str, frozenset[str]] = {}
        self._requests: deque[Request] = deque(maxlen=_REMEMBERED_REQUESTS)
        self.last_report: ExchangeReport | None = None
        self.last_record: Appended | None = None

    def prepare(self, request: SentRequest) -> SentRequest:
        """The request with what makes its answer verifiable.

        `Content-Digest`, without which no signature can bind the content (RFC 9421 section 2.4);
        `Accept-Signature` with a nonce of its own (section 5.1); and `Accept-Encoding: identity`,
        so that nobody between has a reason to code the content anew.
        """
        cover = tuple(Item(one.name, dict(one.parameters)) for one in self.policy.cover)
        wanted: dict[str, BareItem] = {"created": True, "nonce": secrets.token_urlsafe(24)}
        if self.policy.tag is not None:
            wanted["tag"] = self.policy.tag
        digest = content_digest({"sha-256": body_digests(request.body)["sha-256"]})
        own = (
            ("Accept-Encoding", "identity"),
            ("Accept-Signature", write_dictionary({"sig": InnerList(cover, wanted)})),
            (CONTENT_DIGEST, digest),
        )
        names = {name.lower() for name, _ in own}
        kept = tuple(pair for pair in request.headers if pair[0].lower() not in names)
        return replace(request, headers=(*kept, *own))

    def conclude(self, exchange: Exchange, *, ended: bool) -> Steps:
        """Fetch what the answer's signature needs, verify it, keep it, and let it pass or not.

        Raises:
            ResponseNotVerified: It does not pass, and the mode is to raise.
            ExchangeError: It cannot be written into the log.
            Unreadable: The log cannot be written to.
        """
        origin = _origin(exchange)
        before = self._offered.get(origin, frozenset())
        if ended:
            documents = yield from documents_of(
                exchange,
                self.policy,
                promised=self.policy.promises(origin) | before,
                seconds=self._receipt_seconds,
            )
            exchange = replace(exchange, documents=(*exchange.documents, *documents))
        made: list[ExchangeReport] = []

        def judge() -> None:
            made.append(self._judge(exchange, before))
            if self._log is not None:
                self.last_record = self._log.append(exchange)

        yield Work(judge)
        report = made[0]
        if report.scheme is not None:
            self._offered[origin] = before | {report.scheme}
        self.last_report = report
        if self._on_report is not None:
            self._on_report(report)
        if ended and self._mode is Mode.RAISE and report.verdict is not Verdict.PASS:
            raise _refusal(report, origin)

    def _judge(self, exchange: Exchange, before: frozenset[str]) -> ExchangeReport:
        others = tuple(self._requests)
        self._requests.append(_without_body(exchange.request))
        return verify_exchange(
            exchange,
            self.policy,
            now=datetime.now(UTC),
            seen=self._seen,
            offered_before=before,
            others=others,
        )


def _origin(exchange: Exchange) -> str:
    try:
        return origin_of(exchange.request.url)
    except R1ProvError:
        return ""  # `verify_exchange` says what is wrong with the URL


def _without_body(request: Request) -> Request:
    if request.body is None:
        return request
    return replace(request, body=None, body_digests=BodyDigests.of(request.body))


def _refusal(report: ExchangeReport, origin: str) -> ResponseNotVerified:
    worst: Iterable[str] = (
        f"{one.rule.id} {one.rule.name}: {one.message}"
        for one in report.findings
        if one.severity is Severity.ERROR or report.verdict is Verdict.INCOMPLETE
    )
    why = next(iter(worst), report.headline)
    hint = {
        State.UNSIGNED: "if this origin does not sign, use mode `report` or another transport",
        State.RECEIPT_UNAVAILABLE: "ask again; receipts are kept for minutes only",
    }.get(report.state)
    return ResponseNotVerified(
        f"the answer of {origin} is {report.state.value}: {why}",
        report=report,
        subject=origin,
        hint=hint,
    )
