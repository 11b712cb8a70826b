"""What a command prints: results on stdout or into a file, everything else on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.errors import Unreadable, UsageError
from r1prov.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable


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


def emit(text: str, output: Path | None, *, quiet: bool = False) -> bool:
    """The result: into `output` if one is named, else on stdout unless `quiet`.

    Returns whether it was taken. A verdict stands whether or not stdout took the report, so only a
    command whose output is its product looks at this.
    """
    if output is not None:
        _write_output(output, text.encode("utf-8", "surrogateescape"))
        return True
    return quiet or _write_stdout(lambda: sys.stdout.write(encodable(text, sys.stdout.encoding)))


def emit_lines(text: str, output: Path | None, *, quiet: bool = False) -> bool:
    """Lines for another program, whose file names must arrive as the bytes they are.

    On a terminal they are made printable instead.
    """
    if output is not None or sys.stdout is None or sys.stdout.isatty():
        shown = text if output is not None else "\n".join(map(printable, text.split("\n")))
        return emit(shown, output, quiet=quiet)
    return quiet or _write_stdout(lambda: sys.stdout.buffer.write(os.fsencode(text)))


def emit_bytes(data: bytes, output: Path | None) -> bool:
    """A result that must arrive byte for byte; on a terminal it is made printable instead."""
    if output is not None:
        _write_output(output, data)
        return True
    if sys.stdout is None or sys.stdout.isatty():
        text = data.decode("utf-8", "surrogateescape")
        return emit(printable(text, limit=len(text)) + "\n", None)
    return _write_stdout(lambda: sys.stdout.buffer.write(data))


def _write_output(path: Path, data: bytes) -> None:
    """Into a regular file whole or not at all; into a device or pipe as it is."""
    if not path.exists() or path.is_file():
        write_new(path.resolve(), data, replace=True)
        return
    try:
        with path.open("wb") as stream:
            stream.write(data)
    except OSError as error:
        raise Unreadable(f"cannot write {path}: {error.strerror}", subject=str(path)) from None


def _write_stdout(write: Callable[[], object]) -> bool:
    """Write and flush; whether stdout took it."""
    if sys.stdout is None:  # started with stdout closed
        return False
    try:
        write()
        sys.stdout.flush()
    except OSError as error:
        # Whoever read stdout may have gone, as with `| head`: that is silent.
        if not isinstance(error, BrokenPipeError):
            say(f"error: cannot write the result: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return isinstance(error, BrokenPipeError)
    return True


def refuse_inside(output: Path | None, model: str | None) -> None:
    """Refuse a file in the model that is verified: it would change what the verdict is about.

    Raises:
        UsageError: It lies there, or a link to it does.
    """
    from r1prov.verify.policy_file import lies_inside

    if output is not None and model is not None and lies_inside(output, Path(model)):
        raise UsageError(
            f"{output} lies inside the model that is verified",
            subject=str(output),
            hint="name a file outside the model's directory",
        )


def refuse_output(path: Path) -> None:
    """Refuse a new file that `write_new` would refuse, before the work that goes into it.

    Raises:
        UsageError: It exists.
        Unreadable: There is no such directory, or nobody may write there.
    """
    if os.path.lexists(path):
        raise UsageError(f"{path} exists and is not overwritten", subject=str(path))
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        why = "no directory that can be written to"
        raise Unreadable(f"cannot write {path}: {path.parent} is {why}", subject=str(path))


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
