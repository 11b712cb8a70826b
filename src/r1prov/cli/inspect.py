"""`r1prov inspect`: headers as tables."""

from __future__ import annotations

from fnmatch import fnmatchcase
from math import isfinite
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli import inspect_attention as options
from r1prov.cli.options import Keys, Model, Output

if TYPE_CHECKING:
    from r1prov.formats.inventory import Inventory
    from r1prov.verify.evidence import Evidence


def command(
    model: Model,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List every tensor, not only the summary.")
    ] = False,
    match: Annotated[
        str | None,
        typer.Option("--match", metavar="GLOB", help="List the tensors whose name matches."),
    ] = None,
    attention: options.Attention = False,
    prompts: options.Prompts = None,
    against: options.Against = None,
    tokenizer: options.Tokenizer = None,
    manifest: options.ManifestOfModel = None,
    manifest_against: options.ManifestOfOther = None,
    keys: Keys = None,
    html: options.Html = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    output: Output = None,
) -> int:
    """Show what the headers of the weight files say: files, dtypes, tensors, parameters.

    With --attention: heads, layers and ranks instead; with --prompts besides, the attention
    entropy of each layer and head, of one local model or two. It is a description, no verdict.

    \b
    Examples:
      r1prov inspect ./model
      r1prov inspect ./model --match 'model.layers.0.*'
      r1prov inspect ./model --json | jq .dtypes
      r1prov inspect ./model --attention
      r1prov inspect ./model --attention --against ./other --prompts prompts.txt
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import complain, emit, say
    from r1prov.errors import UsageError
    from r1prov.stores.locate import open_store, traffic_of
    from r1prov.text import printable
    from r1prov.verify.evidence import gather

    asked = options.Asked(
        model=model,
        prompts=prompts,
        against=against,
        tokenizer=tokenizer,
        manifest=manifest,
        manifest_against=manifest_against,
        keys=keys,
    )
    if attention:
        if tensors or match is not None:
            raise UsageError("--attention shows no tensors; leave --tensors and --match out")
        return options.inspect_attention(asked, output, json=json, html=html)
    if html or any((prompts, against, tokenizer, manifest, manifest_against)):
        raise UsageError(
            "--prompts, --against, --tokenizer, --manifest and --html are options of --attention"
        )
    store = open_store(model)
    evidence = gather(store)
    pattern = match or ("*" if tensors else None)
    emit(_json(evidence, pattern) if json else _text(evidence, pattern), output)
    for path, error in evidence.header_errors.items():
        complain(f"{path}: {error.message}", error.hint)
    if (traffic := traffic_of(store)) is not None:
        say(printable(traffic))
    return 1 if evidence.header_errors else 0


def _value(value: object) -> str:
    """A metadata value; arrays and long texts, which are not kept, by their extent."""
    from r1prov.formats.gguf_cursor import LongText
    from r1prov.formats.gguf_metadata import ArraySummary

    if isinstance(value, ArraySummary):
        return f"{value.length:,} x {value.type}"
    if isinstance(value, LongText):
        return f"text of {value.size:,} bytes, sha256:{value.sha256}"
    return str(value)[:120]


def _inventory(evidence: Evidence) -> Inventory:
    """The tensors of every weight file, of whatever format."""
    from r1prov.formats.inventory import Inventory

    tensors = [tensor for header in evidence.headers.values() for tensor in header.tensors]
    tensors += [tensor for header in evidence.gguf.values() for tensor in header.tensors]
    return Inventory(tensors)


def _json(evidence: Evidence, pattern: str | None) -> str:
    import json

    inventory = _inventory(evidence)
    value: dict[str, object] = {
        "schema": "r1prov/inspect/1",
        "files": [
            {
                "path": path,
                "size": header.size,
                "header_bytes": header.header_bytes,
                "tensors": len(header.tensors),
                "metadata": header.metadata,
            }
            for path, header in sorted(evidence.headers.items())
        ]
        + [
            {
                "path": path,
                "size": header.size,
                "header_bytes": header.header_bytes,
                "tensors": len(header.tensors),
                "metadata": {
                    key: item
                    for key, item in header.metadata.items()
                    if isinstance(item, str | int) or (isinstance(item, float) and isfinite(item))
                },
            }
            for path, header in sorted(evidence.gguf.items())
        ],
        "tensors": len(inventory),
        "elements": inventory.elements,
        "data_bytes": inventory.data_bytes,
        "dtypes": inventory.dtypes(),
        "inventory_sha256": inventory.digest(),
        "malformed": {path: error.message for path, error in evidence.header_errors.items()},
    }
    if pattern is not None:
        value["inventory"] = [
            {
                "name": tensor.name,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "file": tensor.file,
                "data_offsets": [tensor.begin, tensor.end],
            }
            for tensor in inventory
            if fnmatchcase(tensor.name, pattern)
        ]
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _text(evidence: Evidence, pattern: str | None) -> str:
    from r1prov.text import human_bytes, printable, table

    inventory = _inventory(evidence)
    files: list[tuple[str, ...]] = [("file", "size", "header", "tensors")]
    headers = [(p, h.size, h.header_bytes, len(h.tensors)) for p, h in evidence.headers.items()]
    headers += [(p, h.size, h.header_bytes, len(h.tensors)) for p, h in evidence.gguf.items()]
    files += [
        (printable(path), human_bytes(size), f"{header_bytes:,} B", f"{count:,}")
        for path, size, header_bytes, count in sorted(headers)
    ]
    per_dtype: dict[str, list[int]] = {}
    for tensor in inventory:
        counts = per_dtype.setdefault(tensor.dtype, [0, 0])
        counts[0] += 1
        counts[1] += tensor.end - tensor.begin
    dtypes: list[tuple[str, ...]] = [("dtype", "tensors", "bytes")]
    dtypes += [(k, f"{n:,}", human_bytes(b)) for k, (n, b) in sorted(per_dtype.items())]
    blocks = [
        table(files, right=frozenset({1, 2, 3})),
        table(dtypes, right=frozenset({1, 2})),
        f"{len(inventory):,} tensors, {inventory.elements:,} elements, "
        f"{human_bytes(inventory.data_bytes)}\ninventory sha256:{inventory.digest()}",
    ]
    for path, gguf in sorted(evidence.gguf.items()):
        pairs: list[tuple[str, ...]] = [("key", f"value in {printable(path)}")]
        pairs += [(printable(k), printable(_value(v))) for k, v in sorted(gguf.metadata.items())]
        blocks.append(table(pairs))
    if pattern is not None:
        rows: list[tuple[str, ...]] = [("tensor", "dtype", "shape", "file")]
        rows += [
            (
                printable(tensor.name),
                tensor.dtype,
                "[" + ", ".join(map(str, tensor.shape)) + "]",
                printable(tensor.file),
            )
            for tensor in inventory
            if fnmatchcase(tensor.name, pattern)
        ]
        blocks.append(table(rows))
    return "\n\n".join(blocks) + "\n"
