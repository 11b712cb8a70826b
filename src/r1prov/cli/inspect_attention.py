"""`r1prov inspect --attention`: heads and layers from headers, and entropy of models that fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from r1prov.attention.report import AttentionReport, Described

Attention = Annotated[
    bool,
    typer.Option("--attention", help="Heads, layers and ranks, from headers and config."),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="FILE|builtin",
        help="With --attention: measure attention entropy on these prompts, one a line, or JSON as "
        "those built in. Needs r1prov[torch], and a model that fits into memory.",
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against", metavar="OTHER", help="With --attention: a second model to compare with."
    ),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", metavar="FILE", help="With --prompts: a tokenizer.json for both models."
    ),
]
ManifestOfModel = Annotated[
    str | None,
    typer.Option(
        "--manifest",
        "-m",
        metavar="NAME|FILE",
        help="With --prompts: measure only what passes against this manifest.",
    ),
]
ManifestOfOther = Annotated[
    str | None,
    typer.Option(
        "--manifest-against", metavar="NAME|FILE", help="The same for the model of --against."
    ),
]
Html = Annotated[
    bool, typer.Option("--html", help="With --attention: write a page with maps of the heads.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the options ask for."""

    model: str
    prompts: str | None
    against: str | None
    tokenizer: Path | None
    manifest: str | None
    manifest_against: str | None
    keys: Path | None

    def refuse_alone(self) -> None:
        """Refuse options that do nothing without others.

        Raises:
            UsageError: There are some.
        """
        from r1prov.errors import UsageError

        if self.manifest_against is not None and self.against is None:
            raise UsageError("--manifest-against needs --against")
        if self.prompts is None:
            for name in ("tokenizer", "manifest", "manifest_against"):
                if getattr(self, name) is not None:
                    raise UsageError(
                        f"--{name.replace('_', '-')} needs --prompts: headers alone are read "
                        "without them"
                    )


def inspect_attention(asked: Asked, output: Path | None, *, json: bool, html: bool) -> int:
    """Print the report; the exit status that goes with it."""
    from r1prov.cli.output import emit
    from r1prov.errors import UsageError

    if json and html:
        raise UsageError("--json and --html are two results; ask for one")
    asked.refuse_alone()
    report = _headers(asked) if asked.prompts is None else _measured(asked, asked.prompts)
    if html:
        from r1prov.render.attention_html import as_html as render
    elif json:
        from r1prov.render.attention import as_json as render
    else:
        from r1prov.render.attention import as_text as render
    emit(render(report), output)
    return report.exit_status


def _headers(asked: Asked) -> AttentionReport:
    from r1prov.attention.report import AttentionReport
    from r1prov.family.attention import shape_differences

    models = [_described(asked.model)]
    if asked.against is not None:
        models.append(_described(asked.against))
    differ = tuple(shape_differences(*(one.shape for one in models))) if len(models) > 1 else ()
    return AttentionReport(models=tuple(models), shapes_differ=differ)


def _described(path: str) -> Described:
    from r1prov.attention.describe import describe
    from r1prov.attention.report import Described
    from r1prov.cli.output import say
    from r1prov.stores.locate import open_store, traffic_of
    from r1prov.text import printable
    from r1prov.verify.evidence import gather

    store = open_store(path)
    evidence = gather(store)
    malformed = tuple((file, error.message) for file, error in evidence.header_errors.items())
    found = Described(path, describe(evidence), malformed)
    if (traffic := traffic_of(store)) is not None:
        say(printable(traffic))
    return found


def _measured(asked: Asked, prompts: str) -> AttentionReport:
    from r1prov.attention.measure import Subject, measure
    from r1prov.cli.endpoint_options import chosen_prompts
    from r1prov.cli.output import say
    from r1prov.text import printable

    subjects = [Subject(asked.model, asked.manifest)]
    if asked.against is not None:
        subjects.append(Subject(asked.against, asked.manifest_against))
    return measure(
        subjects,
        chosen_prompts(prompts),
        tokenizer=asked.tokenizer,
        keys=asked.keys,
        say=lambda line: say(printable(line)),
    )
