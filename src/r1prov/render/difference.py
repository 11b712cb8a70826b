"""A comparison of two models as text and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from r1prov.text import plural, printable

if TYPE_CHECKING:
    from r1prov.verify.compare import Change, Difference

_SHOWN = 40


def as_text(result: Difference) -> str:
    """`-` only in A, `+` only in B, `~` in both and different."""
    lines = [f"A {printable(result.a)}", f"B {printable(result.b)}"]
    for heading, changes in (("file", result.files), ("tensor", result.tensors)):
        if not changes:
            continue
        lines += [
            "",
            f"{plural(len(changes), heading)} differ" + ("s" if len(changes) == 1 else ""),
        ]
        for change in changes[:_SHOWN]:
            lines += _lines(change)
        if len(changes) > _SHOWN:
            lines.append(f"  … and {len(changes) - _SHOWN:,} more; --format json lists them all")
    lines.append("")
    lines += [f"not compared: {printable(text)}" for text in result.not_compared]
    if result.equal_tensors is not None:
        lines.append(f"equal by tensor: {plural(result.equal_tensors, 'tensor')}")
    lines.append("equal in all that was compared" if result.equal else "different")
    return "\n".join(lines) + "\n"


def _lines(change: Change) -> list[str]:
    name = printable(change.name)
    if change.before is None:
        return [f"  + {name}  {printable(change.after or '')}"]
    if change.after is None:
        return [f"  - {name}  {printable(change.before)}"]
    return [
        f"  ~ {name}",
        f"      A {printable(change.before)}",
        f"      B {printable(change.after)}",
    ]


def as_json(result: Difference) -> str:
    """Schema `r1prov/diff/1`."""

    def changes(items: tuple[Change, ...]) -> list[dict[str, str | None]]:
        return [{"name": one.name, "a": one.before, "b": one.after} for one in items]

    value = {
        "schema": "r1prov/diff/1",
        "a": result.a,
        "b": result.b,
        "equal": result.equal,
        "files": changes(result.files),
        "tensors": changes(result.tensors),
        "equal_tensors": result.equal_tensors,
        "not_compared": list(result.not_compared),
    }
    return json.dumps(value, indent=2) + "\n"
