"""Digests of byte ranges in the pass that hashes the blob."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ChangedWhileReading
from r1prov.hashing.digest import BlobDigest
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.hashing.extents import Extent, ExtentHasher
from r1prov.limits import HASH_BUFFER_BYTES
from r1prov.stores.local import LocalStore


def expected(data, extents):
    return {
        extent.name: hashlib.sha256(data[extent.begin : extent.end]).hexdigest()
        for extent in extents
    }


@st.composite
def layouts(draw):
    """Extents with gaps and empty ones, in any order, in a blob with bytes before and after."""
    position = draw(st.integers(0, 20))
    extents = []
    for number in range(draw(st.integers(0, 12))):
        begin = position + draw(st.sampled_from([0, 0, 0, 1, 7]))
        position = begin + draw(st.integers(0, 40))
        extents.append(Extent(f"tensor {number}", begin, position))
    return draw(st.permutations(extents)), position + draw(st.integers(0, 20))


@given(layouts(), st.lists(st.integers(1, 50), min_size=1), st.randoms(use_true_random=False))
def test_any_layout_in_any_chunks_gives_the_digests_of_hashlib(layout, steps, random):
    extents, size = layout
    data = random.randbytes(size)
    hasher = ExtentHasher(extents, size)
    position = 0
    while position < size:
        step = steps[position % len(steps)]
        hasher.update(memoryview(data)[position : position + step])
        position += step
    assert hasher.digests() == expected(data, extents)


def test_digests_come_in_the_order_of_the_blob():
    hasher = ExtentHasher([Extent("b", 1, 2), Extent("a", 0, 1), Extent("c", 1, 1)], 2)
    hasher.update(memoryview(b"xy"))
    assert list(hasher.digests()) == ["a", "c", "b"]


@pytest.mark.parametrize(
    "extents",
    [
        [Extent("a", 0, 2), Extent("b", 1, 3)],
        [Extent("a", 0, 3), Extent("b", 1, 1)],
        [Extent("a", 2, 1)],
        [Extent("a", -1, 1)],
        [Extent("a", 0, 5)],
        [Extent("a", 5, 5)],
        [Extent("a", 0, 1), Extent("a", 1, 2)],
    ],
)
def test_extents_that_no_header_has_are_a_bug_of_the_caller(extents):
    with pytest.raises(ValueError, match="extent"):
        ExtentHasher(extents, 4)


def test_a_blob_that_ends_early_gives_no_digest():
    hasher = ExtentHasher([Extent("a", 0, 2), Extent("b", 2, 4)], 4)
    hasher.update(memoryview(b"abc"))
    with pytest.raises(ValueError, match="ended before"):
        hasher.digests()


B = HASH_BUFFER_BYTES


@pytest.mark.parametrize("workers", [1, 2])
def test_one_pass_gives_file_and_extent_digests_at_every_buffer_border(tmp_path, workers):
    data = os.urandom(4 * B + 17)
    borders = [0, 0, 1, B - 1, B, B, B + 1, 2 * B, 4 * B - 3, 4 * B, len(data), len(data)]
    extents = tuple(
        Extent(str(number), begin, end)
        for number, (begin, end) in enumerate(pairwise(borders))
        if number != 6  # a gap
    )
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "c").write_bytes(data)
    jobs = [
        HashJob("a", len(data), git_blob=True, extents=extents),
        HashJob("b", 0, extents=(Extent("empty", 0, 0),)),
        HashJob("c", len(data)),
    ]
    told: list[int] = []
    result = hash_blobs(LocalStore(tmp_path).open, jobs, workers=workers, on_bytes=told.append)
    assert result.errors == {}
    assert result.digests["a"].extents == expected(data, extents)
    assert result.digests["b"].extents == {"empty": hashlib.sha256().hexdigest()}
    assert result.digests["c"].extents == {}
    whole = hashlib.sha256(data).hexdigest()
    assert result.digests["a"].sha256 == result.digests["c"].sha256 == whole
    assert sum(told) == 2 * len(data)  # read once, whatever is computed of it


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_has_no_digest_of_a_part_either(tmp_path, change):
    (tmp_path / "a").write_bytes(b"x" * (10 + change))
    job = HashJob("a", 10, extents=(Extent("t", 0, 5), Extent("u", 5, 10)))
    result = hash_blobs(LocalStore(tmp_path).open, [job])
    assert isinstance(result.errors["a"], ChangedWhileReading)
    assert result.digests == {}


def test_a_bad_extent_surfaces_in_the_caller(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    with pytest.raises(ValueError, match="outside"):
        hash_blobs(LocalStore(tmp_path).open, [HashJob("a", 10, extents=(Extent("t", 0, 11),))])


def test_memory_is_that_of_the_digests(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(64 * B)
    extents = tuple(
        Extent(str(number), number * 16 * B, (number + 1) * 16 * B) for number in range(4)
    )
    tracemalloc.start()
    try:
        result = hash_blobs(LocalStore(tmp_path).open, [HashJob("a", 64 * B, extents=extents)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    zeros = hashlib.sha256(bytes(16 * B)).hexdigest()
    assert set(result.digests["a"].extents.values()) == {zeros}
    assert peak < B + 512 * 1024


def test_each_digest_is_told_in_the_calling_thread_as_it_comes(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode())
    told: list[BlobDigest] = []
    jobs = [HashJob(name, 1) for name in ("a", "b", "c", "gone")]
    result = hash_blobs(LocalStore(tmp_path).open, jobs, on_digest=told.append)
    assert {digest.path: digest for digest in told} == result.digests
    assert set(result.errors) == {"gone"}
