r"""Lines of `sha256sum`, written and read.

A line is 64 hex digits, a space, a space or `*`, and the name. GNU coreutils starts a line with a
backslash when the name has a backslash, newline or carriage return, which it then writes as `\\`,
`\n` and `\r`.
"""

from __future__ import annotations

import re

from r1prov.errors import InputError

_LINE = re.compile(rb"(\\?)([0-9a-fA-F]{64}) [ *](.+)", re.DOTALL)
_ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}


def format_line(sha256: str, path: str) -> str:
    """One line for `sha256sum -c`."""
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == path else chr(92)}{sha256}  {escaped}\n"


def parse_checksums(raw: bytes, *, subject: str) -> dict[str, set[str]]:
    """Read such lines: path to the digests stated for it (all of them must match).

    Raises:
        InputError: A line is of another form, or there is none.
    """
    found: dict[str, set[str]] = {}
    for number, line in enumerate(raw.split(b"\n"), 1):
        text = line.removesuffix(b"\r")
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise InputError(
                f"line {number} of {subject} is not `<64 hex digits>  <file>`",
                subject=subject,
                hint="lines of `sha256sum` or `r1prov hash` are read",
            )
        escaped, digest, name = match.groups()
        if escaped:
            name = re.sub(rb"\\[\\nr]", lambda m: _ESCAPES[m.group()], name)
        path = name.decode("utf-8", "surrogateescape").removeprefix("./")
        found.setdefault(path, set()).add(digest.decode().lower())
    if not found:
        raise InputError(f"{subject} has no checksum lines", subject=subject)
    return found
