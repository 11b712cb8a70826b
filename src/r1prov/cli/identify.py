"""`r1prov identify`: which member of the family is this, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.cli.options import Format, Model, Output, ResultFormat

if TYPE_CHECKING:
    from r1prov.manifest.schema import Manifest
    from r1prov.stores.base import Store


def command(
    model: Model,
    format: Format = ResultFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
) -> int:
    """Say which model this is, from headers alone, and what headers cannot tell.

    Exit status 0 if a known model fits, 3 if none does, 1 if a header is malformed. Of an Ollama
    models directory, every tag is identified.

    \b
    Examples:
      r1prov identify /models/DeepSeek-R1
      r1prov identify ./model --format json
      r1prov identify hf://deepseek-ai/DeepSeek-R1
      r1prov identify ollama://deepseek-r1:8b
      r1prov identify ~/.ollama/models
      r1prov identify DeepSeek-R1-Q4_K_M.gguf
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.manifest.shelf import load_shelf
    from r1prov.stores.locate import open_stores

    manifests = load_shelf().manifests()
    stores = open_stores(model)
    as_json = format is ResultFormat.JSON
    texts, statuses = [], []
    for store in stores:
        text, status = _identify(store, manifests, as_json=as_json)
        if len(stores) > 1 and not as_json:
            text = f"== {store.name}\n{text}"
        texts.append(text)
        statuses.append(status)
    if len(stores) > 1 and as_json:
        emit("[\n" + ",\n".join(text.rstrip() for text in texts) + "\n]\n", output)
    else:
        emit("\n".join(texts), output)
    return next((status for status in (1, 3) if status in statuses), 0)


def _identify(store: Store, manifests: list[Manifest], *, as_json: bool) -> tuple[str, int]:
    """What one model is, as text or JSON, and the exit status."""
    from r1prov.cli.output import complain, say
    from r1prov.family.gguf import identify_gguf
    from r1prov.family.identify import identify
    from r1prov.render import gguf, identification
    from r1prov.stores.base import EntryKind
    from r1prov.stores.locate import traffic_of
    from r1prov.text import printable
    from r1prov.verify.evidence import gather
    from r1prov.verify.ollama import explain

    evidence = gather(store)
    text, named = "", None
    found = identify_gguf(evidence.gguf, manifests) if evidence.gguf else None
    answer = explain(store, found)
    if found is not None or answer is not None:
        text = (gguf.as_json if as_json else gguf.as_text)(found, answer)
        named = found.name if found else None
    if evidence.headers or not text:
        inventory = evidence.inventory(evidence.loadable_weights())
        result = identify(
            inventory,
            config=evidence.config,
            config_sha256=evidence.config_sha256,
            file_sizes=evidence.sizes(),
            manifests=manifests,
        )
        show = identification.as_json if as_json else identification.as_text
        shown = show(result, len(inventory))
        if not text:
            text = shown
        elif not as_json:
            text += f"\nsafetensors files beside it\n{shown}"
        named = named or result.name
    for entry in evidence.entries:
        if entry.kind is EntryKind.UNREADABLE:
            complain(f"{entry.path}: {entry.detail}")
    for path, error in evidence.header_errors.items():
        complain(f"{path}: {error.message}", error.hint)
    if (traffic := traffic_of(store)) is not None:
        say(printable(traffic))
    if evidence.header_errors:
        return text, 1
    return text, 0 if named is not None else 3
