"""An observer that writes every exchange of a transport into a log, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.limits import MAX_EXCHANGE_BODY_BYTES
from r1prov.responses.transport import Steps, Work

if TYPE_CHECKING:
    from r1prov.responses.capture import SentRequest
    from r1prov.responses.exchange import Exchange
    from r1prov.responses.log import Appended, ExchangeLog


class Recording:
    """Keeps exchanges.

    Args:
        log: Where.
        keep: Bytes of each body that are kept at most; of a longer one only digests are.

    Attributes:
        last: What became of the last exchange.
    """

    holds = False

    def __init__(self, log: ExchangeLog, *, keep: int = MAX_EXCHANGE_BODY_BYTES) -> None:
        self._log = log
        self.keep = keep
        self.last: Appended | None = None

    def prepare(self, request: SentRequest) -> SentRequest:
        """The request, as it is."""
        return request

    def conclude(self, exchange: Exchange, *, ended: bool) -> Steps:
        """Write the exchange.

        Raises:
            ExchangeError: It cannot be written as one.
            Unreadable: The log cannot be written to.
        """
        del ended  # a broken answer is kept like any other, and says that it broke off

        def write() -> None:
            self.last = self._log.append(exchange)

        yield Work(write)
