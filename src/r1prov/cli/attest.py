"""`r1prov attest`: a verdict that others can check, as a signed in-toto statement."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from r1prov.attest.names import VERIFIER_ID, Kind
from r1prov.cli.options import (
    Expect,
    Format,
    Jobs,
    Keys,
    ManifestChoice,
    Model,
    Output,
    PolicyPath,
    Quiet,
    ResultFormat,
    ScopeChoice,
)
from r1prov.cli.signing import SigningKey
from r1prov.verify.policy import Scope

app = typer.Typer(
    help="Attest a verdict for others, and check such an attestation.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_Manifest = Annotated[
    str | None,
    typer.Option("--manifest", "-m", envvar="R1PROV_MANIFEST", metavar="NAME|FILE"),
]
_VerifierId = Annotated[
    str,
    typer.Option(
        "--verifier-id",
        envvar="R1PROV_VERIFIER_ID",
        metavar="URI",
        help="Who verifies, as the statement names it.",
    ),
]


@app.command("create", short_help="Verify a model and sign the verdict")
def create(
    model: Model,
    kind: Annotated[
        Kind, typer.Option("--kind", help="svr: in-toto properties; vsa: SLSA summary.")
    ],
    key: SigningKey,
    manifest: ManifestChoice = None,
    expect: Expect = None,
    scope: ScopeChoice = None,
    read_all: Annotated[
        bool,
        typer.Option(
            "--read-all",
            envvar="R1PROV_READ_ALL",
            help="Read every byte of a remote model: what is not read is not attested.",
        ),
    ] = False,
    verifier_id: _VerifierId = VERIFIER_ID,
    keys: Keys = None,
    policy: PolicyPath = None,
    jobs: Jobs = None,
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Verify a model as `r1prov verify` does, and sign what was found.

    Every verdict is attested, a fail too; the exit status is that of the verdict. The bundle goes
    to stdout or into --output, which must not lie in the model's directory. Files that were not
    read, because a remote store states their digest, are not attested.

    \b
    Examples:
      r1prov attest create ./model --kind vsa --key ci.key -o model.vsa.sigstore.json
      r1prov attest create ./model --kind svr --key ci.key --expect full -o r1.svr.sigstore.json
      r1prov attest create hf://org/name --kind vsa --key ci.key --read-all -o name.sigstore.json
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.attest.create import create_attestation
    from r1prov.cli.output import emit, say
    from r1prov.cli.progress import hashing_progress
    from r1prov.cli.signing import load_private_key
    from r1prov.text import plural, printable
    from r1prov.verify.local import verify_path

    private = load_private_key(key)  # before hashing: a wrong passphrase shows at once
    with hashing_progress(quiet=quiet) as progress:
        report = verify_path(
            model,
            manifest=manifest,
            expect=expect,
            scope=scope,
            read_all=read_all,
            keys=keys,
            policy=policy,
            workers=jobs,
            say=None if quiet else lambda line: say(printable(line)),
            progress=progress,
        )
    bundle = create_attestation(report, kind, private, verifier_id=verifier_id)
    taken = emit(bundle.decode("ascii"), output)
    if not quiet:
        say(f"{report.verdict.value}: {printable(report.headline)}")
        if report.stated:
            say(f"{plural(len(report.stated), 'file')} not read, so not attested: see --read-all")
    return report.exit_status if taken else 4


@app.command("verify", short_help="Check an attestation against a model")
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The signed attestation.")],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Where the model is, as for `verify`."),
    ] = None,
    manifest: _Manifest = None,
    expect: Annotated[
        str | None,
        typer.Option("--expect", envvar="R1PROV_EXPECT", metavar="NAME", help="The model's name."),
    ] = None,
    max_age: Annotated[
        float | None,
        typer.Option(
            "--max-age",
            min=0,
            max=36500,
            envvar="R1PROV_MAX_AGE",
            metavar="DAYS",
            help="Refuse a verification that is older.",
        ),
    ] = None,
    scope: Annotated[
        Scope,
        typer.Option(
            "--scope",
            envvar="R1PROV_SCOPE",
            help="weights: take an attestation of the weights alone too.",
        ),
    ] = Scope.ALL,
    verifier_id: _VerifierId = VERIFIER_ID,
    keys: Keys = None,
    jobs: Jobs = None,
    format: Format = ResultFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Check an attestation: signer, type, verifier, verdict, age, and that it is of this model.

    Every attested file is hashed. Exit status 0 if all of it holds, else 1.

    \b
    Examples:
      r1prov attest verify model.vsa.sigstore.json --model ./model --expect my-model
      r1prov attest verify r1.svr.sigstore.json --model /models/r1 --keys ./keys --max-age 30
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.attest.verify import verify_attestation
    from r1prov.cli.output import emit, say
    from r1prov.cli.progress import hashing_progress
    from r1prov.errors import UsageError
    from r1prov.limits import MAX_BUNDLE_BYTES
    from r1prov.manifest.shelf import load_shelf, resolve_manifest
    from r1prov.render import attestation
    from r1prov.stores.locate import open_store, traffic_of
    from r1prov.text import printable
    from r1prov.trust.directories import load_trust_store, read_file

    if expect == "full":
        raise UsageError(
            "an attestation is about a model by name, and `full` is none",
            hint="name the model, such as --expect DeepSeek-R1",
        )
    store = open_store(model) if model is not None else None
    with hashing_progress(quiet=quiet) as progress:
        result = verify_attestation(
            read_file(bundle, MAX_BUNDLE_BYTES),
            load_trust_store(keys),
            now=datetime.now(UTC),
            model=store,
            manifest=resolve_manifest(load_shelf(), manifest) if manifest is not None else None,
            model_name=expect,
            scope=scope,
            max_age=timedelta(days=max_age) if max_age is not None else None,
            verifier_id=verifier_id,
            subject=bundle.name,
            workers=jobs,
            progress=progress,
        )
    if store is not None and not quiet and (traffic := traffic_of(store)) is not None:
        say(printable(traffic))
    show = attestation.as_json if format is ResultFormat.JSON else attestation.as_text
    emit(show(result), output, quiet=quiet)
    return result.exit_status
