"""`r1prov evidence create`: verify a model, audit its endpoint, and put all of it into one file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli import audit_options as audits
from r1prov.cli import endpoint_options as options
from r1prov.cli.endpoint_options import Kernel
from r1prov.cli.evidence_audits import GatheredAudits, named_questions, refuse_vain_audits
from r1prov.cli.options import (
    Expect,
    Jobs,
    Keys,
    LevelChoice,
    ManifestChoice,
    Model,
    PolicyPath,
    Quiet,
    ScopeChoice,
    TimestampUrl,
)
from r1prov.cli.signing import SignerCertificate, SignerIssuers, SigningKey
from r1prov.evidence.parts import Kind
from r1prov.verify.policy import Level

if TYPE_CHECKING:
    from r1prov.endpoints.acceptance import EndpointCriteria
    from r1prov.evidence.create import Draft, Wanted
    from r1prov.responses.policy import ResponsePolicy

# Errors that `create` prints.
_NAMED = 10
FULL = "full"
R1 = "DeepSeek-R1"
ResponseKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--response-keys",
        metavar="FILE|DIR",
        help="Keys that API answers are signed with. Repeatable.",
    ),
]


def command(
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
    response_keys: ResponseKeys = None,
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
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            metavar="URL",
            help="Audit this endpoint too, as `r1prov endpoint audit` does.",
        ),
    ] = None,
    endpoint_model: Annotated[
        str | None,
        typer.Option("--endpoint-model", metavar="NAME", help="Model to ask it for."),
    ] = None,
    endpoint_log: Annotated[
        list[Path] | None,
        typer.Option(
            "--endpoint-log",
            metavar="LOG",
            help="Log of an audit that was made before; its plan stands beside it. Repeatable.",
        ),
    ] = None,
    endpoint_report: Annotated[
        list[Path] | None,
        typer.Option(
            "--endpoint-report",
            metavar="FILE",
            help="Report (JSON) of such an audit, to be held against its log. Repeatable.",
        ),
    ] = None,
    claim: Annotated[
        str | None,
        typer.Option(
            "--claim",
            envvar="R1PROV_CLAIM",
            metavar="NAME",
            help="Model that it claims; by default that of --expect, or DeepSeek-R1.",
        ),
    ] = None,
    key_env: options.KeyEnv = "R1PROV_API_KEY",
    plain_http: options.PlainHttp = False,
    reference: audits.Reference = None,
    unsigned_reference: audits.UnsignedReference = False,
    questions: options.Questions = None,
    question_tokens: options.QuestionTokens = 4096,
    drop: options.Drop = 0.05,
    streams: audits.Streams = 8,
    stream_tokens: audits.StreamTokens = 800,
    parameters: audits.Parameters = True,
    context: audits.Context = False,
    samples: audits.SampleCount = None,
    logprob_samples: options.LogprobSamples = 2,
    looks: options.Looks = 3,
    kernel: options.KernelName = Kernel.HAMMING,
    alpha: options.Alpha = 0.01,
    tokenizer: options.Tokenizer = None,
    run_all: options.RunAll = False,
    seed: options.Seed = 0,
    log: options.Log = None,
    resume: options.Resume = False,
    max_requests: options.MaxRequests = 5_000,
    max_tokens: options.MaxTokens = 2_000_000,
    prices: options.PriceTable = None,
    yes: options.Yes = False,
    concurrency: options.Concurrency = 4,
    timeout: options.Timeout = 300.0,
    retries: options.Retries = 4,
    rate: options.Rate = None,
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

    With --endpoint the endpoint is audited as well, and plan, answers and report of the audit go
    in. Any verdict is put down, a fail too; the exit status is the bundle's, made again from what
    is in it. The weights themselves are not in it: their headers and digests are.

    \b
    Examples:
      r1prov evidence create /models/r1 --expect full --key me.key -o r1.evidence.zip
      r1prov evidence create ./r1 --acceptance policy.toml --key me.key -o accepted.zip
      r1prov evidence create ./r1 --acceptance policy.toml --endpoint https://api.example/v1 \\
        --key me.key -o accepted.zip
      r1prov evidence create ./r1 --previous may.zip --key me.key -o june.zip
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from contextlib import ExitStack

    from r1prov.cli.evidence_options import refuse_files_that_clash
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

    if acceptance is not None and (policy is not None or level is not Level.FULL):
        raise UsageError(
            "--acceptance is a policy of its own, and every byte is checked under it",
            hint="leave out --policy and --level",
        )
    if not dry_run:
        refuse_output(output)
        refuse_files_that_clash(output, redact, log if endpoint is not None else None)
    for path in (output, redact, log if endpoint is not None else None):
        refuse_inside(path, model)
    kinds = chosen(frozenset(include or ()), frozenset(exclude or ()))
    logs = tuple(endpoint_log or ())
    refuse_vain_audits(endpoint, logs, kinds, redact, reports=bool(endpoint_report))
    if redact is not None and not (exchange and Kind.EXCHANGES in kinds):
        raise UsageError(
            "--redact is for exchanges, and none goes in", hint="name them with --exchange"
        )
    named = acceptance or policy
    wanted = Wanted(
        model=model,
        manifest=manifest,
        expect=expect,
        level=level,
        scope=scope,
        read_all=read_all,
        keys=keys,
        policy=named,
        exchanges=tuple(exchange or ()),
        digests_only=redact is not None,
        response_keys=tuple(response_keys or ()),
        audits=tuple(audit or ()),
        kinds=kinds,
        previous=previous,
        timestamped=timestamp_url is not None,
        workers=jobs,
        tokenizer=tokenizer,
    )
    criteria(named)  # before anything is spent: a malformed table shows at once
    certificates = signing_certificates(certificate, chain)
    private = load_private_key(key)  # before hashing: a wrong passphrase shows at once
    if timestamp_url is not None:
        check_url(timestamp_url)
    if certificates:
        signer_chain(private.public, certificates)
    with ExitStack() as stack:
        ready = None
        if endpoint is not None and not dry_run:
            what = audits.AuditChoices(
                claim=claim or (expect if expect not in (None, FULL) else None) or R1,
                reference=reference,
                unsigned_reference=unsigned_reference,
                questions=questions,
                question_tokens=question_tokens,
                drop=drop,
                streams=streams,
                stream_tokens=stream_tokens,
                parameters=parameters,
                context=context,
                samples=samples,
                logprob_samples=logprob_samples,
                looks=looks,
                kernel=kernel,
                alpha=alpha,
                tokenizer=tokenizer,
                run_all=run_all,
                seed=seed,
                keys=keys,
            )
            how = audits.Asking(
                url=endpoint,
                model=endpoint_model,
                key_env=key_env,
                plain_http=plain_http,
                log=log,
                resume=resume,
                max_requests=max_requests,
                max_tokens=max_tokens,
                prices=prices,
                yes=yes,
                concurrency=concurrency,
                timeout=timeout,
                retries=retries,
                rate=rate,
                quiet=quiet,
            )
            ready = stack.enter_context(audits.prepared(what, how))
        gather = GatheredAudits(
            logs=logs,
            reports=tuple(endpoint_report or ()),
            reference=reference,
            questions=named_questions(questions),
            ready=ready,
        )
        with hashing_progress(quiet=quiet) as progress:
            draft = draft_evidence(
                wanted, report_as_json.render, progress=progress, endpoints=gather
            )
    if not quiet:
        say(render.sizes_as_text(draft))
        if dry_run and endpoint is not None:
            say("the endpoint was not audited: nothing is sent in a dry run")
        for one in gather.told(draft.audits):
            say(one)
    if dry_run:
        return draft.report.exit_status
    signature = draft.signature(private, certificates)
    unstamped = False
    if timestamp_url is not None:
        try:
            signature = timestamped(signature, timestamp_url, subject="the evidence", keys=keys)
        except TimestampError as error:
            # Hours of hashing are not lost for it.
            later = f"r1prov evidence timestamp {output} --timestamp-url URL -o FILE"
            complain(error.message, f"`{later}` adds one later")
            draft, unstamped = draft.untimestamped(), True
            signature = draft.signature(private, certificates)
    raw = draft.archive(signature)
    return _written(draft, raw, wanted, output, redact, tokenizer, unstamped=unstamped, quiet=quiet)


def _written(
    draft: Draft,
    raw: bytes,
    wanted: Wanted,
    output: Path,
    redact: Path | None,
    tokenizer: Path | None,
    *,
    unstamped: bool,
    quiet: bool,
) -> int:
    """Write the bundle, then verify it as others will: the status is what that came to."""
    from r1prov.cli.output import say, write_new
    from r1prov.evidence.verify import Demands, verify_evidence
    from r1prov.responses.openings import append_openings
    from r1prov.text import human_bytes, printable
    from r1prov.verify.findings import CoverageState, Verdict, decide
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
            endpoint=criteria(Path(file.location)) if file is not None else None,
            responses=responses(wanted.policy, wanted.response_keys),
            tokenizer=tokenizer,
            run_code=True,  # as the audit itself did
            openings=redact if draft.openings else None,
        ),
        subject=output.name,
    )
    # One's own key need not be among those that one trusts.
    about = [one for one in result.findings if one.rule.name != "evidence-signature"]
    verdict = decide(tuple(about), result.coverage)
    if draft.report.verdict is Verdict.FAIL:
        verdict = Verdict.FAIL
    if unstamped and verdict is Verdict.PASS:
        verdict = Verdict.INCOMPLETE
    if not quiet:
        say(f"{output}: {human_bytes(len(raw))}, sha256:{result.sha256}")
        errors = [one for one in about if one.severity is Severity.ERROR]
        for one in errors[:_NAMED]:
            say(f"{one.rule.id} {printable(one.subject)}: {printable(one.message)}")
        if len(errors) > _NAMED:
            say(f"and {len(errors) - _NAMED:,} more errors: `r1prov evidence verify` shows them")
        for path, audit in result.audits:
            told = f"{audit.verdict.value}: {audit.headline}"
            say(f"{path}: {printable(audit.sides[0].name)}: {printable(told, limit=500)}")
        if verdict is Verdict.INCOMPLETE:
            open_ = [
                o for o in result.coverage if o.required and o.state is not CoverageState.CHECKED
            ]
            if unstamped:
                say("not checked: when it was signed: no timestamp was to be had")
            for row in open_[:_NAMED]:
                say(f"not checked: {printable(row.item)}: {printable(row.detail, limit=500)}")
        # Of other people the bundle needs a key that they pinned.
        if any(one.rule.name == "evidence-signature" for one in result.findings):
            say(
                f"note: {printable(result.signature.detail)}: who verifies the bundle has to pin it"
            )
        model = draft.report
        if verdict is model.verdict:
            say(f"{verdict.value}: {printable(model.headline)}")
        else:
            # Its headline says as which model it passes, which the whole does not.
            alone = f"the model by itself: {model.verdict.value}, {printable(model.headline)}"
            say(f"{verdict.value}: by what stands above; {alone}")
    return verdict.exit_status


def responses(policy: Path | None, keys: tuple[Path, ...]) -> ResponsePolicy:
    """What counts of signed answers: the table of a policy file, and keys that are pinned."""
    from dataclasses import replace

    from r1prov.responses.key_files import load_keys
    from r1prov.responses.policy import ResponsePolicy, read_response_policy

    chosen = (read_response_policy(policy) if policy is not None else None) or ResponsePolicy()
    more = tuple(key for path in keys for key in load_keys(path))
    return replace(chosen, keys=chosen.keys + more)


def criteria(policy: Path | None) -> EndpointCriteria | None:
    """What a policy file demands of audits of endpoints; None for nothing."""
    from r1prov.endpoints.acceptance import read_endpoint_criteria

    return read_endpoint_criteria(policy) if policy is not None else None
