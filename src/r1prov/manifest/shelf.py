"""The manifests at hand: those shipped, those of the user, and any file named on the way.

A manifest on the shelf is only parsed, not trusted; `trust.store.decide` says who signed it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.errors import LimitExceeded, NotFound, Unreadable
from r1prov.limits import MAX_BUNDLE_BYTES, MAX_MANIFEST_BYTES, MAX_SIGNATURES
from r1prov.manifest.schema import Manifest, parse_manifest
from r1prov.trust.bundle import MessageBundle, parse_bundle
from r1prov.trust.directories import read_file, user_directory
from r1prov.trust.shipped import shipped_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

BUNDLE_SUFFIX = ".sigstore.json"


@dataclass(frozen=True, slots=True)
class ShelvedManifest:
    """A manifest file with its exact bytes, which are what signatures are about.

    Attributes:
        manifest: The parsed manifest, untrusted.
        raw: The bytes of the file.
        path: Where it lies.
        signed_as: Name under which keys may sign it; None for the manifest's own.
        signatures: Its bundles, name and bytes, where they do not lie beside it but came with it.
    """

    manifest: Manifest
    raw: bytes
    path: Path
    signed_as: str | None = None
    signatures: tuple[tuple[str, bytes], ...] | None = None

    @property
    def sha256(self) -> str:
        """Digest of the manifest file."""
        return hashlib.sha256(self.raw).hexdigest()

    def bundles(self) -> list[tuple[str, MessageBundle]]:
        """The signature bundles beside the file: name and content.

        Raises:
            BundleError: One of them is malformed.
            LimitExceeded: More than `MAX_SIGNATURES`.
        """
        return [(name, parse_bundle(raw, subject=name)) for name, raw in self.signature_files()]

    def signature_files(self) -> tuple[tuple[str, bytes], ...]:
        """Name and bytes of the signature bundles, unparsed.

        Raises:
            LimitExceeded: More than `MAX_SIGNATURES`.
            StoreError: One cannot be read.
        """
        paths = sorted(bundle_paths(self.path)) if self.signatures is None else ()
        count = len(paths) + len(self.signatures or ())
        if count > MAX_SIGNATURES:
            raise LimitExceeded(
                f"{count} signatures beside one manifest; the cap is {MAX_SIGNATURES}",
                subject=str(self.path),
            )
        if self.signatures is not None:
            return self.signatures
        return tuple((path.name, read_file(path, MAX_BUNDLE_BYTES)) for path in paths)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The manifests at hand; the first of a name wins."""

    items: tuple[ShelvedManifest, ...]

    def find(self, name: str) -> ShelvedManifest | None:
        """The manifest of that model name."""
        return next((item for item in self.items if item.manifest.name == name), None)

    def manifests(self) -> list[Manifest]:
        """Every manifest on the shelf."""
        return [item.manifest for item in self.items]

    def __iter__(self) -> Iterator[ShelvedManifest]:
        return iter(self.items)


def bundle_paths(manifest: Path) -> Iterable[Path]:
    """Signature bundles beside a manifest: `NAME.toml.<key id>.sigstore.json`."""
    prefix = manifest.name + "."
    try:
        found = list(manifest.parent.iterdir())
    except OSError as error:
        raise Unreadable(
            f"cannot list {manifest.parent}: {error.strerror}", subject=str(manifest.parent)
        ) from None
    return [
        path for path in found if path.name.startswith(prefix) and path.name.endswith(BUNDLE_SUFFIX)
    ]


def load_manifest(path: Path) -> ShelvedManifest:
    """Read and parse one manifest file.

    Raises:
        NotFound: There is none.
        ManifestError: It is malformed.
    """
    raw = read_file(path, MAX_MANIFEST_BYTES)
    # Every command of a process asks for the shipped ones; what others wrote is not kept.
    parse = _parse_shipped if path.parent == shipped_dir("manifests") else parse_manifest
    return ShelvedManifest(parse(raw, subject=str(path)), raw, path)


@cache
def _parse_shipped(raw: bytes, *, subject: str) -> Manifest:
    return parse_manifest(raw, subject=subject)


def manifest_directories() -> list[Path]:
    """The shipped directory, those of `R1PROV_MANIFESTS` (split by `:`), the user's own.

    In this order, so that nobody's file can stand in for a shipped manifest of the same name.
    """
    named = [Path(p) for p in os.environ.get("R1PROV_MANIFESTS", "").split(os.pathsep) if p]
    return [shipped_dir("manifests"), *named, user_directory("manifests")]


def load_shelf(directories: Sequence[Path] | None = None) -> Shelf:
    """Read every `*.toml` of the directories, by default those of `manifest_directories`."""
    items: dict[str, ShelvedManifest] = {}
    for directory in manifest_directories() if directories is None else directories:
        if not directory.is_dir():
            continue
        for path in sorted(directory.glob("*.toml")):
            shelved = load_manifest(path)
            items.setdefault(shelved.manifest.name, shelved)
    return Shelf(tuple(items.values()))


def resolve_manifest(shelf: Shelf, wanted: str) -> ShelvedManifest:
    """The manifest that `--manifest` means: a file if one is there, else a name on the shelf.

    Raises:
        NotFound: Neither.
    """
    path = Path(wanted)
    if path.is_file():
        return load_manifest(path)
    found = shelf.find(wanted)
    if found is None and os.path.lexists(wanted):
        raise Unreadable(f"{wanted} is not a regular file", subject=wanted)
    if found is None:
        names = ", ".join(sorted(item.manifest.name for item in shelf))
        raise NotFound(
            f"no manifest file and no known model is called {wanted}",
            subject=wanted,
            hint=f"known models: {names}",
        )
    return found
