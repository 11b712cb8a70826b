"""`r1prov manifest`: make, sign, verify, show and list manifests."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli import create
from r1prov.cli.options import Keys
from r1prov.cli.signing import SigningKey

if TYPE_CHECKING:
    from r1prov.verify.oms_bundle import BundleCheck, BundleFile, Trusted


class SignatureFormat(StrEnum):
    """What a signature is made of."""

    SIGSTORE = "sigstore"
    OMS = "oms"


app = typer.Typer(
    help="Make, sign, verify, show and list manifests.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_FILE = typer.Argument(metavar="MANIFEST", help="Manifest file, or the name of a known model.")


app.command("create", short_help="State every file of a model in a manifest")(create.command)


@app.command("sign", short_help="Sign a manifest file")
def sign(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest file to sign.")],
    key: SigningKey,
    format: Annotated[  # noqa: A002 - the option is called --format
        SignatureFormat,
        typer.Option(
            "--format",
            help="sigstore: the bytes of the manifest; oms: the files that it lists, for the tools "
            "of OpenSSF Model Signing.",
        ),
    ] = SignatureFormat.SIGSTORE,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Bundle to write, with --format oms."),
    ] = None,
    certificate_chain: Annotated[
        list[Path] | None,
        typer.Option(
            "--certificate-chain",
            help="Certificate of the key, then its issuers' (PEM), with --format oms. Repeatable.",
        ),
    ] = None,
) -> None:
    """Sign the exact bytes of a manifest file: a Sigstore bundle is written beside it.

    With --format oms, what is signed is the list of its files, in the form that model_signing and
    other tools verify against the model.

    \b
    Examples:
      r1prov manifest sign acme-r1-tuned.toml --key release.key
      r1prov manifest sign acme-r1-tuned.toml --key release.key --format oms -o model.sig
      r1prov manifest sign acme-r1-tuned.toml --key 'pkcs11:token=release;object=manifests'
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, write_new
    from r1prov.cli.signing import load_certificates, load_private_key
    from r1prov.errors import UsageError
    from r1prov.manifest.oms import describe_manifest, make_oms_bundle
    from r1prov.manifest.shelf import BUNDLE_SUFFIX, load_manifest
    from r1prov.trust.bundle import sign_message

    oms = format is SignatureFormat.OMS
    if not oms and (output is not None or certificate_chain):
        raise UsageError("--output and --certificate-chain go with --format oms")
    shelved = load_manifest(manifest)
    chain = load_certificates(certificate_chain or ())
    private = load_private_key(key)
    if oms:
        target = output or manifest.with_suffix(".sig")
        raw = make_oms_bundle(describe_manifest(shelved.manifest), private, chain)
    else:
        target = manifest.with_name(f"{manifest.name}.{private.public.key_id8}{BUNDLE_SUFFIX}")
        raw = sign_message(private, shelved.raw).to_json()
    write_new(target, raw, replace=True)
    emit(f"{target}: signed as {private.public.key_id}\n", None)


@app.command("verify", short_help="Check a manifest by itself, or a model signature with its model")
def verify(
    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST",
            help="Manifest file, name of a known model, or bundle of OpenSSF Model Signing.",
        ),
    ],
    keys: Keys = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="The model that a bundle is about."),
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option("--public-key", help="The signer's key, and no other (PEM).")
    ] = None,
    certificate_chain: Annotated[
        list[Path] | None,
        typer.Option(
            "--certificate-chain", help="Trusted root certificates and issuers (PEM). Repeatable."
        ),
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--identity", help="What the signer's certificate must name.")
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option("--issuer", help="Identity provider (URL) of a keyless signature."),
    ] = None,
    trusted_root: Annotated[
        Path | None,
        typer.Option(
            "--trusted-root", help="Sigstore trusted root (JSON); by default the public instance's."
        ),
    ] = None,
    ignore_unsigned_files: Annotated[
        bool,
        typer.Option("--ignore-unsigned-files", help="Let files be that the bundle does not list."),
    ] = False,
    allow_symlinks: Annotated[
        bool,
        typer.Option(
            "--allow-symlinks", help="Follow links inside the model where the signer did too."
        ),
    ] = False,
    ignore_paths: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore-paths",
            metavar="PATH",
            help="Path inside the model that may be there unsigned, with all beneath. Repeatable.",
        ),
    ] = None,
) -> int:
    """Check a manifest by itself: form, signatures, Hub commit. Exit status 0 or 1.

    A bundle of OpenSSF Model Signing is checked with its model: signature, every file, nothing
    else. Headers, config and code are looked at by `r1prov verify MODEL --manifest BUNDLE`. It is
    judged by the trust store, or by the key, certificates or identity that are given instead.

    \b
    Examples:
      r1prov manifest verify DeepSeek-R1
      r1prov manifest verify acme-r1-tuned.toml --keys ./keys
      r1prov manifest verify model.sig --model /models/r1 --public-key release.key.pub
      r1prov manifest verify model.sig --model /models/r1 --certificate-chain root.pem
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.cli.progress import hashing_progress
    from r1prov.errors import UsageError
    from r1prov.manifest.shelf import resolve_manifest
    from r1prov.render.manifest import render_check
    from r1prov.stores.locate import open_store
    from r1prov.verify.findings import Verdict
    from r1prov.verify.local import load_authorities
    from r1prov.verify.manifests import check_manifest
    from r1prov.verify.oms_bundle import check_bundle, read_bundle

    file = read_bundle(manifest)
    ways = (public_key, certificate_chain, identity, issuer, trusted_root)
    if file is None:
        lets_be = (ignore_unsigned_files, allow_symlinks, ignore_paths)
        if model is not None or any(ways) or any(lets_be):
            raise UsageError(
                f"{manifest} is no bundle of OpenSSF Model Signing, and --model and what goes with "
                "it are for those",
                hint="`r1prov verify MODEL --manifest MANIFEST` holds a model against a manifest",
            )
        authorities = load_authorities(keys)
        result = check_manifest(resolve_manifest(authorities.shelf, manifest), authorities)
        emit(render_check(result), None)
        return result.verdict.exit_status
    if model is None:
        raise UsageError(
            f"{manifest} is a bundle of OpenSSF Model Signing, which is checked with its model",
            hint="name it: --model MODEL",
        )
    trusted = _trusted(keys, public_key, certificate_chain, identity, issuer, trusted_root)
    with hashing_progress(quiet=False) as progress:
        checked = check_bundle(
            file,
            open_store(model),
            trusted,
            ignore_unsigned_files=ignore_unsigned_files,
            allow_symlinks=allow_symlinks,
            ignore_paths=ignore_paths or (),
            progress=progress,
        )
    emit(_rendered(checked, file, model), None)
    # A file that cannot be read is input that cannot be read, as a bundle would be.
    return 4 if checked.verdict is Verdict.INCOMPLETE else checked.verdict.exit_status


def _trusted(
    keys: Path | None,
    public_key: Path | None,
    chain: list[Path] | None,
    identity: str | None,
    issuer: str | None,
    trusted_root: Path | None,
) -> Trusted:
    """Whose signature is good, by what was given; the trust store if nothing was.

    Raises:
        UsageError: Options that do not go together.
        InputError: A key, certificate or trust file is malformed.
        StoreError: One of the files cannot be read.
    """
    from r1prov.cli.signing import load_certificates
    from r1prov.errors import UsageError
    from r1prov.limits import MAX_KEY_FILE_BYTES, MAX_TRUST_FILE_BYTES
    from r1prov.trust.directories import load_trust_store, read_file
    from r1prov.trust.keyless import KeylessPolicy
    from r1prov.trust.keys import parse_public_key
    from r1prov.verify.oms_bundle import Trusted

    if sum((public_key is not None, bool(chain), issuer is not None)) > 1:
        raise UsageError("--public-key, --certificate-chain and --issuer exclude each other")
    if identity is not None and issuer is None and not chain:
        raise UsageError("--identity goes with --issuer (keyless) or --certificate-chain")
    if trusted_root is not None and issuer is None:
        raise UsageError("--trusted-root goes with --identity and --issuer")
    if issuer is not None:
        if identity is None:
            raise UsageError("--issuer goes with --identity: anyone may sign with that provider")
        root = None if trusted_root is None else read_file(trusted_root, MAX_TRUST_FILE_BYTES)
        policy = KeylessPolicy(identity=identity, issuer=issuer, trusted_root=root)
        return Trusted(keyless=policy)
    if public_key is not None:
        pem = read_file(public_key, MAX_KEY_FILE_BYTES)
        return Trusted(public_key=parse_public_key(pem, subject=str(public_key)))
    if chain:
        return Trusted(roots=load_certificates(chain), identity=identity)
    return Trusted(store=load_trust_store(keys))


def _rendered(checked: BundleCheck, file: BundleFile, model: str) -> str:
    """The verdict about a model and its signature, as text."""
    from r1prov.render.text import finding_lines
    from r1prov.text import plural, printable

    result = checked.result
    statement = result.statement if result is not None else None
    rows = [("model", model), ("file", str(file.path)), ("sha256", file.sha256)]
    rows += [("signature", one) for one in checked.signers or ("none that is trusted",)]
    if result is not None and statement is not None:
        rows += [
            ("signed", f"{plural(len(statement.files), 'file')}, as {statement.name} (a label)"),
            ("oms-root", f"sha256:{statement.root} (binds neither names nor sizes)"),
        ]
        if result.valid and result.tree_digest is not None:
            rows.append(("tree", f"sha256:{result.tree_digest}"))
        rows += [("note", one) for one in result.notes]
    rows.append(("not looked at", "headers, index, config and code: `r1prov verify` does"))
    verdict = checked.verdict.value.upper()
    lines = [f"{verdict}  model signature {printable(file.path.name)}", ""]
    lines += [f"  {label:<13} {printable(value, limit=4000)}" for label, value in rows]
    if checked.findings:
        count = len(checked.findings)
        lines += ["", f"findings ({count:,})", *finding_lines(list(checked.findings))]
    return "\n".join(lines) + "\n"


@app.command("show", short_help="What a manifest states, and how strongly")
def show(
    manifest: Annotated[str, _FILE],
    raw: Annotated[bool, typer.Option("--raw", help="Print the TOML as it is.")] = False,
) -> None:
    """Show what a manifest states, and how strongly each figure is supported.

    \b
    Examples:
      r1prov manifest show DeepSeek-R1
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.manifest.shelf import load_shelf, resolve_manifest
    from r1prov.render.manifest import render_manifest

    shelved = resolve_manifest(load_shelf(), manifest)
    emit(shelved.raw.decode() if raw else render_manifest(shelved.manifest), None)


@app.command("list", short_help="The manifests at hand")
def list_manifests() -> None:
    """List the manifests at hand: shipped ones, your own, those of R1PROV_MANIFESTS.

    \b
    Examples:
      r1prov manifest list
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.manifest.shelf import load_shelf
    from r1prov.render.manifest import render_list

    emit(render_list(load_shelf()), None)
