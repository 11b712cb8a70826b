"""Our GGUF reader beside the `gguf` package, on a real file, on made files and on broken ones."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tracemalloc
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
from gguf.constants import GGML_QUANT_SIZES, GGUFValueType
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import FormatError, GgufError
from r1prov.family.gguf_skeleton import Pair, emit_gguf, place_tensors
from r1prov.formats.gguf import GgufHeader, read_gguf
from r1prov.formats.gguf_cursor import LongText
from r1prov.formats.gguf_metadata import ArraySummary
from r1prov.formats.gguf_semantics import check_semantics
from r1prov.formats.gguf_types import (
    FILE_TYPES,
    REMOVED_TENSOR_TYPES,
    SCALARS,
    TENSOR_TYPES,
    VALUE_TYPES,
)

Read = Callable[[bytes], GgufHeader]
MIB = 1024 * 1024
REAL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_the_tables_are_those_of_the_package() -> None:
    assert {k: v.name for k, v in TENSOR_TYPES.items()} == {
        int(kind): kind.name for kind in GGMLQuantizationType
    }
    sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    assert {k: (v.block, v.size) for k, v in TENSOR_TYPES.items()} == sizes
    assert {int(t): t.name for t in GGUFValueType} == VALUE_TYPES
    assert {
        int(t): t.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for t in LlamaFileType
        if t is not LlamaFileType.GUESSED
    } == FILE_TYPES
    assert not TENSOR_TYPES.keys() & REMOVED_TENSOR_TYPES.keys()


def read_path(path: Path) -> GgufHeader:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        return read_gguf(lambda at, n: os.pread(descriptor, n, at), size, file=path.name)
    finally:
        os.close(descriptor)


def assert_same(header: GgufHeader, reference: GGUFReader) -> None:
    fields = {k: v for k, v in reference.fields.items() if not k.startswith("GGUF.")}
    assert list(header.metadata) == list(fields)
    for key, value in header.metadata.items():
        field = fields[key]
        if isinstance(value, ArraySummary):
            assert field.types[0] is GGUFValueType.ARRAY
            assert value.length == len(field.data)
            # The package names no type for an array without elements.
            assert not field.data or value.type == field.types[1].name
        elif isinstance(value, LongText):
            assert value.sha256 == hashlib.sha256(field.contents().encode()).hexdigest()
        elif isinstance(value, float):
            assert value == float(field.contents())
        else:
            assert (value, type(value)) == (field.contents(), type(field.contents()))
    assert header.alignment == reference.alignment
    assert header.data_offset == reference.data_offset
    found = [(t.name, t.dtype, list(t.shape), t.begin, t.end) for t in header.tensors]
    assert found == [
        (
            tensor.name,
            tensor.tensor_type.name,
            [int(d) for d in reversed(tensor.shape)],
            tensor.data_offset - reference.data_offset,
            tensor.data_offset - reference.data_offset + tensor.n_bytes,
        )
        for tensor in reference.tensors
    ]


def test_real_file(smollm2: Path) -> None:
    with smollm2.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == REAL_SHA256
    header = read_path(smollm2)
    assert header.size == 98_362_432
    assert (header.version, header.alignment, len(header.tensors)) == (3, 32, 272)
    assert header.architecture == "llama"
    assert header.vocabulary == 49_152
    assert header.parameters == 134_515_008
    assert header.quantization.file_type == "Q4_1"
    assert {k: v.tensors for k, v in header.quantization.types.items()} == {
        "Q4_1": 210,
        "Q8_0": 1,
        "F32": 61,
    }
    assert header.warnings == ()
    assert check_semantics(header) == ()
    assert_same(header, GGUFReader(smollm2))


def test_real_file_cut_or_longer(smollm2: Path) -> None:
    descriptor = os.open(smollm2, os.O_RDONLY)
    try:
        for size, rule in ((98_362_431, "data-truncated"), (98_362_433, "trailing-bytes")):
            with pytest.raises(GgufError) as caught:
                read_gguf(lambda at, n: os.pread(descriptor, n, at), size, file="m.gguf")
            assert caught.value.rule == rule
    finally:
        os.close(descriptor)


SCALAR = {
    "UINT8": st.integers(0, 2**8 - 1),
    "INT16": st.integers(-(2**15), 2**15 - 1),
    "UINT32": st.integers(0, 2**32 - 1),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "UINT64": st.integers(0, 2**64 - 1),
    "FLOAT32": st.floats(width=32, allow_nan=False),
    "FLOAT64": st.floats(allow_nan=False),
    "BOOL": st.booleans(),
    "STRING": st.text(st.characters(exclude_categories=["Cs"])),
}
KEY = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=20).map("x.".__add__)
PAIR: st.SearchStrategy[Pair] = st.sampled_from(sorted(SCALAR)).flatmap(
    lambda kind: st.tuples(
        KEY,
        st.just(kind),
        SCALAR[kind] | st.lists(SCALAR[kind], max_size=5),
    )
)
TENSOR = st.tuples(
    # The two names that are steps of a path are refused, whatever the package says.
    st.text("abcdefghijklmnopqrstuvwxyz0123456789_.", min_size=1, max_size=63).filter(
        lambda name: name not in {".", ".."}
    ),
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
    st.sampled_from(sorted(kind.name for kind in TENSOR_TYPES.values())),
)
BLOCKS = {kind.name: kind.block for kind in TENSOR_TYPES.values()}


@given(
    st.lists(PAIR, max_size=8, unique_by=lambda pair: pair[0]),
    st.lists(TENSOR, max_size=6, unique_by=lambda tensor: tensor[0]),
    st.sampled_from([None, 8, 32, 256]),
)
def test_what_is_written_is_read_back_and_the_package_agrees(
    tmp_path_factory, pairs: list[Pair], tensors, alignment: int | None
) -> None:
    # The innermost dimension is a whole number of blocks; a scalar has none.
    shaped = [
        (name, (*shape[:-1], shape[-1] * BLOCKS[kind]) if shape else (), kind if shape else "F32")
        for name, shape, kind in tensors
    ]
    head: list[Pair] = [("general.architecture", "STRING", "llama")]
    if alignment is not None:
        head.append(("general.alignment", "UINT32", alignment))
    placed = place_tensors(shaped, file="m.gguf", alignment=alignment or 32)
    raw = emit_gguf([*head, *pairs], placed, alignment=alignment or 32)
    raw += bytes(placed[-1].end if placed else 0)
    header = read_gguf(lambda at, n: raw[at : at + n], len(raw), file="m.gguf")
    assert header.tensors == placed
    for key, kind, value in pairs:
        if isinstance(value, list):
            assert header.metadata[key] == ArraySummary(kind, len(value))
        elif not isinstance(header.metadata[key], LongText):
            assert header.metadata[key] == value
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    path.write_bytes(raw)
    assert_same(header, GGUFReader(path))


def test_files_of_the_packages_own_writer(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(2)
    writer.add_custom_alignment(64)
    writer.add_token_list(["a", "b", "<0x0A>"])
    writer.add_token_scores([0.0, 1.0, 2.0])
    writer.add_chat_template(
        [{"name": "default", "template": "x"}, {"name": "tool", "template": "y"}]
    )
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((3, 5), np.float32))
    writer.add_tensor("blk.0.attn_k.weight", np.zeros((7,), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_path(path)
    assert_same(header, GGUFReader(path))
    assert check_semantics(header) == ()
    assert header.tensors[0].shape == (3, 5)
    assert sorted(t.key for t in header.templates) == [
        "tokenizer.chat_template",
        "tokenizer.chat_template.tool",
    ]


def reference_accepts(path: Path, raw: bytes) -> bool:
    path.write_bytes(raw)
    try:
        with redirect_stderr(io.StringIO()):
            GGUFReader(path)
    except Exception:  # noqa: BLE001 - it raises whatever numpy does
        return False
    return True


def sample() -> bytes:
    """A file with a value of every type, several arrays and tensors of several types."""
    values: list[Pair] = [("general.architecture", "STRING", "llama")]
    for number, name in VALUE_TYPES.items():
        if number in SCALARS:
            values += [(f"k.{name.lower()}", name, 1), (f"a.{name.lower()}", name, [0, 1, 0])]
    values += [
        ("general.alignment", "UINT32", 32),
        ("general.file_type", "UINT32", 15),
        ("tokenizer.ggml.tokens", "STRING", ["a", "bc", "<0x0A>", "é"]),
        ("tokenizer.chat_template", "STRING", "{{ x }}"),
    ]
    shapes = [
        ("token_embd.weight", (4, 256), "Q6_K"),
        ("blk.0.attn_norm.weight", (3,), "F32"),
        ("blk.0.attn_q.weight", (2, 256), "Q4_K"),
        ("blk.0.ffn_gate_exps.weight", (2, 2, 32), "Q8_0"),
    ]
    tensors = place_tensors(shapes, file="m.gguf", alignment=32)
    return emit_gguf(values, tensors, alignment=32) + bytes(tensors[-1].end)


@pytest.mark.parametrize("seed", range(4))
def test_only_format_errors_come_out_and_memory_stays_bounded(read_g: Read, seed: int) -> None:
    raw = sample()
    read_g(raw)
    header_bytes = raw.index(b"blk.0.ffn_gate_exps.weight") + 80
    generator = random.Random(seed)
    numbers = [0, 1, 2, 9, 255, 2**16, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
    rules: set[str] = set()
    tracemalloc.start()
    for _ in range(4_000):
        broken = bytearray(raw)
        for _ in range(generator.randint(1, 3)):
            at = generator.randrange(min(header_bytes, len(broken)))
            match generator.randrange(6):
                case 0:
                    broken[at] ^= 1 << generator.randrange(8)
                case 1:
                    value = generator.choice(numbers)
                    broken[at : at + 8] = value.to_bytes(8, "little")
                case 2:
                    value = generator.choice(numbers) & 0xFFFFFFFF
                    broken[at : at + 4] = value.to_bytes(4, "little")
                case 3:
                    del broken[at : at + generator.randint(1, 16)]
                case 4:
                    broken[at:at] = generator.randbytes(generator.randint(1, 16))
                case 5:
                    del broken[generator.randrange(len(broken)) + 1 :]
        try:
            read_g(bytes(broken))
        except FormatError as error:
            rules.add(error.rule)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * MIB
    assert len(rules) > 12


def test_the_package_takes_whatever_we_take(read_g: Read, tmp_path: Path) -> None:
    """Flip every byte of a header to several values: what we accept, the package accepts too.

    The other way there are many differences, which are the point of this reader.
    """
    raw = sample()
    path = tmp_path / "m.gguf"
    ours = theirs = 0
    generator = random.Random(7)
    for at in generator.sample(
        range(raw.index(b"token_embd"), raw.index(b"ffn_gate_exps") + 60), 150
    ):
        for value in (0, 0xFF, raw[at] ^ 1):
            broken = raw[:at] + bytes([value]) + raw[at + 1 :]
            try:
                read_g(broken)
            except GgufError:
                theirs += reference_accepts(path, broken)
                continue
            ours += 1
            assert reference_accepts(path, broken), (at, value)
    assert ours > 20
    assert theirs > 20


# What the package takes and we refuse: each is a rule of `docs/gguf.md`.
def different() -> dict[str, tuple[bytes, str]]:
    def make(values: list[Pair], shapes, data: int | None = None, alignment: int = 32) -> bytes:
        placed = place_tensors(shapes, file="m.gguf", alignment=alignment)
        raw = emit_gguf(values, placed, alignment=alignment)
        return raw + bytes(placed[-1].end if data is None else data)

    arch: Pair = ("general.architecture", "STRING", "llama")
    one = [("a", (8,), "F32")]
    two = [("a", (8,), "F32"), ("b", (8,), "F32")]
    base = make([arch], two)
    at = base.index(b"\x01\0\0\0\0\0\0\0b") + 8 + 1 + 4 + 8 + 4  # offset of `b`
    return {
        "trailing bytes": (make([arch], one, 64), "trailing-bytes"),
        "no architecture": (make([("x", "UINT8", 1)], one), "gguf-architecture"),
        "key in upper case": (make([arch, ("X", "UINT8", 1)], one), "gguf-key"),
        "alignment 1": (
            make([arch, ("general.alignment", "UINT32", 1)], one, alignment=1),
            "gguf-alignment",
        ),
        "overlap": (base[:at] + bytes(8) + base[at + 8 :], "tensor-overlap"),
        "hole": (
            base[:at] + (64).to_bytes(8, "little") + base[at + 8 :] + bytes(32),
            "tensor-hole",
        ),
        "unaligned": (base[:at] + b"\x21" + base[at + 1 :] + bytes(1), "tensor-offset"),
        "five dimensions": (make([arch], [("a", (1, 1, 1, 1, 8), "F32")]), "tensor-rank"),
        "a name of 64 bytes": (make([arch], [("a" * 64, (8,), "F32")]), "tensor-name"),
        "padding": (make([arch], one)[:-33] + b"\1" + bytes(32), "gguf-padding"),
    }


@pytest.mark.parametrize("case", different())
def test_documented_differences(read_g: Read, tmp_path: Path, case: str) -> None:
    raw, rule = different()[case]
    with pytest.raises(GgufError) as caught:
        read_g(raw)
    assert caught.value.rule == rule
    assert reference_accepts(tmp_path / "m.gguf", raw)
