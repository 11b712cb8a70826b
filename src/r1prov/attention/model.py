"""A local model whose attention is to be measured: found to fit, read once, verified, loaded.

Weights come from safetensors or GGUF files and nothing else, read into memory that nobody can
change (`stores.captured`); the verification and the tensors are of those same bytes. Of
`config.json` only known keys of known architectures are used, so no code of a model ever runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.attention.config import check_shapes, model_type
from r1prov.attention.describe import GGUF_SOURCE, describe, gguf_model
from r1prov.attention.gguf_weights import (
    ROPE_FACTORS,
    dequantized,
    gguf_config,
    renamed,
    unpermuted,
)
from r1prov.attention.tokenizer import (
    ModelTokenizer,
    tokenizer_from,
    tokenizer_of_gguf,
    tokenizer_of_store,
)
from r1prov.errors import (
    ChangedWhileReading,
    InputError,
    LimitExceeded,
    UsageError,
)
from r1prov.limits import (
    ATTENTION_BLOCK_ROWS,
    MAX_ATTENTION_PROMPT_TOKENS,
    MAX_TOKENIZER_BYTES,
)
from r1prov.stores.captured import CapturedStore, available_memory
from r1prov.stores.headers import gguf_paths, safetensors_paths
from r1prov.stores.hub_cache import find_snapshot
from r1prov.stores.local import LocalStore
from r1prov.stores.locate import open_store
from r1prov.text import human_bytes, plural, quoted
from r1prov.trust.directories import read_file
from r1prov.verify.evidence import CONFIG_NAME, gather
from r1prov.verify.findings import Report, Verdict
from r1prov.verify.load import is_remote
from r1prov.verify.local import load_authorities
from r1prov.verify.pipeline import verify
from r1prov.verify.policy import Policy
from r1prov.verify.verified import SMALL_FILE_BYTES, not_passed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from r1prov.family.attention import AttentionShape
    from r1prov.family.gguf_model import GgufModel
    from r1prov.formats.inventory import Tensor
    from r1prov.verify.evidence import Evidence

_FLOAT: Final = 4
_DOUBLE: Final = 8
# torch and transformers take this much before there is a model.
_LIBRARIES: Final = 700_000_000
# States of a token in the widest place of a layer, in hidden sizes: inner layers have 2.7 to 5.3.
_WIDEST: Final = 6
# Arrays of one block of scores that exist at once: scores, masked, weights, and their products.
_COPIES: Final = 5
_NO_FLOAT: Final = frozenset({"I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL"})


@dataclass(frozen=True, slots=True)
class Memory:
    """What measuring a model takes, in bytes.

    Attributes:
        files: Copies of the weight files, which are what is verified.
        weights: The weights in single precision.
        work: Scores of one block of rows, states, and the libraries themselves.
        free: What there is; None where the system does not say.
    """

    files: int
    weights: int
    work: int
    free: int | None

    @property
    def needed(self) -> int:
        """All of it together."""
        return self.files + self.weights + self.work


@dataclass(frozen=True, slots=True)
class Verification:
    """What is known of the bytes that were measured.

    Attributes:
        verified: Whether they passed against a signed manifest.
        text: Against which, or why not.
    """

    verified: bool
    text: str


class LocalModel:
    """A model on this machine, headers read and nothing else yet.

    Args:
        path: Directory or weight file.

    Attributes:
        location: Where it is.
        shape: Its attention, from headers and config.
        config: What it is built with, keys as in `config.json`.
        kind: Its model type.
        names: Name of each tensor in its files, by the name that transformers has for it.
        tensors: The tensors of its files by name.

    `config`, `kind` and `names` are there after `prepare`.

    Raises:
        UsageError: It is not on this machine.
        InputError: Its headers are malformed.
        StoreError: It cannot be read.
    """

    def __init__(self, path: str) -> None:
        store = None if is_remote(path) else open_store(path)
        if not isinstance(store, LocalStore):
            raise UsageError(
                "attention entropy is measured of models on this machine",
                subject=os.fspath(path),
                hint="download the model; without --prompts headers alone are read, from anywhere",
            )
        self.location = path
        self._root = find_snapshot(path) or path
        self.config: Mapping[str, object] = {}
        self.names: dict[str, str] = {}
        self.kind = ""
        self._take(gather(store))

    def _take(self, evidence: Evidence) -> None:
        """Keep what was read of headers and config; called again for the copy that is measured."""
        for file, error in evidence.header_errors.items():
            error.subject = error.subject or file
            raise error
        self._evidence = evidence
        self.shape: AttentionShape = describe(evidence)
        if evidence.headers:
            self._gguf: GgufModel | None = None
            inventory = evidence.inventory(evidence.loadable_weights())
        else:
            self._gguf = gguf_model(evidence)
            inventory = self._gguf.inventory
        if inventory.duplicates:
            raise InputError(
                f"tensor {quoted(inventory.duplicates[0].name)} stands twice", subject=self.location
            )
        self.tensors: dict[str, Tensor] = {tensor.name: tensor for tensor in inventory}

    def prepare(self) -> None:
        """Find out what to build, and hold it against every tensor.

        Raises:
            UsageError: A model of a kind that is not measured, or without config.
            InputError: The config is malformed, or not that of these tensors.
        """
        try:
            self._prepare()
        except InputError as error:
            if self._gguf is not None and error.subject == CONFIG_NAME:
                error.subject = f"{self.location}: {GGUF_SOURCE}"
            raise

    def _prepare(self) -> None:
        if self._gguf is not None:
            self.config = gguf_config(self._gguf)
            self.names = renamed(self.config, self._gguf)
        else:
            self.config = self._config_json()
            self.names = {name: name for name in self.tensors}
        self.kind = model_type(self.config, subject=self.location)
        check_shapes(
            self.config,
            {name: self.tensors[stored].shape for name, stored in self.names.items()},
            subject=self.location,
        )
        if self.shape.contradictions:
            raise InputError(self.shape.contradictions[0], subject=self.location)

    def _config_json(self) -> Mapping[str, object]:
        evidence = self._evidence
        if evidence.config is not None:
            return evidence.config
        found = evidence.json_files.get(CONFIG_NAME)
        if found is not None and found.error is not None:
            found.error.subject = found.error.subject or CONFIG_NAME
            raise found.error
        raise UsageError(
            f"there is no {CONFIG_NAME}, and shapes alone do not say how attention is computed",
            subject=self.location,
        )

    @property
    def names_code(self) -> bool:
        """Whether the config names code of the model's own, which is not run."""
        return self.config.get("auto_map") is not None

    @property
    def most_tokens(self) -> int:
        """Tokens that a prompt may have."""
        most = self.config.get("max_position_embeddings")
        return min(
            most if isinstance(most, int) else MAX_ATTENTION_PROMPT_TOKENS,
            MAX_ATTENTION_PROMPT_TOKENS,
        )

    def memory(self, tokens: int) -> Memory:
        """What measuring prompts of at most so many tokens takes, from headers alone."""
        evidence = self._evidence
        kept = [e.size for p, e in evidence.files.items() if _kept(p, e.size)]
        elements = sum(tensor_elements(tensor) for tensor in self.tensors.values())
        heads = self.shape.heads or 1
        wide = max((self.shape.figure("hidden_size") or 0) * _WIDEST, 1)
        block = _COPIES * heads * min(tokens, ATTENTION_BLOCK_ROWS) * tokens * _DOUBLE
        states = 8 * tokens * wide * _FLOAT
        work = _LIBRARIES + block + states
        return Memory(sum(kept), elements * _FLOAT, work, available_memory())

    def check_room(self, tokens: int) -> Memory:
        """Refuse before anything is read, unless there is room.

        Raises:
            LimitExceeded: There is not; the message has the numbers.
        """
        room = self.memory(tokens)
        if room.free is not None and room.needed > room.free:
            count = plural(sum(tensor_elements(t) for t in self.tensors.values()), "weight")
            raise LimitExceeded(
                f"does not fit: {count} take {human_bytes(room.weights)} in single precision, the "
                f"copy that is verified {human_bytes(room.files)}, libraries and scores "
                f"{human_bytes(room.work)}; {human_bytes(room.free)} are free",
                subject=self.location,
                hint="without --prompts heads and layers are read from headers alone",
            )
        return room

    def capture(self, *, manifest: str | None, keys: Path | None) -> Verification:
        """Copy the files into memory and verify the copy; from now on it is what is read.

        Args:
            manifest: Manifest file or name; None identifies the model.
            keys: Trust only the keys of this directory.

        Raises:
            VerificationFailed: A manifest was named and the model does not pass against it.
            R1ProvError: It could not be read or decided.
        """
        store = CapturedStore(self._root, keep=_kept)
        store.check_room(None)
        report = verify(store, load_authorities(keys), Policy(), manifest=manifest)
        if manifest is not None and report.verdict is not Verdict.PASS:
            raise not_passed(report)
        self._take(gather(store))
        self.prepare()
        self._store = store
        return _verification(report)

    def release(self) -> None:
        """Let go of the copies; nothing can be read any more."""
        del self._store, self._evidence

    def tokenizer(self, file: Path | None) -> ModelTokenizer:
        """The tokenizer: of a file, of the model's `tokenizer.json`, or of the GGUF file.

        Raises:
            UsageError: There is none.
            InputError: It is malformed.
        """
        if file is not None:
            return tokenizer_from(read_file(file, MAX_TOKENIZER_BYTES), source=str(file))
        evidence = self._evidence
        found = tokenizer_of_store(evidence.store, evidence.files)
        if found is not None:
            return found
        if self._gguf is not None:
            return tokenizer_of_gguf(evidence.store, self._gguf.first)
        raise UsageError(
            "there is no tokenizer.json beside the weights",
            subject=self.location,
            hint="name the model's tokenizer.json with --tokenizer",
        )

    def weights(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Each tensor in single precision, by the name that transformers has for it.

        Raises:
            UsageError: A type that cannot be read, or a package is missing.
        """
        for name, stored in self.names.items():
            tensor = self.tensors[stored]
            if tensor.dtype in _NO_FLOAT:
                continue
            yield name, self._read(name, tensor)

    def rope_factors(self) -> NDArray[np.float32] | None:
        """Divisors of the rotation frequencies, if the GGUF file has some (Llama 3.1)."""
        tensor = self.tensors.get(ROPE_FACTORS) if self._gguf is not None else None
        return (
            None
            if tensor is None
            else dequantized(self._bytes(tensor), tensor.dtype, tensor.shape, name=tensor.name)
        )

    def _read(self, name: str, tensor: Tensor) -> NDArray[np.float32]:
        import numpy as np

        data = self._bytes(tensor)
        if self._gguf is None:
            from r1prov.formats.arrays import as_torch

            found = as_torch(data, tensor.dtype, tensor.shape).float().numpy()
            return np.ascontiguousarray(found)
        values = dequantized(data, tensor.dtype, tensor.shape, name=tensor.name)
        if self.kind == "llama":
            for part, key in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
                heads = self.config[key]
                if f".{part}." in name and isinstance(heads, int):
                    return np.ascontiguousarray(unpermuted(values, heads))
        return values

    def _bytes(self, tensor: Tensor) -> memoryview:
        data = self._store.captured(tensor.file)
        if data is None:
            raise ChangedWhileReading("was not there when it was read", subject=tensor.file)
        if self._gguf is None:
            begin = 8 + self._evidence.headers[tensor.file].header_bytes
        else:
            begin = self._evidence.gguf[tensor.file].data_offset
        return data[begin + tensor.begin : begin + tensor.end]


def tensor_elements(tensor: Tensor) -> int:
    """Elements of a tensor."""
    count = 1
    for one in tensor.shape:
        count *= one
    return count


def _kept(path: str, size: int) -> bool:
    weights = safetensors_paths([path]) or gguf_paths([path])
    return bool(weights) or size <= SMALL_FILE_BYTES


def _verification(report: Report) -> Verification:
    used = report.manifest
    if report.verdict is Verdict.PASS and used is not None:
        return Verification(verified=True, text=f"{report.headline}, manifest {used.location}")
    return Verification(verified=False, text=f"{report.verdict.value}: {report.headline}")
