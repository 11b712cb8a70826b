"""`r1prov key`: make, show, trust and revoke signing keys."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli.options import Keys

if TYPE_CHECKING:
    from r1prov.trust.store import TrustStore

app = typer.Typer(
    help="Make, show, trust and revoke signing keys.", no_args_is_help=True, rich_markup_mode=None
)
_PASSPHRASE = "R1PROV_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable
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


@app.command("show", short_help="Show a key, or all that are trusted")
def show(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|URI]", help="Public key file, or PKCS#11 URI of a key on a token."
        ),
    ] = None,
    pem: Annotated[
        bool, typer.Option("--pem", help="Print the public key itself, for `key add`.")
    ] = False,
    keys: Keys = None,
) -> None:
    """Show one public key, or all that are trusted and what each may sign.

    \b
    Examples:
      r1prov key show release.key.pub
      r1prov key show 'pkcs11:token=release;object=manifests' --pem > release.pub
      r1prov key show
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.cli.signing import load_public_key
    from r1prov.errors import UsageError
    from r1prov.text import printable, table
    from r1prov.trust.directories import load_trust_store

    if path is not None:
        key = load_public_key(path)
        facts = f"algorithm  {key.algorithm}\nkey id     {key.key_id}\n"
        emit(key.pem().decode() if pem else facts, None)
        return
    if pem:
        raise UsageError("--pem goes with one key", hint="name its file or its PKCS#11 URI")
    rows: list[tuple[str, ...]] = [("key id", "owner", "valid until", "may sign", "state")]
    now = datetime.now(UTC)
    for one in load_trust_store(keys).keys:
        state = "good"
        if one.revoked_at is not None:
            state = f"revoked {one.revoked_at:%Y-%m-%d}: {one.revoked_reason}"
        elif now >= one.valid_until:
            state = "expired"
        elif now < one.valid_from:
            state = "not valid yet"
        rows.append(
            (
                one.key.key_id,
                printable(one.owner),
                f"{one.valid_until:%Y-%m-%d}",
                printable(" ".join(one.models)),
                printable(state),
            )
        )
    emit(table(rows) + "\n", None)


@app.command("add", short_help="Trust a public key for some models")
def add(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Public key file to trust.")],
    owner: Annotated[str, typer.Option(help="Whose key it is.")],
    models: Annotated[
        list[str],
        typer.Option("--model", help="Model name, or pattern with * and ?, that it may sign."),
    ],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
    keys: Keys = None,
) -> None:
    """Trust a public key for some models.

    \b
    Examples:
      r1prov key add release.key.pub --owner "ML platform" --model 'acme-*'
      r1prov key add release.key.pub --owner "ML platform" --model '*' --keys ./keys
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, write_new
    from r1prov.errors import UsageError
    from r1prov.limits import MAX_KEY_FILE_BYTES
    from r1prov.trust.directories import TRUST_FILE, read_file, user_directory
    from r1prov.trust.keys import parse_public_key
    from r1prov.trust.store import TrustedKey, TrustStore, trust_store_toml

    directory = keys or user_directory("keys")
    key = parse_public_key(read_file(path, MAX_KEY_FILE_BYTES), subject=str(path))
    store = _own_store(directory)
    if any(one.key.key_id == key.key_id for one in store.keys):
        raise UsageError(f"key {key.key_id} is in {directory} already")
    now = datetime.now(UTC).replace(microsecond=0)
    file = f"{key.key_id8}.pub"
    added = TrustedKey(
        key=key,
        file=file,
        owner=owner,
        valid_from=now,
        valid_until=now + timedelta(days=days),
        revoked_at=None,
        revoked_reason=None,
        models=tuple(models),
    )
    changed = TrustStore(
        keys=(*store.keys, added), thresholds=store.thresholds, locations=store.locations
    )
    text = trust_store_toml(changed)
    directory.mkdir(parents=True, exist_ok=True)
    write_new(directory / file, key.pem(), replace=True)
    write_new(directory / TRUST_FILE, text, replace=True)
    emit(f"trusted for {' '.join(models)} until {added.valid_until:%Y-%m-%d}: {key.key_id}\n", None)


@app.command("revoke", short_help="Revoke a key")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEYID", help="Key id, or its first 8 digits.")],
    reason: Annotated[str, typer.Option(help="Why; shown to everyone who meets the key.")],
    keys: Keys = None,
) -> None:
    """Revoke a key: no signature of it counts any more.

    A shipped key is revoked in your own trust store, which wins.

    \b
    Examples:
      r1prov key revoke 1a2b3c4d --reason "laptop lost"
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from dataclasses import replace

    from r1prov.cli.output import emit, write_new
    from r1prov.errors import UsageError
    from r1prov.trust.directories import TRUST_FILE, load_trust_store, user_directory
    from r1prov.trust.store import TrustStore, trust_store_toml

    directory = keys or user_directory("keys")
    own = _own_store(directory)
    known = own.keys if keys is not None else load_trust_store().keys
    matching = [one for one in known if len(key_id) >= 8 and one.key.key_id.startswith(key_id)]
    if len(matching) != 1:
        raise UsageError(
            f"{len(matching)} keys match {key_id}", hint="`r1prov key show` lists the key ids"
        )
    now = datetime.now(UTC).replace(microsecond=0)
    revoked = replace(
        matching[0], revoked_at=now, revoked_reason=reason, file=f"{matching[0].key.key_id8}.pub"
    )
    rest = tuple(one for one in own.keys if one.key.key_id != revoked.key.key_id)
    changed = TrustStore(keys=(*rest, revoked), thresholds=own.thresholds, locations=own.locations)
    directory.mkdir(parents=True, exist_ok=True)
    write_new(directory / revoked.file, revoked.key.pem(), replace=True)
    write_new(directory / TRUST_FILE, trust_store_toml(changed), replace=True)
    emit(f"revoked: {revoked.key.key_id}\n", None)


def _own_store(directory: Path) -> TrustStore:
    from r1prov.trust.directories import TRUST_FILE, load_trust_directory
    from r1prov.trust.store import TrustStore

    if (directory / TRUST_FILE).exists():
        return load_trust_directory(directory)
    return TrustStore(keys=(), thresholds=(), locations=(str(directory),))


def new_passphrase() -> bytes:
    """A passphrase for a new key: from the environment, else asked for twice."""
    given = os.environ.get(_PASSPHRASE)
    if given is None:
        given = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    if not given:
        from r1prov.errors import UsageError

        raise UsageError("the passphrase is empty", hint=f"say {_NO_PASSPHRASE} if that is meant")
    return given.encode()


def unlocking_passphrase() -> bytes:
    """The passphrase of an existing key: from the environment, else asked for once."""
    given = os.environ.get(_PASSPHRASE)
    if given is None:
        given = typer.prompt("Passphrase of the key", hide_input=True, err=True)
    return str(given).encode()
