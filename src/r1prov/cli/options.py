"""Options that several commands share. Each also reads its `R1PROV_*` variable."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ReportFormat(StrEnum):
    """How the report of a verification is written (`render/formats.py` has the modules)."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    JUNIT = "junit"
    GITHUB = "github"
    GITLAB = "gitlab"
    MARKDOWN = "markdown"
    HTML = "html"


class ResultFormat(StrEnum):
    """How any other result is written."""

    TEXT = "text"
    JSON = "json"


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Directory or weight file, hf://org/name@revision, ollama://name:tag, s3://bucket/path"
        " (also gs://, az://).",
    ),
]
Format = Annotated[
    ResultFormat,
    # Not R1PROV_FORMAT: that names formats of reports, which other results have not.
    typer.Option("--format", envvar="R1PROV_RESULT_FORMAT", help="How the result is written."),
]
ReportAs = Annotated[
    ReportFormat,
    typer.Option("--format", envvar="R1PROV_FORMAT", help="How the report is written."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", envvar="R1PROV_OUTPUT", help="Write the result to this file."),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", envvar="R1PROV_QUIET", help="Print nothing; the exit status says it."
    ),
]
NoColor = Annotated[
    bool, typer.Option("--no-color", envvar="R1PROV_NO_COLOR", help="No colour in the result.")
]
Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        envvar="R1PROV_KEYS",
        metavar="DIR",
        help="Trust only the keys of this directory (its trust.toml).",
    ),
]
PolicyPath = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        envvar="R1PROV_POLICY",
        metavar="FILE",
        help="Policy file; by default ./r1prov.toml, else [tool.r1prov] of ./pyproject.toml.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, max=32, envvar="R1PROV_JOBS", help="Hashing threads."),
]
