"""Files that hold keys of responses: PEM, key sets, and directories with a trust file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from r1prov.errors import KeyFileError, Unreadable
from r1prov.limits import MAX_JWKS_BYTES, MAX_JWKS_KEYS
from r1prov.responses.jwks import parse_jwks
from r1prov.responses.keys import ResponseKey, key_of, parse_public_key
from r1prov.trust.directories import TRUST_FILE, load_trust_directory, read_file

_SUFFIXES = frozenset({".pem", ".pub", ".jwk", ".jwks", ".json"})
_NO_FIT = "ecdsa-p521-sha512"


def parse_key_file(
    raw: bytes, *, subject: str, algorithm: str | None = None
) -> tuple[ResponseKey, ...]:
    """The public keys of one file: a PEM block, a JWK or a JWK set.

    Args:
        raw: Its bytes.
        subject: Its name, for messages.
        algorithm: What an RSA key of a PEM file is used with.

    Raises:
        KeyFileError: It is malformed, or holds what is not taken.
    """
    if raw.lstrip().startswith(b"{"):
        keys = parse_jwks(raw, subject=subject)
        if algorithm is not None and any(key.algorithm != algorithm for key in keys):
            raise KeyFileError(f"{subject} has a key that is not for {algorithm}", subject=subject)
        return keys
    return (parse_public_key(raw, subject=subject, algorithm=algorithm),)


def load_keys(path: Path) -> tuple[ResponseKey, ...]:
    """The keys of a directory, or of one key file.

    With a `trust.toml` a directory has the keys that it names, with their owner, validity,
    revocation and models; without one, every key file in it, without bounds.

    Raises:
        NotFound: There is no such file or directory.
        KeyFileError: A key is malformed, of a kind that is not taken, or there is none.
        TrustFileError: The trust file is malformed.
    """
    if not path.is_dir():
        return parse_key_file(read_file(path, MAX_JWKS_BYTES), subject=str(path))
    if (path / TRUST_FILE).exists():
        return _trusted(path)
    try:
        files = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES)
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}", subject=str(path)) from None
    keys: list[ResponseKey] = []
    for file in files[:MAX_JWKS_KEYS]:
        found = parse_key_file(read_file(file, MAX_JWKS_BYTES), subject=str(file))
        keys += [found[0].called(file.stem)] if len(found) == 1 else found
    if not keys or len(files) > MAX_JWKS_KEYS:
        raise KeyFileError(
            f"{path} has {len(files)} key files; 1 to {MAX_JWKS_KEYS} are taken", subject=str(path)
        )
    return tuple(keys)


def _trusted(path: Path) -> tuple[ResponseKey, ...]:
    return tuple(
        replace(
            key_of(one.key, source=one.file).called(Path(one.file).stem),
            owner=one.owner,
            valid_from=one.valid_from,
            valid_until=one.valid_until,
            revoked_at=one.revoked_at,
            revoked_reason=one.revoked_reason,
            models=one.models,
        )
        for one in load_trust_directory(path).keys
        # HTTP signatures have no algorithm for P-521: such a key signs manifests only.
        if one.key.algorithm != _NO_FIT
    )
