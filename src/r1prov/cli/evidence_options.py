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
