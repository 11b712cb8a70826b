"""What a client knows of a request it made, and of the answer it wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import UsageError
from r1prov.responses.content_digest import held_digests
from r1prov.responses.message import request_message
from r1prov.responses.stream_statement import RequestFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from r1prov.responses.exchange import Request
    from r1prov.responses.keys import ResponseKey
    from r1prov.verify.findings import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a client knows without asking, and holds the statements against.

    Attributes:
        request: The request as it was sent, with the nonce that the client chose.
        status: Status code of the answer as it was received.
        content_type: Its `Content-Type`; None if it has none.
        key: The trusted key of a key id; None if there is none, or a finding that says why it is
            not good for this.
        now: Seconds since 1970; of a captured answer, when its last byte came.
        live: Whether statements are looked at as they arrive. Of a captured answer only the last
            one tells by its age that the answer is fresh.
        manifest_sha256: The manifest that must be named; None takes any.
        verified_weights: Whether the weights must have been verified.
        max_age: Seconds that a statement may be old when it arrives.
        skew: Seconds that the clocks may differ.
        seen: Names of streams that were accepted before.
    """

    request: RequestFacts
    status: int
    content_type: str | None
    key: Callable[[str], ResponseKey | Finding | None]
    now: Callable[[], float]
    live: bool = True
    manifest_sha256: str | None = None
    verified_weights: bool = False
    max_age: float = 300.0
    skew: float = 60.0
    seen: Container[str] = ()


def request_facts(request: Request, *, nonce: str | None = None) -> RequestFacts:
    """What a signature must say of this request.

    Raises:
        UsageError: Its content was not captured.
        ResponseError: Its URL or `Host` is malformed.
    """
    digests = held_digests(request)
    if digests is None:
        raise UsageError("the content of the request was not captured")
    message = request_message(request)
    return RequestFacts(
        method=message.method,
        authority=message.authority,
        path=message.path,
        query=f"?{message.query or ''}",
        content_sha256=digests["sha-256"].hex(),
        nonce=nonce,
    )
