"""What `identify` found, as text and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from r1prov.text import printable

if TYPE_CHECKING:
    from r1prov.family.identify import Candidate, Identification

_OTHERS = 3


def as_text(result: Identification, tensors: int) -> str:
    """The answer, the reasons a person can check, the next candidates, and what stays open."""
    lines = [
        f"{result.kind}  {printable(result.headline())}",
        "",
        f"  tensors      {tensors:,}",
        f"  certainty    {result.certainty.value}",
    ]
    if result.candidates:
        best = result.candidates[0]
        lines += ["", f"held against {printable(best.label())}: {printable(best.detail)}"]
        lines += _reasons(best)
        others = result.candidates[1 : 1 + _OTHERS]
        if others:
            lines += ["", "next"]
            lines += [
                f"  {one.score:6.1%}  {printable(one.label())}: {printable(one.detail)}"
                for one in others
            ]
    for heading, sentences in (
        ("headers cannot tell", result.cannot_tell),
        ("config.json contradicts", result.config_conflicts),
    ):
        if sentences:
            lines += ["", heading, *(f"  {printable(one)}" for one in sentences)]
    return "\n".join(lines) + "\n"


def _reasons(best: Candidate) -> list[str]:
    width = max((len(one.feature) for one in best.reasons), default=0)
    lines = []
    for one in best.reasons:
        mark = "=" if one.agrees else "≠"
        line = f"  {mark} {one.feature:<{width}}  {printable(one.found)}"
        lines.append(line if one.agrees else f"{line}, expected {printable(one.expected)}")
    return lines


def as_json(result: Identification, tensors: int) -> str:
    """Schema `r1prov/identify/1`."""
    value = {
        "schema": "r1prov/identify/1",
        "kind": result.kind,
        "name": result.name,
        "exact": result.exact,
        "certainty": result.certainty.value,
        "summary": result.headline(),
        "tensors": tensors,
        "candidates": [
            {
                "name": one.name,
                "variant": one.variant,
                "score": one.score,
                "exact": one.exact,
                "detail": one.detail,
                "config": one.config.value,
                "reasons": [
                    {
                        "feature": reason.feature,
                        "found": reason.found,
                        "expected": reason.expected,
                        "agrees": reason.agrees,
                    }
                    for reason in one.reasons
                ],
            }
            for one in result.candidates
        ],
        "cannot_tell": list(result.cannot_tell),
        "config_conflicts": list(result.config_conflicts),
    }
    return json.dumps(value, indent=2) + "\n"
