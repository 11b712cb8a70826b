from __future__ import annotations

import collections
import pickle

import pytest

from r1prov.manifest.leftovers import (
    HEAD_BYTES,
    MAX_MODELSCOPE_BYTES,
    bytes_to_judge,
    is_tool_leftover,
    looks_like_leftover,
)

DS_STORE = b"\0\0\0\1Bud1\0\0\x10\0" + bytes(4084)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4088)
# What modelscope's `FileSystemCache` dumps.
MSC = pickle.dumps([{"Path": f"m-{i}.safetensors", "Revision": "f" * 40} for i in range(200)])
MDL = pickle.dumps({"id": "deepseek-ai/DeepSeek-R1"})
CALL = b"cposix\ngetpid\n(tR."


@pytest.mark.parametrize(
    ("path", "data"),
    [
        (".DS_Store", DS_STORE),
        ("sub/.DS_Store", DS_STORE),
        ("Thumbs.db", OLE),
        (".gitattributes", b"*.safetensors filter=lfs diff=lfs merge=lfs -text\r\n"),
        (".gitignore", b"# a comment\n\t*.pyc\n"),
        (".gitignore", b"a" * (HEAD_BYTES - 1) + "é".encode()[:1]),
        (".msc", MSC),
        (".msc", pickle.dumps([], 3)),
        (".mdl", MDL),
        (".mv", b"Revision:master,CreatedAt:1737344444"),
        (".mv", b"v1.0.0\n"),
        (".locks/x/y.lock", b"4711\n"),
        ("sub/a.lock", b""),
        (".DS_Store", b""),
        (".git/hooks/pre-commit", b"#!/bin/sh\n"),
        (".cache/huggingface/download/abc.incomplete", b"\x80\x04"),
    ],
)
def test_what_tools_leave(path: str, data: bytes) -> None:
    assert looks_like_leftover(path, data)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        (".DS_Store", CALL),
        (".DS_Store", b"text"),
        (".DS_Store", OLE),
        (".DS_Store", b"\0\0\0\1Bud2"),
        ("sub/Thumbs.db", DS_STORE),
        (".gitattributes", CALL),
        (".gitattributes", b"#!/bin/sh\nid\n"),
        (".gitattributes", DS_STORE),
        (".gitignore", b"a\0b"),
        (".gitignore", b"\x1b[2J"),
        (".gitignore", b"a\x7f"),
        (".gitignore", b"\xff"),
        (".gitignore", b"cut \xc3"),
        (".gitignore", b"a" * HEAD_BYTES + b"\xff"),
        (".msc", pickle.dumps(collections.OrderedDict(a=1))),
        (".msc", MSC[:-1]),
        (".msc", MSC[:HEAD_BYTES]),
        (".msc", MSC + CALL),
        (".msc", b"#!/bin/sh\n"),
        (".msc", pickle.dumps(b"PK\x05\x06" + bytes(18))),
        (".mdl", CALL),
        (".mdl", b"deepseek-ai/DeepSeek-R1"),
        (".mv", b"master\nid\n"),
        (".mv", b"master\n\n"),
        (".mv", MDL),
        (".mv", b"#!/bin/sh"),
        (".locks/x/y.lock", b"#!/bin/sh\n"),
        ("sub/a.lock", b"x"),
        ("config.json", b"{}"),
        ("sub/.msc", MSC),
        ("config.json", b""),
    ],
)
def test_what_only_bears_the_name(path: str, data: bytes) -> None:
    assert not looks_like_leftover(path, data)


@pytest.mark.parametrize(
    ("path", "most"),
    [
        *((".DS_Store", 1 << 20), ("a/.DS_Store", 1 << 20), ("a/Thumbs.db", 16 << 20)),
        *((".gitattributes", 1 << 20), (".gitignore", 1 << 20), (".mv", HEAD_BYTES)),
        *((".msc", MAX_MODELSCOPE_BYTES), (".mdl", MAX_MODELSCOPE_BYTES)),
        (".locks/a.lock", HEAD_BYTES),
    ],
)
def test_bookkeeping_is_small(path: str, most: int) -> None:
    assert is_tool_leftover(path, most)
    assert not is_tool_leftover(path, most + 1)


def test_of_pickles_all_is_judged() -> None:
    # So that none that fits the cap is cut.
    for path in (".msc", ".mdl"):
        assert bytes_to_judge(path) == MAX_MODELSCOPE_BYTES
    assert bytes_to_judge(".DS_Store") == bytes_to_judge("a/.msc") == HEAD_BYTES
    large = pickle.dumps("a" * (MAX_MODELSCOPE_BYTES - 1000))
    assert looks_like_leftover(".msc", large)
