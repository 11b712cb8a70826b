"""Names of Ollama tags, and where a local Ollama library keeps them.

Layout and rules are those of github.com/ollama/ollama: `types/model/name.go` (names),
`manifest/paths.go`, earlier `server/modelpath.go` (folders), `envconfig/config.go`
(`OLLAMA_MODELS`), `docs/faq.md` (the folder of the Linux service).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from r1prov.errors import LimitExceeded, NotFound, Unreadable, UsageError
from r1prov.limits import MAX_STORE_ENTRIES
from r1prov.text import quoted

SCHEME: Final = "ollama://"
DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"
# `manifests-v2` and its name for the public registry came with manifest lists; it is looked at
# first (`resolveManifestPath` in `manifest/paths.go`).
_V2_HOST: Final = "ollama.com"
FOLDERS: Final = ("manifests-v2", "manifests")

# `isValidPart`: letters, digits and `_` first, then also `-` and `.`; no dot in a namespace, so
# no part can be `.` or `..`, and a host may have a port.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")

_SERVICE_MODELS: Final = "/usr/share/ollama/.ollama/models"


@dataclass(frozen=True, slots=True, order=True)
class OllamaName:
    """The full name of a tag.

    Attributes:
        host: Registry, such as `registry.ollama.ai` or `hf.co`.
        namespace: `library` for Ollama's own models.
        model: Name of the model.
        tag: Tag.
    """

    host: str
    namespace: str
    model: str
    tag: str

    def short(self) -> str:
        """The name as `ollama list` shows it: `deepseek-r1:7b`."""
        name = f"{self.model}:{self.tag}"
        if self.host != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{name}"
        return name if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/{name}"

    def full(self) -> str:
        """Every part: `registry.ollama.ai/library/deepseek-r1:7b`."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    def paths(self) -> Iterator[str]:
        """Where the manifest may lie in a models directory, as Ollama looks for it."""
        public = self.host in (DEFAULT_HOST, _V2_HOST)
        below = f"{self.namespace}/{self.model}/{self.tag}"
        yield f"{FOLDERS[0]}/{_V2_HOST if public else self.host}/{below}"
        yield f"{FOLDERS[1]}/{self.host}/{below}"
        if public:
            other = _V2_HOST if self.host == DEFAULT_HOST else DEFAULT_HOST
            yield f"{FOLDERS[1]}/{other}/{below}"


def parse_ollama_name(text: str) -> OllamaName:
    """Read `[ollama://][host/][namespace/]model[:tag]`, with Ollama's defaults.

    Raises:
        UsageError: It is no name that Ollama takes.
    """
    plain = text.removeprefix(SCHEME)
    *before, last = plain.split("/")
    model, colon, tag = last.partition(":")
    host, namespace = {
        0: (DEFAULT_HOST, DEFAULT_NAMESPACE),
        1: (DEFAULT_HOST, *before),
        2: (*before,),
    }.get(len(before), ("", ""))
    name = OllamaName(host, namespace, model, tag if colon else DEFAULT_TAG)
    if not _is_valid(name):
        raise UsageError(
            f"{quoted(text)} is no Ollama name",
            subject=text,
            hint="write ollama://[registry/][namespace/]name[:tag], as `ollama list` shows it",
        )
    return name


def _is_valid(name: OllamaName) -> bool:
    return (
        _HOST.fullmatch(name.host) is not None
        and _NAMESPACE.fullmatch(name.namespace) is not None
        and _PART.fullmatch(name.model) is not None
        and _PART.fullmatch(name.tag) is not None
    )


def models_directories() -> list[Path]:
    """Where models may lie here, in the order to look.

    `OLLAMA_MODELS` alone if it is set; else the user's own, then that of the Linux service.
    """
    # Ollama strips quotes and blanks of the value too (`Var` in `envconfig/config.go`).
    named = os.environ.get("OLLAMA_MODELS", "").strip().strip("\"'")
    if named:
        return [Path(named)]
    return [Path("~/.ollama/models").expanduser(), Path(_SERVICE_MODELS)]


def is_models_directory(path: str | os.PathLike[str]) -> bool:
    """Whether a directory looks like an Ollama models directory: manifests and blobs."""
    root = Path(path)
    try:
        return (root / "blobs").is_dir() and any((root / name).is_dir() for name in FOLDERS)
    except (OSError, ValueError):
        return False


def list_tags(models: str | os.PathLike[str]) -> list[OllamaName]:
    """Every tag of a models directory, sorted; a file that no tag can be called is passed over.

    Raises:
        NotFound: There is no such directory, or it is no Ollama library.
        Unreadable: It cannot be listed.
        LimitExceeded: More entries than `MAX_STORE_ENTRIES`.
    """
    root = Path(models)
    if not is_models_directory(root):
        raise NotFound(
            "is no Ollama models directory: it has no `manifests` and `blobs`",
            subject=str(models),
            hint="name the directory that OLLAMA_MODELS names, by default ~/.ollama/models",
        )
    found = set()
    seen = 0
    for folder in FOLDERS:
        # host/namespace/model/tag; `.DS_Store` and its kind are no names of a tag.
        for parts in _walk(root / folder, ()):
            seen += 1
            if seen > MAX_STORE_ENTRIES:
                raise LimitExceeded(
                    f"holds more than {MAX_STORE_ENTRIES:,} manifests", subject=str(models)
                )
            host, namespace, model, tag = parts
            name = OllamaName(DEFAULT_HOST if host == _V2_HOST else host, namespace, model, tag)
            if _is_valid(name):
                found.add(name)
    return sorted(found)


def _walk(directory: Path, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    try:
        with os.scandir(directory) as entries:
            listed = [(e.name, e.stat(follow_symlinks=False).st_mode) for e in entries]
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unreadable(
            f"cannot be listed: {error.strerror or error}", subject=str(directory)
        ) from error
    for name, mode in listed:
        parts = (*above, name)
        if len(parts) < 4 and stat.S_ISDIR(mode):
            yield from _walk(directory / name, parts)
        elif len(parts) == 4 and not stat.S_ISDIR(mode):
            yield parts
