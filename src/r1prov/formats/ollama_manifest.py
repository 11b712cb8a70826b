"""The manifest of one Ollama tag: which blobs it is made of.

Ollama keeps Docker image manifests of schema 2 (`manifest/manifest.go` of github.com/ollama/ollama,
earlier `server/manifest.go`): a config and layers, each with a media type, a SHA-256 and a size.
Ollama decodes them with Go's `encoding/json`, which takes `LAYERS` for `layers` and ignores what
follows the first value. A manifest that r1prov and Ollama could read in two ways is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from r1prov.errors import FormatError, NameRuleError
from r1prov.formats.names import check_path
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_INT63, MAX_OLLAMA_MANIFEST_BYTES
from r1prov.text import quoted

RULE: Final = "ollama-manifest"

MANIFEST_TYPES: Final = frozenset(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
    )
)
LIST_TYPE: Final = "application/vnd.ollama.manifest.list.v2+json"
LAYER_PREFIX: Final = "application/vnd.ollama.image."
MODEL_TYPE: Final = f"{LAYER_PREFIX}model"

# `BlobsPath` in `manifest/paths.go`: both separators, both cases.
_DIGEST = re.compile(r"sha256[:-](?P<hex>[0-9a-fA-F]{64})")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[A-Za-z0-9][A-Za-z0-9.+_-]{0,127}")
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# Layers that hold a GGUF file (`server/model.go`); the name says so to whoever reads the listing.
_GGUF_KINDS: Final = frozenset(("model", "adapter", "projector"))
_TOP_KEYS: Final = ("schemaVersion", "mediaType", "config", "layers", "manifests")
_LAYER_KEYS: Final = ("mediaType", "digest", "size", "name")


@dataclass(frozen=True, slots=True)
class OllamaLayer:
    """One blob of a tag.

    Attributes:
        path: Telling name in the store: `model.gguf`, `template`, `config.json`.
        media_type: As the manifest says.
        sha256: SHA-256 that the manifest states, in lower-case hex.
        size: Bytes that the manifest states.
        written: The hex digits as the manifest has them, upper case or not: Ollama looks for a file
            of exactly this name.
    """

    path: str
    media_type: str
    sha256: str
    size: int
    written: str


@dataclass(frozen=True, slots=True)
class OllamaManifest:
    """The manifest of one tag.

    Attributes:
        layers: The layers in their order, then the config as `config.json`.
    """

    layers: tuple[OllamaLayer, ...]

    def models(self) -> tuple[OllamaLayer, ...]:
        """The layers that are the model itself: one, unless it is split."""
        return tuple(layer for layer in self.layers if layer.media_type == MODEL_TYPE)


@dataclass(frozen=True, slots=True)
class OllamaConfig:
    """What the config of a tag claims; nothing of it is checked against the model.

    Attributes:
        family: Architecture, such as `qwen2`.
        parameters: Size as Ollama shows it, such as `7.6B`.
        quantization: File type, such as `Q4_K_M`.
    """

    family: str | None
    parameters: str | None
    quantization: str | None


def parse_ollama_manifest(raw: bytes, *, subject: str) -> OllamaManifest:
    """Parse a manifest strictly.

    Args:
        raw: The bytes of the file.
        subject: Its name, for messages.

    Raises:
        JsonError: It is not strict JSON.
        FormatError: It is not a manifest of one model (rule `ollama-manifest`).
    """
    top = _object(
        parse_json(raw, subject=subject, max_bytes=MAX_OLLAMA_MANIFEST_BYTES), "it", subject
    )
    _check_keys(top, _TOP_KEYS, "the manifest", subject)
    if top.get("mediaType") == LIST_TYPE or "manifests" in top:
        raise _error(
            "is a list of manifests, one for each runner, and no model by itself",
            subject,
            expected="the manifest of one model",
            hint="r1prov reads tags that hold one model",
        )
    version = top.get("schemaVersion")
    if version != 2 or isinstance(version, bool):
        raise _error("has another schemaVersion", subject, expected="2", found=repr(version)[:40])
    media_type = top.get("mediaType")
    if not isinstance(media_type, str) or media_type not in MANIFEST_TYPES:
        raise _error(
            "has another media type",
            subject,
            expected=" or ".join(sorted(MANIFEST_TYPES)),
            found=repr(media_type)[:80],
        )
    layers = top.get("layers")
    if not isinstance(layers, list) or not layers:
        raise _error("has no layers", subject, expected="an array of layers")
    parsed = [_layer(item, f"layer {i + 1}", subject) for i, item in enumerate(layers)]
    # `Manifest.Config` in `manifest/manifest.go` is a layer like any other.
    config = _layer(top.get("config"), "the config", subject)
    paths = _paths([(one.media_type, name) for one, name in parsed], subject)
    named = [
        OllamaLayer(path, one.media_type, one.sha256, one.size, one.written)
        for path, (one, _) in zip(paths, parsed, strict=True)
    ]
    return OllamaManifest((*named, config[0]))


def parse_ollama_config(raw: bytes, *, subject: str) -> OllamaConfig:
    """Read what a config blob claims about its model (`ConfigV2` in `server/images.go`).

    Raises:
        JsonError: It is not strict JSON.
        FormatError: It is no object, or a claim is no text.
    """
    top = _object(
        parse_json(raw, subject=subject, max_bytes=MAX_OLLAMA_MANIFEST_BYTES), "it", subject
    )
    claims = []
    for key in ("model_family", "model_type", "file_type"):
        value = top.get(key)
        if value is not None and not isinstance(value, str):
            raise _error(f"`{key}` is no text", subject, found=repr(value)[:40])
        claims.append(value or None)
    return OllamaConfig(*claims)


def _layer(value: object, what: str, subject: str) -> tuple[OllamaLayer, str | None]:
    """A layer, still with the path of a config, and its own name if it has one."""
    table = _object(value, what, subject)
    _check_keys(table, _LAYER_KEYS, what, subject)
    media_type = table.get("mediaType")
    if not isinstance(media_type, str) or _MEDIA_TYPE.fullmatch(media_type) is None:
        raise _error(f"{what} has no media type", subject, found=repr(media_type)[:80])
    digest = table.get("digest")
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if match is None:
        # Ollama once joined any text to its folder: CVE-2024-37032, `../` in a digest.
        raise _error(
            f"{what} has a digest that is none",
            subject,
            expected="sha256: and 64 hex digits",
            found=quoted(digest, limit=80) if isinstance(digest, str) else repr(digest)[:40],
        )
    size = table.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_INT63:
        raise _error(
            f"{what} has a size that is none", subject, expected="bytes", found=repr(size)[:40]
        )
    name = table.get("name")
    if name is not None and not isinstance(name, str):
        raise _error(f"{what} has a name that is no text", subject, found=repr(name)[:40])
    written = match["hex"]
    layer = OllamaLayer("config.json", media_type, written.lower(), size, written)
    return layer, name or None


def _paths(layers: list[tuple[str, str | None]], subject: str) -> list[str]:
    """A telling path for each layer; those of one kind are numbered if there are several."""
    several = Counter(_kind(media_type) for media_type, name in layers if name is None)
    counts: Counter[str] = Counter()
    paths: dict[str, None] = {}
    for media_type, name in layers:
        kind = _kind(media_type)
        if name is not None:
            # A tensor or a config file (`Layer.Name`), in a folder of its kind.
            path = f"{kind}/{name}"
            try:
                check_path(path)
            except NameRuleError as error:
                raise _error(f"a layer has a bad name: {error.message}", subject) from None
        else:
            counts[kind] += 1
            number = f"-{counts[kind]}" if several[kind] > 1 else ""
            path = f"{kind}{number}{'.gguf' if kind in _GGUF_KINDS else ''}"
        if path in paths:
            raise _error(f"two layers are called {quoted(path)}", subject)
        paths[path] = None
    return list(paths)


def _kind(media_type: str) -> str:
    kind = media_type.removeprefix(LAYER_PREFIX)
    return kind if kind != media_type and _KIND.fullmatch(kind) else "layer"


def _object(value: object, what: str, subject: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _error(f"{what} is no JSON object", subject, found=repr(value)[:40])
    return value


def _check_keys(table: dict[str, object], known: tuple[str, ...], what: str, subject: str) -> None:
    """Refuse keys that Go's `encoding/json` takes for a known one: it folds case, and Unicode."""
    folded = {key.casefold(): key for key in known}
    for key in table:
        meant = folded.get(key.casefold())
        if meant is not None and meant != key:
            raise _error(
                f"{what} has the key {quoted(key)}, which Ollama reads as `{meant}`", subject
            )


def _error(
    message: str,
    subject: str,
    *,
    expected: str | None = None,
    found: str | None = None,
    hint: str | None = None,
) -> FormatError:
    return FormatError(RULE, message, subject=subject, expected=expected, found=found, hint=hint)
