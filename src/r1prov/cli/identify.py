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
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import complain, emit
    from r1prov.family.identify import identify
    from r1prov.manifest.shelf import load_shelf
    from r1prov.render import identification
    from r1prov.stores.local import LocalStore
    from r1prov.verify.evidence import gather

    evidence = gather(LocalStore(model))
    inventory = evidence.inventory(evidence.loadable_weights())
    result = identify(
        inventory,
        config=evidence.config,
        config_sha256=evidence.config_sha256,
        file_sizes=evidence.sizes(),
        manifests=load_shelf().manifests(),
    )
    as_json = format is ResultFormat.JSON
    show = identification.as_json if as_json else identification.as_text
    emit(show(result, len(inventory)), output)
    for path, error in evidence.header_errors.items():
        complain(f"{path}: {error.message}", error.hint)
    if evidence.header_errors:
        return 1
    return 0 if result.name is not None else 3
