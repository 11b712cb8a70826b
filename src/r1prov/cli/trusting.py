"""What `r1prov key` changes in a trust store: entries added and revoked, and their files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from r1prov.trust.authorities import TrustedAuthority
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.purpose import Purpose
    from r1prov.trust.store import TrustStore


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is said of a key that counts no more.

    Attributes:
        reason: Why; shown to everyone who meets it.
        invalid_from: Since when it is not to be believed; None for ever.
    """

    reason: str
    invalid_from: datetime | None = None


def own_store(directory: Path) -> TrustStore:
    """The store of a directory; an empty one if it has none yet."""
    from r1prov.trust.directories import TRUST_FILE, load_trust_directory
    from r1prov.trust.store import TrustStore

    if (directory / TRUST_FILE).exists():
        return load_trust_directory(directory)
    return TrustStore(keys=(), thresholds=(), locations=(str(directory),))


def write_store(directory: Path, store: TrustStore, files: dict[str, bytes]) -> None:
    """Write key and certificate files, then the trust file, once it is known to be readable."""
    from r1prov.cli.output import write_new
    from r1prov.trust.directories import TRUST_FILE
    from r1prov.trust.trust_file import trust_store_toml

    text = trust_store_toml(store)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_new(directory / name, content, replace=True)
    write_new(directory / TRUST_FILE, text, replace=True)


def add_key(
    path: Path,
    directory: Path,
    owner: str,
    models: list[str],
    days: int,
    may: tuple[Purpose, ...],
) -> str:
    """Trust a public key; returns its id."""
    from r1prov.errors import UsageError
    from r1prov.limits import MAX_KEY_FILE_BYTES
    from r1prov.trust.directories import read_file
    from r1prov.trust.keys import parse_public_key
    from r1prov.trust.store import TrustedKey

    key = parse_public_key(read_file(path, MAX_KEY_FILE_BYTES), subject=str(path))
    store = own_store(directory)
    if any(one.key.key_id == key.key_id for one in store.keys):
        raise UsageError(f"key {key.key_id} is in {directory} already")
    first, last = _from_now(days)
    file = f"{key.key_id8}.pub"
    added = TrustedKey(
        key=key,
        file=file,
        owner=owner,
        valid_from=first,
        valid_until=last,
        models=tuple(models),
        may=may,
    )
    write_store(directory, replace(store, keys=(*store.keys, added)), {file: key.pem()})
    return key.key_id


def add_authority(
    path: Path,
    directory: Path,
    owner: str,
    models: list[str],
    days: int,
    identities: list[str],
    subjects: list[str],
) -> str:
    """Trust a root certificate for signers of these names; returns its id."""
    from r1prov.trust.authorities import TrustedAuthority
    from r1prov.trust.trust_file import certificate_file

    root, issuers = read_root(path)
    store = own_store(directory)
    first, last = _from_now(days)
    # Entries of one root share a file.
    known = [issuer for one in store.authorities if one.root == root for issuer in one.issuers]
    added = TrustedAuthority(
        root=root,
        issuers=tuple(dict.fromkeys((*known, *issuers))),
        file=f"{root.fingerprint[:8]}.pem",
        owner=owner,
        valid_from=first,
        valid_until=last,
        models=tuple(models),
        identities=tuple(identities),
        subjects=tuple(subjects),
    )
    changed = replace(store, authorities=(*store.authorities, added))
    write_store(directory, changed, {added.file: certificate_file(added)})
    return added.id


def add_timestamp_authority(path: Path, directory: Path, owner: str, days: int) -> str:
    """Trust a root certificate for timestamps; returns its id.

    It counts for timestamps from the start of its own certificate: what it stamped before it was
    named here is no less proven.
    """
    from r1prov.errors import UsageError
    from r1prov.trust.authorities import TimestampAuthority
    from r1prov.trust.trust_file import certificate_file

    root, issuers = read_root(path)
    store = own_store(directory)
    if any(one.id == root.fingerprint for one in store.timestamp_authorities):
        raise UsageError(f"timestamp authority {root.fingerprint} is in {directory} already")
    added = TimestampAuthority(
        root=root,
        issuers=issuers,
        file=f"{root.fingerprint[:8]}.tsa.pem",
        owner=owner,
        valid_from=root.not_before,
        valid_until=_from_now(days)[1],
    )
    changed = replace(store, timestamp_authorities=(*store.timestamp_authorities, added))
    write_store(directory, changed, {added.file: certificate_file(added)})
    return added.id


def read_root(path: Path) -> tuple[Certificate, tuple[Certificate, ...]]:
    """The root in a certificate file, and the others beside it.

    Raises:
        CertificateError: It is malformed, or has not one root.
    """
    from r1prov.limits import MAX_CERTIFICATE_FILE_BYTES
    from r1prov.trust.certificates import parse_certificates
    from r1prov.trust.directories import read_file
    from r1prov.trust.trust_file import split_root

    raw = read_file(path, MAX_CERTIFICATE_FILE_BYTES)
    return split_root(parse_certificates(raw, subject=str(path)), str(path))


def revoke_entry(id_: str, known: TrustStore, directory: Path, why: Revocation) -> str:
    """Revoke the key or authority of an id, in the store of a directory; returns the whole id.

    Args:
        id_: Its id, or the first 8 digits.
        known: Where it is looked for.
        directory: Where the revocation is written, which wins over the entry it is about.
        why: What is said of it.

    Raises:
        UsageError: Not one entry has that id, or a date that its kind does not take.
    """
    from r1prov.errors import UsageError
    from r1prov.trust.trust_file import certificate_file

    # A root may vouch for signers and for time: it is revoked for both.
    ids = {
        *(one.key.key_id for one in known.keys),
        *(one.id for one in known.authorities),
        *(one.id for one in known.timestamp_authorities),
    }
    matching = [one for one in ids if len(id_) >= 8 and one.startswith(id_)]
    if len(matching) != 1:
        raise UsageError(
            f"{len(matching)} keys match {id_}", hint="`r1prov key show` lists the key ids"
        )
    (found,) = matching
    own = own_store(directory)
    keys = {one.key.key_id: one for one in own.keys}
    authorities = [one for one in own.authorities if one.id != found]
    clocks = {one.id: one for one in own.timestamp_authorities}
    files: dict[str, bytes] = {}
    now = datetime.now(UTC).replace(microsecond=0)
    gone = {"revoked_at": now, "revoked_reason": why.reason}
    dated = {**gone, "invalid_from": why.invalid_from}
    for key in known.keys:
        if key.key.key_id == found:
            revoked = replace(key, file=f"{key.key.key_id8}.pub", **dated)  # type: ignore[arg-type]
            keys[found] = revoked
            files[revoked.file] = revoked.key.pem()
    for authority in _entries_of(found, known):
        lost = replace(authority, **dated)  # type: ignore[arg-type]
        authorities.append(lost)
        files[lost.file] = certificate_file(lost)
    for clock in known.timestamp_authorities:
        if clock.id == found:
            if why.invalid_from is not None:
                raise UsageError(
                    "--invalid-from is not for timestamp authorities",
                    hint="whoever holds the key of one can write any time into a timestamp",
                )
            stopped = replace(clock, file=f"{found[:8]}.tsa.pem", **gone)  # type: ignore[arg-type]
            clocks[found] = stopped
            files[stopped.file] = certificate_file(stopped)
    changed = replace(
        own,
        keys=tuple(keys.values()),
        authorities=tuple(authorities),
        timestamp_authorities=tuple(clocks.values()),
    )
    write_store(directory, changed, files)
    return found


def revoke_certificate(
    certificate: str, authority_id: str, known: TrustStore, directory: Path, why: Revocation
) -> str:
    """Revoke a certificate that an authority issued; returns what names it.

    Args:
        certificate: SHA-256 of the certificate in hex, or its serial number in hex.
        authority_id: Id of the authority, or the first 8 digits.
        known: Where the authority is looked for.
        directory: Where the revocation is written.
        why: What is said of it.

    Raises:
        UsageError: Not one authority has that id.
        TrustFileError: `certificate` is neither.
    """
    from r1prov.errors import UsageError
    from r1prov.trust.authorities import RevokedCertificate
    from r1prov.trust.trust_file import certificate_file

    found = {
        one.id
        for one in known.authorities
        if len(authority_id) >= 8 and one.id.startswith(authority_id)
    }
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} authorities match {authority_id}",
            hint="`r1prov key show` lists their ids",
        )
    (root,) = found
    name = certificate.lower().replace(":", "")
    now = datetime.now(UTC).replace(microsecond=0)
    gone = RevokedCertificate(name, now, why.reason, why.invalid_from)
    own = own_store(directory)
    others = [one for one in own.authorities if one.id != root]
    first, *rest = _entries_of(root, known)
    changed = [replace(first, revoked=(*first.revoked, gone)), *rest]
    files = {one.file: certificate_file(one) for one in changed}
    write_store(directory, replace(own, authorities=(*others, *changed)), files)
    return name


def _entries_of(root: str, known: TrustStore) -> list[TrustedAuthority]:
    """The entries of a root as one trust file has them: they share a file, and each names somebody.

    Where one store took the place of another, what is left of the other are its revocations: those
    stay with it, or go to the first entry that is written.
    """
    same = [one for one in known.authorities if one.id == root]
    issuers = tuple(dict.fromkeys(issuer for one in same for issuer in one.issuers))
    revoked = tuple(dict.fromkeys(gone for one in same for gone in one.revoked))
    named = [one for one in same if one.identities or one.subjects]
    return [
        replace(
            one, file=f"{root[:8]}.pem", issuers=issuers, revoked=revoked if one is named[0] else ()
        )
        for one in named
    ]


def _from_now(days: int) -> tuple[datetime, datetime]:
    now = datetime.now(UTC).replace(microsecond=0)
    return now, now + timedelta(days=days)
