"""What tags of the Ollama library really hold: a signed table of known builds.

A tag is a moving name for an Ollama manifest. A build is one such manifest: its layers, and which
released model was converted into it. Like a model's manifest, the table is untrusted until the
trust store says who signed its bytes; it is signed under the name `SIGNED_AS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from r1prov.errors import ManifestError
from r1prov.limits import MAX_MANIFEST_BYTES
from r1prov.manifest.fields import SHA256, Table, read_toml
from r1prov.manifest.schema import STRENGTHS, VARIANTS, Source
from r1prov.text import quoted
from r1prov.trust.directories import read_file
from r1prov.trust.shipped import shipped_dir

SCHEMA = "r1prov/ollama-tags/1"
# Covered by the names that the project's key may sign (`keys/trust.toml`).
SIGNED_AS = "DeepSeek-R1-ollama-tags"
MODEL_PATH = "model.gguf"

_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,159}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_MONTH = r"20[0-9]{2}-(?:0[1-9]|1[0-2])"
_PATH = r"[a-z][a-z0-9-]{0,63}(?:\.(?:gguf|json))?"


@dataclass(frozen=True, slots=True)
class BuildLayer:
    """One blob of a build; `path` is what `OllamaStore` calls it. `size` is None if unknown."""

    path: str
    sha256: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Build:
    """One manifest that a tag pointed to.

    Attributes:
        id: Name of the build in this table.
        model: The released model it was made from, as r1prov's manifest of it is called.
        variant: Variant of that model.
        family: Architecture in the GGUF header and in Ollama's config.
        parameters: Size as Ollama shows it.
        quantization: As Ollama shows it.
        manifest_sha256: Digest of the Ollama manifest.
        total_size: Bytes of all layers, where only that is known.
        layers: The known layers.
        complete: Whether these are all.
        sources: Where the figures come from.
    """

    id: str
    model: str
    variant: str
    family: str
    parameters: str
    quantization: str
    manifest_sha256: str
    total_size: int | None
    layers: tuple[BuildLayer, ...]
    complete: bool
    sources: tuple[Source, ...]

    def layer(self, path: str) -> BuildLayer | None:
        """The layer of that path."""
        return next((layer for layer in self.layers if layer.path == path), None)

    @property
    def model_layer(self) -> BuildLayer:
        """The layer that is the model; every build has one."""
        return next(layer for layer in self.layers if layer.path == MODEL_PATH)


@dataclass(frozen=True, slots=True)
class Step:
    """A build that a tag pointed to, `since` a month (`2025-05`) if that is known."""

    build: Build
    since: str | None
    source: str
    strength: str


@dataclass(frozen=True, slots=True)
class TagHistory:
    """What a tag pointed to, the oldest first."""

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Mislabel:
    """A digest that a public file ascribes to something else.

    Attributes:
        sha256: The digest.
        called: What the public file calls it.
        truth: What it is, in a phrase.
        source: The public file.
    """

    sha256: str
    called: str
    truth: str
    source: str


@dataclass(frozen=True, slots=True)
class OllamaTags:
    """The whole table."""

    builds: tuple[Build, ...]
    tags: tuple[TagHistory, ...]
    mislabels: tuple[Mislabel, ...]

    def history(self, name: str) -> TagHistory | None:
        """What is known of a tag, by its short name: `deepseek-r1:8b`."""
        return next((tag for tag in self.tags if tag.name == name), None)

    def by_manifest(self, sha256: str) -> Build | None:
        """The build whose Ollama manifest has this digest."""
        return next((b for b in self.builds if b.manifest_sha256 == sha256), None)

    def by_model_layer(self, sha256: str) -> tuple[Build, ...]:
        """The builds whose model layer has this digest: the same model, other templates."""
        return tuple(b for b in self.builds if b.model_layer.sha256 == sha256)

    def by_model_size(self, size: int) -> tuple[Build, ...]:
        """The builds whose model layer has this size."""
        return tuple(b for b in self.builds if b.model_layer.size == size)

    def mislabels_of(self, sha256: str) -> tuple[Mislabel, ...]:
        """What public files wrongly call this digest."""
        return tuple(m for m in self.mislabels if m.sha256 == sha256)


@dataclass(frozen=True, slots=True)
class ShelvedTags:
    """The table with its exact bytes, which are what signatures are about."""

    tags: OllamaTags
    raw: bytes
    path: Path


def load_ollama_tags(path: Path | None = None) -> ShelvedTags:
    """Read the table, by default the shipped one. It is only parsed, not trusted.

    Raises:
        NotFound: There is none.
        Unreadable: It cannot be read.
        ManifestError: It is malformed.
    """
    target = shipped_dir("manifests") / "ollama" / "tags.toml" if path is None else path
    raw = read_file(target, MAX_MANIFEST_BYTES)
    return ShelvedTags(parse_ollama_tags(raw, subject=str(target)), raw, target)


def parse_ollama_tags(raw: bytes, *, subject: str) -> OllamaTags:
    """Parse a table of tags strictly.

    Args:
        raw: The bytes of the TOML file.
        subject: Its name, for messages.

    Raises:
        ManifestError: It is malformed, or of a schema that this version does not read.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"is {len(raw):,} bytes; the cap is {MAX_MANIFEST_BYTES:,}", subject=subject
        )
    top = Table(read_toml(raw, subject), "", subject)
    schema = top.text("schema")
    if schema != SCHEMA:
        raise top.error(
            f"schema is {quoted(schema)}, not `{SCHEMA}`",
            hint="it may be newer than this r1prov: upgrade",
        )
    builds: dict[str, Build] = {}
    manifests: set[str] = set()
    for table in top.tables("builds"):
        build = _build(table)
        if build.id in builds or build.manifest_sha256 in manifests:
            raise table.error(f"the build {quoted(build.id)} or its manifest stands twice")
        builds[build.id] = build
        manifests.add(build.manifest_sha256)
    _check_models(tuple(builds.values()), top)
    tags: dict[str, TagHistory] = {}
    for table in top.tables("tags"):
        tag = _history(table, builds)
        if tag.name in tags:
            raise table.error(f"the tag {quoted(tag.name)} stands twice")
        tags[tag.name] = tag
    mislabels = tuple(_mislabel(table) for table in top.tables("mislabelled"))
    top.finish()
    return OllamaTags(tuple(builds.values()), tuple(tags.values()), mislabels)


def _build(table: Table) -> Build:
    layers = tuple(_layer(layer) for layer in table.tables("layers"))
    build = Build(
        id=table.text("id", pattern=_ID),
        model=table.text("model", pattern=_ID),
        variant=table.choice("variant", VARIANTS),
        family=table.text("family"),
        parameters=table.text("parameters"),
        quantization=table.text("quantization"),
        manifest_sha256=table.text("manifest_sha256", pattern=SHA256),
        total_size=table.optional_size("total_size"),
        layers=layers,
        complete=table.flag("complete"),
        sources=tuple(_source(source) for source in table.tables("sources")),
    )
    table.finish()
    paths = [layer.path for layer in layers]
    if len(set(paths)) != len(paths):
        raise table.error("lists a layer twice")
    if MODEL_PATH not in paths:
        raise table.error(f"has no layer `{MODEL_PATH}`")
    if build.complete and any(layer.size is None for layer in layers):
        raise table.error("is complete, and the size of a layer is missing")
    if not build.sources:
        raise table.error("names no source")
    return build


def _layer(table: Table) -> BuildLayer:
    layer = BuildLayer(
        table.text("path", pattern=_PATH),
        table.text("sha256", pattern=SHA256),
        table.optional_size("size"),
    )
    table.finish()
    return layer


def _source(table: Table) -> Source:
    source = Source(table.text("figure"), table.text("source"), table.choice("strength", STRENGTHS))
    table.finish()
    return source


def _check_models(builds: tuple[Build, ...], top: Table) -> None:
    """The bytes of one model layer cannot be two models, nor have two sizes."""
    first: dict[str, Build] = {}
    for build in builds:
        other = first.setdefault(build.model_layer.sha256, build)
        if (other.model, other.variant, other.quantization, other.model_layer) != (
            build.model,
            build.variant,
            build.quantization,
            build.model_layer,
        ):
            raise top.error(
                f"builds {quoted(other.id)} and {quoted(build.id)} have one model layer and say "
                "different things of it"
            )


def _history(table: Table, builds: dict[str, Build]) -> TagHistory:
    name = table.text("name", pattern=_TAG)
    steps = []
    for step in table.tables("history"):
        wanted = step.text("build")
        if wanted not in builds:
            raise step.error(f"no build is called {quoted(wanted)}")
        steps.append(
            Step(
                builds[wanted],
                step.optional_text("since", pattern=_MONTH),
                step.text("source"),
                step.choice("strength", STRENGTHS),
            )
        )
        step.finish()
    table.finish()
    if not steps:
        raise table.error("has no history")
    months = [step.since for step in steps if step.since is not None]
    if months != sorted(set(months)):
        raise table.error("history is not in the order of its months")
    return TagHistory(name, tuple(steps))


def _mislabel(table: Table) -> Mislabel:
    mislabel = Mislabel(
        table.text("sha256", pattern=SHA256),
        table.text("called"),
        table.text("truth"),
        table.text("source"),
    )
    table.finish()
    return mislabel
