"""Options that several commands share. Each also reads its `R1PROV_*` variable."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from r1prov.verify.policy import By, Level, Scope


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
ManifestChoice = Annotated[
    str | None,
    typer.Option(
        "--manifest",
        "-m",
        envvar="R1PROV_MANIFEST",
        metavar="NAME|FILE",
        help="Manifest, or bundle of OpenSSF Model Signing (model.sig), to hold the model "
        "against; by default the model is identified.",
    ),
]
Expect = Annotated[
    str | None,
    typer.Option(
        "--expect",
        envvar="R1PROV_EXPECT",
        metavar="NAME|full",
        help="Fail if the model is any other than this; `full` is the 671B DeepSeek-R1.",
    ),
]
LevelChoice = Annotated[
    Level,
    typer.Option(
        "--level",
        envvar="R1PROV_LEVEL",
        help="structure: headers only, never a pass; full: every byte.",
    ),
]
ScopeChoice = Annotated[
    Scope | None,
    typer.Option(
        "--scope",
        envvar="R1PROV_SCOPE",
        help="all: every file (the default, unless a policy says otherwise); weights: weight "
        "files, inventory and config against headers.",
    ),
]
ByChoice = Annotated[
    By,
    typer.Option(
        "--by",
        envvar="R1PROV_BY",
        help="file: every file as listed; tensor: the same weights in any files.",
    ),
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
TimestampUrl = Annotated[
    str | None,
    typer.Option(
        "--timestamp-url",
        "--tsa-url",
        envvar="R1PROV_TIMESTAMP_URL",
        metavar="URL",
        help="Have the signature timestamped (RFC 3161) by the authority at this URL.",
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
