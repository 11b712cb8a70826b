"""`r1prov hash`: SHA-256 of every file, in the form of sha256sum."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli.options import Jobs, Model, Output, Quiet

if TYPE_CHECKING:
    from r1prov.hashing.engine import HashResult
    from r1prov.stores.base import Store


def command(
    model: Model,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            "-c",
            metavar="FILE",
            help="Compare with the lines of this file instead of printing lines.",
        ),
    ] = None,
    relative: Annotated[
        bool,
        typer.Option("--relative", help="Print paths relative to MODEL, to publish beside it."),
    ] = False,
    jobs: Jobs = None,
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Print the SHA-256 of every file of a model, as sha256sum does.

    \b
    Examples:
      r1prov hash ./model > SHA256SUMS && sha256sum -c SHA256SUMS
      r1prov hash ./model --relative -o SHA256SUMS
      r1prov hash ./model --check SHA256SUMS
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit_lines
    from r1prov.errors import Unreadable
    from r1prov.hashing.checksums import format_line
    from r1prov.stores.locate import open_store

    store = open_store(model)
    single = "://" not in model and Path(model).is_file()
    prefix = "" if relative or single else _prefix(model)
    if check is not None:
        return _check(store, check, prefix, jobs, quiet=quiet)
    result, complete = _hash(store, jobs, quiet=quiet)
    lines = [
        format_line(one.sha256, model if single and not relative else prefix + path)
        for path, one in sorted(result.digests.items())
    ]
    if not emit_lines("".join(lines), output, quiet=quiet):
        return Unreadable.exit_code
    return 0 if complete else 3


def _prefix(model: str) -> str:
    """Paths are printed as they are reached from here, so that `sha256sum -c` finds them."""
    trimmed = model.rstrip("/") or "/"
    if trimmed == "." or "://" in trimmed:
        return ""  # a file of a remote store has no path here
    return "/" if trimmed == "/" else trimmed + "/"


def _hash(store: Store, jobs: int | None, *, quiet: bool) -> tuple[HashResult, bool]:
    """Hash every regular file; say on stderr what was left out. True if nothing was."""
    from r1prov.cli.output import say
    from r1prov.cli.progress import hashing_progress
    from r1prov.hashing.engine import HashJob, hash_blobs
    from r1prov.stores.base import EntryKind
    from r1prov.stores.locate import traffic_of
    from r1prov.text import printable

    entries = store.entries()
    todo = [HashJob(e.path, e.size) for e in entries if e.kind is EntryKind.FILE]
    with hashing_progress(quiet=quiet) as progress:
        on_bytes = progress(sum(job.size for job in todo)) if progress else None
        result = hash_blobs(store.open, todo, workers=jobs, on_bytes=on_bytes)
    left_out = [e for e in entries if e.kind is not EntryKind.FILE]
    for entry in left_out:
        why = f"{entry.kind.value} {entry.detail}"
        say(f"not hashed: {printable(entry.path)}: {printable(why)}")
    for path, error in sorted(result.errors.items()):
        say(f"not hashed: {printable(path)}: {printable(error.message)}")
    if (traffic := traffic_of(store)) is not None:
        say(printable(traffic))
    return result, not left_out and not result.errors


def _check(store: Store, sums: Path, prefix: str, jobs: int | None, *, quiet: bool) -> int:
    from r1prov.cli.output import emit, say
    from r1prov.hashing.checksums import parse_checksums
    from r1prov.limits import MAX_CHECKSUM_FILE_BYTES
    from r1prov.text import plural, printable
    from r1prov.trust.directories import read_file

    raw = read_file(sums, MAX_CHECKSUM_FILE_BYTES)
    single = os.path.isfile(store.location)
    wanted = parse_checksums(raw, subject=str(sums))
    result, complete = _hash(store, jobs, quiet=quiet)
    lines, failed, seen = [], 0, set()
    for path, digests in wanted.items():
        own = path if path in result.digests else path.removeprefix(prefix)
        if own not in result.digests and single:
            own = store.name if os.path.basename(path) == store.name else own
        seen.add(own)
        found = result.digests.get(own)
        if found is None:
            state = "FAILED (not read)" if own in result.errors else "FAILED (no such file)"
        elif digests == {found.sha256}:
            state = "OK"
        else:
            state = f"FAILED (expected {' and '.join(sorted(digests))}, found {found.sha256})"
        failed += state != "OK"
        lines.append(f"{printable(path)}: {state}\n")
    emit("".join(lines), None, quiet=quiet)
    extra = sorted(set(result.digests) - seen)
    if extra:
        say(f"note: {plural(len(extra), 'file')} of the model not in {sums}, such as {extra[0]!r}")
    if failed:
        say(f"{failed} of {plural(len(wanted), 'file')} failed")
        return 1
    return 0 if complete else 3
