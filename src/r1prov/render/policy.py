"""A policy in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.text import plural, printable

if TYPE_CHECKING:
    from r1prov.verify.policy_check import PolicyCheck


def render_check(check: PolicyCheck) -> str:
    """What a policy demands, what it lets through, and what is wrong or weak about it."""
    wrong = [one for one in check.remarks if one.grave]
    weak = [one for one in check.remarks if not one.grave]
    word = "cannot hold" if wrong else "holds together"
    lines = [
        f"{printable(check.policy.location)}: {word}; {len(wrong)} wrong, {len(weak)} weak",
        "",
        "every model",
        *(f"  - {printable(line)}" for line in check.general),
    ]
    for entry, demands in check.entries:
        lines += ["", f"{entry.where}  {printable(entry.name)}"]
        lines += [f"  - {printable(line)}" for line in demands]
    for remarks, heading in ((wrong, "wrong"), (weak, "weak")):
        if remarks:
            lines += ["", f"{heading} ({plural(len(remarks), 'remark')})"]
            lines += [f"  {printable(one.where)}: {printable(one.message)}" for one in remarks]
    return "\n".join(lines) + "\n"
