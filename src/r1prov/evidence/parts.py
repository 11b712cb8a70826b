"""What a bundle can hold, by name: what `--include` and `--exclude` take."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """A kind of part."""

    REPORT = "report"  # the report as JSON
    MODEL = "model"  # listing, digests, headers and configs: what the verdict is recomputed from
    FILES = "files"  # whole small files beyond those, such as tokenizer, code and documents
    MANIFEST = "manifest"  # the manifest and its signatures
    POLICY = "policy"  # the policy file that was applied
    TRUST = "trust"  # trust files and public keys that the maker used
    EXCHANGES = "exchanges"  # API requests and responses
    ENDPOINT = "endpoint"  # audits of endpoints: plan, answers, reference, questions, report
    AUDIT = "audit"  # results of other tools, bound by digest only
    ENVIRONMENT = "environment"  # tool, platform, clock


DEFAULT: Final = frozenset(Kind) - {Kind.FILES}
# Without these nothing can be recomputed.
NEEDED: Final = frozenset({Kind.MODEL, Kind.MANIFEST})


def chosen(include: frozenset[Kind], exclude: frozenset[Kind]) -> frozenset[Kind]:
    """The kinds that are wanted: the default ones, those named, without those left out."""
    return (DEFAULT | include) - exclude
