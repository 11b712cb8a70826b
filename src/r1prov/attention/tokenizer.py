"""The tokenizer of a model, by the `tokenizers` library: no code of the model runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.errors import InputError, UsageError
from r1prov.formats.gguf_arrays import read_arrays
from r1prov.limits import MAX_TOKENIZER_BYTES
from r1prov.stores.base import read_small
from r1prov.text import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from tokenizers import Tokenizer

    from r1prov.formats.gguf import GgufHeader
    from r1prov.stores.base import Store

FILE_NAME: Final = "tokenizer.json"
EXTRA: Final = "install r1prov[torch]"
_TOKENS: Final = "tokenizer.ggml.tokens"
_MERGES: Final = "tokenizer.ggml.merges"
_KINDS: Final = "tokenizer.ggml.token_type"
# `llama_token_attr` of llama.cpp: tokens that are taken whole from text.
_CONTROL: Final = 3
_USER_DEFINED: Final = 4
# How text is cut before pairs are merged, by `tokenizer.ggml.pre` (`llama-vocab.cpp`).
_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE: Final[dict[str, str | None]] = {
    "smollm": None,
    "qwen2": _WORDS % "",
    "deepseek-r1-qwen": _WORDS % "",
    "llama-bpe": _WORDS % "{1,3}",
}


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt as the model reads it.

    Attributes:
        ids: Numbers of its tokens.
        texts: The tokens themselves.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelTokenizer:
    """A tokenizer and where it comes from.

    Attributes:
        source: File, and how it was read.
        sha256: Digest of the file, or of what was taken of it.
        library: The tokenizer of the library.
    """

    source: str
    sha256: str
    library: Tokenizer

    def encode(self, text: str) -> Tokens:
        """Tokens of a text, with what the tokenizer puts before and after it.

        Raises:
            InputError: The library cannot encode it.
        """
        try:
            found = self.library.encode(text)
        except Exception as error:  # noqa: BLE001 - the library raises plain Exception
            raise InputError(f"the tokenizer fails: {error}", subject=self.source) from None
        return Tokens(tuple(found.ids), tuple(found.tokens))


def tokenizer_of_store(store: Store, paths: Mapping[str, object]) -> ModelTokenizer | None:
    """The `tokenizer.json` of a model; None if it has none.

    Raises:
        InputError: It is malformed or too large.
        StoreError: It cannot be read.
    """
    if FILE_NAME not in paths:
        return None
    return tokenizer_from(read_small(store, FILE_NAME, MAX_TOKENIZER_BYTES), source=FILE_NAME)


def tokenizer_from(raw: bytes, *, source: str) -> ModelTokenizer:
    """A tokenizer from the bytes of a `tokenizer.json`.

    Raises:
        InputError: It is malformed.
        UsageError: The library is not installed.
    """
    tokenizer_class = _library().Tokenizer
    try:
        found = tokenizer_class.from_buffer(raw)
        # Files say how a batch is cut to length and padded; one prompt alone is neither.
        found.no_truncation()
        found.no_padding()
    except Exception as error:  # noqa: BLE001 - the library raises plain Exception
        raise InputError(f"is no tokenizer: {error}", subject=source) from None
    return ModelTokenizer(source, hashlib.sha256(raw).hexdigest(), found)


def tokenizer_of_gguf(store: Store, header: GgufHeader) -> ModelTokenizer:
    """The tokenizer that a GGUF file describes: byte-level BPE with a known way to cut text.

    Raises:
        UsageError: It is of another kind; `--tokenizer` names a file instead. Or the library is
            not installed.
        InputError: It is malformed.
    """
    hint = "name the model's tokenizer.json with --tokenizer"
    kind, cut = header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")
    if kind != "gpt2" or cut not in _PRE:
        raise UsageError(
            f"the tokenizer of the file, {quoted(kind or 'none')} with {quoted(cut or 'none')}, is "
            "not one that is rebuilt",
            subject=header.file,
            hint=hint,
        )
    with store.open(header.file) as blob:
        arrays = read_arrays(
            blob.read_at, header.size, file=header.file, keys=(_TOKENS, _MERGES, _KINDS)
        )
    tokens, merges = _strings(arrays.get(_TOKENS)), _strings(arrays.get(_MERGES))
    kinds = arrays.get(_KINDS, [])
    if not tokens or not merges:
        raise InputError("no vocabulary with merges in it", subject=header.file, hint=hint)
    _library()  # a library that is missing says nothing of the file
    try:
        library = _byte_level_bpe(tokens, merges, kinds, _PRE[cut])
        _add_start(library, header, tokens)
    except Exception as error:  # noqa: BLE001 - the library raises plain Exception
        raise InputError(f"is no tokenizer: {error}", subject=header.file) from None
    digest = hashlib.sha256(json.dumps([cut, tokens, merges, kinds]).encode()).hexdigest()
    return ModelTokenizer(f"vocabulary of {header.file}", digest, library)


def _strings(values: Sequence[object] | None) -> list[str]:
    return [one for one in values or () if isinstance(one, str)]


def _byte_level_bpe(
    tokens: Sequence[str], merges: Sequence[str], kinds: Sequence[object], cut: str | None
) -> Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    pairs = []
    for merge in merges:
        left, _, right = merge.partition(" ")
        pairs.append((left, right))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    if cut is None:  # SmolLM: every digit alone, then as GPT-2
        steps: list[pre_tokenizers.PreTokenizer] = [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    else:
        steps = [
            pre_tokenizers.Split(Regex(cut), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    for special, wanted in ((True, _CONTROL), (False, _USER_DEFINED)):
        marked = [t for t, kind in zip(tokens, kinds, strict=False) if kind == wanted]
        tokenizer.add_tokens([AddedToken(one, special=special, normalized=False) for one in marked])
    return tokenizer


def _add_start(library: Tokenizer, header: GgufHeader, tokens: Sequence[str]) -> None:
    number = header.integer("tokenizer.ggml.bos_token_id")
    wanted = header.metadata.get("tokenizer.ggml.add_bos_token")
    # Where the key is missing, llama.cpp decides by `pre`: of those read here Llama 3 has it.
    if wanted is None:
        wanted = header.text("tokenizer.ggml.pre") == "llama-bpe"
    if wanted is not True or number is None or not 0 <= number < len(tokens):
        return
    from tokenizers import processors

    start = tokens[number]
    library.post_processor = processors.TemplateProcessing(
        single=[start, "$A"], special_tokens=[(start, number)]
    )


def _library() -> ModuleType:
    try:
        import tokenizers
    except ImportError:
        raise UsageError("attention entropy needs the library tokenizers", hint=EXTRA) from None
    return tokenizers
