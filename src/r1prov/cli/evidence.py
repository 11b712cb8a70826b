"""`r1prov evidence`: one file that others verify offline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli import evidence_create, evidence_show, evidence_sign
from r1prov.cli.endpoint_options import Tokenizer
from r1prov.cli.evidence_create import ResponseKeys, criteria, responses
from r1prov.cli.evidence_options import Bundle, RunCode, Timestamped
from r1prov.cli.options import (
    Expect,
    Format,
    Jobs,
    Keys,
    Output,
    PolicyPath,
    Quiet,
    ResultFormat,
    ScopeChoice,
)

app = typer.Typer(
    help="Evidence bundles: a verdict and all that supports it in one file.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_Signers = Annotated[
    int,
    typer.Option("--signers", min=1, help="How many different pinned signers must sign it."),
]


app.command("create", short_help="Verify a model and put all of it into one signed file")(
    evidence_create.command
)


app.command("sign", short_help="Add a signature to a bundle that is there")(evidence_sign.sign)
app.command("timestamp", short_help="Add timestamps to a bundle that is there")(
    evidence_sign.timestamp
)


@app.command("verify", short_help="Verify a bundle offline, and make its verdict again")
def verify(
    bundle: Bundle,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Compare with the model at hand."),
    ] = None,
    expect: Expect = None,
    policy: PolicyPath = None,
    scope: ScopeChoice = None,
    response_keys: ResponseKeys = None,
    signers: _Signers = 1,
    timestamped: Timestamped = False,
    openings: Annotated[
        Path | None,
        typer.Option("--openings", metavar="FILE", help="Open redacted bodies of exchanges."),
    ] = None,
    tokenizer: Tokenizer = None,
    run_code: RunCode = False,
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
                timestamped=timestamped,
                responses=responses(policy, tuple(response_keys or ())),
                endpoint=criteria(policy),
                tokenizer=tokenizer,
                run_code=run_code,
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
    timestamped: Timestamped = False,
    tokenizer: Tokenizer = None,
    run_code: RunCode = False,
    response_keys: ResponseKeys = None,
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
        timestamped=timestamped,
        responses=responses(policy, tuple(response_keys or ())),
        endpoint=criteria(policy),
        tokenizer=tokenizer,
        run_code=run_code,
    )
    authorities = load_authorities(keys, file)
    chain = read_chain(directory, authorities, now=datetime.now(UTC), demands=demands)
    as_chosen = render.chain_as_json if format is ResultFormat.JSON else render.chain_as_text
    emit(as_chosen(chain), output, quiet=quiet)
    return chain.verdict.exit_status
