"""`r1prov response proxy`: sign the answers of any server."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli.options import Jobs, Keys, PolicyPath, Quiet, ScopeChoice

if TYPE_CHECKING:
    import socket

    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.responses.proxy_site import PublishedKey, Site

_NEEDED = ("aiohttp", "httptools", "uvicorn")


def command(
    upstream: Annotated[
        str,
        typer.Option(
            "--upstream",
            envvar="R1PROV_UPSTREAM",
            metavar="URL",
            help="The server that answers, such as http://127.0.0.1:8000.",
        ),
    ],
    key: Annotated[
        list[Path],
        typer.Option(
            "--key",
            envvar="R1PROV_KEY",
            help="Key file; may be given several times, the newest last. The last private key "
            "signs; all are published. Read again on SIGHUP.",
        ),
    ],
    manifest: Annotated[
        str,
        typer.Option(
            "--manifest",
            "-m",
            envvar="R1PROV_MANIFEST",
            metavar="NAME|FILE",
            help="Manifest of the model that answers; every signature names its digest.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            envvar="R1PROV_MODEL",
            metavar="MODEL",
            help="Verify this model against the manifest first, and start only on a pass.",
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", envvar="R1PROV_LISTEN", metavar="HOST:PORT", help="Where to listen."
        ),
    ] = "127.0.0.1:8443",
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", envvar="R1PROV_TLS_CERT", help="Certificate chain, PEM."),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", envvar="R1PROV_TLS_KEY", help="Private key of the certificate."),
    ] = None,
    checkpoint: Annotated[
        float,
        typer.Option(
            min=0,
            envvar="R1PROV_CHECKPOINT",
            help="Least seconds between two statements of a stream; 0: only the first and last.",
        ),
    ] = 2.0,
    upstream_timeout: Annotated[
        float,
        typer.Option(
            min=1,
            envvar="R1PROV_UPSTREAM_TIMEOUT",
            help="Seconds that the upstream may send nothing.",
        ),
    ] = 600.0,
    grace: Annotated[
        int,
        typer.Option(
            min=0,
            envvar="R1PROV_GRACE",
            help="Seconds that answers under way get to end when the proxy is stopped.",
        ),
    ] = 30,
    scope: ScopeChoice = None,
    keys: Keys = None,
    policy: PolicyPath = None,
    jobs: Jobs = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            envvar="R1PROV_LOG",
            metavar="LOG",
            help="Append every exchange to this log, without secrets.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Forward to a server and sign every answer, bound to a manifest.

    What a signature says: the holder of the key gave this answer to this request, and stands for
    this manifest. With --model, that the weights were verified against it when the proxy started.
    It does not prove that the server behind it loaded those weights. docs/signed-responses.md has
    the format. Clients find the keys at /.well-known/r1prov/jwks.json, and should pin them.

    \b
    Examples:
      r1prov response proxy --upstream http://127.0.0.1:8000 --key answers.key \\
          --manifest DeepSeek-R1 --model /models/DeepSeek-R1
      r1prov response proxy --upstream http://127.0.0.1:11434 --key old.pub --key new.key \\
          --manifest my-model.toml --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key tls.key

    Exit status: that of `verify` if the model does not pass; 0 after a signal to stop.
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import complain, say
    from r1prov.errors import R1ProvError, UsageError
    from r1prov.manifest.shelf import load_shelf, resolve_manifest
    from r1prov.text import printable

    if any(find_spec(name) is None for name in _NEEDED):
        raise UsageError(
            "the proxy needs packages that are not installed", hint="install r1prov[proxy]"
        )
    from r1prov.responses.log import ExchangeLog
    from r1prov.responses.proxy import ProxySettings, SigningProxy
    from r1prov.responses.proxy_server import make_server, serve
    from r1prov.responses.proxy_site import make_site
    from r1prov.responses.proxy_upstream import Upstream

    host, port = _address(listen)
    if tls_key is not None and tls_cert is None:
        raise UsageError("--tls-key goes with --tls-cert")
    shelved = resolve_manifest(load_shelf(), manifest)
    behind = Upstream(upstream, silence=upstream_timeout)
    published = _keys(key)  # before hashing: a wrong passphrase shows at once
    site = make_site(published, shelved, None)
    weights_at: int | None = None
    if model is not None:
        status, weights_at = _verify(
            model, manifest, shelved, scope=scope, keys=keys, policy=policy, jobs=jobs, quiet=quiet
        )
        if weights_at is None:
            return status
        site = make_site(published, shelved, weights_at)

    def reload() -> Site | None:
        try:
            fresh = make_site(_keys(key, ask=False), shelved, weights_at)
        except R1ProvError as error:
            complain(f"the keys stay as they are: {error.message}", error.hint)
            return None
        if not quiet:
            say(f"signing with {fresh.keyid}")
        return fresh

    def started(sockets: list[socket.socket]) -> None:
        if quiet:
            return
        scheme = "http" if tls_cert is None else "https"
        for one in sockets:
            at, number = one.getsockname()[:2]
            say(f"listening on {scheme}://{f'[{at}]' if ':' in at else at}:{number}")
        say(f"signing with {site.keyid}")
        said = "verified" if weights_at is not None else "not verified (--model would)"
        say(f"standing for {printable(shelved.manifest.name)} sha256:{shelved.sha256}, {said}")

    proxy = SigningProxy(
        behind,
        site,
        ProxySettings(checkpoint_seconds=checkpoint),
        say=lambda line: None if quiet else say(printable(line)),
    )
    serve(
        make_server(
            proxy,
            host=host,
            port=port,
            certificate=tls_cert,
            key=tls_key,
            grace=grace,
            reload=reload,
            started=started,
            log=None if record is None else ExchangeLog(record),
        )
    )
    return 0


def _address(listen: str) -> tuple[str, int]:
    from r1prov.errors import UsageError
    from r1prov.text import quoted

    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise UsageError(f"--listen {quoted(listen)} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _keys(paths: list[Path], *, ask: bool = True) -> list[PublishedKey]:
    """Read the key files; a passphrase is asked for only at the start."""
    import os

    from r1prov.cli.key import PASSPHRASE, unlocking_passphrase
    from r1prov.errors import UsageError
    from r1prov.limits import MAX_KEY_FILE_BYTES
    from r1prov.responses.proxy_site import published_key
    from r1prov.trust.directories import read_file
    from r1prov.trust.keys import is_encrypted

    published = []
    for path in paths:
        pem = read_file(path, MAX_KEY_FILE_BYTES)
        passphrase = None
        if is_encrypted(pem):
            if not ask and PASSPHRASE not in os.environ:
                raise UsageError(f"{path} is encrypted, and {PASSPHRASE} is not set")
            passphrase = unlocking_passphrase()
        published.append(published_key(pem, passphrase, subject=str(path)))
    return published


def _verify(
    model: str,
    wanted: str,
    manifest: ShelvedManifest,
    *,
    scope: ScopeChoice,
    keys: Path | None,
    policy: Path | None,
    jobs: int | None,
    quiet: bool,
) -> tuple[int, int | None]:
    """Verify the model; the exit status, and when it passed, or None if it did not."""
    from r1prov.cli.output import emit, say
    from r1prov.cli.progress import hashing_progress
    from r1prov.render import text as text_report
    from r1prov.text import printable
    from r1prov.verify.findings import Verdict
    from r1prov.verify.local import verify_path

    with hashing_progress(quiet=quiet) as progress:
        report = verify_path(
            model,
            manifest=wanted,
            scope=scope,
            keys=keys,
            policy=policy,
            workers=jobs,
            say=None if quiet else lambda line: say(printable(line)),
            progress=progress,
        )
    used = report.manifest.sha256 if report.manifest is not None else None
    if report.verdict is Verdict.PASS and used == manifest.sha256:
        return 0, int(report.finished_at.timestamp())
    emit(text_report.render(report, color=False), None, quiet=quiet)
    return report.exit_status or 3, None
