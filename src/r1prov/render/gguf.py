"""What `identify` found of a GGUF file or an Ollama tag, as text and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from r1prov.text import human_bytes, printable

if TYPE_CHECKING:
    from r1prov.family.gguf import GgufIdentification
    from r1prov.family.ollama import TagAnswer

_OTHERS = 3


def as_text(result: GgufIdentification | None, answer: TagAnswer | None = None) -> str:
    """The answer, what it was told by, how the weights are stored, and what stays open.

    Args:
        result: What the GGUF header says; None where no header could be read.
        answer: What the Ollama tag holds.
    """
    lines = ["unknown  no GGUF header could be read"]
    if result is not None:
        lines = [f"{result.kind}  {printable(result.summary)}"]
    if answer is not None:
        lines += ["", "Ollama tag", f"  {printable(answer.summary)}"]
        lines += [f"  {printable(note)}" for note in answer.notes]
    if result is None:
        return "\n".join(lines) + "\n"
    quantization = result.quantization
    total = sum(share.bytes for share in quantization.types.values())
    lines += ["", f"  file         {printable(result.model)}"]
    lines.append(f"  tensors      {result.features.tensors:,}")
    lines.append(f"  quantization {printable(quantization.file_type or 'not stated')}")
    lines += [
        f"    {share.bytes / total:6.1%}  {name:<8} {share.tensors:,} tensors, "
        f"{human_bytes(share.bytes)}"
        for name, share in quantization.types.items()
        if total
    ]
    if result.candidates and result.name is not None:
        best = result.candidates[0]
        lines += ["", f"held against {printable(best.label())}: {printable(best.detail)}"]
        width = max((len(one.feature) for one in best.reasons), default=0)
        for one in best.reasons:
            mark = "=" if one.agrees else "≠"
            line = f"  {mark} {one.feature:<{width}}  {printable(one.found)}"
            lines.append(line if one.agrees else f"{line}, expected {printable(one.expected)}")
    for heading, sentences in (
        ("says of itself what its tensors do not bear out", result.claims),
        ("the parts do not make one model", result.problems),
        ("headers cannot tell", result.cannot_tell),
        ("further models here", result.others),
    ):
        if sentences:
            lines += ["", heading, *(f"  {printable(one)}" for one in sentences)]
    return "\n".join(lines) + "\n"


def as_json(result: GgufIdentification | None, answer: TagAnswer | None = None) -> str:
    """Schema `r1prov/identify-gguf/1`."""
    value: dict[str, object] = {"schema": "r1prov/identify-gguf/1"}
    if result is not None:
        value |= _header(result)
    if answer is not None:
        value["ollama"] = _tag(answer)
    return json.dumps(value, indent=2) + "\n"


def _header(result: GgufIdentification) -> dict[str, object]:
    return {
        "kind": result.kind,
        "name": result.name,
        "names": list(result.names),
        "summary": result.summary,
        "relation": result.relation.value,
        "model": result.model,
        "quantization": {
            "file_type": result.quantization.file_type,
            "types": {
                name: {"tensors": one.tensors, "elements": one.elements, "bytes": one.bytes}
                for name, one in result.quantization.types.items()
            },
        },
        "candidates": [
            {
                "name": one.name,
                "variant": one.variant,
                "score": one.score,
                "relation": one.relation.value,
                "detail": one.detail,
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
        "claims": list(result.claims),
        "problems": list(result.problems),
        "cannot_tell": list(result.cannot_tell),
        "others": list(result.others),
    }


def _tag(answer: TagAnswer) -> dict[str, object]:
    return {
        "tag": answer.tag,
        "certainty": answer.certainty.value,
        "model": answer.model,
        "variant": answer.variant,
        "quantization": answer.quantization,
        "full_r1": answer.full_r1,
        "current": answer.current,
        "summary": answer.summary,
        "history": list(answer.history),
        "notes": list(answer.notes),
    }
