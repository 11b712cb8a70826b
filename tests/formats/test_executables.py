from __future__ import annotations

import collections
import contextlib
import io
import pickle
import struct
import sys
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.formats.executables import (
    classify,
    foreign_kind,
    trailing_kind,
)
from r1prov.formats.pickles import is_data_pickle, pickle_imports

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


# Calls `posix.getpid` once something lies on the stack.
CALL = b"0cposix\ngetpid\n(tR."

IMPORT = b"cposix\ngetpid\n."

RUNNING = [
    b"N" + CALL,
    # Spell the header of a safetensors file, or of a GGUF file.
    b"X\x04\0\0\0\0\0\0{" + CALL,
    b"GGUF" + struct.pack("<I", 3) + bytes([1, 88, 2, *bytes(5), 88, 3, *bytes(6)]) + b"00" + CALL,
    # Arguments that `pickletools` refuses and an unpickler takes.
    b"L0x1L\n" + CALL,
    b"I0x1\n" + CALL,
    b"I1\0 of text\n" + CALL,
    b"I\0\n" + CALL,
    b"F1\0 of text\n" + CALL,
    b"Np1\0x\ng1\0y\n" + CALL,
    b"Np 10\ng1_0\n" + CALL,
    # A mark is popped, a value is duplicated and comes back from the memo.
    b"(0N2q\x00h\x000" + CALL,
    # Calls by other operations than REDUCE.
    b"(icollections\nOrderedDict\n.",
    b"(ccollections\nOrderedDict\no.",
    b"ccollections\nOrderedDict\n)\x81.",
    b"ccollections\nOrderedDict\n)}\x92.",
    b"\x8c\x05posix\x8c\x06getpid\x93)R.",
    b"csys\n_xoptions\nVr1prov\nV1\ns.",
    b"csys\npath\n(e.",
    b"carray\narray\n}b.",
    b"Nq\x00cposix\ngetpid\nq\x010h\x01(tR.",
    # Data first: some loaders read one pickle after the other.
    b"N.N" + CALL,
    IMPORT,
]


@pytest.mark.parametrize("data", RUNNING)
def test_whatever_an_unpickler_carries_out_is_a_pickle(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys._xoptions, "r1prov", "0")  # is put back afterwards
    with contextlib.suppress(AttributeError, TypeError):  # BUILD of a class that holds no state
        pickle.loads(data)
    for name in ("vocab.txt", "model.safetensors", "model.gguf"):
        assert classify(name, data) == "Python pickle"
        assert classify(name, data + b"\nmore") == "Python pickle"
        # What was called has run, whatever the bytes behind it are.
        if data != IMPORT:
            assert classify(name, data[:-1] + b"\xff") == "Python pickle"
    assert pickle_imports(data) != []
    assert not is_data_pickle(data)


def test_what_only_the_pure_unpickler_takes_is_a_pickle() -> None:
    for data in (b"cposix\ngetpid\n]R.", b"F1_0\n" + CALL):
        with pytest.raises((TypeError, ValueError)):
            pickle.loads(data)
        assert pickle._loads(data) > 0  # type: ignore[attr-defined]
        assert classify("vocab.txt", data) == "Python pickle"


TEXTS = [
    "cat\ndog\n",
    "cat\nhot dog\n)R",
    "cat\ndog\nS'mores\nant\n",
    "]Na\n",
    "i\nme\nmy\nmyself\n",
    "i n\nt h\na n\n",
    "imageio==2.34\nnumpy\ntorch\n",
    "import this model\nfrom the Hub\nby hand\n",
    "cc-by-4.0\n\nReleased",
    "cc_by\n4.0\nReleased",
    "(c) 2024 Acme\nAll rights reserved.\nby using it\n",
    "cat\ndog\nbird\n",
    "cat\ndog\nrabbit\nRed\n",
    "cat\ndog\nIguana\nant\n",
    "cat\ndog\nFerret\nant\n",
    "cat\ndog\nLion\nant\n",
    "cat\ndog\nPanda\nbear\n",
    "cat\ndog\nSquid\nant\n",
    "cat\r\ndog\r\n)R",
    "cat\ndog\ngnu\nant\n",
    "cat\ndog\npuma\n)R",
    "cat\ndog\ntapir\n",
    "cat\ndog\n(o",
    "(internal)\nfoo\nbar\n",
    "internlm notes\nof\nbuilds\n",
    "internlm\nnotes\nof builds\n",
    "2 apples\n",
    "VR1\nNR",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_no_pickle(text: str) -> None:
    # A text that is longer than the head is judged by the head.
    for data in (text.encode(), (text + "more of it\n" * 500).encode()):
        with pytest.raises((pickle.UnpicklingError, EOFError, ImportError, ValueError, TypeError)):
            pickle.loads(data)
        assert classify("README.md", data) is None


def test_a_start_with_a_protocol_is_enough() -> None:
    assert classify("x", b"\x80\x02}q\0N\xff") == "Python pickle"
    assert classify("x", b"\x80\x04\x95\x10\0") == "Python pickle"
    assert classify("x", b"\x80\x02}\xff") is None


def test_each_pickle_has_a_stack_of_its_own() -> None:
    # The second one takes a value that the first left behind.
    assert classify("x", b"NN." + CALL) is None
    assert pickle_imports(b"NN." + CALL) == []
    assert pickle_imports(b"N.N" + CALL) == ["posix.getpid"]


def test_a_head_that_is_cut_after_an_import_is_a_pickle() -> None:
    data = b"cposix\ngetpid\n(X\0\x20\0\0" + b"a" * 8192 + b"tR."
    assert classify("vocab.txt", data[:4096]) == "Python pickle"
    # Nothing tells such a head from any other: the docstring of `classify` says so.
    data = b"X\0\x20\0\0" + b"a" * 8192 + CALL
    assert isinstance(pickle.loads(data), int)
    assert classify("vocab.txt", data) is None
    assert pickle_imports(data) == ["posix.getpid"]


def test_header_lengths_and_magic() -> None:
    # No length of a header makes a pickle; 0x95_04_80 spells PROTO 4 and FRAME.
    for length in (896, 0x03_02_80, 0x7D_02_80, 0x95_04_80):
        assert classify("m.safetensors", struct.pack("<Q", length) + b'{"__metadata__":{}}') is None
    assert classify("m.gguf", b"GGUF" + struct.pack("<IQQ", 3, 1025, 40)) is None
    # Others do spell magic bytes, and so does a program whose maker put `{` behind them: whoever
    # asks has found no well-formed header.
    for length, kind in ((8_483, "script"), (23_117, "Windows program"), (559_903, "archive")):
        assert classify("m.safetensors", struct.pack("<Q", length) + b'{"a"') == kind


def test_data_pickles() -> None:
    # ModelScope's `.msc` and `.mdl`.
    files = [{"Path": f"model-{i}.safetensors", "Revision": "f" * 40} for i in range(300)]
    for value in (
        files,
        {"id": "deepseek-ai/DeepSeek-R1"},
        [],
        {"a": (1, 2.5, None, True, 1 << 70)},
    ):
        for protocol in range(6):
            data = pickle.dumps(value, protocol)
            assert is_data_pickle(data)
            assert not is_data_pickle(data[:-1])
            assert not is_data_pickle(data + b"\0")
            assert not is_data_pickle(data + data)
            assert not is_data_pickle(b"N" + data)
    for data in PICKLES:
        assert not is_data_pickle(data)
    for text in (
        b"",
        b".",
        b"(.",
        b"Px\n.",
        b"NQ.",
        b"\x82\x01.",
        b"]Nb.",
        b"\x80\x06N.",
        b"h\0.",
        b"T\0\0\0\x88N.",
    ):
        assert not is_data_pickle(text)


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
    assert pickle_imports(b"\x82\x01)R.") == ["?"]
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
        is_data_pickle(head)


pieces = st.sampled_from(
    [
        *(bytes([code]) for code in b"().012NRabdelostu]}"),
        *(b"\x81", b"\x85", b"\x86", b"\x87", b"\x88", b"\x8f", b"\x90", b"\x91", b"\x92", b"\x93"),
        *(
            b"\x94",
            b"h\0",
            b"q\0",
            b"g0\n",
            b"p0\n",
            b"I1\n",
            b"L1L\n",
            b"F1\n",
            b"Va\n",
            b"S'a'\n",
        ),
        *(b"cbuiltins\nlen\n", b"ibuiltins\nlist\n", b"K\1", b"\x8c\1a", b"C\1a", b"J\0\0\0\0"),
    ]
)


@settings(max_examples=1000)
@given(st.lists(pieces, max_size=12).map(b"".join))
def test_what_unpickles_is_understood(data: bytes) -> None:
    data += b"."
    for loads in (pickle.loads, pickle._loads):  # type: ignore[attr-defined]
        try:
            loads(data)
        except Exception:  # noqa: BLE001 - whatever the unpickler makes of it
            continue
        imports = b"builtins" in data[: data.index(b".") + 1]
        assert imports <= (classify("x", data) == "Python pickle")
