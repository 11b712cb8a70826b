from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from r1prov.trust.keys import PrivateKey, generate_private_key


@cache
def _key(algorithm: str, number: int) -> PrivateKey:
    return generate_private_key(algorithm)


@pytest.fixture(scope="session")
def make_key() -> Callable[..., PrivateKey]:
    """Keys of a kind by number, each made once."""

    def make(algorithm: str = "ecdsa-p256", number: int = 0) -> PrivateKey:
        return _key(algorithm, number)

    return make
