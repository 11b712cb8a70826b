"""Rules on evidence bundles: 98x what a bundle holds and who signed it, 99x its chain."""

from __future__ import annotations

from r1prov.verify.rule import Row, Severity

_E = Severity.ERROR
_GET_AGAIN = (
    "Somebody changed the bundle after it was signed. Get it again from whoever made it, and hold "
    "its SHA-256 against the one that both sides noted."
)

EVIDENCE: tuple[Row, ...] = (
    ("980", "evidence-member", "A member is not the one that was signed", _E, _GET_AGAIN),
    ("981", "evidence-missing", "A member that was signed is missing", _E, _GET_AGAIN),
    ("982", "evidence-extra", "A member was added that nobody signed", _E, _GET_AGAIN),
    (
        "983",
        "evidence-signature",
        "The signature of the bundle does not count",
        _E,
        "Without a good signature of a pinned key nobody stands for what the bundle says. Pin the "
        "maker's key with --keys once you have it from the maker by another way.",
    ),
    (
        "984",
        "evidence-verdict",
        "The report in the bundle says something else than its evidence",
        _E,
        "The verdict that counts is the recomputed one. Ask the maker for the run behind it.",
    ),
    (
        "985",
        "evidence-model",
        "The model at hand is not the one of the bundle",
        _E,
        "It was changed since, or it is another. `r1prov verify` says what it is now.",
    ),
    (
        "986",
        "evidence-time",
        "The bundle says that it was made at a time that cannot be",
        _E,
        "Check the clocks of both machines.",
    ),
    (
        "990",
        "evidence-previous",
        "A bundle names a previous one that does not fit",
        _E,
        "A bundle of the chain was replaced, reordered, or is of another model.",
    ),
    (
        "991",
        "evidence-chain",
        "The bundles do not form one chain",
        _E,
        "One is missing, or two continue the same one. Ask for all of them.",
    ),
    (
        "992",
        "evidence-timestamp",
        "No timestamp that counts proves when the bundle was signed",
        _E,
        "It was asked for with --timestamped. Pin the authority (`r1prov key add "
        "--timestamp-authority`), or have the maker add one: `r1prov evidence timestamp BUNDLE "
        "--timestamp-url URL -o FILE`.",
    ),
)
