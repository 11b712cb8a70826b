"""Write the rule table as Markdown: `python docs/generate_rules.py > docs/rules.md`."""

from __future__ import annotations

import sys

from r1prov.verify.rules import RULES

_GROUPS = {
    "0": "Files",
    "1": "Safetensors and GGUF headers",
    "2": "Shard index and JSON",
    "3": "Signatures and trust",
    "4": "Identity and architecture",
    "5": "Hygiene",
    "6": "Provenance",
    "7": "Policy",
    "8": "Signatures on API responses",
    "9": "Answers of an endpoint, evidence bundles",
}
_INTRODUCTION = """# Rules

Every finding names one of these rules. An id never changes and is never used again for another
rule. The severity is what the rule weighs by itself: `error` makes the verdict `fail`, `warning`
and `note` are shown and leave the verdict alone. [verify](verify.md) says where a scope or a
signature changes a severity.

This page is written by `docs/generate_rules.py` from the rule table in the source.
"""


def render() -> str:
    """The whole page."""
    lines = [_INTRODUCTION]
    for group, title in _GROUPS.items():
        lines += [
            f"## {title}",
            "",
            "| id | name | severity | what is wrong | why, and what to do |",
        ]
        lines.append("| --- | --- | --- | --- | --- |")
        lines += [
            f"| {rule.id} | `{rule.name}` | {rule.severity.value} | {_cell(rule.title)} "
            f"| {_cell(rule.help)} |"
            for rule in RULES
            if rule.id[3] == group
        ]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
