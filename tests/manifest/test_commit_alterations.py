"""Real commits of the Hub, altered in every way that has a name: none of them holds."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import CommitProofError, OpenPgpError
from r1prov.manifest.commit_proof import (
    ProofResult,
    check_commit_proof,
    conflicts_with,
    known_commits,
    lfs_pointer,
)
from r1prov.manifest.hub_commit import HubCommit, parse_hub_commit_json
from r1prov.trust.directories import load_hub_key
from r1prov.trust.openpgp import OpenPgpKey

TESTS = Path(__file__).parents[1]
CLIENT = TESTS / "conformance" / "hub-commit-client"
VECTORS = {path.stem: path for path in sorted((TESTS / "vectors" / "hub-commits").glob("*.json"))}
R1 = "DeepSeek-R1@3302ba78c009"
R1_RELEASE = "DeepSeek-R1@5a56bdbde75a"
QWEN_32B = "DeepSeek-R1-Distill-Qwen-32B@711ad2ea6aa4"
GPT_OSS = "gpt-oss-20b@cbf31f62664d"
SIGNED = (R1, QWEN_32B, GPT_OSS)
ENTRY_FIELDS = ("mode", "name", "git_sha1")
LFS_FIELDS = ("lfs_size", "lfs_sha256")

Document = dict[str, Any]
# What was altered, and the altered document.
Altered = tuple[str, Document]

hub_key = cache(load_hub_key)


@cache
def raw_vector(name: str) -> bytes:
    return VECTORS[name].read_bytes()


def vector(name: str) -> Document:
    document: Document = json.loads(raw_vector(name))
    return document


def parse(raw: bytes) -> HubCommit:
    return parse_hub_commit_json(raw, subject="commit.json")


def load(document: object) -> HubCommit:
    return parse(json.dumps(document).encode())


def check(document: object, key: OpenPgpKey | None = None) -> ProofResult:
    return check_commit_proof(load(document), key or hub_key())


def refuse(document: object, what: object) -> str:
    try:
        proof = check(document)
    except CommitProofError as error:
        return error.message
    pytest.fail(f"{what}: {proof}")


def git_id(kind: str, body: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(body)}\0".encode() + body).hexdigest()


def refit(document: Document) -> Document:
    """Make tree and commit id fit again: only the signature is left to tell."""
    tree = b"".join(
        f"{int(e['mode'], 8):o} {e['name']}\0".encode() + bytes.fromhex(e["git_sha1"])
        for e in document["entries"]
    )
    document["tree"] = git_id("tree", tree)
    lines = [f"tree {document['tree']}", *(f"parent {one}" for one in document["parents"])]
    lines += [f"author {document['author']}", f"committer {document['committer']}"]
    if document["signature"] is not None:
        lines.append("gpgsig " + document["signature"].replace("\n", "\n "))
    body = "\n".join(lines) + "\n\n" + document["message"]
    document["commit"] = git_id("commit", body.encode())
    return document


def altered(document: Document, **fields: object) -> Document:
    return copy.deepcopy(document) | fields


def with_entry(document: Document, index: int, **fields: object) -> Document:
    changed = copy.deepcopy(document)
    changed["entries"][index] |= fields
    return changed


def with_entries(document: Document, *entries: Document) -> Document:
    return altered(document, entries=copy.deepcopy(list(entries)))


def swapped(document: Document, i: int, *fields: str) -> Document:
    """Fields of an entry and the next one exchanged."""
    changed = copy.deepcopy(document)
    one, two = changed["entries"][i : i + 2]
    for field in fields:
        one[field], two[field] = two[field], one[field]
    return changed


def moved_out_of_lfs(document: Document, i: int, sha256: str) -> Document:
    """The facts of a file under LFS as those of one that is not: nothing binds those."""
    changed = copy.deepcopy(document)
    entry = changed["entries"][i]
    entry["size"], entry["sha256"] = entry.pop("lfs_size"), sha256
    del entry["lfs_sha256"]
    return changed


def other_digit(text: str, position: int) -> str:
    digit = "1" if text[position] == "0" else "0"
    return text[:position] + digit + text[position + 1 :]


def other_hex(text: str) -> list[str]:
    """One digit changed, at some places; and forms that only look like the same id."""
    places = (0, 1, len(text) // 2, len(text) - 2, len(text) - 1)
    return [
        *(other_digit(text, place) for place in places),
        *(text.upper(), text[:-1], text + "0", " " + text, text + "\n", "0" * len(text), ""),
    ]


def samples(entries: list[Document]) -> list[int]:
    """First, middle and last entry of each kind."""
    kinds: dict[tuple[str, ...], list[int]] = {}
    for index, entry in enumerate(entries):
        kinds.setdefault((entry["mode"], *sorted(entry)), []).append(index)
    return sorted({p[i] for p in kinds.values() for i in (0, len(p) // 2, -1)})


def altered_ids(document: Document) -> Iterator[Altered]:
    for field in ("commit", "tree"):
        for text in other_hex(document[field]):
            yield f"{field} {text!r}", altered(document, **{field: text})
    parents = document["parents"]
    for text in other_hex(parents[0]):
        yield f"parent {text!r}", altered(document, parents=[text, *parents[1:]])
    yield "no parents", altered(document, parents=[])
    yield "parent twice", altered(document, parents=parents * 2)
    yield "parent added after", altered(document, parents=[*parents, "0" * 40])
    yield "parent added before", altered(document, parents=[document["commit"], *parents])
    yield "parents as text", altered(document, parents=parents[0])


def altered_people(document: Document) -> Iterator[Altered]:
    for field in ("author", "committer"):
        person = document[field]
        name, rest = person.split(" <")
        address, moment = rest.split("> ")
        seconds, zone = moment.split()
        for text in (
            f"{name} <{address}> {int(seconds) + 1} {zone}",
            f"{name} <{address}> {int(seconds) - 1} {zone}",
            f"{name} <{address}> 0{seconds} {zone}",
            f"{name} <{address}> -{seconds} {zone}",
            f"{name} <{address}> {seconds} +0100",
            f"{name} <{address}> {seconds} -0000",
            f"{name} <{address}> {seconds} Z",
            f"{name} <{address}> {seconds}",
            f"{name}x <{address}> {moment}",
            f"{name.swapcase()} <{address}> {moment}",
            f" {name} <{address}> {moment}",
            f"{name}  <{address}> {moment}",
            f"{name} <x{address}> {moment}",
            f"{name} <> {moment}",
            f"<{address}> {moment}",
            *(person + end for end in ("\n", "\r", " ", "\0", f"\nparent {'0' * 40}")),
            "",
        ):
            yield f"{field} {text!r}", altered(document, **{field: text})
    if document["author"] != document["committer"]:
        people = {"author": document["committer"], "committer": document["author"]}
        yield "people swapped", altered(document, **people)


def altered_messages(document: Document) -> Iterator[Altered]:
    message = document["message"]
    for place in (0, len(message) // 2, len(message) - 1):
        text = message[:place] + chr(ord(message[place]) ^ 1) + message[place + 1 :]
        yield f"message at {place}", altered(document, message=text)
    texts = {
        "newline added": message + "\n",
        "last character removed": message[:-1],
        "newline before": "\n" + message,
        "carriage return at the end": message.rstrip("\n") + "\r",
        "NUL": message + "\0",
        "empty": "",
        "space added": message + " ",
        "byte order mark": "\ufeff" + message,
    }
    for what, text in texts.items():
        yield f"message {what}", altered(document, message=text)


def altered_entries(document: Document) -> Iterator[Altered]:
    entries = document["entries"]
    for i in samples(entries):
        entry, name = entries[i], entries[i]["name"]
        for text in other_hex(entry["git_sha1"]):
            yield f"{name} git_sha1 {text!r}", with_entry(document, i, git_sha1=text)
        for mode in ("100755", "120000", "160000", "100664", "040000", "100644", "40000", ""):
            if mode != entry["mode"]:
                yield f"{name} mode {mode!r}", with_entry(document, i, mode=mode)
        for text in (name + "x", name[:-1], name.swapcase(), "x/" + name, "./" + name, name + "\0"):
            yield f"{name} renamed {text!r}", with_entry(document, i, name=text)
        before, after = entries[:i], entries[i + 1 :]
        yield f"{name} dropped", with_entries(document, *before, *after)
        yield f"{name} twice", with_entries(document, *before, entry, entry, *after)
        yield f"{name} twice, apart", with_entries(document, *entries, entry)
        for field in sorted(entry.keys() & {*ENTRY_FIELDS, *LFS_FIELDS}):
            less = {key: value for key, value in entry.items() if key != field}
            yield f"{name} without {field}", with_entries(document, *before, less, *after)
        if after:
            yield (
                f"{name} after the next",
                with_entries(document, *before, after[0], entry, *after[1:]),
            )
            if entry["git_sha1"] != after[0]["git_sha1"]:
                yield f"{name} with the next id", swapped(document, i, "git_sha1")
        if "lfs_size" in entry:
            yield from altered_lfs(document, i)
    for name in ("!", "~"):
        new = {"mode": "100644", "name": name, "git_sha1": "0" * 40}
        both = (new, *entries) if name == "!" else (*entries, new)
        yield f"entry {name} added", with_entries(document, *both)
    yield "entries reversed", with_entries(document, *entries[::-1])


def altered_lfs(document: Document, i: int) -> Iterator[Altered]:
    entry, name = document["entries"][i], document["entries"][i]["name"]
    size, sha256 = entry["lfs_size"], entry["lfs_sha256"]
    sizes: tuple[Any, ...] = (size + 1, size - 1, 0, -size, str(size), float(size), True, 2**63)
    for value in sizes:
        yield f"{name} lfs_size {value!r}", with_entry(document, i, lfs_size=value)
    for text in other_hex(sha256):
        yield f"{name} lfs_sha256 {text!r}", with_entry(document, i, lfs_sha256=text)
    yield f"{name} stated not to be under LFS", moved_out_of_lfs(document, i, sha256)
    # A pointer and an id that fit each other, in a tree that has another.
    other = other_digit(sha256, 0)
    pointer = git_id("blob", lfs_pointer(size, other))
    yield f"{name} another pointer", with_entry(document, i, lfs_sha256=other, git_sha1=pointer)
    following = (document["entries"] + [{}])[i + 1]
    for fields in (("lfs_size",), ("lfs_sha256",), LFS_FIELDS):
        if all(f in following for f in fields) and any(entry[f] != following[f] for f in fields):
            yield f"{name} {fields} of the next", swapped(document, i, *fields)


def altered_signatures(document: Document) -> Iterator[Altered]:
    for name in SIGNED:
        if vector(name)["commit"] != document["commit"]:
            yield f"signature of {name}", altered(document, signature=vector(name)["signature"])
    signature = document["signature"]
    if signature is None:
        return
    head, *lines = signature.split("\n")
    texts = {
        "empty": "",
        "without head": "\n".join(lines),
        "without foot": "\n".join([head, *lines[:-1]]),
        "CRLF": signature.replace("\n", "\r\n"),
        "newline added": signature + "\n",
        "two newlines added": signature + "\n\n",
        "newline before": "\n" + signature,
        "text before": "x\n" + signature,
        "text after": signature + "\nx",
        "space after": signature + " ",
        "twice": signature + "\n" + signature,
        "armor header": signature.replace("\n\n", "\nVersion: 1\n\n", 1),
        "no blank line": signature.replace("\n\n", "\n", 1),
        "blank line with a space": signature.replace("\n\n", "\n \n", 1),
        "other label": signature.replace("PGP SIGNATURE", "PGP MESSAGE"),
        "lower case": signature.lower(),
        "no checksum": re.sub(r"\n=.*", "", signature),
        "indented": signature.replace("\n", "\n "),
        "line removed": "\n".join([head, *lines[:3], *lines[4:]]),
        "lines swapped": "\n".join([head, lines[0], lines[2], lines[1], *lines[3:]]),
        "wrapped anew": signature.replace("\n" + lines[1], f"\n{lines[1][:32]}\n{lines[1][32:]}"),
        "in one line": head + "\n\n" + "".join(lines[1:-2]) + "\n" + "\n".join(lines[-2:]),
        "base64url": signature.replace("+", "-").replace("/", "_"),
    }
    for what, text in texts.items():
        assert text != signature, what
        yield f"signature {what}", altered(document, signature=text)


FAMILIES = (altered_ids, altered_people, altered_messages, altered_entries, altered_signatures)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
@pytest.mark.parametrize("name", VECTORS)
def test_no_altered_commit_holds(name: str, family: Callable[..., Iterator[Altered]]) -> None:
    document = vector(name)
    for what, changed in family(document):
        assert json.dumps(changed) != json.dumps(document), what
        refuse(changed, what)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
@pytest.mark.parametrize("name", [QWEN_32B, GPT_OSS])
def test_ids_made_to_fit_do_not_help(name: str, family: Callable[..., Iterator[Altered]]) -> None:
    document = vector(name)
    for what, changed in family(document):
        try:
            refit(changed)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # no longer a commit at all
        if changed != document:  # else only an id was altered, and it was mended
            refuse(changed, what)


def test_every_character_of_a_signature_counts() -> None:
    """Also with an id that fits: else one signed commit would have any number of ids."""
    document = vector(QWEN_32B)
    signature = document["signature"]
    for position, character in enumerate(signature):
        for other in {"A", "b", "\n", "="} - {character}:
            text = signature[:position] + other + signature[position + 1 :]
            changed = document | {"signature": text}
            refuse(changed, (position, other))
            refuse(refit(changed), (position, other))


@pytest.mark.parametrize("name", SIGNED)
def test_a_removed_signature_is_noticed(name: str) -> None:
    refuse(altered(vector(name), signature=None), "no signature")


def test_the_signature_does_not_tell_line_ends_of_the_message() -> None:
    """Type 0x01 signs LF as CRLF. The commit id tells them apart."""
    document = vector(R1)
    document["message"] = document["message"].replace("\n", "\r\n")
    assert refuse(document, "CRLF").startswith("commit: ")
    assert check(refit(document)).signed
    assert document["commit"] != vector(R1)["commit"]


def test_only_the_system_account_signs() -> None:
    document = vector(R1)
    document["committer"] = document["author"]
    assert refuse(refit(document), "committer").startswith("committer: ")


def test_another_key_does_not_verify() -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    key = hub_key()
    for other in (
        OpenPgpKey(numbers.n, numbers.e, key.created),
        OpenPgpKey(key.modulus, key.exponent, key.created + 1),
        OpenPgpKey(key.modulus, 3, key.created),
    ):
        for name in SIGNED:
            with pytest.raises(CommitProofError, match="signature: ") as error:
                check(vector(name), other)
            assert not isinstance(error.value, OpenPgpError)


def altered_unbound(document: Document) -> Iterator[Altered]:
    """What no Git object binds."""
    yield "hub_repo", altered(document, hub_repo=document["hub_repo"] + "x")
    yield "hub_repo in other case", altered(document, hub_repo=document["hub_repo"].swapcase())
    for i, one in enumerate(document["entries"]):
        name = one["name"]
        if "sha256" in one:
            yield (
                f"{name} sha256",
                with_entry(document, i, sha256=other_digit(one["sha256"], i % 64)),
            )
        if "size" in one:
            yield f"{name} size + 1", with_entry(document, i, size=one["size"] + 1)
            yield f"{name} size - 1", with_entry(document, i, size=one["size"] - 1)
        for field in sorted(one.keys() & {"size", "sha256"}):
            less = {key: value for key, value in one.items() if key != field}
            others = document["entries"][:i], document["entries"][i + 1 :]
            yield f"{name} without {field}", with_entries(document, *others[0], less, *others[1])
        if "lfs_sha256" in one and i % 20 == 10:
            yield f"{name} not under LFS", moved_out_of_lfs(document, i, "1" * 64)


@pytest.mark.parametrize("name", VECTORS)
def test_a_known_commit_tells_what_no_id_binds(name: str) -> None:
    document = vector(name)
    (known,) = [one for one in known_commits() if one.commit == document["commit"]]
    assert conflicts_with(known, load(document)) == []
    for what, changed in altered_unbound(document):
        assert check(changed).unbound, what
        assert conflicts_with(known, load(changed)), what


@pytest.mark.parametrize("name", VECTORS)
def test_what_no_id_binds_is_told(name: str) -> None:
    document = vector(name)
    unbound = check(document).unbound
    assert unbound[0] == f"repository {document['hub_repo']}"
    files = [e["name"] for e in document["entries"] if "sha256" in e]
    assert len(unbound) == 1 + len(files)
    for file, line in zip(files, unbound[1:], strict=True):
        assert f" {file} " in line


def test_a_link_that_states_a_digest_is_told_too() -> None:
    document = vector(R1_RELEASE)
    link = {"mode": "120000", "name": "~", "git_sha1": "0" * 40, "size": 7}
    proof = check(refit(with_entries(document, *document["entries"], link)))
    assert " ~ " in proof.unbound[-1]
    assert "~" not in proof.bound_git


def test_much_of_everything_is_refused_in_bounded_time() -> None:
    document = vector(QWEN_32B)
    ten = 10_000_000
    for what, changed in {
        "message": altered(document, message="x" * ten),
        "author": altered(document, author="x " * (ten // 2)),
        "signature": altered(document, signature=document["signature"] + "\n" * ten),
        "parents": altered(document, parents=[document["commit"]] * (ten // 50)),
        "name": with_entry(document, 0, name="x" * ten),
        "mode": with_entry(document, 0, mode="1" * ten),
        "entries": with_entries(document, *document["entries"][:1] * (ten // 250)),
    }.items():
        refuse(changed, what)
    for raw in (b" " * 2 * ten, b"[" * ten, b'{"entries":' * (ten // 11)):
        with pytest.raises(CommitProofError):
            parse(raw)


def bound(commit: HubCommit) -> HubCommit:
    """A commit without what no id binds."""
    entries = tuple(
        one if one.lfs else replace(one, size=None, sha256=None) for one in commit.entries
    )
    return replace(commit, repo="", entries=entries)


def holds_only_unaltered(raw: bytes, name: str) -> None:
    try:
        commit = parse(raw)
        check_commit_proof(commit, hub_key())
    except CommitProofError:
        return
    assert bound(commit) == bound(parse(raw_vector(name)))


PIECES = st.one_of(
    st.binary(max_size=5), st.sampled_from([b"0", b'"', b"\\u0000", b"\\n", b"{", b",", b"1"])
)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from([QWEN_32B, GPT_OSS]),
    position=st.integers(0, 5000),
    cut=st.integers(0, 5),
    new=PIECES,
)
def test_altered_bytes_hold_only_where_nothing_is_bound(
    name: str, position: int, cut: int, new: bytes
) -> None:
    raw = raw_vector(name)
    position %= len(raw)
    holds_only_unaltered(raw[:position] + new + raw[position + cut :], name)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["0" * 40, "1" * 64, "100644", "040000", "a <b> 1 +0000"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = st.sampled_from(sorted(vector(QWEN_32B)))
ENTRY_KEYS = st.sampled_from([*ENTRY_FIELDS, *LFS_FIELDS, "size", "sha256", "x"])


@settings(max_examples=300, deadline=None)
@given(field=FIELDS, index=st.integers(0, 16), key=ENTRY_KEYS, value=JSON, deep=st.booleans())
def test_altered_values_hold_only_where_nothing_is_bound(
    field: str, index: int, key: str, value: object, deep: bool
) -> None:
    document = vector(QWEN_32B)
    if deep:
        document["entries"][index][key] = value
    else:
        document[field] = value
    holds_only_unaltered(json.dumps(document).encode(), QWEN_32B)


def client_cases() -> Iterator[Altered]:
    for name, family, count in (
        (R1, altered_unbound, 8),
        (QWEN_32B, altered_unbound, 4),
        (R1_RELEASE, altered_unbound, 4),
        (GPT_OSS, altered_unbound, 4),
        (R1, altered_entries, 6),
        (R1_RELEASE, altered_people, 3),
        (GPT_OSS, altered_signatures, 4),
    ):
        cases = list(family(vector(name)))
        yield from cases[:: max(1, len(cases) // count)]


CASES = [pytest.param(changed, id=what) for what, changed in client_cases()]


@pytest.mark.parametrize("changed", CASES)
def test_the_client_refuses(changed: Document, tmp_path: Path) -> None:
    path = tmp_path / "commit.json"
    path.write_text(json.dumps(changed))
    done = subprocess.run([sys.executable, CLIENT, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.fullmatch(r"invalid: \S.*\n", done.stdout)
    assert done.stdout[:-1].isprintable()
