"""What several commands of `r1prov evidence` ask of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle file.")]
Timestamped = Annotated[
    bool,
    typer.Option("--timestamped", help="A pinned authority must have timestamped its signature."),
]
RunCode = Annotated[
    bool,
    typer.Option(
        "--run-code", help="Run code in recorded answers, in a sandbox, where audits score it."
    ),
]


def refuse_files_that_clash(output: Path, redact: Path | None, log: Path | None) -> None:
    """What would come to light only after hours of hashing, or spoil a file of somebody's.

    Raises:
        UsageError: Two files are one.
        InputError: Openings would be written behind something else, or cannot be written.
    """
    from r1prov.cli.output import refuse_output
    from r1prov.errors import UsageError
    from r1prov.responses.openings import read_openings_of

    named = [
        (one, path) for one, path in (("--redact", redact), ("--log", log)) if path is not None
    ]
    for option, path in named:
        others = [output, *(other for name, other in named if name != option)]
        if any(path.absolute() == other.absolute() for other in others):
            raise UsageError(f"{path} cannot be two files: {option} takes one of its own")
    if redact is not None and redact.exists():
        # Openings go behind those that are there, and behind nothing else.
        read_openings_of(redact, [])
    elif redact is not None:
        refuse_output(redact)
