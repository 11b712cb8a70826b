"""`r1prov evidence show`: what a bundle holds, and the document that people read."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli.endpoint_options import Tokenizer
from r1prov.cli.evidence_create import ResponseKeys, criteria, responses
from r1prov.cli.evidence_options import Bundle as BundlePath
from r1prov.cli.evidence_options import RunCode, Timestamped
from r1prov.cli.options import Expect, Jobs, Keys, Output, PolicyPath, Quiet, ScopeChoice

if TYPE_CHECKING:
    from r1prov.evidence.open import Bundle
    from r1prov.evidence.verify import Demands
    from r1prov.render.evidence_dossier import Criteria
    from r1prov.render.evidence_words import Language
    from r1prov.verify.pipeline import Authorities


class ShowFormat(StrEnum):
    """How a bundle is shown."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"
    PDF = "pdf"


class Languages(StrEnum):
    """In what languages a document is."""

    ZH = "zh"
    EN = "en"
    BOTH = "both"


_Signers = Annotated[
    int | None,
    typer.Option("--signers", min=1, help="How many different pinned signers must sign it."),
]


def show(
    bundle: BundlePath,
    format: Annotated[  # noqa: A002 - the option is called --format
        ShowFormat,
        typer.Option(
            "--format",
            envvar="R1PROV_SHOW_FORMAT",
            help="text, json: what it holds, nothing verified; html, pdf: a document about the "
            "verified bundle.",
        ),
    ] = ShowFormat.TEXT,
    lang: Annotated[
        Languages, typer.Option("--lang", envvar="R1PROV_LANG", help="Languages of a document.")
    ] = Languages.BOTH,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Compare with the model at hand."),
    ] = None,
    expect: Expect = None,
    policy: PolicyPath = None,
    scope: ScopeChoice = None,
    response_keys: ResponseKeys = None,
    signers: _Signers = None,
    timestamped: Timestamped = False,
    openings: Annotated[
        Path | None,
        typer.Option("--openings", metavar="FILE", help="Open redacted bodies of exchanges."),
    ] = None,
    tokenizer: Tokenizer = None,
    run_code: RunCode = False,
    keys: Keys = None,
    jobs: Jobs = None,
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Show what a bundle holds, or make the document about it that people read.

    As text and JSON, that its members are intact is checked, who signed is not. For a document the
    bundle is verified as `r1prov evidence verify` does, with the same options and the same exit
    status; without a good signature of a pinned key its first line says that it is not verified.

    \b
    Examples:
      r1prov evidence show r1.evidence.zip
      r1prov evidence show r1.evidence.zip --format pdf --keys ./pinned -o r1.pdf
      r1prov evidence show r1.evidence.zip --format html --lang zh --keys ./pinned -o r1.html
    """  # noqa: D301 - \b is how the help keeps lines as they are
    import sys

    from r1prov.cli.output import emit, emit_bytes
    from r1prov.errors import UsageError
    from r1prov.evidence.open import open_bundle
    from r1prov.evidence.verify import Demands
    from r1prov.limits import MAX_EVIDENCE_BYTES, MAX_POLICY_BYTES
    from r1prov.render import evidence as render
    from r1prov.render.evidence_dossier import Criteria
    from r1prov.stores.locate import open_store
    from r1prov.trust.directories import read_file
    from r1prov.verify.local import load_authorities
    from r1prov.verify.policy_file import load_policy

    document = format in (ShowFormat.HTML, ShowFormat.PDF)
    demanded = (model, expect, policy, scope, response_keys, signers, openings, tokenizer)
    asked = timestamped or run_code or any(one is not None for one in demanded)
    if not document and asked:
        raise UsageError(
            f"--format {format} verifies nothing, so it takes no demands",
            hint="use `r1prov evidence verify`, or --format html or pdf",
        )
    terminal = output is None and sys.stdout is not None and sys.stdout.isatty()
    if format is ShowFormat.PDF and terminal:
        raise UsageError("a PDF is no text for a terminal", hint="name a file with --output")
    raw = read_file(bundle, MAX_EVIDENCE_BYTES)
    opened = open_bundle(raw, subject=bundle.name)
    if not document:
        as_chosen = render.bundle_as_json if format is ShowFormat.JSON else render.bundle_as_text
        emit(as_chosen(opened), output, quiet=quiet)
        return 1 if opened.findings else 0
    # Only a policy that is named: one in the working directory is for another purpose.
    file = load_policy(policy) if policy is not None else None
    demands = Demands(
        expect=expect,
        policy=file,
        scope=scope,
        signers=signers or 1,
        timestamped=timestamped,
        responses=responses(policy, tuple(response_keys or ())),
        endpoint=criteria(policy),
        tokenizer=tokenizer,
        run_code=run_code,
        openings=openings,
        model=open_store(model) if model is not None else None,
        workers=jobs,
    )
    authorities = load_authorities(keys, file)
    found = None
    if policy is not None:
        found = Criteria(policy.name, read_file(policy, MAX_POLICY_BYTES), by_verifier=True)
    page, status = _document(
        raw,
        opened,
        _languages(lang),
        demands,
        authorities,
        policy=found,
        asked=_as_options(demands, policy, response_keys, tokenizer),
        quiet=quiet,
    )
    if format is ShowFormat.HTML:
        taken = emit(page, output, quiet=quiet)
    else:
        from r1prov.render.evidence_pdf import as_pdf

        set_page = as_pdf(page, identifier=opened.sha256)
        taken = (quiet and output is None) or emit_bytes(set_page, output)
    return status if taken else 4


def _as_options(
    demands: Demands, policy: Path | None, keys: list[Path] | None, tokenizer: Path | None
) -> tuple[tuple[str, ...], ...]:
    """What was asked, as whoever reads the document has to type it: files by their names alone."""
    files = [
        ("--policy", policy),
        *(("--response-keys", one) for one in keys or ()),
        ("--openings", demands.openings),
        ("--tokenizer", tokenizer),
    ]
    found: list[tuple[str, ...]] = [
        (option, file.name or "FILE") for option, file in files if file is not None
    ]
    if demands.scope is not None:
        found.append(("--scope", demands.scope.value))
    if demands.signers > 1:
        found.append(("--signers", str(demands.signers)))
    found += [("--timestamped",)] if demands.timestamped else []
    found += [("--run-code",)] if demands.run_code else []
    return tuple(found)


def _languages(lang: Languages) -> tuple[Language, ...]:
    from r1prov.render.evidence_words import Language

    if lang is Languages.BOTH:
        return (Language.ZH, Language.EN)
    return (Language(lang.value),)


def _document(
    raw: bytes,
    opened: Bundle,
    languages: tuple[Language, ...],
    demands: Demands,
    authorities: Authorities,
    *,
    policy: Criteria | None,
    asked: tuple[tuple[str, ...], ...],
    quiet: bool,
) -> tuple[str, int]:
    """The page, and the exit status of the verdict in it."""
    import r1prov
    from r1prov.cli.progress import hashing_progress
    from r1prov.evidence.verify import verify_evidence
    from r1prov.render.evidence_document import as_html
    from r1prov.render.evidence_dossier import gather_dossier

    now = datetime.now(UTC)
    with hashing_progress(quiet=quiet) as progress:
        result = verify_evidence(
            raw, authorities, now=now, demands=demands, subject=opened.subject, progress=progress
        )
    dossier = gather_dossier(
        opened, result, authorities, now=now, version=r1prov.__version__, policy=policy, asked=asked
    )
    return as_html(dossier, languages), result.exit_status
