"""The signed model of the tests of this folder, once a module."""

from evidence_case import case, raw

__all__ = ["case", "raw"]
