"""References are read strictly, and trusted only as signed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.endpoints.prompt_set import SCHEMA as PROMPTS
from r1prov.endpoints.prompt_set import builtin_prompts, parse_prompts
from r1prov.endpoints.reference import (
    Completion,
    EndpointReference,
    QuestionResults,
    RecordedPrompt,
    Sampling,
    VerifiedWeights,
    parse_reference,
    write_reference,
)
from r1prov.endpoints.reference_trust import bundle_path, load_reference, sign_reference
from r1prov.errors import EndpointReferenceError, InputError, R1ProvError
from r1prov.trust.keys import generate_private_key
from r1prov.trust.store import TrustedKey, TrustStore

NOW = datetime(2026, 11, 25, tzinfo=UTC)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
completions = st.builds(
    Completion,
    reasoning=text,
    content=text,
    finish_reason=st.none() | st.just("stop"),
    seconds=st.none() | st.just(0.25),
)
prompts = st.builds(
    RecordedPrompt,
    id=names,
    text=names,
    completions=st.lists(completions, max_size=3).map(tuple),
    first_tokens=st.lists(
        st.dictionaries(names, st.floats(-20, 0), min_size=1, max_size=3), max_size=2
    ).map(tuple),
)
references = st.builds(
    EndpointReference,
    model=names,
    endpoint=names,
    asked_model=names,
    recorded_at=st.just(NOW),
    version=names,
    sampling=st.builds(Sampling, max_tokens=st.integers(1, 99), temperature=st.floats(0, 2)),
    prompts=st.lists(prompts, min_size=1, max_size=3, unique_by=lambda one: one.id).map(tuple),
    weights=st.none()
    | st.just(VerifiedWeights(manifest="m", manifest_sha256="a" * 64, tree_digest="t")),
    border=st.lists(prompts, max_size=2, unique_by=lambda one: one.id).map(tuple),
    questions=st.none()
    | st.just(QuestionResults(sha256="b" * 64, max_tokens=9, right={"q1": True, "q2": False})),
)


@given(references)
def test_what_was_written_is_read(reference):
    raw = write_reference(reference)
    assert raw.isascii()
    assert parse_reference(raw, subject="r") == reference


REFERENCE = EndpointReference(
    model="DeepSeek-R1",
    endpoint="http://127.0.0.1/v1",
    asked_model="r1",
    recorded_at=NOW,
    version="1",
    sampling=Sampling(),
    prompts=(
        RecordedPrompt(
            id="p",
            text="hi",
            completions=(Completion(reasoning=" a\n", content="b "),) * 2,
            first_tokens=({"61": -0.5},),
        ),
    ),
)
RAW = write_reference(REFERENCE)


@given(st.data())
def test_no_other_bytes_leak_a_foreign_error(data):
    at = data.draw(st.integers(0, len(RAW) - 1))
    changed = RAW[:at] + data.draw(st.binary(max_size=3)) + RAW[at + data.draw(st.integers(0, 4)) :]
    try:
        parse_reference(changed, subject="r")
    except R1ProvError as error:
        told = error
        assert told.message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "r1prov/endpoint-reference/2"),
        (("extra",), 1),
        (("model",), ""),
        (("recorded_at",), "2026-11-25"),
        (("sampling", "max_tokens"), -1),
        (("sampling", "max_tokens"), True),
        (("sampling", "temperature"), "1"),
        (("sampling", "seed"), 1),
        (("prompts",), []),
        (("prompts",), [5]),
        (("prompts", 0, "id"), 5),
        (("prompts", 0, "first_tokens"), [{"a": 0.5}]),
        (("prompts", 0, "first_tokens"), [{"a": True}]),
        (("prompts", 0, "completions", 0, "seconds"), -1),
        (("prompts", 0, "completions", 0, "content"), None),
        (("questions",), {"sha256": "x", "max_tokens": 1, "right": {}}),
        (("questions",), {"sha256": "a" * 64, "max_tokens": 1, "right": {"q": 1}}),
        (("weights",), {"manifest": "m"}),
    ],
)
def test_what_is_not_of_the_schema_is_refused(path, value):
    top = json.loads(RAW)
    at = top
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(EndpointReferenceError) as caught:
        parse_reference(json.dumps(top).encode(), subject="r.json")
    assert caught.value.subject == "r.json"


def test_a_missing_member_and_two_prompts_of_one_name_are_refused():
    top = json.loads(RAW)
    del top["weights"]
    with pytest.raises(EndpointReferenceError, match="`weights`"):
        parse_reference(json.dumps(top).encode(), subject="r")
    top = json.loads(RAW)
    top["prompts"] *= 2
    with pytest.raises(EndpointReferenceError, match="two prompts of one name"):
        parse_reference(json.dumps(top).encode(), subject="r")


def test_texts_are_compared_whatever_field_the_reasoning_was_in():
    assert REFERENCE.completions() == {"p": ["a\n\nb"] * 2}
    assert Completion(reasoning="", content=" a\n").text == "a"


@pytest.fixture(scope="module")
def key():
    return generate_private_key("ed25519")


def store(key, models=("DeepSeek-*",)):
    trusted = TrustedKey(
        key=key.public,
        file="k",
        owner="me",
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        valid_until=datetime(2027, 1, 1, tzinfo=UTC),
        models=models,
    )
    return TrustStore(keys=(trusted,), thresholds=(), locations=())


def test_a_reference_is_used_only_as_somebody_trusted_signed_it(key, tmp_path):
    path = tmp_path / "r[1].json"  # a name that is a pattern
    path.write_bytes(RAW)
    with pytest.raises(EndpointReferenceError, match="no signature beside it"):
        load_reference(path, store(key), now=NOW)
    used = load_reference(path, store(key), now=NOW, unsigned=True)
    assert [one.rule.name for one in used.findings] == ["reference-unsigned"]
    bundle = bundle_path(path, key)
    bundle.write_bytes(sign_reference(RAW, key))
    used = load_reference(path, store(key), now=NOW)
    assert (used.reference, used.findings) == (REFERENCE, ())
    assert "good signature" in used.signers[0]
    with pytest.raises(EndpointReferenceError, match="may sign acme-"):
        load_reference(path, store(key, ("acme-*",)), now=NOW)
    # Signed and changed is worse than unsigned: no option takes it.
    path.write_bytes(RAW.replace(b'"hi"', b'"ho"'))
    for unsigned in (False, True):
        with pytest.raises(EndpointReferenceError, match="not the one that was signed"):
            load_reference(path, store(key), now=NOW, unsigned=unsigned)
    bundle.write_bytes(b"{}")
    with pytest.raises(R1ProvError):
        load_reference(path, store(key), now=NOW, unsigned=True)


def test_prompts_that_ship_are_plain_and_those_of_a_user_are_read():
    shipped = builtin_prompts()
    assert len(shipped) == 24
    assert not any("r1" in one.text.lower() or "deepseek" in one.text.lower() for one in shipped)
    assert [one.id for one in parse_prompts("\ufeffa\n\n 中 \n".encode(), subject="p")] == [
        "p1",
        "p2",
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"a\na\n",
        b"{",
        b'{"schema":"x","prompts":[]}',
        *(
            json.dumps({"schema": PROMPTS, "prompts": rows}).encode()
            for rows in (
                [],
                [5],
                [{"id": "a"}],
                [{"id": "a", "prompt": ""}],
                [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}],
            )
        ),
    ],
)
def test_what_is_no_set_of_prompts_is_refused(raw):
    with pytest.raises(InputError):
        parse_prompts(raw, subject="p")


@pytest.mark.parametrize("raw", [b"{}", b'{"schema":"r1prov/endpoint-plan/1"}'])
def test_another_file_is_told_what_writes_references(raw):
    with pytest.raises(EndpointReferenceError, match="is no reference") as caught:
        parse_reference(raw, subject="config.json")
    assert caught.value.subject == "config.json"
    assert "endpoint record" in str(caught.value.hint)
