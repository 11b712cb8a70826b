"""`r1prov identify`: which member of the family is this, and why."""

from __future__ import annotations

from r1prov.cli.options import Format, Model, Output, ResultFormat


def command(
    model: Model,
    format: Format = ResultFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
) -> int:
    """Say which model this is, from headers alone, and what headers cannot tell.

    Exit status 0 if a known model fits, 3 if none does, 1 if a header is malformed.

    \b
    Examples:
      r1prov identify /models/DeepSeek-R1
      r1prov identify ./model --format json
      r1prov identify hf://deepseek-ai/DeepSeek-R1
      r1prov identify ollama://deepseek-r1:8b
      r1prov identify DeepSeek-R1-Q4_K_M.gguf
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import complain, emit, say
    from r1prov.family.gguf import identify_gguf
    from r1prov.family.identify import identify
    from r1prov.manifest.shelf import load_shelf
    from r1prov.render import gguf, identification
    from r1prov.stores.base import EntryKind
    from r1prov.stores.locate import open_store, traffic_of
    from r1prov.text import printable
    from r1prov.verify.evidence import gather
    from r1prov.verify.ollama import explain

    store = open_store(model)
    evidence = gather(store)
    as_json = format is ResultFormat.JSON
    manifests = load_shelf().manifests()
    named = None
    found = identify_gguf(evidence.gguf, manifests) if evidence.gguf else None
    answer = explain(store, found)
    if found is not None or answer is not None:
        show_gguf = gguf.as_json if as_json else gguf.as_text
        emit(show_gguf(found, answer), output)
        named = found.name if found else None
    if evidence.headers or (found is None and answer is None):
        inventory = evidence.inventory(evidence.loadable_weights())
        result = identify(
            inventory,
            config=evidence.config,
            config_sha256=evidence.config_sha256,
            file_sizes=evidence.sizes(),
            manifests=manifests,
        )
        show = identification.as_json if as_json else identification.as_text
        if found is None:
            emit(show(result, len(inventory)), output)
        elif not as_json:
            emit("\nsafetensors files beside it\n" + show(result, len(inventory)), output)
        named = named or result.name
    for entry in evidence.entries:
        if entry.kind is EntryKind.UNREADABLE:
            complain(f"{entry.path}: {entry.detail}")
    for path, error in evidence.header_errors.items():
        complain(f"{path}: {error.message}", error.hint)
    if (traffic := traffic_of(store)) is not None:
        say(printable(traffic))
    if evidence.header_errors:
        return 1
    return 0 if named is not None else 3
