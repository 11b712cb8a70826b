"""Steps of an observer that fetch what a signature needs: receipts and key sets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from r1prov.limits import RECEIPT_REQUEST_SECONDS, RECEIPT_SECONDS
from r1prov.responses.policy import ACI, NEAR
from r1prov.responses.receipts import key_set_urls, receipt_urls
from r1prov.responses.redaction import SECRET_FIELDS
from r1prov.responses.transport import Fetch, Pause

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

    from r1prov.responses.exchange import CapturedDocument, Exchange, Headers
    from r1prov.responses.policy import ResponsePolicy
    from r1prov.responses.transport import Step

# What a document may need that the request needed: never sent to another origin than its own.
_CREDENTIALS: Final = SECRET_FIELDS - {"cookie", "set-cookie", "proxy-authorization"}
# The receipt is not there yet, or the service is busy: worth another try.
_AGAIN: Final = frozenset({202, 404, 408, 425, 429, 500, 502, 503, 504})
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


def documents_of(
    exchange: Exchange,
    policy: ResponsePolicy,
    *,
    promised: Collection[str] = (),
    seconds: float = RECEIPT_SECONDS,
) -> Generator[Step, CapturedDocument | None, list[CapturedDocument]]:
    """Fetch the receipts and key sets that a policy could use for an answer.

    Args:
        exchange: Request and answer. What is fetched is of the same origin, with its credentials.
        policy: What counts.
        promised: Schemes by which the origin is known to sign.
        seconds: How long a receipt is waited for.
    """
    wanted = set(policy.schemes) & {ACI, NEAR}
    # Nothing in an answer says that NEAR's form is to be had, so it is asked for only where it is
    # promised or the policy takes nothing else.
    if NEAR not in promised and set(policy.schemes) != {NEAR}:
        wanted.discard(NEAR)
    credentials = tuple(
        pair for pair in exchange.request.headers if pair[0].lower() in _CREDENTIALS
    )
    headers = (("Accept-Encoding", "identity"), ("Accept", "application/json"), *credentials)
    documents = []
    for url in receipt_urls(exchange, wanted):
        document = yield from _receipt(url, headers, seconds)
        if document is not None:
            documents.append(document)
    for url in key_set_urls(exchange, policy):
        document = yield Fetch(url, headers, RECEIPT_REQUEST_SECONDS)
        if document is not None:
            documents.append(document)
    return documents


def _receipt(
    url: str, headers: Headers, seconds: float
) -> Generator[Step, CapturedDocument | None, CapturedDocument | None]:
    """A receipt, which may appear a while after the answer has ended."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        left = deadline - time.monotonic()
        document = yield Fetch(url, headers, max(0.1, min(left, RECEIPT_REQUEST_SECONDS)))
        again = document is None or document.status in _AGAIN
        if not again or time.monotonic() + pause > deadline:
            return document
        yield Pause(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
