"""The signed model of the tests of this folder, once a module; audits of endpoints, once."""

from audit_case import caught, liar, made
from evidence_case import case, raw
from persona_fixtures import start, tokenizers

__all__ = ["case", "caught", "liar", "made", "raw", "start", "tokenizers"]
