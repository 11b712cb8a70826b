"""`r1prov evidence`: one file that others verify offline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli import evidence_show, evidence_sign
from r1prov.cli.options import (
    Expect,
    Format,
    Jobs,
    Keys,
    LevelChoice,
    ManifestChoice,
    Model,
    Output,
    PolicyPath,
    Quiet,
    ResultFormat,
    ScopeChoice,
    TimestampUrl,
)
from r1prov.cli.signing import SignerCertificate, SignerIssuers, SigningKey
from r1prov.evidence.parts import Kind
from r1prov.verify.policy import Level

if TYPE_CHECKING:
    from r1prov.evidence.create import Draft, Wanted
    from r1prov.responses.policy import ResponsePolicy

app = typer.Typer(
    help="Evidence bundles: a verdict and all that supports it in one file.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
# Errors that `create` prints.
_NAMED = 10
_Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle file.")]
_ResponseKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--response-keys",
        metavar="FILE|DIR",
        help="Keys that API answers are signed with. Repeatable.",
    ),
]

_Signers = Annotated[
    int,
    typer.Option("--signers", min=1, help="How many different pinned signers must sign it."),
]


@app.command("create", short_help="Verify a model and put all of it into one signed file")
def create(
    model: Model,
    key: SigningKey,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The bundle file; not overwritten.")
    ],
    acceptance: Annotated[
        Path | None,
        typer.Option(
            "--acceptance",
            metavar="FILE",
            help="Policy file with the acceptance criteria: every byte is checked, and the bundle "
            "is verified as the other side will.",
        ),
    ] = None,
    manifest: ManifestChoice = None,
    expect: Expect = None,
    level: LevelChoice = Level.FULL,
    scope: ScopeChoice = None,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="Read every byte of a remote model.")
    ] = False,
    exchange: Annotated[
        list[Path] | None,
        typer.Option("--exchange", metavar="FILE", help="Captured API exchange. Repeatable."),
    ] = None,
    response_keys: _ResponseKeys = None,
    redact: Annotated[
        Path | None,
        typer.Option(
            "--redact",
            metavar="OPENINGS",
            help="Put bodies of exchanges in as salted digests only; what proves them later goes "
            "into this file, to be kept secret.",
        ),
    ] = None,
    audit: Annotated[
        list[Path] | None,
        typer.Option("--audit", metavar="FILE", help="Result of another tool. Repeatable."),
    ] = None,
    include: Annotated[
        list[Kind] | None, typer.Option("--include", help="Put this in as well. Repeatable.")
    ] = None,
    exclude: Annotated[
        list[Kind] | None, typer.Option("--exclude", help="Leave this out. Repeatable.")
    ] = None,
    previous: Annotated[
        Path | None,
        typer.Option("--previous", metavar="BUNDLE", help="The bundle that this one continues."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go in and its size; write nothing.")
    ] = False,
    keys: Keys = None,
    policy: PolicyPath = None,
    certificate: SignerCertificate = None,
    chain: SignerIssuers = None,
    timestamp_url: TimestampUrl = None,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> int:
    """Verify a model as `r1prov verify` does, and put verdict and evidence into one file.

    Any verdict is put down, a fail too; the exit status is the bundle's, made again from what is
    in it. The weights themselves are not in it: their headers and digests are.

    \b
    Examples:
      r1prov evidence create /models/r1 --expect full --key me.key -o r1.evidence.zip
      r1prov evidence create ./r1 --acceptance policy.toml --key me.key -o accepted.zip
      r1prov evidence create ./r1 --previous may.zip --key me.key -o june.zip
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import complain, refuse_inside, refuse_output, say
    from r1prov.cli.progress import hashing_progress
    from r1prov.cli.signing import load_private_key, signing_certificates, timestamped
    from r1prov.errors import TimestampError, UsageError
    from r1prov.evidence.create import Wanted, draft_evidence
    from r1prov.evidence.parts import chosen
    from r1prov.render import evidence as render
    from r1prov.render import json as report_as_json
    from r1prov.trust.chains import signer_chain
    from r1prov.trust.timestamp_client import check_url
    from r1prov.verify.findings import Verdict

    if acceptance is not None and (policy is not None or level is not Level.FULL):
        raise UsageError(
            "--acceptance is a policy of its own, and every byte is checked under it",
            hint="leave out --policy and --level",
        )
    if not dry_run:
        refuse_output(output)
    for path in (output, redact):
        refuse_inside(path, model)
    wanted = Wanted(
        model=model,
        manifest=manifest,
        expect=expect,
        level=level,
        scope=scope,
        read_all=read_all,
        keys=keys,
        policy=acceptance or policy,
        exchanges=tuple(exchange or ()),
        digests_only=redact is not None,
        response_keys=tuple(response_keys or ()),
        audits=tuple(audit or ()),
        kinds=chosen(frozenset(include or ()), frozenset(exclude or ())),
        previous=previous,
        timestamped=timestamp_url is not None,
        workers=jobs,
    )
    certificates = signing_certificates(certificate, chain)
    private = load_private_key(key)  # before hashing: a wrong passphrase shows at once
    if timestamp_url is not None:
        check_url(timestamp_url)
    if certificates:
        signer_chain(private.public, certificates)
    with hashing_progress(quiet=quiet) as progress:
        draft = draft_evidence(wanted, report_as_json.render, progress=progress)
    if not quiet:
        say(render.sizes_as_text(draft))
    if dry_run:
        return draft.report.exit_status
    signature = draft.signature(private, certificates)
    unstamped = False
    if timestamp_url is not None:
        try:
            signature = timestamped(signature, timestamp_url, subject="the evidence")
        except TimestampError as error:
            # Hours of hashing are not lost for it.
            complain(error.message, f"`r1prov evidence timestamp {output}` adds one later")
            draft, unstamped = draft.untimestamped(), True
            signature = draft.signature(private, certificates)
    status = _written(draft, draft.archive(signature), wanted, output, redact, quiet=quiet)
    return status or (Verdict.INCOMPLETE.exit_status if unstamped else 0)


def _written(
    draft: Draft, raw: bytes, wanted: Wanted, output: Path, redact: Path | None, *, quiet: bool
) -> int:
    """Write the bundle, then verify it as others will: the status is what that came to."""
    from r1prov.cli.output import say, write_new
    from r1prov.evidence.verify import Demands, verify_evidence
    from r1prov.responses.openings import append_openings
    from r1prov.text import human_bytes, printable
    from r1prov.verify.findings import Verdict, decide
    from r1prov.verify.local import load_authorities
    from r1prov.verify.policy_file import find_policy
    from r1prov.verify.rules import Severity

    if redact is not None:
        # First: a bundle whose digests nobody can open would be lost content.
        for head, openings in draft.openings:
            append_openings(redact, head, openings)
    write_new(output, raw)
    file = find_policy(wanted.policy).file
    result = verify_evidence(
        raw,
        load_authorities(wanted.keys, file),
        now=datetime.now(UTC),
        demands=Demands(
            policy=file,
            responses=_responses(wanted.policy, wanted.response_keys),
            openings=redact if draft.openings else None,
        ),
        subject=output.name,
    )
    # One's own key need not be among those that one trusts.
    about = [one for one in result.findings if one.rule.name != "evidence-signature"]
    verdict = decide(tuple(about), result.coverage)
    if draft.report.verdict is Verdict.FAIL:
        verdict = Verdict.FAIL
    if not quiet:
        say(f"{output}: {human_bytes(len(raw))}, sha256:{result.sha256}")
        errors = [one for one in about if one.severity is Severity.ERROR]
        for one in errors[:_NAMED]:
            say(f"{one.rule.id} {printable(one.subject)}: {printable(one.message)}")
        if len(errors) > _NAMED:
            say(f"and {len(errors) - _NAMED:,} more errors: `r1prov evidence verify` shows them")
        say(f"{verdict.value}: {printable(draft.report.headline)}")
    return verdict.exit_status


def _responses(policy: Path | None, keys: tuple[Path, ...]) -> ResponsePolicy:
    """What counts of signed answers: the table of a policy file, and keys that are pinned."""
    from dataclasses import replace

    from r1prov.responses.key_files import load_keys
    from r1prov.responses.policy import ResponsePolicy, read_response_policy

    chosen = (read_response_policy(policy) if policy is not None else None) or ResponsePolicy()
    more = tuple(key for path in keys for key in load_keys(path))
    return replace(chosen, keys=chosen.keys + more)


app.command("sign", short_help="Add a signature to a bundle that is there")(evidence_sign.sign)
app.command("timestamp", short_help="Add timestamps to a bundle that is there")(
    evidence_sign.timestamp
)


@app.command("verify", short_help="Verify a bundle offline, and make its verdict again")
def verify(
    bundle: _Bundle,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Compare with the model at hand."),
    ] = None,
    expect: Expect = None,
    policy: PolicyPath = None,
    scope: ScopeChoice = None,
    response_keys: _ResponseKeys = None,
    signers: _Signers = 1,
    openings: Annotated[
        Path | None,
        typer.Option("--openings", metavar="FILE", help="Open redacted bodies of exchanges."),
    ] = None,
    keys: Keys = None,
    jobs: Jobs = None,
    format: Format = ResultFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Verify every digest, signature and timestamp of a bundle, and make its verdict again.

    Nothing is believed but the pinned keys (--keys, else those of `r1prov key list`); nothing is
    fetched and nothing unpacked. Exit status 0 pass, 1 fail, 3 incomplete, 4 malformed.

    \b
    Examples:
      r1prov evidence verify r1.evidence.zip --keys ./pinned --expect full
      r1prov evidence verify r1.evidence.zip --keys ./pinned --model /models/r1
      r1prov evidence verify r1.evidence.zip --keys ./pinned --scope all
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.cli.progress import hashing_progress
    from r1prov.evidence.verify import Demands, verify_evidence
    from r1prov.limits import MAX_EVIDENCE_BYTES
    from r1prov.render import evidence as render
    from r1prov.stores.locate import open_store
    from r1prov.trust.directories import read_file
    from r1prov.verify.local import load_authorities
    from r1prov.verify.policy_file import load_policy

    # Only a policy that is named: one in the working directory is for another purpose.
    file = load_policy(policy) if policy is not None else None
    raw = read_file(bundle, MAX_EVIDENCE_BYTES)
    with hashing_progress(quiet=quiet) as progress:
        result = verify_evidence(
            raw,
            load_authorities(keys, file),
            now=datetime.now(UTC),
            demands=Demands(
                expect=expect,
                policy=file,
                scope=scope,
                signers=signers,
                responses=_responses(policy, tuple(response_keys or ())),
                openings=openings,
                model=open_store(model) if model is not None else None,
                workers=jobs,
            ),
            subject=bundle.name,
            progress=progress,
        )
    show = render.as_json if format is ResultFormat.JSON else render.as_text
    emit(show(result), output, quiet=quiet)
    return result.exit_status


app.command("show", short_help="What a bundle holds, or a document about it")(evidence_show.show)


@app.command("log", short_help="Verify a chain of bundles and show what changed")
def log(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of bundles (*.zip).")],
    expect: Expect = None,
    policy: PolicyPath = None,
    scope: ScopeChoice = None,
    signers: _Signers = 1,
    response_keys: _ResponseKeys = None,
    keys: Keys = None,
    format: Format = ResultFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Verify every bundle of a directory, that they form one chain, and show what changed.

    \b
    Examples:
      r1prov evidence log ./evidence --keys ./pinned
      r1prov evidence log ./evidence --keys ./pinned --expect full --scope all
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.evidence.chain import read_chain
    from r1prov.evidence.verify import Demands
    from r1prov.render import evidence as render
    from r1prov.verify.local import load_authorities
    from r1prov.verify.policy_file import load_policy

    file = load_policy(policy) if policy is not None else None
    demands = Demands(
        expect=expect,
        policy=file,
        scope=scope,
        signers=signers,
        responses=_responses(policy, tuple(response_keys or ())),
    )
    authorities = load_authorities(keys, file)
    chain = read_chain(directory, authorities, now=datetime.now(UTC), demands=demands)
    as_chosen = render.chain_as_json if format is ResultFormat.JSON else render.chain_as_text
    emit(as_chosen(chain), output, quiet=quiet)
    return chain.verdict.exit_status
