from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import JsonError
from r1prov.formats.strictjson import StructureScan, has_lone_surrogate, parse_json
from r1prov.limits import MAX_JSON_VALUES

CAP = 1 << 20


def parse(raw: bytes, **options: int) -> object:
    return parse_json(raw, subject="x.json", **({"max_bytes": CAP} | options))  # type: ignore[arg-type]


def rule_of(raw: bytes, **options: int) -> str:
    with pytest.raises(JsonError) as caught:
        parse(raw, **options)
    assert caught.value.subject == "x.json"
    return caught.value.rule


def test_plain_values() -> None:
    raw = b' {"a": [1, -2.5e3, true, null, "\\u00e9\\ud83d\\ude00"], "b": {}} \n'
    assert parse(raw) == {"a": [1, -2500.0, True, None, "é😀"], "b": {}}


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "json-syntax"),
        (b"{}{}", "json-syntax"),
        (b"{} x", "json-syntax"),
        (b'{"a":1,}', "json-syntax"),
        (b"{'a':1}", "json-syntax"),
        (b"{}]", "json-syntax"),
        (b'{"a":"\n"}', "json-syntax"),
        (b"[01]", "json-syntax"),
        (b"[1_000]", "json-syntax"),
        ("[١]".encode(), "json-syntax"),
        (b"<html>", "json-syntax"),
        (b"PK\x03\x04", "json-syntax"),
        (b"\xef\xbb\xbf{}", "json-encoding"),
        ("{}".encode("utf-16"), "json-encoding"),
        ("{}".encode("utf-16-le"), "json-encoding"),
        ("{}".encode("utf-32-be"), "json-encoding"),
        (b'{"a":"\xff"}', "json-encoding"),
        (b'{"a":"\xed\xa0\x80"}', "json-encoding"),
        (b'{"a":"\0"}', "json-encoding"),
        (b'{"a":1,"a":1}', "json-duplicate-key"),
        (b'[{"b":{"a":1,"\\u0061":2}}]', "json-duplicate-key"),
        (b"[NaN]", "json-number"),
        (b"[Infinity]", "json-number"),
        (b"[-Infinity]", "json-number"),
        (b"[1e999]", "json-number"),
        (b"[-1e999]", "json-number"),
        (b"[" + b"9" * 21 + b"]", "json-number"),
        (b"[" + b"9" * 5000 + b"]", "json-number"),
        (b'["\\ud800"]', "json-surrogate"),
        (b'["\\udc00\\ud800"]', "json-surrogate"),
        (b'{"\\uDFFF":1}', "json-surrogate"),
        (b"[" * 65 + b"]" * 65, "json-depth"),
        (b'[{"a":' * 33 + b"1" + b"}]" * 33, "json-depth"),
        (b"[[]," + b" " * 300_000 + b"[" * 64 + b"]" * 65, "json-depth"),
        (b"[" * 100_000, "json-depth"),
        (b'{"a":' * 100_000, "json-depth"),
    ],
)
def test_refused(raw: bytes, rule: str) -> None:
    assert rule_of(raw) == rule


def test_limits_are_inclusive() -> None:
    assert parse(b"[" * 64 + b"]" * 64)
    assert parse(b'[{"a":' * 32 + b"1" + b"}]" * 32)
    assert parse(b"[[]," + b" " * 300_000 + b"[" * 63 + b"]" * 64)
    assert parse(b"[" + b"9" * 20 + b"]") == [int("9" * 20)]
    assert parse(b"[1]", max_bytes=3) == [1]
    assert rule_of(b"[1]", max_bytes=2) == "json-size"
    assert rule_of(b"[[]]", max_depth=1) == "json-depth"


def test_what_python_writes_can_be_taken() -> None:
    # `model_max_length` of transformers, and `time_step_limit` of Mamba 2.
    most = b'{"model_max_length": 1000000000000000019884624838656}'
    assert rule_of(most) == "json-number"
    assert parse(most, max_int_digits=31) == {"model_max_length": int(1e30)}
    assert parse(b"[-" + most[21:-1] + b"]", max_int_digits=31) == [-int(1e30)]
    assert rule_of(most, max_int_digits=30) == "json-number"
    assert rule_of(b"[NaN]", max_int_digits=31) == "json-number"
    # Longer than the interpreter reads an integer.
    assert rule_of(b"[" + b"9" * 5000 + b"]", max_int_digits=9999) == "json-number"

    limits = json.dumps(
        {"time_step_limit": [0.0, float("inf")], "x": [float("-inf"), float("nan")]}
    )
    value = parse(limits.encode(), constants=True)
    assert json.dumps(value) == limits
    for raw in (b"[1e999]", b"[-1e999]", b"[" + b"9" * 21 + b"]"):
        assert rule_of(raw, constants=True) == "json-number"
    for raw in (b"[nan]", b"[+Infinity]", b"[inf]", b"[--Infinity]", b"[NaN1]"):
        assert rule_of(raw, constants=True) == "json-syntax"


def test_too_many_values() -> None:
    raw = b"[" + b"[]," * (MAX_JSON_VALUES + 1) + b"[]]"
    tracemalloc.start()
    try:
        assert rule_of(raw, max_bytes=len(raw)) == "json-values"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        (b" <html>", "HTML"),
        (b"PK\x03\x04", "ZIP"),
        (b"{\0}\0", "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_hint_names_what_it_is(raw: bytes, hint: str) -> None:
    with pytest.raises(JsonError) as caught:
        parse(raw)
    assert hint in (caught.value.hint or "")


def test_object_hook_sees_members_in_order() -> None:
    def hook(pairs: list[tuple[str, object]]) -> object:
        return [key for key, _ in pairs]

    assert parse_json(b'{"b":1,"a":2}', subject="x", max_bytes=CAP, object_hook=hook) == ["b", "a"]
    with pytest.raises(JsonError):
        parse_json(b'{"b":1,"b":2}', subject="x", max_bytes=CAP, object_hook=hook)


@pytest.mark.parametrize(
    ("raw", "lone"),
    [
        (rb'"\ud83d\ude00"', False),
        (rb'"\\ud800"', False),
        (rb'"\\\ud800"', True),
        (rb'"\ud83d\ud83d\ude00"', True),
        (rb'"\ud83d\n\ude00"', True),
        (rb'"\ud83d\\ude00"', True),
        (rb'"\u00e9\udE00"', True),
        (rb'"\ue000"', False),
    ],
)
def test_lone_surrogates(raw: bytes, lone: bool) -> None:
    assert has_lone_surrogate(raw) is lone
    text = json.loads(raw)
    assert any("\ud800" <= character <= "\udfff" for character in text) is lone


texts = st.text(st.sampled_from('"\\[]{}a,:\né'), max_size=30)
values = st.recursive(
    st.one_of(texts, st.integers(-5, 5), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
)


@given(values, st.integers(1, 9), st.booleans())
def test_scan_does_not_depend_on_chunks(value: object, width: int, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    scan = StructureScan(64)
    pieces = [scan.feed(raw[i : i + width]) for i in range(0, len(raw), width)]
    whole = StructureScan(64).feed(raw)
    # The mark that a string leaves is lost when a border falls into it.
    assert b"".join(pieces).replace(b'"', b"") == whole.replace(b'"', b"")
    assert parse(raw) == value


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_bytes_give_a_value_or_a_json_error(raw: bytes) -> None:
    try:
        value = parse(raw)
    except JsonError:
        return
    json.dumps(value, allow_nan=False).encode()
