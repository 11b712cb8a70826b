"""Send one request, and keep the exchange in a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import R1ProvError, Unreadable, UsageError
from r1prov.responses.enforce import Enforcement, Mode
from r1prov.responses.exchange_file import TOKEN, check_url
from r1prov.responses.redaction import redact_url

if TYPE_CHECKING:
    from r1prov.responses.log import Appended, ExchangeLog
    from r1prov.responses.policy import ResponsePolicy
    from r1prov.responses.report import ExchangeReport


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a request.

    Attributes:
        status: Status code of the answer.
        content: Its content, decoded, as far as it came.
        complete: Whether it came to its end.
        record: The record of the log.
        report: What the policy makes of the answer.
    """

    status: int
    content: bytes
    complete: bool
    record: Appended
    report: ExchangeReport


def send_and_record(
    method: str,
    url: str,
    *,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    log: ExchangeLog,
    policy: ResponsePolicy,
    timeout: float,
) -> Sent:
    """Send one request and append the exchange to a log, whatever the answer is.

    No redirect is followed, and no proxy of the environment is used: the exchange is with `url`.

    Args:
        method: Such as `POST`.
        url: Where to.
        headers: Beyond those that every request has.
        body: Content.
        log: Where the exchange is kept.
        policy: By which the answer is judged; it is kept all the same.
        timeout: Longest silence of the server, in seconds.

    Raises:
        UsageError: Method or URL cannot be sent.
        Unreadable: The server cannot be reached, or the log cannot be written.
        ExchangeError: The exchange cannot be written into the log.
    """
    import httpx2

    from r1prov.responses.transport_httpx2 import VerifyingTransport

    shown = redact_url(url)[0]
    try:
        check_url(url, "the URL")
    except R1ProvError as error:
        raise UsageError(error.message, hint=error.hint) from None
    if not TOKEN.fullmatch(method):
        raise UsageError("the method is no token of HTTP, such as POST")
    enforcement = Enforcement(policy, mode=Mode.REPORT, log=log)
    content, status, complete = b"", 0, False
    try:
        with (
            httpx2.Client(
                transport=VerifyingTransport(enforcement), timeout=timeout, trust_env=False
            ) as client,
            client.stream(method, url, headers=list(headers), content=body) as response,
        ):
            status = response.status_code
            for piece in response.iter_bytes():
                content += piece
            complete = True
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        # A connection that broke within the answer has left a record; any other none.
        if enforcement.last_record is None:
            reason = str(error) or type(error).__name__
            raise Unreadable(f"cannot reach {shown}: {reason}", subject=shown) from None
    record, report = enforcement.last_record, enforcement.last_report
    if record is None or report is None:
        raise Unreadable(f"{shown} gave no answer", subject=shown)
    return Sent(status, content, complete, record, report)
