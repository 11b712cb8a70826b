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


# Where members of a kind stand: one file, or all below a folder. Without it a member could be of a
# kind that nobody looks at under that name.
PLACES: Final = {
    Kind.REPORT: "report/report.json",
    Kind.MODEL: "model/",
    Kind.MANIFEST: "manifest/",
    Kind.POLICY: "policy/policy.toml",
    Kind.TRUST: "trust/",
    Kind.EXCHANGES: "exchanges/",
    Kind.ENVIRONMENT: "environment/environment.json",
}
DEFAULT: Final = frozenset(Kind) - {Kind.FILES}
# Without these nothing can be recomputed.
NEEDED: Final = frozenset({Kind.MODEL, Kind.MANIFEST})


def out_of_place(kind: Kind, path: str) -> bool:
    """Whether a member stands where no member of its kind does."""
    place = PLACES.get(kind)
    if place is None:
        # A kind with a folder of its own may not stand in that of another.
        return path.partition("/")[0] in {one.partition("/")[0] for one in PLACES.values()}
    return not path.startswith(place) if place.endswith("/") else path != place


def chosen(include: frozenset[Kind], exclude: frozenset[Kind]) -> frozenset[Kind]:
    """The kinds that are wanted: the default ones, those named, without those left out."""
    return (DEFAULT | include) - exclude
