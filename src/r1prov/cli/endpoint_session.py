"""A session with endpoints: keys, log, budget and rate, and what whoever pays is asked."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from r1prov.endpoints.budget import Budget, Estimate, Prices
    from r1prov.endpoints.client import Client

_KEY = "R1PROV_API_KEY"


def api_key(variable: str, url: str, *, plain_http: bool) -> str | None:
    """The key in a variable; the one by default may be missing.

    Raises:
        UsageError: A variable was named that is not set, or a key would cross a network in clear.
    """
    from urllib.parse import urlsplit

    from r1prov.endpoints.chat import completions_url
    from r1prov.errors import UsageError

    parts = urlsplit(completions_url(url))
    key = os.environ.get(variable)
    if not key:
        if variable != _KEY:
            raise UsageError(f"the variable {variable} of --key-env is not set")
        return None
    if parts.scheme.lower() != "https" and not _is_local(parts.hostname or "") and not plain_http:
        raise UsageError(
            f"the API key of {variable} would be sent in clear to {parts.hostname}",
            hint="use https://, unset the variable, or allow it with --plain-http",
        )
    return key


def _is_local(host: str) -> bool:
    """Whether what goes to a host stays on this machine; `127.example` is a name like any other."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def log_path(log: Path | None, *, resume: bool) -> Path:
    """The log of this run, which is new unless an earlier one is gone on with.

    Raises:
        UsageError: It exists and is not to be gone on with, or the other way round.
    """
    from datetime import UTC, datetime
    from itertools import chain, count

    from r1prov.errors import UsageError

    if log is None:
        if resume:
            raise UsageError("--resume needs the --log of the earlier run")
        made = f"r1prov-endpoint-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        # Two runs may begin in one second.
        names = chain((made,), (f"{made}-{number}" for number in count(2)))
        return next(path for name in names if not (path := Path(f"{name}.jsonl")).exists())
    if resume and not log.exists():
        raise UsageError(f"there is no log {log} to go on with", subject=str(log))
    if log.exists() and not resume:
        raise UsageError(
            f"{log} exists",
            subject=str(log),
            hint="go on with that run by --resume, or name another file",
        )
    return log


@contextmanager
def opened(
    urls: list[str],
    models: list[str | None],
    keys: list[str | None],
    *,
    log: Path,
    resume: bool,
    max_requests: int,
    max_tokens: int,
    concurrency: int,
    timeout: float,
    retries: int,
    rate: float | None,
    told: Callable[[str], None],
) -> Iterator[list[Client]]:
    """Clients of some endpoints, with one log and one budget; each knows its model.

    Raises:
        UsageError: An endpoint lists several models, or none, and none was named.
        Unreadable: An endpoint or the log cannot be reached.
    """
    from r1prov.endpoints.budget import Budget
    from r1prov.endpoints.chat import model_ids, the_model
    from r1prov.endpoints.client import Client
    from r1prov.endpoints.journal import Journal
    from r1prov.endpoints.wire import Manners
    from r1prov.responses.log import ExchangeLog

    journal = Journal(log) if resume else None
    budget = Budget(max_requests=max_requests, max_tokens=max_tokens)
    manners = Manners(concurrency=concurrency, timeout=timeout, retries=retries, per_minute=rate)
    kept = ExchangeLog(log)
    told(f"exchanges are kept in {log}")
    with ExitStack() as stack:
        clients = []
        for url, model, key in zip(urls, models, keys, strict=True):
            client = stack.enter_context(
                Client(url, key=key, log=kept, budget=budget, manners=manners, journal=journal)
            )
            client.model = model or the_model(model_ids(client.models()))
            clients.append(client)
        yield clients


def teller(*, quiet: bool) -> Callable[[str], None]:
    """Where a command says what it is doing: stderr, or nowhere."""
    from r1prov.cli.output import say
    from r1prov.text import printable

    # A line may hold the name of a model as a server told it.
    return (lambda _: None) if quiet else lambda line: say(printable(line))


def agree(
    estimates: list[Estimate],
    models: list[str],
    prices: Path | None,
    budget: Budget,
    *,
    yes: bool,
    told: Callable[[str], None],
) -> None:
    """Say what it costs at most and, on a terminal, ask.

    Raises:
        InputError: The table of prices is malformed.
        Abort: The user said no.
    """
    for cost, model in zip(estimates, models, strict=True):
        told(f"{model}: {cost.text(_prices(prices, model))}" if model else cost.text(None))
    requests = sum(one.requests for one in estimates)
    tokens = sum(one.prompt_tokens + one.completion_tokens for one in estimates)
    if budget.max_requests is not None and requests > budget.max_requests:
        told(f"note: --max-requests {budget.max_requests:,} may stop it before the end")
    if budget.max_tokens is not None and tokens > budget.max_tokens:
        told(f"note: --max-tokens {budget.max_tokens:,} may stop it before the end")
    if not yes and sys.stdin is not None and sys.stdin.isatty():
        typer.confirm("Send the requests?", abort=True, err=True)


def _prices(path: Path | None, model: str) -> Prices | None:
    from r1prov.endpoints.budget import parse_prices
    from r1prov.limits import MAX_TRUST_FILE_BYTES
    from r1prov.trust.directories import read_file

    if path is None:
        return None
    return parse_prices(read_file(path, MAX_TRUST_FILE_BYTES), model=model, subject=str(path))
