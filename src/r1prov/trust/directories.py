"""Where keys and manifests are looked for, and reading the trust store from there.

The shipped trust store and the user's own are merged: a key in either is trusted, and a revocation
in either wins. `--keys DIR` (or `R1PROV_KEYS`) replaces both, so that a pipeline can say exactly
whom it trusts.
"""

from __future__ import annotations

import os
from pathlib import Path

from r1prov.errors import InputError, NotFound, TrustFileError, Unreadable
from r1prov.limits import MAX_CERTIFICATE_FILE_BYTES, MAX_KEY_FILE_BYTES, MAX_TRUST_FILE_BYTES
from r1prov.trust.openpgp import OpenPgpKey, parse_openpgp_key
from r1prov.trust.shipped import shipped_dir
from r1prov.trust.store import TrustStore, merge
from r1prov.trust.trust_file import parse_trust_store

TRUST_FILE = "trust.toml"
HUB_KEY_FILE = "huggingface-system-key.json"


def user_directory(name: str) -> Path:
    """`$XDG_CONFIG_HOME/r1prov/NAME`, by default `~/.config/r1prov/NAME`."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "r1prov" / name


def read_file(path: Path, cap: int) -> bytes:
    """Read a small file of ours.

    Raises:
        NotFound: There is none.
        Unreadable: It cannot be read, or is not a regular file.
        InputError: It is larger than `cap` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            # What says itself that it is too large is not read to find that out.
            too_large = os.fstat(descriptor).st_size > cap
            raw = b"" if too_large else stream.read(cap + 1)
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}", subject=str(path)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Unreadable(f"cannot read {path}: {reason}", subject=str(path)) from None
    if too_large or len(raw) > cap:
        raise InputError(f"{path} is larger than {cap:,} bytes", subject=str(path))
    return raw


def load_trust_directory(directory: Path) -> TrustStore:
    """Read `trust.toml` and the files it names from one directory.

    Raises:
        NotFound: No `trust.toml` there.
        TrustFileError: It is malformed, or a file it names is.
    """
    path = directory / TRUST_FILE

    def read_beside(name: str) -> bytes:
        try:
            # Keys are held to their own cap when they are parsed.
            return read_file(directory / name, MAX_CERTIFICATE_FILE_BYTES)
        except NotFound:
            raise TrustFileError(
                f"names the file {name}, which is not beside it", subject=str(path)
            ) from None

    return parse_trust_store(read_file(path, MAX_TRUST_FILE_BYTES), read_beside, subject=str(path))


def load_trust_store(directory: Path | None = None) -> TrustStore:
    """The trust store of this run.

    Args:
        directory: Use only this directory; by default `R1PROV_KEYS`, else the shipped store merged
            with the user's.
    """
    only = directory or (Path(os.environ["R1PROV_KEYS"]) if os.environ.get("R1PROV_KEYS") else None)
    if only is not None:
        return load_trust_directory(only)
    stores = [load_trust_directory(shipped_dir("keys"))]
    own = user_directory("keys")
    if (own / TRUST_FILE).exists():
        stores.append(load_trust_directory(own))
    return merge(stores)


def load_hub_key() -> OpenPgpKey:
    """The Hub's commit-signing key, from `keys/huggingface-system-key.json`."""
    path = shipped_dir("keys") / HUB_KEY_FILE
    return parse_openpgp_key(read_file(path, MAX_KEY_FILE_BYTES), subject=path.name)
