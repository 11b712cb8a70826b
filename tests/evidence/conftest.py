"""The signed model of the tests of this folder, once a module; endpoints that are audited."""

from evidence_case import case, raw
from persona_fixtures import start, tokenizers

__all__ = ["case", "raw", "start", "tokenizers"]
