"""What a command prints: results on stdout or into a file, everything else on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from r1prov.errors import Unreadable, UsageError
from r1prov.text import printable

if TYPE_CHECKING:
    from pathlib import Path


def complain(message: str, hint: str | None = None) -> None:
    """An error, and what to do about it, on stderr."""
    say(f"error: {printable(message, limit=2000)}")
    if hint:
        say(f"hint: {printable(hint, limit=2000)}")


def say(line: str) -> None:
    """One line on stderr; a closed stderr changes nothing."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(encodable(line, sys.stderr.encoding) + "\n")
        sys.stderr.flush()


def emit(text: str, output: Path | None, *, quiet: bool = False) -> None:
    """The result: into `output` if one is named, else on stdout unless `quiet`."""
    if output is not None:
        write_new(output, text.encode("utf-8", "surrogateescape"), replace=True)
    elif not quiet:
        _write_stdout(text)


def _write_stdout(text: str) -> None:
    """Write the result; a stdout that takes nothing never changes the exit status."""
    if sys.stdout is None:  # started with stdout closed
        return
    try:
        sys.stdout.write(encodable(text, sys.stdout.encoding))
        sys.stdout.flush()
    except OSError as error:
        # Whoever read stdout may have gone, as with `| head`: that is silent.
        if not isinstance(error, BrokenPipeError):
            say(f"error: cannot write the result: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def encodable(text: str, encoding: str | None) -> str:
    """`text` with what the stream cannot show as escapes, so that `LANG=C` loses nothing."""
    name = encoding or "ascii"
    return text.encode(name, "backslashreplace").decode(name)


def wants_color(no_color: bool) -> bool:
    """Colour only on a terminal, and never against `NO_COLOR` (no-color.org) or `TERM=dumb`."""
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty()


def write_new(path: Path, data: bytes, *, replace: bool = False, mode: int = 0o644) -> None:
    """Write a whole file or nothing: a temporary file beside it, synced, then renamed.

    Raises:
        UsageError: It exists and `replace` is false.
        Unreadable: It cannot be written.
    """
    if path.exists() and not replace:
        raise UsageError(f"{path} exists and is not overwritten", subject=str(path))
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(stream.fileno(), mode)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if replace:
                os.replace(name, path)
            else:
                os.link(name, path)  # fails if somebody else made it meanwhile
                os.unlink(name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except FileExistsError:
        raise UsageError(f"{path} exists and is not overwritten", subject=str(path)) from None
    except OSError as error:
        raise Unreadable(f"cannot write {path}: {error.strerror}", subject=str(path)) from None
