"""A model of a local Ollama library: one tag, with its layers as files.

A manifest names blobs by SHA-256, and a blob's file is called by it. Ollama checks a digest when it
downloads and not again: a blob that was changed later is loaded all the same. So every layer is
to be hashed, and compared with what the manifest states (`stated`); the name of a file proves
nothing.

Layout: `manifest/paths.go`, `manifest/manifest.go`, `server/download.go` and `server/fixblobs.go`
of github.com/ollama/ollama.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from r1prov.errors import NotFound, StoreError, Unreadable
from r1prov.formats.ollama_manifest import (
    OllamaConfig,
    OllamaLayer,
    OllamaManifest,
    parse_ollama_config,
    parse_ollama_manifest,
)
from r1prov.hashing.digest import Readable
from r1prov.limits import MAX_OLLAMA_MANIFEST_BYTES
from r1prov.stores.base import Entry, EntryKind, read_small
from r1prov.stores.local import LocalStore
from r1prov.stores.ollama_library import (
    OllamaName,
    is_models_directory,
    list_tags,
    models_directories,
    parse_ollama_name,
)

# `LinkManifest` in `manifest/manifest.go` writes links of exactly this form, four folders deep.
_MANIFEST_LINK = re.compile(r"(?:\.\./){4}blobs/(?P<blob>sha256-(?P<hex>[0-9a-f]{64}))")
_CONFIG: Final = "config.json"
_SHOWN_TAGS: Final = 8


class OllamaStore:
    """One tag of a local Ollama library.

    Args:
        name: `deepseek-r1:7b`, or with registry and namespace; `ollama://` may stand before it.
        models: The models directory; by default the first of `models_directories` with this tag.

    Attributes:
        name: The name as `ollama list` shows it.
        location: Full name and models directory.
        tag: The parsed name.
        manifest: The parsed manifest.
        manifest_sha256: Digest of the manifest file, whose first 12 digits are the `ID` of
            `ollama list`.

    Raises:
        UsageError: `name` is no Ollama name.
        NotFound: There is no such tag, or no library.
        Unreadable: The manifest cannot be read, or a link leads elsewhere than to its blob.
        JsonError: The manifest is not strict JSON.
        FormatError: The manifest is malformed.
        LimitExceeded: The manifest is larger than a manifest can be.
    """

    def __init__(self, name: str, models: str | os.PathLike[str] | None = None) -> None:
        self.tag = parse_ollama_name(name)
        self.name = self.tag.short()
        root, path = _find(self.tag, models)
        self.location = f"ollama://{self.tag.full()} in {root}"
        # The folder may lie elsewhere through a link, as the root of a local model may: it is
        # resolved once. Below it nothing is followed.
        self._blobs = LocalStore(root / "blobs")
        raw = self._read_manifest(root, path)
        self.manifest_sha256 = hashlib.sha256(raw).hexdigest()
        self.manifest: OllamaManifest = parse_ollama_manifest(raw, subject=f"{self.name} ({path})")
        self._layers = {layer.path: layer for layer in self.manifest.layers}

    def _read_manifest(self, root: Path, path: str) -> bytes:
        folder, _, below = path.partition("/")
        try:
            target = os.readlink(root / path)
        except OSError:
            store = LocalStore(root / folder)
            return read_small(store, below, MAX_OLLAMA_MANIFEST_BYTES)
        match = _MANIFEST_LINK.fullmatch(target)
        if match is None:
            raise Unreadable(
                f"is a link to {target}, which is no blob of this library", subject=path
            )
        raw = read_small(self._blobs, match["blob"], MAX_OLLAMA_MANIFEST_BYTES)
        found = hashlib.sha256(raw).hexdigest()
        if found != match["hex"]:
            raise Unreadable(
                f"links to a blob whose content is another: sha256:{found}, "
                f"not sha256:{match['hex']}",
                subject=path,
                hint=f"`ollama pull {self.name}` writes it anew",
            )
        return raw

    def entries(self) -> list[Entry]:
        """One entry for each layer and the config, sorted by path.

        A layer whose blob is missing or cannot be opened is `UNREADABLE`, one that is a link is a
        `LINK`; what the manifest says of its digest is `stated`.
        """
        return sorted(
            (self._entry(layer) for layer in self.manifest.layers), key=lambda entry: entry.path
        )

    def _entry(self, layer: OllamaLayer) -> Entry:
        try:
            with self.open(layer.path) as blob:
                return Entry(
                    layer.path,
                    EntryKind.FILE,
                    blob.size,
                    f"blobs/{self._blob_name(layer)}",
                    fence=blob.fence(),
                )
        except StoreError as error:
            target = self._link_target(layer)
            if target is not None:
                return Entry(layer.path, EntryKind.LINK, detail=target)
            hint = f"; {error.hint}" if error.hint else ""
            return Entry(layer.path, EntryKind.UNREADABLE, detail=f"{error.message}{hint}")

    def open(self, path: str) -> Readable:
        """Open the blob of a layer.

        Raises:
            NotFound: No layer is called so, or its blob is missing.
            Unreadable: The blob is a link, no regular file, or may not be read.
        """
        layer = self._layers.get(path)
        if layer is None:
            known = ", ".join(self._layers)
            raise NotFound(f"no such layer; there are {known}", subject=path)
        name = self._blob_name(layer)
        if name is None:
            raise self._missing(layer)
        return self._blobs.open(name)

    def stated(self) -> dict[str, str]:
        """Path to the SHA-256 that the manifest states; nothing was hashed."""
        return {layer.path: layer.sha256 for layer in self.manifest.layers}

    def config(self) -> OllamaConfig:
        """What the config blob claims about the model.

        Raises:
            StoreError: It cannot be read.
            FormatError: It is malformed.
        """
        raw = read_small(self, _CONFIG, MAX_OLLAMA_MANIFEST_BYTES)
        return parse_ollama_config(raw, subject=f"{self.name} ({_CONFIG})")

    def _blob_name(self, layer: OllamaLayer) -> str | None:
        return next((n for n in _blob_names(layer) if os.path.lexists(self._blob_path(n))), None)

    def _blob_path(self, name: str) -> str:
        return f"{self._blobs.location}/{name}"

    def _link_target(self, layer: OllamaLayer) -> str | None:
        name = self._blob_name(layer)
        try:
            return os.readlink(self._blob_path(name)) if name is not None else None
        except OSError:
            return None

    def _missing(self, layer: OllamaLayer) -> NotFound:
        blob = f"sha256-{layer.written}"
        message = f"its blob {blob} is missing"
        # `blobDownload.run`: all bytes go to `-partial`, which has its full size from the start.
        if any(os.path.lexists(self._blob_path(f"{n}-partial")) for n in _blob_names(layer)):
            message = f"its blob {blob} is only partly downloaded"
        return NotFound(
            message, subject=layer.path, hint=f"`ollama pull {self.name}` downloads what is missing"
        )


def _blob_names(layer: OllamaLayer) -> list[str]:
    """What the blob's file may be called, in the order that Ollama's versions would find it."""
    # `BlobsPath` keeps the case of the digest and writes `-`; before `fixBlobs` it was `:`.
    cases = dict.fromkeys((layer.written, layer.sha256))
    return [f"sha256{separator}{digits}" for separator in "-:" for digits in cases]


def _find(tag: OllamaName, models: str | os.PathLike[str] | None) -> tuple[Path, str]:
    """The models directory and, in it, the manifest of a tag."""
    directories = models_directories() if models is None else [Path(models)]
    libraries = [path for path in directories if is_models_directory(path)]
    if not libraries:
        looked = ", ".join(map(str, directories))
        raise NotFound(
            f"no Ollama library in {looked}",
            subject=tag.short(),
            hint="set OLLAMA_MODELS to the directory with `manifests` and `blobs`, "
            "and run as a user who may read it",
        )
    for root in libraries:
        for path in tag.paths():
            if os.path.lexists(root / path):
                return root, path
    there = [name.short() for root in libraries for name in list_tags(root)]
    # The same model first: a wrong tag is the usual mistake.
    there.sort(key=lambda name: tag.model not in name)
    shown = ", ".join(there[:_SHOWN_TAGS]) + (", …" if len(there) > _SHOWN_TAGS else "")
    raise NotFound(
        f"no such tag in {', '.join(map(str, libraries))}",
        subject=tag.short(),
        hint=f"there are: {shown}" if there else "the library is empty",
    )
