"""The attention of one model or two, as text and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from r1prov.text import plural, printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.attention.difference import Difference, Intervals
    from r1prov.attention.report import AttentionReport, Described, Profile
    from r1prov.family.attention import AttentionShape

SCHEMA = "r1prov/attention/1"
SCALE = "entropy of a query row as a share of ln(visible keys): 0 looks at one key, 1 at all alike"


def as_text(report: AttentionReport) -> str:
    """The report for a terminal."""
    blocks = [_described(one) for one in report.models]
    if len(report.models) > 1:
        blocks.append(_headers_compared(report))
    for profile in report.profiles:
        blocks += [_measured(profile), _layers(profile)]
    if report.profiles:
        blocks.append(f"{SCALE};\nrows with one visible key are left out")
    if report.difference is not None:
        blocks.append(_difference(report.difference))
    blocks += [f"not compared: {printable(one, limit=1000)}" for one in report.not_compared]
    blocks.append(_listed("this cannot tell", report.cannot_tell))
    return "\n\n".join(blocks) + "\n"


def summary(shape: AttentionShape) -> str:
    """Kind, layers and heads in one line."""
    layers, heads = shape.layers, shape.heads
    text = shape.kind.value if shape.kind.value != "unknown" else "attention of an unknown kind"
    text += f", {plural(layers, 'layer')}" if layers is not None else ""
    text += f" of {plural(heads, 'head')}" if heads is not None else ", heads not known"
    if shape.mtp_layers:
        numbers = ", ".join(str(one) for one in shape.mtp_layers)
        text += f", and {plural(len(shape.mtp_layers), 'layer')} more for multi-token prediction"
        text += f" ({numbers})"
    return text


def _described(one: Described) -> str:
    shape = one.shape
    rows: list[tuple[str, ...]] = [("figure", "tensors", shape.source, "key")]
    rows += [
        (figure.name, _number(figure.tensors), _number(figure.config), figure.key)
        for figure in shape.figures
    ]
    lines = [f"{printable(one.location)}: {summary(shape)}"]
    if len(rows) > 1:
        lines += ["", table(rows, right=frozenset({1, 2}))]
    for heading, texts in (
        ("contradictions", shape.contradictions),
        ("left open by the shapes", shape.cannot_tell),
        ("headers that cannot be read", [f"{path}: {why}" for path, why in one.malformed]),
    ):
        if texts:
            lines += ["", _listed(heading, texts)]
    return "\n".join(lines)


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _listed(heading: str, texts: tuple[str, ...] | list[str]) -> str:
    return "\n".join([heading, *(f"  {printable(one, limit=1000)}" for one in texts)])


def _headers_compared(report: AttentionReport) -> str:
    if report.shapes_differ:
        return _listed("the headers alone tell these two apart", report.shapes_differ)
    return "both have the same kind of attention, layers and heads"


def facts(profile: Profile) -> Iterator[tuple[str, str]]:
    """Label and value of what a measurement rests on."""
    state = "verified" if profile.verification.verified else "NOT VERIFIED"
    yield "weights", f"{state}: {profile.verification.text}"
    yield "tokenizer", f"{profile.tokenizer}, sha256:{profile.tokenizer_sha256}"
    yield (
        "prompts",
        f"{len(profile.prompts):,}, {plural(sum(profile.tokens), 'token')}, "
        f"{plural(profile.rows, 'query row')} a head",
    )
    if profile.names_code:
        yield "code", "config.json names code of the model's own (auto_map); none of it was run"


def _measured(profile: Profile) -> str:
    lines = [f"attention entropy of {printable(profile.location)}"]
    lines += [f"  {label:<10} {printable(value, limit=1000)}" for label, value in facts(profile)]
    return "\n".join(lines)


def _layers(profile: Profile) -> str:
    means, averaged = profile.head_means(), profile.averaged_means()
    rows: list[tuple[str, ...]] = [
        ("layer", "mean of heads", "least", "head", "most", "head", "heads averaged first")
    ]
    for layer, heads in enumerate(means):
        least, most = int(heads.argmin()), int(heads.argmax())
        rows.append(
            (
                str(layer),
                f"{heads.mean():.4f}",
                f"{heads[least]:.4f}",
                str(least),
                f"{heads[most]:.4f}",
                str(most),
                f"{averaged[layer]:.4f}",
            )
        )
    rows.append(("all", f"{means.mean():.4f}", "", "", "", "", f"{averaged.mean():.4f}"))
    return table(rows, right=frozenset(range(7)))


def _difference(found: Difference) -> str:
    apart = found.heads.apart()
    rows: list[tuple[str, ...]] = [
        ("layer", "difference", "95% interval", "mean size", "heads apart", "largest", "head")
    ]
    count = found.heads.mean.shape[1]
    for layer, mean in enumerate(found.layers.mean):
        heads = found.heads.mean[layer]
        largest = int(abs(heads).argmax())
        rows.append(
            (
                str(layer),
                f"{mean:+.4f}",
                _interval(found.layers, layer),
                f"{found.absolute[layer].mean():.4f}",
                "-" if apart is None else f"{int(apart[layer].sum())} of {count}",
                f"{heads[largest]:+.4f}",
                str(largest),
            )
        )
    total = "-" if apart is None else f"{int(apart.sum()):,} of {apart.size:,}"
    overall = (
        "all",
        f"{found.overall.mean:+.4f}",
        _interval(found.overall, ()),
        f"{found.absolute.mean():.4f}",
        total,
        "",
        "",
    )
    rows.append(overall)
    heading = (
        f"difference: the second minus the first, {plural(found.rows, 'query row')} of "
        f"{plural(found.prompts, 'prompt')}, paired"
    )
    lines = [heading, "", table(rows, right=frozenset(range(7))), "", interval_note(found)]
    if not found.absolute.any():
        lines.append("every entropy is equal to the last bit, which proves nothing of the weights")
    return "\n".join(lines)


def interval_note(found: Difference) -> str:
    """What the intervals are, or why there are none."""
    from r1prov.attention.difference import LEAST_PROMPTS

    if found.heads.low is None:
        return (
            f"no intervals: {plural(found.prompts, 'prompt')} say little of others, and "
            f"{LEAST_PROMPTS} are the least"
        )
    return (
        "intervals: bootstrap over prompts, of all layers (or all heads) together; they are about "
        "prompts like\nthese. Mean size is that of single rows, whose differences do not cancel"
    )


def _interval(of: Intervals, at: Any) -> str:  # noqa: ANN401 - an index of numpy
    if of.low is None or of.high is None:
        return "-"
    return f"{of.low[at]:+.4f} to {of.high[at]:+.4f}"


def as_json(report: AttentionReport) -> str:
    """The report as JSON: every head of every layer."""
    value: dict[str, object] = {
        "schema": SCHEMA,
        "version": report.version,
        "models": [_described_json(one) for one in report.models],
        "shapes_differ": list(report.shapes_differ),
        "profiles": [_profile_json(one) for one in report.profiles],
        "difference": None if report.difference is None else _difference_json(report.difference),
        "not_compared": list(report.not_compared),
        "cannot_tell": list(report.cannot_tell),
    }
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _described_json(one: Described) -> dict[str, object]:
    shape = one.shape
    return {
        "model": one.location,
        "kind": shape.kind.value,
        "layers": shape.layers,
        "heads": shape.heads,
        "mtp_layers": list(shape.mtp_layers),
        "stated_by": shape.source,
        "figures": [
            {
                "name": figure.name,
                "key": figure.key or None,
                "tensors": figure.tensors,
                "stated": figure.config,
                "agrees": figure.agrees,
            }
            for figure in shape.figures
        ],
        "contradictions": list(shape.contradictions),
        "cannot_tell": list(shape.cannot_tell),
        "malformed": dict(one.malformed),
    }


def _profile_json(one: Profile) -> dict[str, object]:
    return {
        "model": one.location,
        "verified": one.verification.verified,
        "verification": one.verification.text,
        "tokenizer": one.tokenizer,
        "tokenizer_sha256": one.tokenizer_sha256,
        "names_code": one.names_code,
        "prompts": [
            {"id": name, "tokens": tokens}
            for name, tokens in zip(one.prompts, one.tokens, strict=True)
        ],
        "query_rows": one.rows,
        "entropy": _rounded(one.head_means()),
        "entropy_nats": _rounded(one.head_nats()),
        "entropy_of_averaged_heads": _rounded(one.averaged_means()),
    }


def _difference_json(found: Difference) -> dict[str, object]:
    return {
        "query_rows": found.rows,
        "prompts": found.prompts,
        "heads": _intervals_json(found.heads),
        "layers": _intervals_json(found.layers),
        "overall": _intervals_json(found.overall),
        "mean_size": _rounded(found.absolute),
    }


def _intervals_json(of: Intervals) -> dict[str, object]:
    return {
        "mean": _rounded(of.mean),
        "low": None if of.low is None else _rounded(of.low),
        "high": None if of.high is None else _rounded(of.high),
    }


def _rounded(values: Any) -> object:  # noqa: ANN401 - an array of numpy
    """Eight digits, which is what single precision bears."""
    return values.round(8).tolist()


def label(report: AttentionReport) -> str:
    """The report in one line."""
    return " against ".join(printable(one.location) for one in report.models)
