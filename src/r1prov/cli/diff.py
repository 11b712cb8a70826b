"""`r1prov diff`: two models or manifests, by file and by tensor."""

from __future__ import annotations

from typing import Annotated

import typer

from r1prov.cli.options import Format, Jobs, Output, Quiet, ResultFormat

_SIDE = "A model as elsewhere, a manifest file, or the name of a known model."


def command(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE)],
    b: Annotated[str, typer.Argument(metavar="B", help=_SIDE)],
    headers_only: Annotated[
        bool, typer.Option("--headers-only", help="Do not hash; compare sizes and tensors.")
    ] = False,
    by_tensor: Annotated[
        bool,
        typer.Option(
            "--by-tensor", help="Compare weights tensor by tensor, whatever files they are in."
        ),
    ] = False,
    jobs: Jobs = None,
    format: Format = ResultFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Compare two models or manifests, by file and by tensor.

    Exit status 0 if equal, 1 if not, 3 if nothing differs and the content of some files could not
    be compared. Where a weight file differs on disk, the tensors whose bytes differ are named.

    \b
    Examples:
      r1prov diff ./model ./copy
      r1prov diff DeepSeek-R1 /models/r1 --headers-only
      r1prov diff old.toml new.toml
      r1prov diff ./model ./resharded --by-tensor
      r1prov diff DeepSeek-R1 hf://deepseek-ai/DeepSeek-R1
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.cli.progress import hashing_progress
    from r1prov.manifest.shelf import load_shelf
    from r1prov.render import difference
    from r1prov.verify.compare import compare, load_side

    shelf = load_shelf()
    with hashing_progress(quiet=quiet) as progress:
        sides = [
            load_side(
                text,
                shelf,
                hashing=not headers_only,
                by_tensor=by_tensor,
                workers=jobs,
                progress=progress,
            )
            for text in (a, b)
        ]
        result = compare(*sides)
    as_json = format is ResultFormat.JSON
    emit(difference.as_json(result) if as_json else difference.as_text(result), output, quiet=quiet)
    return result.exit_status
