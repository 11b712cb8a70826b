"""A chain of bundles: what breaks it, and what it says has changed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from evidence_case import Case, call, members_of, replace_model, resigned, rezip

from r1prov.errors import LimitExceeded, UsageError
from r1prov.evidence import chain as chains
from r1prov.evidence.bag import INDEX
from r1prov.evidence.chain import Chain, read_chain
from r1prov.evidence.index import Previous
from r1prov.evidence.verify import Demands
from r1prov.trust.keys import parse_private_key
from r1prov.verify.findings import Verdict
from r1prov.verify.local import load_authorities
from r1prov.verify.policy import Scope

NOW = datetime.now(UTC).replace(microsecond=0)
Log = Callable[..., Chain]


@pytest.fixture
def log(case: Case, tmp_path: Path) -> Log:
    def reading(**demands: Any) -> Chain:
        return read_chain(
            tmp_path, load_authorities(case.keys), now=datetime.now(UTC), demands=Demands(**demands)
        )

    return reading


def put(case: Case, folder: Path, name: str, **more: Any) -> Path:
    path = folder / name
    path.write_bytes(case.bundle(**more))
    return path


def messages(chain: Chain) -> list[tuple[str, str, str]]:
    return [(one.rule.name, one.subject, one.message) for one in chain.findings]


def test_what_changed(case: Case, tmp_path: Path, log: Log) -> None:
    now = datetime.now(UTC)  # the keys are valid from when they were added
    first = put(case, tmp_path, "a.zip", now=now)
    copy = tmp_path / "copy"
    shutil.copytree(case.model, copy)
    (copy / "tokenizer_config.json").write_text('{"x":1}')
    weights = replace_model(case, copy)
    soon, later = now + timedelta(seconds=2), now + timedelta(seconds=4)
    second = put(weights, tmp_path, "b.zip", now=soon, previous=first, scope=Scope.WEIGHTS)
    draft = weights.draft(previous=second, scope=Scope.WEIGHTS, now=later)
    other = parse_private_key((case.folder / "k.key").read_bytes(), None, subject="k")
    (tmp_path / "c.zip").write_bytes(draft.archive(draft.signature(other)))
    chain = log()
    assert chain.verdict is Verdict.PASS, messages(chain)
    changes = [{one.what for one in link.changes} for link in chain.links]
    assert changes == [set(), {"tokenizer_config.json", "scope"}, {"signer"}]
    last = chain.links[2].changes[0]
    assert last.before is not None
    assert last.before.startswith("maker, key ")
    # What the verifier asks for is asked of each of them.
    assert log(scope=Scope.ALL).verdict is Verdict.FAIL
    assert log(expect="DeepSeek-R1").verdict is Verdict.FAIL
    assert log(signers=2).verdict is Verdict.FAIL


def test_a_file_that_was_not_hashed_is_not_gone(case: Case, tmp_path: Path, log: Log) -> None:
    """Another size is enough to refuse a file, so nobody hashed it; and a link has no content."""
    now = datetime.now(UTC)
    first = put(case, tmp_path, "a.zip", now=now)
    copy = tmp_path / "copy"
    shutil.copytree(case.model, copy)
    (copy / "tokenizer_config.json").write_text('{"longer": true}')
    (copy / "more.json").symlink_to("config.json")
    put(
        replace_model(case, copy), tmp_path, "b.zip", now=now + timedelta(seconds=2), previous=first
    )
    changes = {one.what: (one.before, one.after) for one in log().links[1].changes}
    before, after = changes["tokenizer_config.json"]
    assert before is not None
    assert len(before) == 64
    assert after == "file, 16 bytes, not hashed"
    assert changes["more.json"] == (None, "link, 0 bytes, not hashed")


def test_the_same_file_twice(case: Case, tmp_path: Path, log: Log) -> None:
    first = put(case, tmp_path, "a.zip", now=NOW - timedelta(days=1))
    put(case, tmp_path, "b.zip", previous=first)
    shutil.copy(first, tmp_path / "z.zip")
    chain = log()
    assert messages(chain) == [("evidence-chain", "z.zip", "is the same file as a.zip")]
    assert [one.result.subject for one in chain.links] == ["a.zip", "b.zip"]


def test_a_fork_shows_both(case: Case, tmp_path: Path, log: Log) -> None:
    first = put(case, tmp_path, "a.zip", now=NOW - timedelta(days=3))
    for day, name in ((2, "b.zip"), (1, "c.zip")):
        put(case, tmp_path, name, previous=first, now=NOW - timedelta(days=day))
    chain = log()
    assert [one.result.subject for one in chain.links] == ["a.zip", "b.zip", "c.zip"]
    assert messages(chain) == [("evidence-chain", "c.zip", "continues a.zip, as b.zip does")]


def test_two_beginnings_and_one_that_is_gone(case: Case, tmp_path: Path, log: Log) -> None:
    first = put(case, tmp_path, "a.zip", now=NOW - timedelta(days=2))
    put(case, tmp_path, "b.zip", previous=first, now=NOW - timedelta(days=1))
    put(case, tmp_path, "c.zip")
    assert "2 chains begin here: a.zip, c.zip" in str(messages(log()))
    first.unlink()
    assert "or was replaced" in str(messages(log()))


def test_a_link_that_its_maker_invented(case: Case, raw: bytes, tmp_path: Path, log: Log) -> None:
    """Of another model, to itself, back in time: each by the maker's own signature."""
    first = put(case, tmp_path, "a.zip", now=NOW - timedelta(days=1))
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    created = NOW - timedelta(days=1)
    for link, made, says in (
        (Previous(sha256=digest, created=created - timedelta(days=9)), NOW, "times of it"),
        (Previous(sha256=digest, created=created), created - timedelta(hours=1), "times of it"),
        (Previous(sha256="0" * 64, created=created), NOW, "is not here"),
    ):
        forged = resigned(case, raw, previous=link, created=made)
        (tmp_path / "b.zip").write_bytes(forged)
        chain = log()
        assert chain.verdict is Verdict.FAIL
        assert says in str(messages(chain))


def test_another_model_does_not_continue(case: Case, tmp_path: Path) -> None:
    first = put(case, tmp_path, "a.zip")
    other = tmp_path / "m2.toml"
    call("manifest", "create", str(case.model), "--name", "m2", "-o", str(other))
    call("manifest", "sign", str(other), "--key", str(case.folder / "k.key"))
    with pytest.raises(UsageError, match="this model is m2"):
        case.draft(previous=first, manifest=str(other))
    # By a maker who writes it down all the same.
    draft = case.draft(manifest=str(other))
    link = Previous(sha256=hashlib.sha256(first.read_bytes()).hexdigest(), created=NOW)
    draft = replace(draft, index=replace(draft.index, previous=link))
    (tmp_path / "b.zip").write_bytes(draft.archive(draft.signature(case.maker)))
    chain = read_chain(tmp_path, load_authorities(case.keys), now=datetime.now(UTC))
    assert "is about m2, and continues one about m" in str(messages(chain))


def test_a_file_that_says_much_is_told_in_few_words(
    case: Case, raw: bytes, tmp_path: Path, log: Log
) -> None:
    """What nobody signed gets into no message as it is, however long."""
    index = b'{"schema":"' + b"a" * 1_000_000 + b'"}'
    (tmp_path / "a.zip").write_bytes(rezip(members_of(raw) | {INDEX: index}))
    (tmp_path / "b.zip").write_bytes(b"PK")
    long, none = log().findings
    assert long.message.startswith("schema is `aaa")
    assert len(long.message) < 500
    assert none.message.startswith("it does not begin with a member")


def test_what_is_no_bundle_and_too_many(
    case: Case, raw: bytes, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(raw)
    (tmp_path / "d.zip").mkdir()
    (tmp_path / "e.zip").symlink_to("nowhere")
    (tmp_path / "notes.txt").write_text("x")
    chain = log()
    assert [one.subject for one in chain.findings] == ["d.zip", "e.zip"]
    assert len(chain.links) == 1
    monkeypatch.setattr(chains, "MAX_EVIDENCE_CHAIN", 2)
    with pytest.raises(LimitExceeded):
        log()
