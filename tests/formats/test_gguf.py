"""Every attack on GGUF, each with the rule that must answer it."""

from __future__ import annotations

import hashlib
import os
import struct
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from r1prov.errors import GgufError, StoreError
from r1prov.formats.gguf import GgufHeader, Split, read_gguf
from r1prov.formats.gguf_cursor import LongText
from r1prov.formats.gguf_metadata import ArraySummary
from r1prov.formats.gguf_semantics import check_semantics
from r1prov.formats.inventory import Inventory
from r1prov.limits import MAX_GGUF_ARRAY_STRINGS, MAX_GGUF_STRING_BYTES
from r1prov.text import printable
from r1prov.verify.rules import rule as table_rule

Read = Callable[[bytes], GgufHeader]
MIB = 1024 * 1024

U8, U16, U32, I32, F32, BOOL, STR, ARR, U64, F64 = 0, 2, 4, 5, 6, 7, 8, 9, 10, 12


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def string(key: str, value: str | bytes) -> bytes:
    return pair(key, STR, text(value))


def u32(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def array(key: str, kind: int, count: int, body: bytes) -> bytes:
    return pair(key, ARR, struct.pack("<IQ", kind, count) + body)


def strings(key: str, values: Sequence[str | bytes]) -> bytes:
    return array(key, STR, len(values), b"".join(map(text, values)))


def tensor(name: str | bytes, dims: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    head = text(name) + struct.pack("<I", len(dims))
    return head + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, offset)


ARCH = string("general.architecture", "llama")
A = tensor("a", [8])  # 32 bytes
B = tensor("b", [8], offset=32)


def build(
    pairs: Sequence[bytes] = (ARCH,),
    tensors: Sequence[bytes] = (A,),
    data: bytes = bytes(32),
    *,
    version: int = 3,
    n_tensors: int | None = None,
    n_pairs: int | None = None,
    magic: bytes = b"GGUF",
    alignment: int = 32,
    padding: bytes = b"\0",
) -> bytes:
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(pairs) if n_pairs is None else n_pairs,
    )
    head += b"".join(pairs) + b"".join(tensors)
    return head + padding * (-len(head) % alignment) + data


ATTACKS: dict[str, tuple[bytes, str]] = {
    "B1 only the magic": (b"GGUF", "header-truncated"),
    "empty": (b"", "header-truncated"),
    "three bytes": (b"GGU", "header-truncated"),
    "another magic": (build(magic=b"GGML"), "gguf-magic"),
    "another file": (b"PK\x03\x04" + bytes(60), "gguf-magic"),
    "short other file": (b"hello", "gguf-magic"),
    "B2 version 0": (build(version=0), "gguf-version"),
    "B2 version 1": (build(version=1), "gguf-version"),
    "B2 version 4": (build(version=4), "gguf-version"),
    "big-endian": (build(version=0x03000000), "gguf-version"),
    "B4 pairs 2^64-1": (build(n_pairs=2**64 - 1), "gguf-count"),
    "B4 tensors 2^64-1": (build(n_tensors=2**64 - 1), "gguf-count"),
    "B4 tensors 2^63": (build(n_tensors=2**63), "gguf-count"),
    "B4 one tensor more": (build(n_tensors=2), "gguf-count"),
    "B4 one pair more": (build(n_pairs=2), "gguf-count"),
    "B4 both fill the file": (build(n_pairs=5, n_tensors=4), "gguf-count"),
    "B5 string 2^64-1": (
        build([ARCH, pair("k", STR, struct.pack("<Q", 2**64 - 1))]),
        "gguf-string",
    ),
    "B5 string 2^40": (build([ARCH, pair("k", STR, struct.pack("<Q", 2**40))]), "gguf-string"),
    "B5 key 2^64-1": (build([struct.pack("<Q", 2**64 - 1) + bytes(40)]), "gguf-string"),
    "string beyond the end by one": (
        build([ARCH, pair("k", STR, struct.pack("<Q", 33))], [], b"x" * 32, alignment=1),
        "gguf-string",
    ),
    "string not UTF-8": (build([ARCH, string("k", b"\xff")]), "gguf-string"),
    "array string not UTF-8": (build([ARCH, strings("k", [b"a", b"\xc3"])]), "gguf-string"),
    "long string not UTF-8": (build([ARCH, string("k", b"a" * 5000 + b"\xc3")]), "gguf-string"),
    "array string 2^64-1": (
        build([ARCH, array("k", STR, 1, struct.pack("<Q", 2**64 - 1))]),
        "gguf-string",
    ),
    "B6 array of 2^61 bytes": (build([ARCH, array("k", U8, 2**61, b"")]), "gguf-array"),
    "B7 array of 2^62 strings": (build([ARCH, array("k", STR, 2**62, b"")]), "gguf-array"),
    "B7 nested arrays": (
        build([ARCH, array("k", ARR, 1, struct.pack("<IQ", ARR, 1) * 500)]),
        "gguf-array",
    ),
    "type 13": (build([ARCH, pair("k", 13, bytes(8))]), "gguf-type"),
    "array of type 77": (build([ARCH, array("k", 77, 1, bytes(8))]), "gguf-type"),
    "bool 2": (build([ARCH, pair("k", BOOL, b"\2")]), "gguf-value"),
    "B9 duplicate key": (
        build([ARCH, string("general.architecture", "deepseek2")]),
        "gguf-duplicate",
    ),
    "B9 duplicate tensor": (
        build(tensors=[A, tensor("a", [8], offset=32)], data=bytes(64)),
        "gguf-duplicate",
    ),
    "empty key": (build([ARCH, string("", "v")]), "gguf-key"),
    "key with a space": (build([ARCH, string("a b", "v")]), "gguf-key"),
    "key in upper case": (build([ARCH, string("General.name", "v")]), "gguf-key"),
    "key with an escape": (build([ARCH, string("\x1b[2J", "v")]), "gguf-key"),
    "key not UTF-8": (build([ARCH, pair(b"\xff", U8, b"\0")]), "gguf-string"),
    "B10 alignment 0": (build([ARCH, u32("general.alignment", 0)]), "gguf-alignment"),
    "B10 alignment 3": (build([ARCH, u32("general.alignment", 3)]), "gguf-alignment"),
    "B10 alignment 4": (build([ARCH, u32("general.alignment", 4)]), "gguf-alignment"),
    "B10 alignment 2^31": (build([ARCH, u32("general.alignment", 2**31)]), "gguf-alignment"),
    "B10 alignment a string": (build([ARCH, string("general.alignment", "32")]), "gguf-alignment"),
    "B10 alignment a bool": (
        build([ARCH, pair("general.alignment", BOOL, b"\1")]),
        "gguf-alignment",
    ),
    "B10 alignment a u64": (
        build([ARCH, pair("general.alignment", U64, struct.pack("<Q", 32))]),
        "gguf-alignment",
    ),
    "B11 five dimensions": (build(tensors=[tensor("a", [1] * 5)]), "tensor-rank"),
    "B11 2^32-1 dimensions": (
        build(tensors=[text("a") + struct.pack("<I", 2**32 - 1) + bytes(40)]),
        "tensor-rank",
    ),
    "B12 2^33 x 2^33": (build(tensors=[tensor("a", [2**33, 2**33])]), "tensor-overflow"),
    "B12 dimension 2^63": (build(tensors=[tensor("a", [2**63])]), "tensor-overflow"),
    "B12 bytes overflow": (build(tensors=[tensor("a", [2**62])]), "tensor-overflow"),
    "B12 behind a zero": (build(tensors=[tensor("a", [0, 2**63])]), "tensor-overflow"),
    "type removed": (build(tensors=[tensor("a", [32], 4)]), "dtype-unknown"),
    "type 2^32-1": (build(tensors=[tensor("a", [32], 2**32 - 1)]), "dtype-unknown"),
    "type of a fork": (build(tensors=[tensor("a", [32], 112)]), "dtype-unknown"),
    "part of a block": (build(tensors=[tensor("a", [31], 2)]), "tensor-misaligned"),
    "scalar of blocks": (build(tensors=[tensor("a", [], 2)]), "tensor-misaligned"),
    "B14 offset 1": (build(tensors=[tensor("a", [8], offset=1)]), "tensor-offset"),
    "B15 offset 2^63": (build(tensors=[tensor("a", [8], offset=2**63)]), "tensor-offset"),
    "B15 offset past the end": (
        build(tensors=[A, tensor("b", [8], offset=2**40)], data=bytes(64)),
        "tensor-offset",
    ),
    "B16 two on one offset": (
        build(tensors=[A, tensor("b", [8])], data=bytes(64)),
        "tensor-overlap",
    ),
    "B16 hole": (
        build(tensors=[A, tensor("b", [8], offset=32 + 4096)], data=bytes(64 + 4096)),
        "tensor-hole",
    ),
    "hole at the start": (
        build(tensors=[tensor("a", [8], offset=32)], data=bytes(64)),
        "tensor-hole",
    ),
    "tensors out of order": (
        build(tensors=[tensor("a", [8], offset=32), tensor("b", [8])], data=bytes(64)),
        "tensor-offset",
    ),
    "B16 trailing ZIP": (build(data=bytes(32) + b"PK\x05\x06" + bytes(18)), "trailing-bytes"),
    "one byte after": (build(data=bytes(33)), "trailing-bytes"),
    "padding cut in the middle": (
        build(tensors=[tensor("a", [1])], data=bytes(5)),
        "trailing-bytes",
    ),
    "bytes after no tensor": (build([ARCH], [], bytes(40)), "trailing-bytes"),
    "B17 eight bytes short": (build(data=bytes(24)), "data-truncated"),
    "no data": (build(data=b""), "data-truncated"),
    "B19 no architecture": (build([string("general.name", "x")]), "gguf-architecture"),
    "architecture a number": (build([u32("general.architecture", 1)]), "gguf-architecture"),
    "architecture empty": (build([string("general.architecture", "")]), "gguf-architecture"),
    "padding before the data": (build(padding=b"\1"), "gguf-padding"),
    "padding between tensors": (
        build(tensors=[tensor("a", [1]), B], data=bytes(4) + b"\1" * 28 + bytes(32)),
        "gguf-padding",
    ),
    "padding at the end": (build(tensors=[tensor("a", [1])], data=b"\1" * 32), "gguf-padding"),
    "name of 64 bytes": (build(tensors=[tensor("a" * 64, [8])]), "tensor-name"),
    "name with an escape": (build(tensors=[tensor("\x1b[2J", [8])]), "tensor-name"),
    "name with a NUL": (build(tensors=[tensor("a\0b", [8])]), "tensor-name"),
    "name that walks out": (build(tensors=[tensor("../a", [8])]), "tensor-name"),
    "name not UTF-8": (build(tensors=[tensor(b"\xff", [8])]), "gguf-string"),
    "part 3 of 2": (
        build([ARCH, u32("split.no", 2), u32("split.count", 2)]),
        "gguf-split",
    ),
    "part without a number": (build([ARCH, u32("split.count", 2)]), "gguf-split"),
    "a million parts": (
        build([ARCH, u32("split.no", 0), u32("split.count", 10**6)]),
        "gguf-split",
    ),
    "part number a string": (build([ARCH, string("split.no", "0")]), "gguf-split"),
    "parts below zero": (
        build([ARCH, pair("split.count", I32, struct.pack("<i", -1))]),
        "gguf-split",
    ),
}


@pytest.mark.parametrize(("raw", "rule"), ATTACKS.values(), ids=ATTACKS.keys())
def test_attacks(read_g: Read, raw: bytes, rule: str) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(GgufError) as caught:
            read_g(raw)
        took = time.perf_counter() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    error = caught.value
    assert error.rule == rule
    assert error.subject == "m.gguf"
    assert printable(error.message) == error.message
    assert table_rule(error.rule).name == rule
    assert took < 0.1
    assert peak < 4 * MIB


def test_no_attack_is_refused_for_the_frame_around_it(read_g: Read) -> None:
    header = read_g(build())
    assert [(t.name, t.dtype, t.shape, t.begin, t.end) for t in header.tensors] == [
        ("a", "F32", (8,), 0, 32)
    ]
    assert header.warnings == ()
    assert check_semantics(header) == ()


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        (build(version=0x03000000), "big-endian"),
        (build(version=1), "older"),
        (build(magic=b"FUGG"), "big-endian"),
        (b"version https://git-lfs.github.com/spec/v1\n" + bytes(64), "git lfs pull"),
        (build(tensors=[tensor("a", [32], 33)]), "Q4_0_8_8"),
        (build(tensors=[tensor("a", [32], 112)]), "ik_llama.cpp"),
        (build(data=bytes(32) + b"PK\x05\x06" + bytes(18)), "zip archive"),
        (build(tensors=[A, tensor("b", [8], offset=2**40)], data=bytes(64)), "CVE-2026-7482"),
        (build(n_tensors=2), "count"),
    ],
)
def test_hints(read_g: Read, raw: bytes, hint: str) -> None:
    with pytest.raises(GgufError) as caught:
        read_g(raw)
    assert hint in (caught.value.hint or "")


def test_every_cut_is_refused(read_g: Read) -> None:
    raw = build(
        [ARCH, strings("t", ["ab", "c"]), array("n", I32, 3, bytes(12)), string("s", "x" * 40)],
        [A, B],
        bytes(64),
    )
    read_g(raw)
    for size in range(len(raw)):
        with pytest.raises(GgufError):
            read_g(raw[:size])


def test_values(read_g: Read) -> None:
    pairs = [
        ARCH,
        pair("k.u8", U8, b"\xff"),
        pair("k.i8", 1, b"\xff"),
        pair("k.u64", U64, b"\xff" * 8),
        pair("k.f32", F32, struct.pack("<f", 0.5)),
        pair("k.f64", F64, struct.pack("<d", 0.1)),
        pair("k.yes", BOOL, b"\1"),
        string("k.short", "中文"),
        string("k.long", "a" * 1025),
        array("k.numbers", F32, 3, bytes(12)),
        strings("tokenizer.ggml.tokens", ["a", "", "é"]),
        string("command-r.x", "hyphens are used"),
    ]
    header = read_g(build(pairs))
    assert header.metadata == {
        "general.architecture": "llama",
        "k.u8": 255,
        "k.i8": -1,
        "k.u64": 2**64 - 1,
        "k.f32": 0.5,
        "k.f64": 0.1,
        "k.yes": True,
        "k.short": "中文",
        "k.long": LongText(1025, _sha256(b"a" * 1025)),
        "k.numbers": ArraySummary("FLOAT32", 3),
        "tokenizer.ggml.tokens": ArraySummary("STRING", 3),
        "command-r.x": "hyphens are used",
    }
    assert header.metadata["k.yes"] is True
    assert header.vocabulary == 3
    assert header.integer("k.yes") is None
    assert header.value_types["k.i8"] == "INT8"


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def test_legal_and_rare(read_g: Read) -> None:
    assert read_g(build(version=2)).version == 2
    assert read_g(build([ARCH], [], b"")).tensors == ()
    # Vocabulary only, not even padded.
    bare = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + ARCH
    assert read_g(bare).data_offset == 96
    # The last tensor padded and not padded.
    for data in (bytes(4), bytes(32)):
        assert read_g(build(tensors=[tensor("a", [1])], data=data)).tensors[0].end == 4
    # A scalar, and a tensor without elements.
    header = read_g(build(tensors=[tensor("z", [0, 3]), tensor("s", [])], data=bytes(32)))
    assert [(t.shape, t.end - t.begin) for t in header.tensors] == [((3, 0), 0), ((), 4)]
    # Row-major, as safetensors has shapes.
    header = read_g(build(tensors=[tensor("q", [256, 3], 12)], data=bytes(3 * 144)))
    assert header.tensors[0].shape == (3, 256)
    assert header.tensors[0].dtype == "Q4_K"
    assert len(Inventory(header.tensors).digest()) == 64
    aligned = build([ARCH, u32("general.alignment", 64)], alignment=64)
    assert read_g(aligned).alignment == 64


def test_parts_after_the_first_have_no_architecture(read_g: Read) -> None:
    pairs = [u32("split.no", 1), u32("split.count", 3), u32("split.tensors.count", 9)]
    header = read_g(build(pairs))
    assert header.split == Split(1, 3, 9)
    assert header.architecture is None
    with pytest.raises(GgufError) as caught:
        read_g(build([u32("split.no", 0), u32("split.count", 3)]))
    assert caught.value.rule == "gguf-architecture"
    assert read_g(build()).split is None


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ x|attr('a') }}",
        "{{ cycler.a }}",
        "{% include 'x' %}",
        "{{ '\\x5f\\x5f' }}",
        "{{ os.system('id') }}",
    ],
)
def test_a_template_that_reaches_out_is_shown(read_g: Read, template: str) -> None:
    header = read_g(build([ARCH, string("tokenizer.chat_template.tool", template)]))
    ((rule, message),) = header.warnings
    assert rule == "template-suspicious"
    assert "tokenizer.chat_template.tool" in message
    assert header.templates[0].sha256 == _sha256(template.encode())


def test_an_ordinary_template_is_not(read_g: Read) -> None:
    template = (
        "{% if not add_generation_prompt is defined %}{% set ns = namespace(is_first=false) %}"
        "{% endif %}{%- for message in messages %}{{'<｜User｜>' + message['content']}}"
        "{%- set content = content.split('</think>')[-1] %}{%- endfor -%}"
    )
    header = read_g(build([ARCH, string("tokenizer.chat_template", template)]))
    assert header.warnings == ()
    assert header.templates[0].size == len(template.encode())
    huge = read_g(build([ARCH, string("tokenizer.chat_template", "x" * (MIB + 1))]))
    assert huge.warnings[0][0] == "template-suspicious"
    assert not huge.templates[0].searched


TOKENS = strings("tokenizer.ggml.tokens", ["a", "b"])


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([TOKENS, array("tokenizer.ggml.scores", U8, 2, bytes(2))], "array of UINT8"),
        ([TOKENS, array("tokenizer.ggml.token_type", U8, 2, bytes(2))], "array of UINT8"),
        ([TOKENS, array("tokenizer.ggml.scores", F32, 1, bytes(4))], "1 elements for 2 tokens"),
        ([array("tokenizer.ggml.tokens", U8, 2, bytes(2))], "array of UINT8"),
        ([string("tokenizer.ggml.tokens", "a")], "not an array"),
        ([strings("tokenizer.ggml.tokens", ["<0x-1>", "<0x0A>"])], "<0x-1>"),
        ([TOKENS, u32("tokenizer.ggml.eos_token_id", 2)], "is 2, with 2 tokens"),
        ([TOKENS, string("tokenizer.ggml.eos_token_id", "2")], "not an integer"),
        (
            [TOKENS, pair("tokenizer.ggml.bos_token_id", I32, struct.pack("<i", -1))],
            "is -1",
        ),
        ([u32("llama.block_count", 10**6)], "1,000,000"),
        ([u32("llama.block_count", 0)], "is 0"),
        ([string("llama.block_count", "3")], "is STRING"),
        ([pair("llama.rope.freq_base", F32, struct.pack("<f", float("nan")))], "finite"),
    ],
)
def test_b21_semantics(read_g: Read, pairs: list[bytes], words: str) -> None:
    ((rule, message),) = check_semantics(read_g(build([ARCH, *pairs])))
    assert rule == "gguf-semantics"
    assert words in message
    assert "<0x0A>" not in message


def test_a_large_vocabulary_is_fast_and_small() -> None:
    tokens = [f"token number {i}" for i in range(250_000)]
    raw = build([ARCH, strings("tokenizer.ggml.tokens", tokens), strings("m", tokens)])
    reads = []

    def read_at(offset: int, length: int) -> bytes:
        reads.append(length)
        return raw[offset : offset + length]

    began = time.perf_counter()
    header = read_gguf(read_at, len(raw), file="m.gguf")
    assert time.perf_counter() - began < 2
    assert header.vocabulary == 250_000
    assert len(reads) < len(raw) // MIB + 8
    tracemalloc.start()
    read_gguf(read_at, len(raw), file="m.gguf")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * MIB


def test_what_is_skipped_is_not_read(tmp_path: Path) -> None:
    # 200 MB of numbers and the same of tensor data, all of it a hole.
    count = 50_000_000
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + ARCH
    head += array("numbers", U32, count, b"")
    info = tensor("a", [count])
    path = tmp_path / "m.gguf"
    with path.open("wb") as out:
        out.write(head)
        out.seek(4 * count, os.SEEK_CUR)
        out.write(info)
        data = -(-out.tell() // 32) * 32
        out.truncate(data + 4 * count)
    read = 0
    with path.open("rb") as file:

        def read_at(offset: int, length: int) -> bytes:
            nonlocal read
            file.seek(offset)
            piece = file.read(length)
            read += len(piece)
            return piece

        header = read_gguf(read_at, path.stat().st_size, file="m.gguf")
    assert header.metadata["numbers"] == ArraySummary("UINT32", count)
    assert header.parameters == count
    assert read < 3 * MIB


def test_caps(read_g: Read) -> None:
    # Made of bytes that are there, so that only the caps can refuse them.
    many = build([u32(f"k.{i}", 0) for i in range(10_001)])
    wide = build([ARCH, array("k", STR, MAX_GGUF_ARRAY_STRINGS + 1, b"")])
    with pytest.raises(GgufError) as caught:
        read_g(many)
    assert caught.value.rule == "gguf-count"
    raw = wide + bytes(8 * (MAX_GGUF_ARRAY_STRINGS + 1))
    with pytest.raises(GgufError) as caught:
        read_g(raw)
    assert caught.value.rule == "gguf-array"
    size = MAX_GGUF_STRING_BYTES + 1
    with pytest.raises(GgufError) as caught:
        read_g(build([ARCH, pair("k", STR, struct.pack("<Q", size))]) + bytes(size))
    assert caught.value.rule == "gguf-string"
    kept = [string("k" * 60_000 + str(i), "v") for i in range(80)]
    with pytest.raises(GgufError) as caught:
        read_g(build([ARCH, *kept]))
    assert caught.value.rule == "gguf-count"


def test_a_long_string_is_digested_and_not_kept(read_g: Read) -> None:
    value = ("€" * 1000).encode() * 2000  # 6 MB; characters straddle the pieces
    raw = build([ARCH, string("tokenizer.huggingface.json", value)])
    tracemalloc.start()
    header = read_g(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.metadata["tokenizer.huggingface.json"] == LongText(len(value), _sha256(value))
    assert peak < 12 * MIB


def test_reads_that_come_short_and_padding_left_unread(read_g: Read) -> None:
    raw = build([ARCH, strings("t", ["abc"] * 50)], [A, B], bytes(64))
    short = read_gguf(lambda at, n: raw[at : at + min(n, 7)], len(raw), file="m.gguf")
    assert short == read_g(raw)
    with pytest.raises(GgufError) as caught:
        read_gguf(lambda at, n: raw[at : min(at + n, 90)], len(raw), file="m.gguf")
    assert caught.value.rule == "header-truncated"
    dirty = build(tensors=[tensor("a", [1])], data=b"\1" * 32)
    read_gguf(lambda at, n: dirty[at : at + n], len(dirty), file="m.gguf", check_padding=False)


def test_what_the_store_raises_passes_through() -> None:
    def fail(offset: int, length: int) -> bytes:
        raise StoreError("gone")

    with pytest.raises(StoreError):
        read_gguf(fail, 1000, file="m.gguf")
