"""The JSON Schema and the parser say the same of a policy, up to the differences it names."""

import json
import re
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from r1prov.errors import PolicyError
from r1prov.verify.policy_file import parse_values
from r1prov.verify.rules import RULES

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((files("r1prov.verify") / "schema" / "policy-1.json").read_bytes())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
# What only the parser refuses: the list in the schema's `$comment`, as its messages say it.
BEYOND = re.compile(
    r"unprintable character|a date such as|must be a string, not `datetime\.|must be an integer|"
    r"`files`: |no rule is called|are the same rule|never be turned down|`expires` is for rules|"
    r"pins its manifest|can never be met"
)


def as_json(value):
    """What a validator is given: dates as strings."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def said_by_parser(values):
    try:
        parse_values(values, b"", subject="p")
    except PolicyError as error:
        return error.message
    return None


def agree(values):
    message = said_by_parser(values)
    errors = [error.message for error in VALIDATOR.iter_errors(as_json(values))]
    if message is None:
        assert errors == []
    elif not errors:
        assert BEYOND.search(message), f"only the parser refuses {values}: {message}"
    return message is None


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


DIGESTS = st.sampled_from(["a" * 64, "b" * 64, "0123456789abcdef" * 4])
JUNK = st.one_of(
    st.none().map(lambda _: ""),
    *(st.just(one) for one in ("x", "allow", "a b", "A" * 65, "A" * 4097, "a\nb", "\u202e")),
    st.booleans(),
    st.integers(-1, 1001),
    st.floats(allow_nan=False),
    st.just(1.0),
    st.just([]),
    st.just({}),
    st.just(["x", "x"]),
    st.just(date(2027, 1, 31)),
    st.just(datetime(2027, 1, 31, 1, 2)),
    st.just("2027-01-31"),
)
DAYS = st.sampled_from([date(2027, 1, 31), date(1, 1, 1), date(9999, 12, 31)])
REASONS = st.text(alphabet="ab 字'\"\\", min_size=1, max_size=9)
GATE = st.sampled_from(["allow", "refuse"])


def table(required, optional):
    return st.fixed_dictionaries(required, optional=optional)


ALLOW = table(
    {
        "kind": st.sampled_from(["extra", "missing"]),
        "files": st.sampled_from(["README.md", "*.md", "docs/**", "a[b]", "../x", "**", "/x"]),
        "reason": REASONS,
        "expires": DAYS,
    },
    {},
)
MODEL = table(
    {"name": st.sampled_from(["DeepSeek-R1", "acme-*", "*", "a?"])},
    {
        "manifest": st.sampled_from(["DeepSeek-R1", "m.toml", "../a/m.toml", "DeepSeek-R1.toml"]),
        "manifest_sha256": DIGESTS,
        "signers": st.lists(DIGESTS, max_size=3),
        "threshold": st.integers(1, 3),
        "min_level": st.sampled_from(["structure", "full"]),
        "scope": st.sampled_from(["all", "weights"]),
        "variant": st.sampled_from(["full", "distill", "base", "other"]),
        "commit_proof": st.sampled_from(["holds", "signed"]),
        "allow": st.lists(ALLOW, max_size=2),
    },
)
RULE_NAMES = st.sampled_from(
    [r.name for r in RULES] + [r.id for r in RULES] + ["no-rule", "R1P999"]
)
RULE = table(
    {"severity": st.sampled_from(["error", "warning", "note", "off"]), "reason": REASONS},
    {"expires": DAYS},
)
POLICY = table(
    {
        "schema": st.just("r1prov/policy/1"),
        "models": st.lists(MODEL, min_size=1, max_size=3),
    },
    {
        "cached_digests": GATE,
        "stated_digests": GATE,
        "partial_manifests": GATE,
        "rules": st.dictionaries(RULE_NAMES, RULE, max_size=2),
    },
)


def places(value, path=()):
    """Every table and array in a document, with the keys that lead to its members."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield (*path, i)
            yield from places(item, (*path, i))


@st.composite
def broken(draw):
    """A policy with one member replaced, removed, renamed or added."""
    policy = draw(POLICY)
    path = draw(st.sampled_from(list(places(policy))))
    parent = policy
    for step in path[:-1]:
        parent = parent[step]
    last, how = path[-1], draw(st.sampled_from(["replace", "remove", "rename", "add"]))
    if how == "replace":
        parent[last] = draw(JUNK)
    elif how == "remove":
        del parent[last]
    elif isinstance(parent, dict):
        value = parent.pop(last) if how == "rename" else draw(JUNK)
        parent[draw(st.sampled_from([f"{last}s", "Name", "x-y", "R1P002", ""]))] = value
    return policy


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(POLICY)
def test_they_agree_on_policies(values):
    agree(values)


@settings(max_examples=800, suppress_health_check=[HealthCheck.too_slow])
@given(broken())
def test_they_agree_on_broken_policies(values):
    agree(values)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["models"][0].update(signers=["a" * 64], threshold=2),
        lambda p: p["models"][0].update(threshold=1.0),
        lambda p: p["models"][0].update(name=date(2027, 1, 31)),
        lambda p: p["models"][0].update(manifest="a\n.toml"),
        lambda p: p.update(rules={"no-rule": {"severity": "off", "reason": "r"}}),
        lambda p: p.update(rules={"symlink": {"severity": "off", "reason": "r"}}),
        lambda p: p.update(rules={"signer-unknown": {"severity": "off", "reason": "r"}}),
    ],
)
def test_the_named_differences_are_there(change):
    """Each is refused by the parser alone; else the `$comment` says too much."""
    policy = {"schema": "r1prov/policy/1", "models": [{"name": "m"}]}
    assert agree(policy)
    change(policy)
    assert not agree(policy)


def examples():
    for page in sorted((ROOT / "docs").glob("*.md")):
        blocks = re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        for i, block in enumerate(blocks):
            if "r1prov/policy/" in block:
                yield pytest.param(block, id=f"{page.name}-{i}")


@pytest.mark.parametrize("text", [*examples()])
def test_the_examples_of_the_documentation(text):
    values = tomli.loads(text)
    assert agree(values.get("tool", {}).get("r1prov", values))


def test_there_are_examples():
    assert len(list(examples())) >= 2


def test_a_drafted_policy_is_an_example(minilm, case):
    from r1prov.stores.local import LocalStore
    from r1prov.verify.local import load_authorities
    from r1prov.verify.policy_draft import draft_policy

    (case.model / "NOTES.md").write_text("x")
    for store, keys, manifest in (
        (LocalStore(minilm), None, None),
        (LocalStore(case.model), case.keys, case.name),
    ):
        text = draft_policy(store, load_authorities(keys), manifest=manifest)
        assert agree(tomli.loads(text))
        # What stands in it as comments is a policy too, once somebody takes it.
        taken = re.sub(r"^# (?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE)
        assert agree(tomli.loads(taken)), taken


def test_every_key_is_described():
    named = set(SCHEMA["properties"]) | set(SCHEMA["properties"]["models"]["items"]["properties"])
    page = (ROOT / "docs" / "policy.md").read_text()
    assert [key for key in sorted(named) if f"`{key}`" not in page] == []
