from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.formats.executables import classify, foreign_kind, pickle_imports, trailing_kind

PICKLES = [pickle.dumps(collections.OrderedDict(a=[1, "x"]), protocol) for protocol in range(6)]


def zip_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/modeling_deepseek.py", "Python code"),
        ("MODEL.PY", "Python code"),
        ("x.ipynb", "Python code"),
        ("x.pyc", "compiled Python code"),
        ("pytorch_model.bin", "PyTorch checkpoint"),
        ("pytorch_model-00001-of-00002.bin", "PyTorch checkpoint"),
        ("optimizer.bin", "PyTorch checkpoint"),
        ("x.pt", "PyTorch checkpoint"),
        ("x.pkl", "Python pickle"),
        ("x.joblib", "joblib pickle"),
        ("run.sh", "shell script"),
        ("lib.so.1.2", "native library"),
        ("x.dll", "native library"),
        ("x.h5", "Keras HDF5 model"),
        ("x.zip", "zip archive"),
        ("config.json", None),
        ("README.md", None),
        ("ggml-model.bin", None),
        ("model.safetensors", None),
        ("LICENSE", None),
        ("py", None),
    ],
)
def test_by_name(path: str, kind: str | None) -> None:
    assert classify(path, b"") == kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x7fELF\x02\x01\x01", "ELF program"),
        (b"MZ\x90\0", "Windows program"),
        (b"\xcf\xfa\xed\xfe\x07", "Mach-O program"),
        (b"#!/bin/sh\n", "shell script"),
        (b"#!/usr/bin/env bash\n", "shell script"),
        (b"#!/usr/bin/env python3\n", "Python code"),
        (b"#!/usr/bin/perl\n", "script"),
        (zip_of("archive/data.pkl", "archive/version"), "PyTorch checkpoint (zip of pickles)"),
        (zip_of("a.txt"), "zip archive"),
        (b"\x89HDF\r\n\x1a\n", "Keras HDF5 model"),
        (b"\0asm\x01\0\0\0", "WebAssembly module"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "PyTorch checkpoint (pickles)"),
        (b"\xa7\r\r\n" + bytes(12), "compiled Python code"),
        (b"cos\nsystem\n(S'id'\ntR.", "Python pickle"),
        (b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order'", "NumPy array of pickled objects"),
        (b"\x1f\x8b\x08\0", "archive"),
        (b'{"a": 1}', None),
        (b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order'", None),
        (b"# a readme\n", None),
        (b"", None),
        (b"\x80\x02", None),
    ],
)
def test_by_content_whatever_the_name(head: bytes, kind: str | None) -> None:
    assert classify("weights", head) == kind
    if kind is not None:
        assert classify("config.json", head) == kind
        assert classify("model.safetensors", head) == kind


def test_pickles_by_content() -> None:
    for data in (*PICKLES[2:], pickle.dumps([1] * 5000, 4)):
        assert classify("vocab.txt", data) == "Python pickle"
        assert classify("vocab.txt", data[:30]) == "Python pickle"


def test_header_lengths_are_no_magic() -> None:
    # 8,483 spells `#!`, 23,117 `MZ`, 559,903 the magic of gzip, 896 a pickle.
    for length in (8_483, 23_117, 559_903, 896, 0x03_02_80, 0x7D_02_80):
        assert classify("m.safetensors", struct.pack("<Q", length) + b'{"a"') is None
    assert classify("m.gguf", b"GGUF\x03\0\0\0") is None


def test_foreign_and_trailing_kinds() -> None:
    assert foreign_kind(b"") is None
    assert "zeros" in (foreign_kind(bytes(100)) or "")
    assert foreign_kind(struct.pack("<Q", ord("{")) + b"x") is None
    assert trailing_kind(b"junk", b"junk" + zip_of("a")) == "zip archive"
    assert trailing_kind(b"junk", b"junk") is None


def test_pickle_imports() -> None:
    for data in PICKLES:
        assert pickle_imports(data) == ["collections.OrderedDict"]
    assert pickle_imports(b"".join(PICKLES) + b"cposix\nsystem\n.") == [
        "collections.OrderedDict",
        "posix.system",
    ]
    assert pickle_imports(b"(S'id'\niposix\nsystem\n.") == ["posix.system"]
    assert pickle_imports(b"") == []


def test_pickle_imports_through_the_memo() -> None:
    # Both strings come back from the memo, so that no two of them stand before STACK_GLOBAL.
    data = b"\x80\x04\x8c\x02os\x940\x8c\x06system\x940h\x00h\x01\x93."
    assert pickle_imports(data) == ["os.system"]
    # A name of numbers is no name, and must show that something is imported.
    assert pickle_imports(b"\x80\x04K\x01K\x02\x93.") == ["?.?"]
    assert pickle_imports(b"\x80\x04cos\nsystem\n\xff") == ["os.system"]


@given(st.binary(max_size=100), st.text())
def test_any_bytes_are_classified(data: bytes, name: str) -> None:
    for head in (data, b"\x80\x04" + data):
        classify(name, head)
        foreign_kind(head)
        trailing_kind(head, head)
        assert pickle_imports(head) == sorted(pickle_imports(head))
