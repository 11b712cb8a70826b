from __future__ import annotations

import hashlib

import pytest

from r1prov.errors import NameRuleError
from r1prov.hashing.digest import Fence, git_blob_id, tree_digest

A = "a" * 64
B = "b" * 64


def test_git_blob_id_is_what_git_says():
    # `printf 'hello\n' | git hash-object --stdin`, and the empty blob that every Git knows.
    assert git_blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert git_blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_tree_digest_is_the_documented_serialization():
    text = f"r1prov/tree/1\n{A} 1 a/b\n{B} 22 z\n"
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert tree_digest([("z", 22, B), ("a/b", 1, A)]) == expected


def test_tree_digest_of_nothing():
    assert tree_digest([]) == hashlib.sha256(b"r1prov/tree/1\n").hexdigest()


@pytest.mark.parametrize(
    "other", [("y", 1, A), ("x", 2, A), ("x", 1, B)], ids=["path", "size", "sha256"]
)
def test_tree_digest_binds_every_field(other):
    assert tree_digest([("x", 1, A)]) != tree_digest([other])


def test_tree_digest_sorts_by_bytes_not_by_code_units():
    # U+FF5E sorts before U+1F600 in UTF-8, after it in UTF-16.
    entries = [("\uff5e", 1, A), ("\U0001f600", 1, B)]
    lines = f"r1prov/tree/1\n{A} 1 \uff5e\n{B} 1 \U0001f600\n"
    assert tree_digest(reversed(entries)) == hashlib.sha256(lines.encode()).hexdigest()


def test_tree_digest_refuses_a_path_that_could_read_as_two_files():
    with pytest.raises(NameRuleError, match="line break"):
        tree_digest([(f"a\n{B} 1 b", 1, A)])


def test_tree_digest_takes_undecodable_bytes_and_refuses_lone_surrogates():
    expected = hashlib.sha256(b"r1prov/tree/1\n" + A.encode() + b" 1 \xff\n").hexdigest()
    assert tree_digest([("\udcff", 1, A)]) == expected
    with pytest.raises(NameRuleError, match="Unicode"):
        tree_digest([("\ud800", 1, A)])


def test_fence_names_every_change():
    fence = Fence(1, 2, 3, 4, 5)
    assert fence.changes(fence) == ""
    assert fence.changes(Fence(1, 2, 9, 4, 9)) == "size, change time"
    assert (
        fence.changes(Fence(0, 0, 0, 0, 0)) == "device, inode, size, modification time, change time"
    )
