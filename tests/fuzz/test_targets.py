"""The targets themselves: each takes its own seeds, and none leaks a foreign exception on them."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SPEC = importlib.util.spec_from_file_location("fuzz_targets", Path(__file__).parent / "targets.py")
assert SPEC is not None
assert SPEC.loader is not None
targets = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(targets)

# The first part of a file, or wrong input: nothing of these seeds is accepted.
REFUSES_ALL = {"gguf", "tensor-digests"}


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_target_takes_its_seeds(name: str) -> None:
    taken = [targets.run(name, data) for data in targets.seeds(name)]
    assert any(taken) != (name in REFUSES_ALL)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_nothing_foreign_leaks_one_edit_away_from_a_seed(name: str) -> None:
    seeds = [data for data in targets.seeds(name) if len(data) < 4096] or [b""]

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.sampled_from(seeds), st.integers(0, 4095), st.binary(max_size=8), st.integers(0, 8))
    def edited(data: bytes, at: int, put: bytes, dropped: int) -> None:
        targets.run(name, data[:at] + put + data[at + dropped :])

    edited()
