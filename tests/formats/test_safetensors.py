from __future__ import annotations

import json
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import SafetensorsError, StoreError
from r1prov.formats.inventory import DTYPE_BITS, Tensor
from r1prov.formats.safetensors import Header, read_header
from r1prov.limits import MAX_HEADER_METADATA_BYTES, MAX_TENSORS_PER_FILE
from r1prov.text import printable
from r1prov.verify.rules import RULES

Pack = Callable[..., bytes]
Read = Callable[[bytes], Header]

A = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
NUMBER_OF_VECTORS = 155

# The binding has no types.
reference: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize
MIB = 1024 * 1024


def split_vector(vector: bytes) -> tuple[dict[str, str], bytes]:
    heading, raw = vector.split(b"\n\n", 1)
    return dict(line.split(": ", 1) for line in heading.decode().splitlines()), raw


def reference_accepts(raw: bytes) -> bool:
    try:
        reference(raw)
    except safetensors.SafetensorError:
        return False
    return True


def rule_of(read: Read, raw: bytes) -> str:
    with pytest.raises(SafetensorsError) as caught:
        read(raw)
    return caught.value.rule


def outcome(read: Read, raw: bytes) -> tuple[str, SafetensorsError | None]:
    try:
        header = read(raw)
    except SafetensorsError as error:
        return error.rule, error
    return ", warns ".join(["ok", *(rule for rule, _ in header.warnings)]), None


def test_vectors(read: Read, vector_folder: Path) -> None:
    paths = sorted(vector_folder.glob("*.vec"))
    assert len(paths) == NUMBER_OF_VECTORS
    for path in paths:
        fields, raw = split_vector(path.read_bytes())
        assert list(fields) == ["expect", "reference", "why"], path.name
        found, error = outcome(read, raw)
        if error is not None:
            assert error.subject == "m.safetensors"
            assert printable(error.message) == error.message, path.name
        assert found == fields["expect"], path.name
        accepts = "accepts" if reference_accepts(raw) else "rejects"
        assert accepts == fields["reference"], path.name


def test_every_vector_rule_is_in_the_table(vector_folder: Path) -> None:
    known = {rule.name for rule in RULES}
    for path in vector_folder.glob("*.vec"):
        rule = split_vector(path.read_bytes())[0]["expect"].split()[-1]
        assert rule == "ok" or rule in known, path.name


@pytest.mark.parametrize(
    ("vector", "hint"),
    [
        ("length-big-endian", "big-endian"),
        ("foreign-lfs-pointer", "git lfs pull"),
        ("foreign-html", "HTML"),
        ("foreign-zip", "zip archive"),
        ("foreign-gguf", "GGUF"),
        ("foreign-json", "JSON"),
        ("start-space", "white space"),
        ("utf8-bom", "byte order mark"),
        ("trailing-zip", "zip archive"),
        ("trailing-elf", "ELF program"),
        ("trailing-script", "shell script"),
        ("trailing-pickle", "Python pickle"),
        ("trailing-zeros", "zeros"),
    ],
)
def test_hint_says_what_the_bytes_look_like(
    read: Read, vector_folder: Path, vector: str, hint: str
) -> None:
    _, raw = split_vector((vector_folder / f"{vector}.vec").read_bytes())
    with pytest.raises(SafetensorsError) as caught:
        read(raw)
    assert hint in (caught.value.hint or "")


def test_message_names_expected_and_found(read: Read, pack: Pack) -> None:
    with pytest.raises(SafetensorsError) as caught:
        read(pack({"a": A | {"shape": [2, 3]}}, bytes(16)))
    assert caught.value.expected == "24 bytes (F32 [2, 3])"
    assert caught.value.found == "16 bytes"


def test_header_holds_what_the_file_says(read: Read, pack: Pack) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
        "a": A,
    }
    raw = pack(header, bytes(24))
    found = read(raw)
    assert found.tensors == (
        Tensor("b", "BF16", (4,), "m.safetensors", 16, 24),
        Tensor("a", "F32", (2, 2), "m.safetensors", 0, 16),
    )
    assert found.metadata == {"format": "pt"}
    assert found.size == len(raw)
    assert found.header_bytes == len(raw) - 8 - 24
    assert found.warnings == ()


def test_dtypes_are_those_of_the_reference(pack: Pack, read: Read) -> None:
    for dtype, bits in DTYPE_BITS.items():
        raw = pack({"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, bits]}}, bytes(bits))
        assert reference_accepts(raw), dtype
        assert len(read(raw).tensors) == 1


# --- large and hostile -------------------------------------------------------------------------


def padded(length: int, *, before_brace: bool = False) -> bytes:
    spaces = b" " * length
    return b"{" + spaces + b"}" if before_brace else b"{}" + spaces


@pytest.mark.parametrize("before_brace", [False, True])
@pytest.mark.parametrize(
    ("spaces", "outcome"), [(4096, "ok"), (4097, "warning"), (65536, "warning"), (65537, "fail")]
)
def test_padding(read: Read, pack: Pack, spaces: int, outcome: str, before_brace: bool) -> None:
    raw = pack(padded(spaces, before_brace=before_brace))
    assert reference_accepts(raw)
    if outcome == "fail":
        assert rule_of(read, raw) == "header-padding"
        return
    assert [rule for rule, _ in read(raw).warnings] == ["header-padding"] * (outcome == "warning")


def test_padding_across_chunks_is_seen(read: Read, pack: Pack) -> None:
    for start in (262_144 - 40_000, 262_144 - 65_536, 262_144 - 1):
        text = b'{"__metadata__":{"k":"' + b"x" * start + b'"' + b" \t\r\n" * 16_385 + b"}}"
        assert rule_of(read, pack(text)) == "header-padding"


class HostileFile:
    """A file as large as wanted that answers reads from a pattern and counts them."""

    def __init__(self, head: bytes, fill: bytes, length: int, end: bytes = b"") -> None:
        self.head = struct.pack("<Q", length) + head
        self.fill = fill
        self.size = 8 + length
        self.end = end
        self.bytes_read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        self.bytes_read += length
        data = bytearray(self.fill * (length // len(self.fill) + 1))[:length]
        for piece, at in ((self.head, 0), (self.end, self.size - len(self.end))):
            for i, byte in enumerate(piece):
                if 0 <= at + i - offset < length:
                    data[at + i - offset] = byte
        return bytes(data)


@pytest.mark.parametrize(
    ("hostile", "rule"),
    [
        # A4: the length alone
        (HostileFile(b"{", b" ", 100_000_001), "header-too-large"),
        (HostileFile(b"{", b" ", 2**64 - 1), "header-too-large"),
        # A7: padding up to the cap of the reference
        (HostileFile(b"{}", b" ", 100_000_000), "header-padding"),
        (HostileFile(b"{", b" ", 100_000_000, b"}"), "header-padding"),
        # A36: depth
        (HostileFile(b'{"a":', b"[", 100_000, b"}"), "header-json"),
        (HostileFile(b'{"a":', b"[", 100_000_000, b"}"), "header-json"),
        (HostileFile(b"{", b'{"a":', 100_000_000, b"}"), "header-json"),
        # one array, one integer
        (HostileFile(b'{"a":[1', b",1", 100_000_000, b"]}"), "tensor-rank"),
        (HostileFile(b'{"a":1', b"1", 100_000_000, b"}"), "tensor-entry"),
        (HostileFile(b'{"a":[1, ', b"1", 100_000_000, b"]}"), "tensor-overflow"),
        # metadata of many members
        (HostileFile(b'{"__metadata__":{', b'"":"",', 100_000_000, b"}}"), "header-metadata"),
        (HostileFile(b'{"__metadata__": {', b'"" : "" ,\n', 100_000_000, b"}}"), "header-metadata"),
    ],
)
def test_hostile_header_costs_little_memory(hostile: HostileFile, rule: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SafetensorsError) as caught:
            read_header(hostile.read_at, hostile.size, file="x")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.rule == rule
    assert peak < 16 * MIB
    assert hostile.bytes_read < 2 * MIB


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":' + b"[" * 5 + b"]" * 5 + b"}",
        b'{"\\"":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"a\\\\":' + b"[" * 200 + b"]" * 200 + b"}",
    ],
)
def test_depth_is_seen_behind_strings(read: Read, pack: Pack, text: bytes) -> None:
    assert rule_of(read, pack(text)) in ("header-json", "tensor-entry")


@pytest.mark.parametrize("backslashes", [0, 1, 2, 3, 4])
def test_chunk_border_within_a_string(read: Read, pack: Pack, backslashes: int) -> None:
    # Brackets in a string are no structure, wherever the border of a chunk falls.
    filler = "\\" * backslashes + '"[[[[{{{{'
    for shift in range(262_144 - 40, 262_144 - 24):
        value = "x" * (shift - 30) + filler + "y" * 60
        header = read(pack({"__metadata__": {"k": value}, "a": A}, bytes(16)))
        assert header.metadata == {"k": value}


def test_too_many_entries(read: Read, pack: Pack) -> None:
    def check(text: bytes) -> None:
        assert rule_of(read, pack(text)) == "too-many-tensors"

    check(b"{" + b'"":{},' * (MAX_TENSORS_PER_FILE + 3) + b"}")
    check(b'{"":[' + b"[]," * (2 * MAX_TENSORS_PER_FILE + 1) + b"]}")
    check(b"{" + b'"":0,' * (4 * MAX_TENSORS_PER_FILE + 10_001) + b"}")


def test_many_empty_tensors_are_legal(read: Read, pack: Pack) -> None:
    # A39
    empty = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    assert len(read(pack({f"t{i}": empty for i in range(5000)})).tensors) == 5000


def test_rank_of_ten_thousand(read: Read, pack: Pack) -> None:
    # A40: one of a size that becomes a list, one that does not
    for rank in (33, 450, 10_000):
        raw = pack({"a": {"dtype": "U8", "shape": [1] * rank, "data_offsets": [0, 1]}}, b"x")
        assert reference_accepts(raw)
        assert rule_of(read, raw) == "tensor-rank"


@pytest.mark.parametrize("digits", [20, 599, 600, 601, 4300, 4301, 5000, 65_535, 65_536, 200_000])
def test_rule_of_a_long_integer(read: Read, pack: Pack, digits: int) -> None:
    huge = "9" * digits

    def rule(dtype: str = '"F32"', shape: str = "[2,2]", offsets: str = "[0,16]") -> str:
        entry = f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'
        raw = pack(f'{{"a":{entry}}}'.encode(), bytes(16))
        assert not reference_accepts(raw)
        return rule_of(read, raw)

    assert rule(shape=f"[{huge}]") == "tensor-overflow"
    assert rule(shape=f"[2, {huge}]") == "tensor-overflow"
    assert rule(shape=f"[0,{huge}]", offsets="[0,0]") == "tensor-overflow"
    assert rule(shape=f"[-{huge}]") == "tensor-entry"
    assert rule(dtype=huge) == "tensor-entry"
    # From 64 KiB on nothing is parsed, so that a dimension and an offset are not told apart.
    named = "tensor-offset" if digits < 65_536 else "tensor-overflow"
    assert rule(offsets=f"[0,{huge}]") == named


def test_size_of_metadata(read: Read, pack: Pack) -> None:
    cap = MAX_HEADER_METADATA_BYTES
    for text in ({"k": "v" * (cap - 1)}, {"é": "é" * (cap // 2 - 1)}, {"k" * (cap - 1): "v"}):
        assert read(pack({"__metadata__": text, "a": A}, bytes(16))).metadata == text
        key = min(text)
        for longer in ({key: text[key] + "v"}, {key + "k": text[key]}, text | {"x": ""}):
            raw = pack({"__metadata__": longer, "a": A}, bytes(16))
            assert reference_accepts(raw)
            assert rule_of(read, raw) == "header-metadata"
    many = {str(i): "" for i in range(9999)}
    assert read(pack({"__metadata__": many}, b"")).metadata == many


def test_a_long_string_costs_little(pack: Pack) -> None:
    hostile = HostileFile(b'{"__metadata__":{"":"', b"x", 100_000_000, b'"}}')
    tracemalloc.start()
    try:
        with pytest.raises(SafetensorsError) as caught:
            read_header(hostile.read_at, hostile.size, file="x")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.rule == "header-metadata"
    assert peak < 16 * MIB
    assert hostile.bytes_read < 8 * MIB


def test_long_names_are_no_metadata(read: Read, pack: Pack) -> None:
    # Names of 1,024 bytes, each byte spelled with six: legal, and more text than `__metadata__` may
    # have.
    empty = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    spelled = ["".join(f"\\u{ord(c):04x}" for c in f"{i:01024}") for i in range(1100)]
    text = ",".join(f'"{name}":{empty}' for name in spelled)
    assert len(text) > 6 * MAX_HEADER_METADATA_BYTES
    assert len(read(pack(f"{{{text}}}".encode())).tensors) == 1100


def test_huge_integers_give_short_messages(read: Read, pack: Pack) -> None:
    for digits in (20, 640, 999, 1000, 5000):
        huge = int("9" * min(digits, 4000))
        for field in ({"data_offsets": [0, huge]}, {"shape": [huge]}, {"dtype": huge}):
            with pytest.raises(SafetensorsError) as caught:
                read(pack({"a": A | field}, bytes(16)))
            error = caught.value
            assert len(error.message + (error.expected or "") + (error.found or "")) < 400


def test_a_name_never_reaches_a_message_raw(read: Read, pack: Pack) -> None:
    for name in ("\x1b[2J", "a\nb", "\u202e", "x" * 100_000):
        with pytest.raises(SafetensorsError) as caught:
            read(pack({name: A}, bytes(16)))
        assert printable(caught.value.message, limit=1000) == caught.value.message


# --- reading -----------------------------------------------------------------------------------


def test_short_reads_are_completed(pack: Pack) -> None:
    raw = pack({"__metadata__": {"k": "v" * 300_000}, "a": A}, bytes(16))

    def read_at(offset: int, length: int) -> bytes:
        return raw[offset : offset + min(length, 50_000)]

    assert len(read_header(read_at, len(raw), file="x").tensors) == 1


@pytest.mark.parametrize("kept", [0, 7, 8, 100, 200_000])
def test_file_that_shrank_is_truncated(pack: Pack, kept: int) -> None:
    raw = pack({"__metadata__": {"k": "v" * 300_000}})
    with pytest.raises(SafetensorsError) as caught:
        read_header(lambda at, n: raw[:kept][at : at + n], len(raw), file="x")
    assert caught.value.rule == "header-truncated"


def test_store_errors_pass_through() -> None:
    def read_at(offset: int, length: int) -> bytes:
        raise StoreError("disk")

    with pytest.raises(StoreError):
        read_header(read_at, 100, file="x")


def test_ordinary_header_takes_one_read(pack: Pack) -> None:
    raw = pack({"a": A}, bytes(16))
    reads = []

    def read_at(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return raw[offset : offset + length]

    read_header(read_at, len(raw), file="x")
    assert len(reads) == 1


# --- against the reference ---------------------------------------------------------------------

# Every rule by which r1prov refuses what safetensors 0.8.0 accepts. All are documented: README of
# the format ("MUST begin with `{`", "Duplicate keys are disallowed"), or caps of r1prov.
STRICTER_THAN_REFERENCE = {
    "header-duplicate-key",
    "header-metadata",  # `null`, or more than 1 MiB
    "header-padding",  # padding that is not 0x20, or far too long
    "header-start",
    "header-unknown-field",
    "tensor-entry",  # serde's array and enum forms
    "tensor-name",
    "tensor-overflow",  # hidden by a zero dimension
    "tensor-rank",
}


def compare(raw: bytes, read: Read) -> None:
    rule, error = outcome(read, raw)
    if error is not None:
        assert rule in STRICTER_THAN_REFERENCE or not reference_accepts(raw), (rule, raw)
        return
    header = read(raw)
    found = {
        name: (str(info["dtype"]), tuple(info["shape"]), len(info["data"]))
        for name, info in reference(raw)
    }
    assert found == {t.name: (t.dtype, t.shape, t.end - t.begin) for t in header.tensors}


names = st.one_of(
    st.sampled_from(["a", "b", "A", "__metadata__", "", "a.b", "../x", "é", "dtype"]), st.text()
)
integers = st.one_of(
    st.integers(0, 40), st.sampled_from([-1, 2**31, 2**62 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64])
)
scalars = st.one_of(st.none(), st.booleans(), st.floats(), integers, names)
dtypes = st.one_of(st.sampled_from([*DTYPE_BITS, "F33", "f32"]), scalars)
tensors = st.fixed_dictionaries(
    {
        "dtype": dtypes,
        "shape": st.one_of(st.lists(integers, max_size=4), scalars),
        "data_offsets": st.one_of(
            st.lists(integers, min_size=2, max_size=2), st.lists(integers, max_size=3), scalars
        ),
    },
    optional={"extra": scalars},
)
arbitrary = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
headers = st.dictionaries(names, st.one_of(tensors, arbitrary), max_size=4)


@st.composite
def tiled(draw: st.DrawFn) -> bytes:
    """A legal file, in shuffled order, often with one thing made wrong."""
    position = 0
    entries: list[tuple[str, object]] = []
    for name in draw(st.lists(st.sampled_from(["a", "b", "c", "层", "d.e"]), max_size=5)):
        dtype = draw(st.sampled_from(sorted(DTYPE_BITS)))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        bits = DTYPE_BITS[dtype]
        for dimension in shape:
            bits *= dimension
        end = position + bits // 8
        entries.append((name, {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}))
        position = end
    if draw(st.booleans()):
        entries.append(("__metadata__", draw(st.dictionaries(st.text(), st.text(), max_size=2))))
    members = draw(st.permutations(entries))
    text = "{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in members) + "}"
    raw = bytearray(text.encode() + b" " * draw(st.integers(0, 3)))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw) - 1))
        raw[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from(
                [b"", b"0", b"-", b"1", b"e", b'"', b",", b"[", b"}", b" ", b"\\", b"\xff"]
            )
        )
    slack = draw(st.sampled_from([0, 0, 0, 1, -1]))
    return struct.pack("<Q", len(raw)) + bytes(raw) + bytes(max(0, position + slack))


@given(tiled())
def test_agrees_with_reference_on_nearly_legal_files(read: Read, raw: bytes) -> None:
    compare(raw, read)


@given(headers, st.binary(max_size=40))
def test_agrees_with_reference_on_headers(
    read: Read, pack: Pack, header: dict[str, object], data: bytes
) -> None:
    compare(pack(header, data), read)


def test_agrees_with_reference_on_mutated_vectors(read: Read, vector_folder: Path) -> None:
    draw = random.Random(20261124)
    seeds = [split_vector(path.read_bytes())[1] for path in sorted(vector_folder.glob("*.vec"))]
    seeds = [seed for seed in seeds if 8 < len(seed) < 400]
    pieces = [
        *(bytes([byte]) for byte in b'{}[]",:0123456789-+eE. \t\n\r\\/\0ud8\xff'),
        b"null", b"true", b"NaN", b"Infinity", b"\\u0061", b"\\ud800", b'"a":', b"[0,16]",
        b'"dtype"', b'"__metadata__"', b"18446744073709551616", b"1e400", b"-0", b"0.0",
    ]  # fmt: skip
    for _ in range(60_000):
        seed = bytearray(draw.choice(seeds))
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            at = draw.randint(8, len(seed))
            seed[at : at + draw.choice((0, 0, 1, 2, 8))] = draw.choice(pieces)
        if draw.random() < 0.9:
            # Keep the length in step, so that mutations of the JSON are seen.
            end = seed.rfind(b"}") + 1
            seed[:8] = struct.pack("<Q", max(0, end - 8))
        compare(bytes(seed), read)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_header_or_a_safetensors_error(read: Read, raw: bytes) -> None:
    for candidate in (
        raw,
        struct.pack("<Q", len(raw)) + raw,
        struct.pack("<Q", len(raw) + 1) + b"{" + raw,
    ):
        try:
            header = read(candidate)
        except SafetensorsError:
            continue
        assert header.size == len(candidate)
