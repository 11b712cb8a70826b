"""Hold a tag of an Ollama library against the signed table of known builds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.family.ollama import FoundLayer, TagAnswer, explain_tag
from r1prov.manifest.ollama_tags import SIGNED_AS, load_ollama_tags
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import FileEntry, Manifest, Role
from r1prov.manifest.shelf import ShelvedManifest
from r1prov.stores.ollama import OllamaStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from r1prov.family.gguf import GgufIdentification
    from r1prov.hashing.digest import BlobDigest
    from r1prov.manifest.ollama_tags import Build
    from r1prov.stores.base import Store

_ROLES = {"license": Role.DOCUMENT, "template": Role.TOKENIZER}


@dataclass(frozen=True, slots=True)
class _Header:
    """What the GGUF header says, in the words of the tag's explanation."""

    name: str | None
    kind: str | None
    quantization: str | None


def known_build(store: Store) -> tuple[ShelvedManifest, str] | None:
    """The manifest of the known build whose model layer a tag names, and why it is that one.

    Raises:
        StoreError: The table cannot be read.
        ManifestError: It is malformed.
    """
    if not isinstance(store, OllamaStore):
        return None
    shelved = load_ollama_tags()
    stated = store.stated()
    build = shelved.tags.by_manifest(store.manifest_sha256)
    why = "the Ollama manifest is that of a known build"
    if build is None:
        for layer in stated.values():
            builds = shelved.tags.by_model_layer(layer)
            if builds:
                # Re-issues have the same weights: the one with the most layers as they are here.
                build = max(builds, key=lambda one: _shared(one, stated))
                why = "the Ollama manifest names the model layer of a known build"
                break
    if build is None:
        return None
    manifest = _manifest(build, store)
    return ShelvedManifest(manifest, shelved.raw, shelved.path, SIGNED_AS), f"{why}, {build.id}"


def _shared(build: Build, stated: Mapping[str, str]) -> int:
    return sum(stated.get(layer.path) == layer.sha256 for layer in build.layers)


def _manifest(build: Build, store: OllamaStore) -> Manifest:
    """The build as a manifest; layers that the table does not know are listed without digest."""
    known = {layer.path for layer in build.layers}
    # A manifest states no digest without a size. Of a layer whose size the table has not, the
    # size is that of the tag at hand: the digest decides.
    sizes = {layer.path: layer.size for layer in store.manifest.layers}
    files = [
        FileEntry(
            layer.path, layer.size or sizes.get(layer.path, 0), layer.sha256, _role(layer.path)
        )
        for layer in build.layers
    ]
    if not build.complete:
        unknown = [layer for layer in store.manifest.layers if layer.path not in known]
        files += [FileEntry(one.path, one.size, None, _role(one.path)) for one in unknown]
    return Manifest(
        name=f"{build.model}/{build.quantization}",
        publisher="Ollama library",
        variant=build.variant,
        base_model=build.model,
        source=f"ollama://{store.tag.full()}",
        revision=build.manifest_sha256,
        license="see its license layer",
        files=tuple(files),
    )


def _role(path: str) -> Role:
    return _ROLES.get(path) or (Role.CONFIG if path in ("params", "system") else role_of(path))


def explain(
    store: Store,
    identification: GgufIdentification | None,
    digests: Mapping[str, BlobDigest] | None = None,
) -> TagAnswer | None:
    """What the tag really holds; None for a store that is no Ollama library.

    Args:
        store: The store.
        identification: What the GGUF header says, if it could be read.
        digests: Path to digest of the layers that were hashed.
    """
    if not isinstance(store, OllamaStore):
        return None
    hashed = digests or {}
    layers = [
        FoundLayer(
            layer.path,
            layer.size,
            hashed[layer.path].sha256 if layer.path in hashed else layer.sha256,
            hashed=layer.path in hashed,
        )
        for layer in store.manifest.layers
    ]
    header = None
    if identification is not None:
        kind = identification.kind if identification.name else None
        header = _Header(identification.name, kind, identification.quantization.file_type)
    return explain_tag(
        store.tag.short(),
        layers,
        load_ollama_tags().tags,
        manifest_sha256=store.manifest_sha256,
        header=header,
    )
