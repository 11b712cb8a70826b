"""`r1prov key`: make, show, trust and revoke signing keys."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli.options import Keys
from r1prov.trust.purpose import Purpose

app = typer.Typer(
    help="Make, show, trust and revoke signing keys.", no_args_is_help=True, rich_markup_mode=None
)
PASSPHRASE = "R1PROV_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable
_NO_PASSPHRASE = "--no-passphrase"  # noqa: S105 - the name of an option


@app.command("generate", short_help="Make a key pair")
def generate(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Private key file to write.")],
    algorithm: Annotated[
        str,
        typer.Option(help="ecdsa-p256, ecdsa-p384, ecdsa-p521, ed25519 or rsa-pss-3072."),
    ] = "ecdsa-p256",
    no_passphrase: Annotated[
        bool, typer.Option(_NO_PASSPHRASE, help="Write the private key unencrypted.")
    ] = False,
) -> None:
    """Make a key pair: FILE (private, mode 0600) and FILE.pub.

    The private key is PKCS#8 PEM, encrypted with a passphrase: asked for, or taken from
    R1PROV_KEY_PASSPHRASE. Nothing is ever overwritten.

    \b
    Examples:
      r1prov key generate release.key
      R1PROV_KEY_PASSPHRASE=... r1prov key generate ci.key --algorithm ed25519
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, say, write_new
    from r1prov.errors import UsageError
    from r1prov.trust.keys import encode_private_key, generate_private_key

    public_path = path.with_name(path.name + ".pub")
    for target in (path, public_path):
        if target.exists():
            raise UsageError(f"{target} exists and is not overwritten")
    passphrase = None
    if no_passphrase:
        say("warning: the private key is written without a passphrase; whoever reads it can sign")
    else:
        passphrase = new_passphrase()
    key = generate_private_key(algorithm)
    write_new(path, encode_private_key(key, passphrase), mode=0o600)
    write_new(public_path, key.public.pem())
    emit(
        f"private key  {path}\npublic key   {public_path}\nkey id       {key.public.key_id}\n", None
    )


@app.command("show", short_help="Show a key or certificate, or all that are trusted")
def show(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|URI]",
            help="Public key or certificate file, or PKCS#11 URI of a key on a token.",
        ),
    ] = None,
    pem: Annotated[
        bool, typer.Option("--pem", help="Print the public key itself, for `key add`.")
    ] = False,
    keys: Keys = None,
) -> None:
    """Show a public key or certificate, or all that are trusted and what each may sign.

    \b
    Examples:
      r1prov key show release.key.pub
      r1prov key show acme-root.pem
      r1prov key show 'pkcs11:token=release;object=manifests' --pem > release.pub
      r1prov key show
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.cli.signing import load_public_key
    from r1prov.errors import UsageError
    from r1prov.limits import MAX_CERTIFICATE_FILE_BYTES
    from r1prov.render.trust import render_certificates, render_trust_store
    from r1prov.trust.certificates import parse_certificates
    from r1prov.trust.directories import load_trust_store, read_file
    from r1prov.trust.token_uri import is_token_uri

    if path is None:
        if pem:
            raise UsageError("--pem goes with one key", hint="name its file or its PKCS#11 URI")
        emit(render_trust_store(load_trust_store(keys), datetime.now(UTC)), None)
        return
    if not pem and not is_token_uri(path):
        raw = read_file(Path(path), MAX_CERTIFICATE_FILE_BYTES)
        if b"-----BEGIN CERTIFICATE-----" in raw:
            emit(render_certificates(parse_certificates(raw, subject=path)), None)
            return
    key = load_public_key(path)
    facts = f"algorithm  {key.algorithm}\nkey id     {key.key_id}\n"
    emit(key.pem().decode() if pem else facts, None)


@app.command("add", short_help="Trust a public key or an authority for some models")
def add(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Public key, or root certificate, to trust.")
    ],
    owner: Annotated[str, typer.Option(help="Whose it is.")],
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Model name, or pattern with * and ?, that it may sign."),
    ] = None,
    may: Annotated[
        list[Purpose] | None,
        typer.Option(
            "--may", help="Only manifests, or only attestations, of such models; else both."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
    certificate: Annotated[
        bool,
        typer.Option(
            "--certificate",
            help="FILE is the root certificate (PEM) of an authority, perhaps with issuers.",
        ),
    ] = False,
    identities: Annotated[
        list[str] | None,
        typer.Option(
            "--identity",
            help="With --certificate: e-mail address, URI or DNS name of a signer. Repeatable.",
        ),
    ] = None,
    subjects: Annotated[
        list[str] | None,
        typer.Option(
            "--subject", help="With --certificate: name of a signer (RFC 4514). Repeatable."
        ),
    ] = None,
    timestamp_authority: Annotated[
        bool,
        typer.Option(
            "--timestamp-authority", help="FILE is the root certificate of timestamps (PEM)."
        ),
    ] = False,
    keys: Keys = None,
) -> None:
    """Trust a public key, or the certificates of an authority, for some models.

    An authority is trusted for the signers that are named, not for whomever it certifies. The
    authority of timestamps signs no models: it proves when a signature was made.

    \b
    Examples:
      r1prov key add release.key.pub --owner "ML platform" --model 'acme-*'
      r1prov key add acme-root.pem --certificate --owner ACME --model 'acme-*' \\
          --identity ml@acme.org
      r1prov key add tsa-root.pem --timestamp-authority --owner "ACME time" --keys ./keys
      r1prov key add ci.key.pub --owner CI --model 'acme-*' --may attestations
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli import trusting
    from r1prov.cli.output import emit
    from r1prov.errors import UsageError
    from r1prov.render.trust import only
    from r1prov.trust.directories import user_directory

    directory = keys or user_directory("keys")
    if certificate and timestamp_authority:
        raise UsageError("--certificate and --timestamp-authority exclude each other")
    if (identities or subjects) and not certificate:
        raise UsageError("--identity and --subject go with --certificate")
    if may and (certificate or timestamp_authority):
        raise UsageError("--may goes with a key: a certificate is for manifests")
    if timestamp_authority:
        if models:
            raise UsageError("--model does not go with --timestamp-authority: it signs none")
        id_ = trusting.add_timestamp_authority(path, directory, owner, days)
        emit(f"trusted for timestamps: {id_}\n", None)
        return
    purposes = tuple(one for one in Purpose if one in may) if may else tuple(Purpose)
    if not models:
        raise UsageError("--model is missing", hint="name the models that it may sign")
    if certificate:
        named = [*(identities or ()), *(subjects or ())]
        if not named:
            raise UsageError(
                "--certificate goes with --identity or --subject",
                hint="an authority certifies many: name who of them may sign",
            )
        id_ = trusting.add_authority(
            path, directory, owner, models, days, identities or [], subjects or []
        )
    else:
        id_ = trusting.add_key(path, directory, owner, models, days, purposes)
    until = datetime.now(UTC) + timedelta(days=days)
    emit(f"trusted for {' '.join(models)}{only(purposes)} until {until:%Y-%m-%d}: {id_}\n", None)


@app.command("revoke", short_help="Revoke a key, an authority, or a certificate of one")
def revoke(
    key_id: Annotated[
        str,
        typer.Argument(
            metavar="KEYID",
            help="Id of a key or authority, or its first 8 digits; with --authority, SHA-256 or "
            "serial number (hex) of a certificate.",
        ),
    ],
    reason: Annotated[str, typer.Option(help="Why; shown to everyone who meets the key.")],
    authority: Annotated[
        str | None,
        typer.Option(
            "--authority", metavar="ID", help="Revoke a certificate that this authority issued."
        ),
    ] = None,
    invalid_from: Annotated[
        datetime | None,
        typer.Option(
            "--invalid-from",
            metavar="TIME",
            help="Let count what a trusted timestamp proves to be older (UTC); by default nothing.",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"],
        ),
    ] = None,
    keys: Keys = None,
) -> None:
    """Revoke a key or an authority: no signature of it counts any more.

    A shipped key is revoked in your own trust store, which wins.

    \b
    Examples:
      r1prov key revoke 1a2b3c4d --reason "laptop lost"
      r1prov key revoke 1a2b3c4d --reason "laptop lost" --invalid-from 2026-11-30
      r1prov key revoke 5f3a --authority 9c8d7e6f --reason "left the team"
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli import trusting
    from r1prov.cli.output import emit
    from r1prov.trust.directories import load_trust_store, user_directory

    directory = keys or user_directory("keys")
    known = trusting.own_store(directory) if keys is not None else load_trust_store()
    since = invalid_from.replace(tzinfo=UTC) if invalid_from is not None else None
    why = trusting.Revocation(reason, since)
    if authority is None:
        done = trusting.revoke_entry(key_id, known, directory, why)
    else:
        done = trusting.revoke_certificate(key_id, authority, known, directory, why)
    emit(f"revoked: {done}\n", None)


def new_passphrase() -> bytes:
    """A passphrase for a new key: from the environment, else asked for twice."""
    given = os.environ.get(PASSPHRASE)
    if given is None:
        given = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    if not given:
        from r1prov.errors import UsageError

        raise UsageError("the passphrase is empty", hint=f"say {_NO_PASSPHRASE} if that is meant")
    return given.encode()


def unlocking_passphrase() -> bytes:
    """The passphrase of an existing key: from the environment, else asked for once."""
    given = os.environ.get(PASSPHRASE)
    if given is None:
        given = typer.prompt("Passphrase of the key", hide_input=True, err=True)
    return str(given).encode()
