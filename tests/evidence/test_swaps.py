"""Two bundles of one model by the same signers: no part of one passes for a part of the other."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from evidence_case import Case, members_of, retagged, rezip, rules

from r1prov.errors import R1ProvError
from r1prov.evidence.bag import DATA, INDEX, ROOT, SIGNATURE, TAG_FILES
from r1prov.evidence.create import assemble
from r1prov.evidence.index import parse_index, payload
from r1prov.evidence.parts import DEFAULT, Kind
from r1prov.verify.findings import Verdict

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def other(case: Case) -> bytes:
    """A bundle of the same model, an hour before; its environment says so too."""
    return case.bundle(now=NOW - timedelta(hours=1))


def test_every_member_swapped(case: Case, raw: bytes, other: bytes) -> None:
    """By somebody who writes the tag files of BagIt anew, and by somebody who does not."""
    mine, theirs = members_of(raw), members_of(other)
    assert mine.keys() == theirs.keys()
    swapped = 0
    for name in mine:
        if mine[name] == theirs[name]:
            continue
        swapped += 1
        for forged in (rezip(mine | {name: theirs[name]}), retagged(mine | {name: theirs[name]})):
            if forged == raw:  # the tag files follow from the rest
                assert name in TAG_FILES
                continue
            result = case.verify(forged)
            assert result.verdict is Verdict.FAIL, name
            found = {one.subject for one in result.findings}
            if name == INDEX:
                assert "evidence-member" in rules(result)
            else:
                assert name.removeprefix(ROOT) in found
    assert swapped >= 5


def test_index_and_signature_of_the_other(case: Case, raw: bytes, other: bytes) -> None:
    mine, theirs = members_of(raw), members_of(other)
    both = {INDEX: theirs[INDEX], SIGNATURE: theirs[SIGNATURE]}
    result = case.verify(retagged(mine | both))
    assert result.verdict is Verdict.FAIL
    assert "evidence-member" in rules(result)
    assert result.report is None  # nothing is computed from members that nobody signed


def test_members_that_change_places(case: Case, raw: bytes) -> None:
    mine = members_of(raw)
    names = sorted(name for name in mine if name.startswith(DATA))
    for one, two in itertools.pairwise(names):
        result = case.verify(retagged(mine | {one: mine[two], two: mine[one]}))
        assert result.verdict is Verdict.FAIL
        found = {o.subject for o in result.findings if o.rule.name == "evidence-member"}
        assert {one.removeprefix(ROOT), two.removeprefix(ROOT)} <= found


def test_dropped_from_the_index_too(case: Case, raw: bytes) -> None:
    """A member and its line in the index: then it is another index than was signed."""
    mine = members_of(raw)
    index = parse_index(mine[INDEX], subject="b")
    for part in index.parts:
        less = [one for one in index.parts if one is not part]
        kept = {p: d for p, d in payload(mine).items() if p != part.path}
        changed = replace(index, parts=tuple(less))
        try:
            result = case.verify(assemble(changed, kept, mine[SIGNATURE]))
        except R1ProvError as error:
            assert part.kind in (Kind.MANIFEST, Kind.MODEL, Kind.POLICY), error  # noqa: PT017
            continue
        assert result.verdict is Verdict.FAIL
        assert "evidence-signature" in rules(result)


def test_a_bundle_with_nothing_left_out_and_one_with_less(case: Case, raw: bytes) -> None:
    """The signed index of the smaller one under the members of the larger one."""
    less = members_of(case.bundle(kinds=DEFAULT - {Kind.TRUST}))
    result = case.verify(retagged(members_of(raw) | {n: less[n] for n in (INDEX, SIGNATURE)}))
    assert result.verdict is Verdict.FAIL
    assert "evidence-extra" in rules(result)
