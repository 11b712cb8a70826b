"""Exchanges in a bundle as salted digests, and what is opened of them later."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from document_case import ZH, dossier, english
from evidence_case import Case, members_of
from signed import KEYID, signed, signing_key, unsigned

from r1prov.errors import R1ProvError
from r1prov.evidence import verify as verifying
from r1prov.evidence.parts import DEFAULT, Kind
from r1prov.render.evidence_document import as_html
from r1prov.responses.exchange import Exchange
from r1prov.responses.exchange_file import exchange_to_json
from r1prov.responses.jwks import parse_jwks, write_jwks
from r1prov.responses.openings import append_openings, read_openings_of
from r1prov.responses.policy import ResponsePolicy
from r1prov.trust.keys import parse_public_key
from r1prov.verify.findings import Verdict

PROMPT = b'{"messages":[{"role":"user","content":"Zaphod Beeblebrox owes 4711"}]}'
ANSWER = b'{"id":"chatcmpl-1","choices":[{"message":{"content":"Marvin sends Milliways"}}]}'
# Long enough not to stand in a digest by chance, and in no other text of a bundle.
WORDS = (b"Zaphod", b"Beeblebrox", b"chatcmpl", b"Marvin", b"Milliways")

Verify = Callable[..., Any]


def asked(number: int) -> Exchange:
    """A signed exchange with words that stand nowhere else."""
    plain = unsigned(
        request_body=PROMPT.replace(b"4711", b"%d" % (4711 + number)), response_body=ANSWER
    )
    return signed(plain)


@pytest.fixture(scope="module")
def redacted(case: Case) -> tuple[bytes, bytes]:
    """A bundle of two redacted exchanges, and the file of openings."""
    paths = []
    for number in range(2):
        path = case.folder / f"x{number}.json"
        path.write_bytes(exchange_to_json(asked(number)))
        paths.append(path)
    draft = case.draft(exchanges=tuple(paths), digests_only=True, kinds=DEFAULT | {Kind.FILES})
    openings = case.folder / "all.openings"
    for head, found in draft.openings:
        append_openings(openings, head, found)
    return draft.archive(draft.signature(case.maker)), openings.read_bytes()


@pytest.fixture
def verify(case: Case, redacted: tuple[bytes, bytes], tmp_path: Path) -> Verify:
    key = signing_key()
    spki = key._material.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public = parse_public_key(spki, subject="k")
    keys = parse_jwks(write_jwks([(public, KEYID, key.public.algorithm)]), subject="k")
    policy = ResponsePolicy(keys=tuple(keys))

    def verifying(lines: list[bytes] | None) -> Any:
        path = None
        if lines is not None:
            path = tmp_path / "some.openings"
            path.write_bytes(b"".join(one + b"\n" for one in lines))
        return case.verify(redacted[0], responses=policy, openings=path)

    return verifying


def written(word: bytes) -> set[bytes]:
    """A word as it may stand in a file: as it is, in hex, in base64 at any of three places."""
    found = {word, word.lower(), word.hex().encode()}
    for at in range(3):
        text = base64.b64encode(b"." * at + word)
        found.add(text[at and at + 1 : len(text) // 4 * 4 - 4])
    return found


def test_no_word_of_prompt_or_answer_is_left(case: Case, redacted: tuple[bytes, bytes]) -> None:
    plain = members_of(case.bundle(exchanges=(case.folder / "x0.json",)))
    shut = members_of(redacted[0])
    for word in WORDS:
        assert any(form in data for form in written(word) for data in plain.values()), word
        for name, data in shut.items():
            assert not any(form in data for form in written(word)), (name, word)
    # Nor how long they were, but where the server said so in a field.
    assert not any(b'"length"' in data for data in shut.values())


def test_every_part_has_a_salt_of_its_own(redacted: tuple[bytes, bytes]) -> None:
    lines = [json.loads(one) for one in redacted[1].splitlines()]
    salts = [base64.b64decode(one["salt"]) for one in lines]
    assert {len(one) for one in salts} == {32}  # 256 bits
    assert len(set(salts)) == len(lines) == 4


def test_all_opened_is_all_verified(redacted: tuple[bytes, bytes], verify: Verify) -> None:
    assert verify(None).verdict is Verdict.INCOMPLETE
    lines = redacted[1].splitlines()
    result = verify(lines)
    assert result.verdict is Verdict.PASS, result.findings
    row = next(one for one in result.coverage if one.item == "openings")
    assert row.detail == "4 redacted parts proved"
    # A line that stands twice, and the other way round.
    assert verify(lines + lines).verdict is Verdict.PASS
    assert verify(lines[::-1]).verdict is Verdict.PASS


def test_some_opened_leaves_the_rest_open(redacted: tuple[bytes, bytes], verify: Verify) -> None:
    lines = redacted[1].splitlines()
    result = verify(lines[:2])
    assert result.verdict is Verdict.INCOMPLETE
    assert [one.verdict for _, one in result.exchanges] == [Verdict.PASS, Verdict.INCOMPLETE]
    result = verify([one for one in lines if b"response.body" in one])
    assert result.verdict is Verdict.INCOMPLETE
    row = next(one for one in result.coverage if one.item == "openings")
    assert row.detail == "2 redacted parts proved"


def test_openings_of_another_bundle_open_nothing(
    redacted: tuple[bytes, bytes], verify: Verify
) -> None:
    lines = [one.replace(b'"head": "0:', b'"head": "7:') for one in redacted[1].splitlines()]
    result = verify([one for one in lines if b'"7:' in one])
    assert result.verdict is Verdict.INCOMPLETE
    row = next(one for one in result.coverage if one.item == "openings")
    assert (row.state.value, row.required) == ("unread", True)
    assert "has none of this bundle" in row.detail


@pytest.mark.parametrize("field", ["salt", "value", "part", "head"])
def test_an_opening_that_was_changed(
    redacted: tuple[bytes, bytes], verify: Verify, field: str
) -> None:
    values = [json.loads(one) for one in redacted[1].splitlines()]
    first, last = values[0], values[-1]
    assert first["head"] != last["head"]
    first[field] = {
        "salt": last["salt"],
        "value": base64.b64encode(b"forged").decode(),
        "part": values[1]["part"],
        "head": last["head"],
    }[field]
    with pytest.raises(R1ProvError, match=r"exchanges/0000\d\.json: the opening of"):
        verify([json.dumps(one).encode() for one in values])


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"\xff", b'{"schema":"x"}'])
def test_a_line_that_is_none(verify: Verify, line: bytes) -> None:
    with pytest.raises(R1ProvError):
        verify([line])


def test_the_file_is_read_once(
    redacted: tuple[bytes, bytes], verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of exchanges: a file of openings holds all their bodies."""
    calls = []
    reading = read_openings_of

    def counted(path: Path, heads: Any) -> Any:
        calls.append(path)
        return reading(path, heads)

    monkeypatch.setattr(verifying, "read_openings_of", counted)
    assert verify(redacted[1].splitlines()).verdict is Verdict.PASS
    assert len(calls) == 1


def test_an_exchange_of_the_future(case: Case, tmp_path: Path) -> None:
    late = replace(asked(1), finished_at=datetime(2999, 1, 1, tzinfo=UTC))
    (tmp_path / "x.json").write_bytes(exchange_to_json(late))
    result = case.verify(case.bundle(exchanges=(tmp_path / "x.json",)))
    assert result.verdict is Verdict.FAIL
    assert any("response-from-future" in one.rule.name for one in result.findings)


@pytest.mark.parametrize("opened", [False, True])
def test_the_document_says_what_is_redacted(
    case: Case, redacted: tuple[bytes, bytes], tmp_path: Path, opened: bool
) -> None:
    key = signing_key()
    spki = key._material.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public = parse_public_key(spki, subject="k")
    keys = parse_jwks(write_jwks([(public, KEYID, key.public.algorithm)]), subject="k")
    demands: dict[str, Any] = {"responses": ResponsePolicy(keys=tuple(keys))}
    if opened:
        (tmp_path / "all").write_bytes(redacted[1])
        demands["openings"] = tmp_path / "all"
    text = html.unescape(as_html(dossier(redacted[0], case.keys, **demands), ZH))
    assert english(text) == []
    assert text.count("已隐去：") == 2
    assert "response.body" in text
    assert ("4 处隐去内容已启封并证实" in text) is opened
    assert ("由受信任的密钥签名，覆盖对此请求的此回答" in text) is opened
    assert ("不完整" in text[: text.index("h-facts")]) is not opened
    # A document shows of exchanges what became of them, never their words.
    assert not [one for one in WORDS if one.decode() in text]
