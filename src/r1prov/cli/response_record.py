"""`r1prov response record`: send one request, and keep the exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli.options import Output, PolicyPath, Quiet
from r1prov.responses.log import Fsync
from r1prov.responses.redaction import Content


def command(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the request goes.")],
    log: Annotated[
        Path,
        typer.Option("--log", envvar="R1PROV_LOG", metavar="LOG", help="Log to append to."),
    ],
    request: Annotated[
        Path | None,
        typer.Option("--request", metavar="FILE", help="Content of the request; - for stdin."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="METHOD", help="POST with a --request, else GET."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="NAME:VALUE", help="Header field. Repeatable."),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            "--api-key-env",
            metavar="VARIABLE",
            help="Send the key in this variable as `Authorization: Bearer`.",
        ),
    ] = None,
    content: Annotated[
        Content,
        typer.Option("--content", envvar="R1PROV_LOG_CONTENT", help="digest: keep no body."),
    ] = Content.KEEP,
    redact_member: Annotated[
        list[str] | None,
        typer.Option(
            "--redact-member", metavar="NAME", help="Keep no JSON member of this name. Repeatable."
        ),
    ] = None,
    openings: Annotated[
        Path | None,
        typer.Option(
            "--openings",
            envvar="R1PROV_LOG_OPENINGS",
            metavar="FILE",
            help="Keep what proves redacted content later in this file, apart from the log.",
        ),
    ] = None,
    fsync: Annotated[
        Fsync, typer.Option("--fsync", envvar="R1PROV_LOG_FSYNC", help="Flush each record or not.")
    ] = Fsync.ALWAYS,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            "--max-bytes",
            min=1,
            envvar="R1PROV_LOG_MAX_BYTES",
            metavar="BYTES",
            help="Begin a new file once the log has reached this size.",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0.1,
            max=86_400,
            envvar="R1PROV_TIMEOUT",
            metavar="SECONDS",
            help="Longest silence of the server.",
        ),
    ] = 300.0,
    policy: PolicyPath = None,
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Send one request as it stands in a file, and append the exchange to a log.

    Asks for a signature of the answer, fetches its receipt where there is one, and says what the
    policy makes of it. Secrets are taken out before anything is written. Prints the head of the
    log, to be noted elsewhere; the answer's content goes to --output. Exit status 0 if the exchange
    was kept whole, 3 if the answer broke off.

    \b
    Examples:
      r1prov response record --log api.jsonl --request ask.json \\
        --api-key-env API_KEY https://api.example/v1/chat/completions
      r1prov response record --log api.jsonl --request ask.json \\
        --content digest --openings api.openings https://api.example/v1/chat/completions
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, say, write_new
    from r1prov.responses.log import ExchangeLog
    from r1prov.responses.openings import append_openings
    from r1prov.responses.policy import find_response_policy
    from r1prov.responses.redaction import RedactionRules
    from r1prov.responses.send import send_and_record
    from r1prov.text import printable

    body = _content(request)
    rules = RedactionRules(content=content, members=frozenset(redact_member or ()))
    sent = send_and_record(
        method or ("GET" if body is None else "POST"),
        url,
        headers=_headers(header, api_key_env, body),
        body=body or b"",
        log=ExchangeLog(log, rules=rules, fsync=fsync, max_bytes=max_bytes),
        policy=find_response_policy(policy),
        timeout=timeout,
    )
    if openings is not None:
        append_openings(openings, sent.record.head, sent.record.openings)
    if output is not None:
        write_new(output, sent.content, replace=True)
    if not quiet:
        say(f"{sent.status}: {sent.report.state.value}: {printable(sent.report.headline)}")
    emit(f"{sent.record.head}\n", None, quiet=quiet)
    return 0 if sent.complete else 3


def _content(path: Path | None) -> bytes | None:
    import sys

    from r1prov.errors import LimitExceeded
    from r1prov.limits import MAX_EXCHANGE_BODY_BYTES
    from r1prov.trust.directories import read_file

    if path is None:
        return None
    if str(path) != "-":
        return read_file(path, MAX_EXCHANGE_BODY_BYTES)
    raw = sys.stdin.buffer.read(MAX_EXCHANGE_BODY_BYTES + 1)
    if len(raw) > MAX_EXCHANGE_BODY_BYTES:
        raise LimitExceeded(f"the request has more than {MAX_EXCHANGE_BODY_BYTES:,} bytes")
    return raw


def _headers(
    given: list[str] | None, variable: str | None, body: bytes | None
) -> list[tuple[str, str]]:
    import os

    from r1prov.errors import ExchangeError, UsageError
    from r1prov.responses.exchange_file import check_field

    headers = []
    for one in given or ():
        name, colon, value = one.partition(":")
        if not colon:
            raise UsageError("a --header is NAME:VALUE")
        headers.append((name.strip(), value.strip()))
    if variable is not None:
        key = os.environ.get(variable)
        if not key:
            raise UsageError(f"the variable {variable} of --api-key-env is not set")
        headers.append(("Authorization", f"Bearer {key}"))
    if body is not None and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/json"))
    try:
        for name, value in headers:
            check_field(name, value, "--header")
    except ExchangeError as error:
        raise UsageError(error.message, hint=error.hint) from None
    return headers
