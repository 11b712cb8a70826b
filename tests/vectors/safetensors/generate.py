"""Write the vectors of this folder: `python tests/vectors/safetensors/generate.py`.

Every vector is a function of this file alone; running it again changes nothing.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

HERE = Path(__file__).parent

A = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
DATA = bytes(range(16))
A_TEXT = '"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}'


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def pack(header: object, data: bytes = DATA, *, length: int | None = None) -> bytes:
    """A file with this header: bytes as they are, text in UTF-8, anything else as JSON."""
    if isinstance(header, str):
        raw = header.encode()
    else:
        raw = header if isinstance(header, bytes) else compact(header)
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def named(name: str) -> bytes:
    return pack({name: A})


def with_fields(fields: str) -> bytes:
    return pack('{"a":{' + fields + "}}")


F, S, OFF = '"dtype":"F32"', '"shape":[2,2]', '"data_offsets":[0,16]'
PLAIN = pack({"a": A})
ZIP_END = b"PK\x05\x06" + bytes(18)
PICKLE = b"\x80\x02cos\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03."

# name: (expected rule or `ok`, what the reference library 0.8.0 does, why, bytes)
VECTORS: dict[str, tuple[str, str, str, bytes]] = {}


def add(name: str, expect: str, reference: str, why: str, raw: bytes) -> None:
    VECTORS[name] = (expect, reference, why, raw)


add("ok-one-tensor", "ok", "accepts", "the simplest file", PLAIN)
add("ok-no-tensors", "ok", "accepts", "an empty header describes an empty buffer", pack("{}", b""))
add(
    "ok-metadata",
    "ok",
    "accepts",
    "metadata as writers put it first",
    pack({"__metadata__": {"format": "pt"}, "a": A}),
)
add(
    "ok-order",
    "ok",
    "accepts",
    "A41: the order of the header is not the order of the data",
    pack({"z": entry("F32", [2], 8, 16), "a": entry("F32", [2], 0, 8)}),
)
add("ok-rank-0", "ok", "accepts", "A41: a scalar", pack({"a": entry("F32", [], 0, 4)}, DATA[:4]))
add(
    "ok-empty-last",
    "ok",
    "accepts",
    "A41: an empty tensor at the end",
    pack({"a": A, "b": entry("F32", [0, 5], 16, 16)}),
)
add(
    "ok-empty-many",
    "ok",
    "accepts",
    "A39: many empty tensors at one offset, in the middle",
    pack(
        {"a": entry("F32", [2], 0, 8)}
        | {f"e{i}": entry("U8", [0], 8, 8) for i in range(9)}
        | {"b": entry("F32", [2], 8, 16)}
    ),
)
add(
    "ok-member-order",
    "ok",
    "accepts",
    "the members of an entry may stand in any order",
    with_fields(f"{OFF},{F},{S}"),
)
add("ok-padding", "ok", "accepts", "padded to 8 bytes", pack("{" + A_TEXT + "}" + " " * 6))
add(
    "ok-indented",
    "ok",
    "accepts",
    "white space inside the JSON",
    pack(json.dumps({"a": A}, indent=2)),
)
add(
    "ok-escape-name",
    "ok",
    "accepts",
    "a surrogate pair is one character",
    pack('{"\\ud83d\\ude00"' + A_TEXT[3:] + "}"),
)
add(
    "ok-unaligned",
    "ok",
    "accepts",
    "no rule asks tensors to be aligned",
    pack({"a": entry("U8", [3], 0, 3), "b": entry("F32", [2], 3, 11)}, DATA[:11]),
)
add(
    "ok-sub-byte",
    "ok",
    "accepts",
    "F4 and F6 that fill whole bytes",
    pack({"a": entry("F4", [4], 0, 2), "b": entry("F6_E2M3", [4], 2, 5)}, DATA[:5]),
)

add("length-empty-file", "header-truncated", "rejects", "A1: an empty file", b"")
add("length-7-bytes", "header-truncated", "rejects", "A1: seven bytes", bytes(7))
add("length-0", "header-length", "rejects", "A2: N = 0, nothing after", bytes(8))
add("length-0-data", "header-length", "rejects", "A2: N = 0, bytes after", bytes(8) + DATA)
add("length-1", "header-length", "rejects", "N = 1", pack("{", b""))
add(
    "length-over-cap",
    "header-too-large",
    "rejects",
    "A4: N = 100,000,001 in a small file",
    pack({"a": A}, length=100_000_001),
)
add("length-2-63", "header-too-large", "rejects", "N = 2^63", pack({"a": A}, length=2**63))
add("length-max", "header-too-large", "rejects", "N = 2^64-1", pack({"a": A}, length=2**64 - 1))
add("length-wraps", "header-too-large", "rejects", "8 + N wraps", pack({"a": A}, length=2**64 - 8))
add(
    "length-past-end",
    "header-length",
    "rejects",
    "A5: N is one more than the file has",
    pack({"a": A}, length=len(PLAIN) - 8 + 1),
)
add(
    "length-one-short",
    "header-json",
    "rejects",
    "A5: N is one less than the header",
    pack({"a": A}, length=len(compact({"a": A})) - 1),
)
add(
    "length-one-long",
    "header-padding",
    "rejects",
    "N takes in the first byte of the data, a NUL",
    pack({"a": A}, length=len(compact({"a": A})) + 1),
)
add(
    "length-big-endian",
    "header-too-large",
    "rejects",
    "A6: N is big-endian",
    struct.pack(">Q", len(compact({"a": A}))) + compact({"a": A}) + DATA,
)
add(
    "foreign-lfs-pointer",
    "header-too-large",
    "rejects",
    "a Git LFS pointer in place of the weights",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 16\n",
)
add(
    "foreign-html",
    "header-too-large",
    "rejects",
    "the error page of a server",
    b"<!DOCTYPE html><html>Not found</html>",
)
add("foreign-zip", "header-length", "rejects", "a ZIP", b"PK\x03\x04" + bytes(14) + b"weights")
add("foreign-gguf", "header-too-large", "rejects", "a GGUF file", b"GGUF\x03\0\0\0" + bytes(24))
add("foreign-json", "header-too-large", "rejects", "JSON and no N", compact({"a": A}))

add(
    "utf8-in-name",
    "header-utf8",
    "rejects",
    "A9: byte 0xff in a name",
    pack(b'{"\xff"' + A_TEXT[3:].encode() + b"}"),
)
add(
    "utf8-overlong",
    "header-utf8",
    "rejects",
    "an overlong `/`",
    pack(b'{"\xc0\xaf"' + A_TEXT[3:].encode() + b"}"),
)
add(
    "utf8-surrogate",
    "header-utf8",
    "rejects",
    "a surrogate encoded in UTF-8 (CESU-8)",
    pack(b'{"\xed\xa0\x80"' + A_TEXT[3:].encode() + b"}"),
)
add(
    "utf8-bom",
    "header-start",
    "rejects",
    "A10: a byte order mark",
    pack(b"\xef\xbb\xbf" + compact({"a": A})),
)
UTF16 = ("{" + A_TEXT + "}").encode
add("utf16-le", "header-utf8", "rejects", "A11: UTF-16LE", pack(UTF16("utf-16-le")))
add("utf16-be", "header-start", "rejects", "A11: UTF-16BE", pack(UTF16("utf-16-be")))
add("utf16-bom", "header-start", "rejects", "A11: UTF-16 with a mark", pack(UTF16("utf-16")))

add(
    "start-space",
    "header-start",
    "accepts",
    "A12: white space before the brace, against the MUST of the specification",
    pack(b" \n" + compact({"a": A})),
)
add("start-array", "header-start", "rejects", "an array for a header", pack("[]", b""))
add(
    "start-array-form",
    "header-start",
    "rejects",
    "a header in serde's array form",
    pack("[{}]", b""),
)
add("end-newline", "header-padding", "accepts", "padding with a newline", pack("{}\n", b""))
add("end-tab", "header-padding", "accepts", "padding with a tab", pack("{}\t", b""))
add("end-nul", "header-padding", "rejects", "A14: padding with NUL", pack("{}\0\0", b""))
add("end-nul-space", "header-padding", "rejects", "a NUL within the padding", pack("{}\0  ", b""))
add("end-second-value", "header-json", "rejects", "A14: a second value", pack("{}{}", b""))
add("end-comma", "header-json", "rejects", "a trailing comma", pack("{" + A_TEXT + ",}"))
add("json-comment", "header-json", "rejects", "a comment", pack("{/**/" + A_TEXT + "}"))
add("json-nan", "header-json", "rejects", "NaN", with_fields(f'{F},{S},"data_offsets":[NaN,16]'))
add("json-quote", "header-json", "rejects", "single quotes", pack("{'a':1}"))
add("json-control", "header-json", "rejects", "a raw newline in a string", pack('{"a\nb":1}'))
add("json-nul", "header-json", "rejects", "a raw NUL in a string", pack('{"a\0b":1}'))
add(
    "json-lone-surrogate",
    "header-json",
    "rejects",
    "half a surrogate pair in a name",
    pack('{"\\ud800"' + A_TEXT[3:] + "}"),
)
add(
    "json-lone-surrogate-metadata",
    "header-json",
    "rejects",
    "half a surrogate pair in metadata, behind an escaped backslash",
    pack('{"__metadata__":{"k":"\\\\\\udc00"},' + A_TEXT + "}"),
)
add("json-depth", "header-json", "rejects", "A36: 200 levels", pack('{"a":' + "[" * 200, b"]}"))
add(
    "json-depth-balanced",
    "header-json",
    "rejects",
    "200 levels that pair",
    pack('{"a":' + "[" * 200 + "]" * 200 + "}"),
)
add("json-unbalanced", "header-json", "rejects", "more closed than opened", pack("{}}}]}", b""))

add(
    "dup-same",
    "header-duplicate-key",
    "accepts",
    "A15: the same tensor twice, word for word",
    pack("{" + A_TEXT + "," + A_TEXT + "}"),
)
add(
    "dup-other",
    "header-duplicate-key",
    "accepts",
    "A16: one name, two meanings of the same bytes (TOB-SFTN-7)",
    pack("{" + A_TEXT + ',"a":{"dtype":"I32","shape":[4],"data_offsets":[0,16]}}'),
)
add(
    "dup-escaped",
    "header-duplicate-key",
    "accepts",
    "A17: the second spelled with an escape",
    pack("{" + A_TEXT + "," + A_TEXT.replace('"a"', '"\\u0061"') + "}"),
)
add(
    "dup-metadata",
    "header-duplicate-key",
    "rejects",
    "A19: `__metadata__` twice",
    pack('{"__metadata__":{},"__metadata__":{},' + A_TEXT + "}"),
)
add(
    "dup-metadata-key",
    "header-duplicate-key",
    "accepts",
    "a key of the metadata twice",
    pack('{"__metadata__":{"k":"1","k":"2"},' + A_TEXT + "}"),
)
add(
    "dup-dtype",
    "header-duplicate-key",
    "rejects",
    "A19: two dtypes",
    with_fields(f"{F},{F},{S},{OFF}"),
)
add("dup-shape", "header-duplicate-key", "rejects", "two shapes", with_fields(f"{F},{S},{S},{OFF}"))
add("dup-offsets", "header-duplicate-key", "rejects", "A19", with_fields(f"{F},{S},{OFF},{OFF}"))

add(
    "overlap-same",
    "tensor-overlap",
    "rejects",
    "A20: two tensors on one range",
    pack({"a": A, "b": A}),
)
add(
    "overlap-part",
    "tensor-overlap",
    "rejects",
    "A20: ranges that overlap in part",
    pack({"a": A, "b": entry("F32", [2], 12, 20)}, bytes(20)),
)
add(
    "overlap-empty-inside",
    "tensor-overlap",
    "rejects",
    "A39: an empty tensor within another",
    pack({"a": A, "b": entry("F32", [0], 8, 8)}),
)
add(
    "hole-middle",
    "tensor-hole",
    "rejects",
    "A21: a hole in the middle",
    pack({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 12, 16)}),
)
add(
    "hole-start",
    "tensor-hole",
    "rejects",
    "A21: a hole at the start",
    pack({"a": entry("F32", [2], 8, 16)}),
)
add(
    "hole-empty",
    "tensor-hole",
    "rejects",
    "an empty tensor away from the others leaves a hole",
    pack({"a": entry("F32", [0], 16, 16)}),
)
add("trailing-zip", "trailing-bytes", "rejects", "A22: a ZIP end record", PLAIN + ZIP_END)
add("trailing-elf", "trailing-bytes", "rejects", "A22: a program", PLAIN + b"\x7fELF\x02\x01\x01")
add("trailing-script", "trailing-bytes", "rejects", "A22: a script", PLAIN + b"#!/bin/sh\nid\n")
add("trailing-pickle", "trailing-bytes", "rejects", "A22: a pickle", PLAIN + PICKLE)
add("trailing-zeros", "trailing-bytes", "rejects", "zeros after the data", PLAIN + bytes(8))
add("trailing-no-tensors", "trailing-bytes", "rejects", "data and no tensor", pack("{}", DATA))
add("data-short", "data-truncated", "rejects", "the last byte is missing", PLAIN[:-1])
add("data-none", "data-truncated", "rejects", "the file ends with its header", PLAIN[:-16])
add("offset-reversed", "tensor-offset", "rejects", "A24", pack({"a": entry("F32", [2, 2], 16, 0)}))
add("offset-negative", "tensor-offset", "rejects", "A24", pack({"a": entry("F32", [5], -4, 16)}))
add(
    "offset-past-end",
    "tensor-offset",
    "rejects",
    "A24: a range far past the end",
    pack({"a": entry("F32", [2, 2], 1 << 40, (1 << 40) + 16)}),
)
add(
    "offset-2-64",
    "tensor-offset",
    "rejects",
    "offsets over 63 bits",
    pack({"a": entry("F32", [2, 2], 2**64 - 16, 2**64)}),
)
add("size-small", "tensor-size", "rejects", "A25", pack({"a": entry("F32", [2, 3], 0, 16)}))
add("size-large", "tensor-size", "rejects", "A25", pack({"a": entry("F32", [3], 0, 16)}))
add("size-dtype", "tensor-size", "rejects", "A25", pack({"a": entry("F64", [2, 2], 0, 16)}))
add("size-empty", "tensor-size", "rejects", "A25", pack({"a": entry("F32", [2, 0], 0, 16)}))
for label, dtype, shape, begin_end, reference in (
    ("2-64", "I32", [2, 2**64 - 2], (0, 16), "rejects"),
    ("2-63", "I32", [2, 2**63 - 1], (0, 16), "rejects"),
    ("wraps", "F32", [2**62 + 1, 4], (0, 16), "rejects"),
    ("zero-first", "F32", [0, 2**64 - 1, 2**64 - 1], (0, 0), "accepts"),
    ("zero-last", "F32", [2**64 - 1, 2**64 - 1, 0], (0, 0), "rejects"),
    ("over-u64", "F32", [0, 2**64], (0, 0), "rejects"),
):
    add(
        f"overflow-{label}",
        "tensor-overflow",
        reference,
        "A26, A27: the product of the dimensions overflows, in whatever order",
        pack({"a": entry(dtype, shape, *begin_end)}, bytes(begin_end[1])),
    )
add("dtype-f33", "dtype-unknown", "rejects", "A29", pack({"a": entry("F33", [2, 2], 0, 16)}))
add("dtype-lower", "dtype-unknown", "rejects", "A29", pack({"a": entry("f32", [2, 2], 0, 16)}))
add("dtype-empty", "dtype-unknown", "rejects", "A29", pack({"a": entry("", [2, 2], 0, 16)}))
add(
    "misaligned-f4",
    "tensor-misaligned",
    "rejects",
    "A29",
    pack({"a": entry("F4", [3], 0, 2)}, DATA[:2]),
)
add(
    "misaligned-f6",
    "tensor-misaligned",
    "rejects",
    "F6",
    pack({"a": entry("F6_E3M2", [2], 0, 2)}, DATA[:2]),
)

add(
    "field-extra",
    "header-unknown-field",
    "accepts",
    "A30: one more member, a place to hide data",
    with_fields(f'{F},{S},{OFF},"x":"hidden"'),
)
add(
    "field-case",
    "header-unknown-field",
    "rejects",
    "`Dtype` is not `dtype`",
    with_fields(f'"Dtype":"F32",{S},{OFF}'),
)
add(
    "entry-array",
    "tensor-entry",
    "accepts",
    "A31: serde's array form",
    pack('{"a":["F32",[2,2],[0,16]]}'),
)
add("entry-null", "tensor-entry", "rejects", "null", pack('{"a":null}', b""))
add("entry-string", "tensor-entry", "rejects", "a string", pack('{"a":"F32"}', b""))
add("entry-number", "tensor-entry", "rejects", "a number", pack('{"a":1}', b""))
add("entry-empty", "tensor-entry", "rejects", "no members", pack('{"a":{}}', b""))
add("entry-no-dtype", "tensor-entry", "rejects", "A32", with_fields(f"{S},{OFF}"))
add("entry-no-shape", "tensor-entry", "rejects", "A32", with_fields(f"{F},{OFF}"))
add("entry-no-offsets", "tensor-entry", "rejects", "A32", with_fields(f"{F},{S}"))
add(
    "entry-offsets-3",
    "tensor-entry",
    "rejects",
    "A32: three offsets",
    with_fields(f'{F},{S},"data_offsets":[0,16,16]'),
)
for label, offsets in (
    ("object", '{"begin":0,"end":16}'),
    ("null", "null"),
    ("string", '["0","16"]'),
    ("float", "[0.0,16.0]"),
    ("exponent", "[0,16e0]"),
    ("bool", "[false,16]"),
    ("nested", "[[0],16]"),
    ("minus-zero", "[-0,16]"),
):
    add(
        f"entry-offsets-{label}",
        "tensor-entry",
        "rejects",
        "A32: an offset that is no integer from 0",
        with_fields(f'{F},{S},"data_offsets":{offsets}'),
    )
for label, written in (
    ("object", '{"0":2}'),
    ("string", '"2,2"'),
    ("float", "[2.0,2]"),
    ("bool", "[true,4]"),
    ("negative", "[-2,-2]"),
    ("null", "[null]"),
    ("nested", "[[2],2]"),
):
    add(
        f"entry-shape-{label}",
        "tensor-entry",
        "rejects",
        "a shape that is no array of integers from 0; two negatives multiply to a positive",
        with_fields(f'{F},"shape":{written},{OFF}'),
    )
for label, written, reference in (
    ("number", "32", "rejects"),
    ("array", '["F32"]', "rejects"),
    ("null", "null", "rejects"),
    ("object", '{"F32":null}', "accepts"),
):
    add(
        f"entry-dtype-{label}",
        "tensor-entry",
        reference,
        "a dtype that is no string; serde reads an enum from an object too",
        with_fields(f'"dtype":{written},{S},{OFF}'),
    )
add(
    "entry-leading-zero",
    "header-json",
    "rejects",
    "016",
    with_fields(f'{F},{S},"data_offsets":[0,016]'),
)
add(
    "rank-33",
    "tensor-rank",
    "accepts",
    "A40: 33 dimensions",
    pack({"a": entry("U8", [1] * 33, 0, 1)}, b"x"),
)
add("ok-rank-32", "ok", "accepts", "32 dimensions", pack({"a": entry("U8", [1] * 32, 0, 1)}, b"x"))

add(
    "metadata-null",
    "header-metadata",
    "accepts",
    "A34",
    pack('{"__metadata__":null,' + A_TEXT + "}"),
)
add(
    "metadata-array",
    "header-metadata",
    "rejects",
    "A34",
    pack('{"__metadata__":[],' + A_TEXT + "}"),
)
add(
    "metadata-number",
    "header-metadata",
    "rejects",
    "a value that is no string",
    pack('{"__metadata__":{"k":1}}', b""),
)
add(
    "metadata-nested",
    "header-metadata",
    "rejects",
    "a value that is an object",
    pack('{"__metadata__":{"k":{}}}', b""),
)
add(
    "metadata-tensor",
    "header-metadata",
    "rejects",
    "A35: a tensor of this name (issue #849)",
    named("__metadata__"),
)

for label, name in (
    ("empty", ""),
    ("nul", "a\0b"),
    ("escape", "\x1b]0;pwned\x07"),
    ("newline", "a\nb"),
    ("traversal", "../../etc/passwd"),
    ("dots", ".."),
    ("dots-inside", "a/../b"),
    ("absolute", "/etc/passwd"),
    ("backslash", "..\\evil"),
    ("bidi", "a\u202eb"),
    ("zero-width", "a\u200bb"),
    ("filler", "a\u3164b"),
    ("no-break-space", "a\u00a0b"),
    ("not-nfc", "e\u0301"),
    ("long", "x" * 1025),
):
    add(
        f"name-{label}",
        "tensor-name",
        "accepts",
        "A37: a name that hides, walks or cannot be shown",
        named(name),
    )
add("ok-name-1024", "ok", "accepts", "the longest name", named("x" * 1024))
add("ok-name-unicode", "ok", "accepts", "a name in Chinese", named("层.0.权重"))
add("ok-name-dots", "ok", "accepts", "dots that are no component", named("a..b"))


add(
    "ok-twins",
    "ok, warns tensor-name-twins",
    "accepts",
    "names that differ in case only are two tensors, and confusing",
    pack({"Wq": entry("F32", [2], 0, 8), "wq": entry("F32", [2], 8, 16)}),
)


def main() -> None:
    for old in HERE.glob("*.vec"):
        old.unlink()
    for name, (expect, reference, why, raw) in VECTORS.items():
        heading = f"expect: {expect}\nreference: {reference}\nwhy: {why}\n\n"
        (HERE / f"{name}.vec").write_bytes(heading.encode() + raw)


if __name__ == "__main__":
    main()
