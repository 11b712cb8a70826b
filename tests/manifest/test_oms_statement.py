"""Statements of OpenSSF Model Signing: every form that tools wrote, and nothing that none may."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import OmsError
from r1prov.manifest.oms_statement import (
    DEFAULT_IGNORED,
    OmsFile,
    OmsStatement,
    make_statement,
    parse_statement,
    root_digest,
    statement_json,
)
from r1prov.trust.dsse import IN_TOTO_TYPE

ONE, TWO = hashlib.sha256(b"1").hexdigest(), hashlib.sha256(b"2").hexdigest()


def statement(
    resources: list[tuple[str, str]] | None = None,
    *,
    algorithm: str = "sha256",
    **serialization: object,
) -> dict[str, Any]:
    if resources is None:
        resources = [("a", ONE), ("b/c", TWO)]
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in resources)).hexdigest()
    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, **serialization}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [
                {"name": name, "algorithm": algorithm, "digest": digest}
                for name, digest in resources
            ],
            "serialization": {key: value for key, value in how.items() if value is not ...},
        },
    }


def parse(value: object) -> OmsStatement:
    return parse_statement(json.dumps(value).encode(), IN_TOTO_TYPE, subject="model.sig")


def rule_of(value: object) -> str:
    with pytest.raises(OmsError) as caught:
        parse(value)
    assert caught.value.subject == "model.sig"
    return caught.value.rule


def changed(path: str, new: object, value: dict[str, Any] | None = None) -> dict[str, Any]:
    made = value or statement()
    inner: Any = made
    *parents, last = [int(name) if name.isdigit() else name for name in path.split(".")]
    for name in parents:
        inner = inner[name]
    if new is ...:
        del inner[last]
    else:
        inner[last] = new
    return made


def shards(size: object, *names: str, algorithm: str = "sha256") -> dict[str, Any]:
    resources = [(name, hashlib.sha256(name.encode()).hexdigest()) for name in names]
    return statement(resources, algorithm=algorithm, method="shards", shard_size=size)


def test_what_is_read() -> None:
    read = parse(statement())
    assert read == OmsStatement(
        "model",
        read.root,
        "sha256",
        None,
        allow_symlinks=False,
        ignore_paths=(),
        files=(OmsFile("a", (bytes.fromhex(ONE),)), OmsFile("b/c", (bytes.fromhex(TWO),))),
    )
    assert read.root == hashlib.sha256(bytes.fromhex(ONE + TWO)).hexdigest()


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("subject.0.name", "anything"),
        ("subject.0.annotations", {}),
        ("subject.0.digest.sha512", "ab"),
        ("predicate.resources.0.size", 5),
        ("predicate.resources.0.annotations", {"x": 1}),
        ("predicate.serialization.ignore_paths", ["cache", ".git", "a b/ü"]),
        ("predicate.serialization.allow_symlinks", True),
        ("predicateType", "https://model_signing/signature/v1.1"),
    ],
)
def test_what_may_differ(path: str, new: object) -> None:
    assert parse(changed(path, new)).files


def test_a_minor_version_may_know_more() -> None:
    value = changed("predicateType", "https://model_signing/signature/v1.12")
    changed("predicate.serialization.new", 1, value)
    changed("predicate.new", 1, value)
    assert parse(changed("new", 1, value)).files


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1"),
        ("_type", ...),
        ("more", 1),
        ("predicateType", ...),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("predicateType", "https://model_signing/signature/v2.0"),
        ("predicateType", "https://model_signing/signature/v1.01"),
        ("predicateType", "https://model_signing/signature/v1.0/x"),
        ("subject", []),
        ("subject", ...),
        ("subject", {}),
        ("subject.0", None),
        ("subject.0.name", ""),
        ("subject.0.name", ...),
        ("subject.0.digest", ...),
        ("subject.0.digest.sha256", ...),
        ("subject.0.digest.sha256", "ab"),
        ("subject.0.digest.sha256", statement()["subject"][0]["digest"]["sha256"].upper()),
        ("predicate", ...),
        ("predicate.more", 1),
        ("predicate.resources", ...),
        ("predicate.resources", []),
        ("predicate.resources", {}),
        ("predicate.resources.0", "x"),
        ("predicate.resources.0.name", ...),
        ("predicate.resources.0.name", 1),
        ("predicate.resources.0.algorithm", ...),
        ("predicate.resources.0.algorithm", "sha512"),
        ("predicate.resources.0.algorithm", "sha256-sharded-256"),
        ("predicate.resources.0.algorithm", []),
        ("predicate.resources.0.digest", ...),
        ("predicate.resources.0.digest", ONE.upper()),
        ("predicate.resources.0.digest", ONE[2:]),
        ("predicate.resources.0.digest", ONE[:-1] + " "),
        ("predicate.serialization", ...),
        ("predicate.serialization.more", 1),
        ("predicate.serialization.method", ...),
        ("predicate.serialization.method", "tree"),
        ("predicate.serialization.shard_size", 256),
        ("predicate.serialization.shard_size", None),
        ("predicate.serialization.allow_symlinks", ...),
        ("predicate.serialization.allow_symlinks", 0),
        ("predicate.serialization.ignore_paths", None),
        ("predicate.serialization.ignore_paths", "cache"),
        ("predicate.serialization.ignore_paths", [1]),
        *(
            ("predicate.serialization.ignore_paths", [path])
            for path in (
                "",
                ".",
                "/etc",
                "../x",
                "a/../b",
                "a/",
                "*.bin",
                "a?",
                "[a]",
                "a\\b",
                "./a",
            )
        ),
    ],
)
def test_what_is_refused(path: str, new: object) -> None:
    assert rule_of(changed(path, new)) == "oms-statement"


@pytest.mark.parametrize(
    "name",
    [
        *("", "/etc/passwd", "../x", "a/../b", "a/..", "./a", "a/./b", "a//b", "a/", "a\\b"),
        *("C:/x", "a\nb", "a\0b", "a\u202eb", "a\ud7ff\u200b", "x" * 1025, ".."),
    ],
)
def test_names_that_lead_elsewhere(name: str) -> None:
    assert rule_of(statement([("a", ONE), (name, TWO)])) == "oms-statement"


@pytest.mark.parametrize("name", ["a:b", "CON", "a.", ".hidden", "ü", "a b", "a:0:5", "x*y"])
def test_names_that_a_file_may_have(name: str) -> None:
    assert parse(statement([("a", ONE), (name, TWO)])).files[1].path == name


def test_a_name_twice_and_a_single_file_among_others() -> None:
    assert rule_of(statement([("a", ONE), ("a", ONE)])) == "oms-statement"
    assert rule_of(statement([("a", ONE), (".", TWO)])) == "oms-statement"
    assert parse(statement([(".", ONE)])).files[0].path == "."


def test_two_subjects_even_the_same() -> None:
    value = statement()
    value["subject"] *= 2
    assert rule_of(value) == "oms-statement"


def test_the_root_digest_binds_the_listed_order() -> None:
    value = statement()
    value["predicate"]["resources"].reverse()
    assert rule_of(value) == "oms-root"
    assert rule_of(changed("subject.0.digest.sha256", "0" * 64)) == "oms-root"
    # Any order is read, if the root is over that order: tools differ in how they sort.
    assert parse(statement([("b", TWO), ("a", ONE)])).files[0].path == "b"


def test_the_root_digest_binds_no_names() -> None:
    assert parse(statement([("a", ONE)])).root == parse(statement([("z", ONE)])).root


@pytest.mark.parametrize("hash_type", ["md5", "sha512", "blake2", "", None, ["sha256"]])
def test_hashes_that_are_not_read(hash_type: object) -> None:
    assert rule_of(statement(hash_type=hash_type)) == "oms-unsupported"


def test_blake2b_has_64_bytes() -> None:
    long = hashlib.blake2b(b"1").hexdigest()
    value = statement([("a", long)], algorithm="blake2b", hash_type="blake2b")
    assert parse(value).files[0].digests == (bytes.fromhex(long),)
    short = statement([("a", ONE)], algorithm="blake2b", hash_type="blake2b")
    assert rule_of(short) == "oms-statement"


def test_the_withdrawn_form_is_named() -> None:
    value = changed("predicateType", "https://model_signing/Digests/v0.1")
    assert rule_of(value) == "oms-unsupported"


def test_another_payload_type() -> None:
    with pytest.raises(OmsError, match="another type"):
        parse_statement(json.dumps(statement()).encode(), "application/json", subject="model.sig")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xef\xbb\xbf{}",
        b"{" * 100,
        json.dumps(statement()).encode() * 2,
        json.dumps(statement()).encode().replace(b'"_type"', b'"_type":"x","_type"'),
        json.dumps(statement()).encode().replace(b'"a"', b'"b","name":"a"'),
    ],
)
def test_payloads_that_are_no_strict_json(raw: bytes) -> None:
    with pytest.raises(OmsError):
        parse_statement(raw, IN_TOTO_TYPE, subject="model.sig")


@pytest.mark.parametrize("size", [4, 4.0])
@pytest.mark.parametrize("algorithm", ["sha256", "sha256-sharded-4"])
def test_shards_of_both_forms(size: object, algorithm: str) -> None:
    names = ("x:y:0:4", "x:y:4:8", "x:y:8:9", "z:0:4", "x:0:1")
    read = parse(shards(size, *names, algorithm=algorithm))
    assert read.shard_size == 4
    assert [(one.path, one.size, len(one.digests)) for one in read.files] == [
        ("x:y", 9, 3),
        ("z", 4, 1),
        ("x", 1, 1),
    ]


def test_shards_in_the_order_of_their_names() -> None:
    """§5.2.1 sorts `w:1000:…` ahead of `w:200:…`; the digests are in the file's order here."""
    read = parse(shards(200, *sorted(f"w:{i}:{i + 200}" for i in range(0, 1200, 200))))
    assert read.files[0].digests == tuple(
        hashlib.sha256(f"w:{i}:{i + 200}".encode()).digest() for i in range(0, 1200, 200)
    )


@pytest.mark.parametrize("size", [0, -1, 4.5, True, "4", None, ..., 2**63, 1e300])
def test_shard_sizes_that_are_none(size: object) -> None:
    assert rule_of(shards(size, "x:0:1" if size is True else "x:0:4")) == "oms-statement"


@pytest.mark.parametrize(
    "names",
    [
        ["x"],
        ["x:0"],
        ["x:0:0"],
        ["x:4:8"],
        ["x:0:4", "x:5:8"],
        ["x:0:4", "x:3:7"],
        ["x:0:5"],
        ["x:0:3", "x:3:7"],
        ["x:0:4", "x:0:3"],
        ["x:00:4"],
        ["x:0:04"],
        ["x:-0:4"],
        ["x:0:+4"],
        ["x: 0:4"],
        ["x:٠:4"],
        [":0:4"],
        ["../x:0:4"],
        ["x:4:0"],
    ],
)
def test_shards_that_do_not_tile_a_file(names: list[str]) -> None:
    assert rule_of(shards(4, *names)) == "oms-statement"


def test_shards_of_another_size_in_the_algorithm() -> None:
    assert rule_of(shards(4, "x:0:4", algorithm="sha256-sharded-8")) == "oms-statement"


def test_what_is_written() -> None:
    made = make_statement("m", [("tokenizer/v", ONE), ("tokenizer.json", TWO)], ignore_paths=["x"])
    # Code points, not path components: `.` is ahead of `/`.
    assert [one.path for one in made.files] == ["tokenizer.json", "tokenizer/v"]
    assert made.ignore_paths == (*DEFAULT_IGNORED, "x")
    value = json.loads(statement_json(made))
    assert value == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "m", "digest": {"sha256": made.root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [
                {"name": "tokenizer.json", "algorithm": "sha256", "digest": TWO},
                {"name": "tokenizer/v", "algorithm": "sha256", "digest": ONE},
            ],
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [".git", ".gitattributes", ".github", ".gitignore", "x"],
            },
        },
    }


@pytest.mark.parametrize(
    ("files", "ignore_paths"),
    [
        ([], []),
        ([("../x", ONE)], []),
        ([("a\udcff", ONE)], []),
        ([("a", ONE), ("a", ONE)], []),
        ([("a", ONE)], ["../x"]),
        ([("a", ONE)], ["*.bin"]),
    ],
)
def test_what_is_not_written(files: list[tuple[str, str]], ignore_paths: list[str]) -> None:
    with pytest.raises(OmsError):
        make_statement("m", files, ignore_paths=ignore_paths)


names = st.text("abü.:-_/ ", min_size=1, max_size=12)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(st.dictionaries(names, digests, min_size=1, max_size=6))
def test_read_back(files: dict[str, str]) -> None:
    items = list(files.items())
    random.Random(0).shuffle(items)
    try:
        made = make_statement("m", items)
    except OmsError:
        return
    assert parse_statement(statement_json(made), IN_TOTO_TYPE, subject="b") == made
    assert [one.path for one in made.files] == sorted(files)
    assert made.root == root_digest(bytes.fromhex(files[path]) for path in sorted(files))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
PLACES = (
    *("_type", "subject", "subject.0", "subject.0.name", "subject.0.digest", "predicateType"),
    *("subject.0.digest.sha256", "predicate", "predicate.resources", "predicate.resources.0"),
    *("predicate.resources.0.name", "predicate.resources.0.digest", "predicate.serialization"),
    *(f"predicate.serialization.{key}" for key in ("method", "hash_type", "shard_size")),
    *(f"predicate.serialization.{key}" for key in ("allow_symlinks", "ignore_paths")),
)


@given(st.sampled_from(PLACES), json_values)
def test_nothing_else_escapes(place: str, value: object) -> None:
    for base in (statement(), shards(4, "x:0:4")):
        with contextlib.suppress(OmsError):
            parse(changed(place, value, base))
