"""Each criterion S of Annex A is breached by one answer that has nothing else wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_kit import criteria, filled
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from signed import (
    CREATED,
    RESPONSE_BODY,
    signed,
    signing_key,
    unsigned,
    with_request,
    with_response,
)

from r1prov.cli.app import run
from r1prov.responses.exchange import Exchange
from r1prov.responses.exchange_file import exchange_to_json
from r1prov.responses.keys import SigningKey
from r1prov.responses.policy import COVER

POLICY = "acceptance-service.toml"
# What the signing proxy adds to the default profile.
BINDING = ("r1prov-manifest", "r1prov-weights")
MANIFEST = "4239b6ad755661b28978d31dac9f1703a96c4ce35bdd5a2793c19ec037c869f2"
NONCE = "bm9uY2U"
FILL: dict[str, str | None] = {
    "valid_from": "2026-11-01T00:00:00Z",
    "valid_until": "2027-11-01T00:00:00Z",
}


def question(
    manifest: str = MANIFEST,
    weights: str = "verified;at=1764000000",
    nonce: str | None = NONCE,
) -> Exchange:
    """A question with a nonce, and its answer, not signed yet."""
    digest = base64.b64encode(bytes.fromhex(manifest)).decode()
    bound = (("R1prov-Manifest", f"sha-256=:{digest}:"), ("R1prov-Weights", weights))
    return unsigned(nonce=nonce, response_headers=bound)


def answer(exchange: Exchange | None = None, **how: Any) -> Exchange:
    """The answer as the contract wants it, signed."""
    how = {"components": (*COVER, *BINDING), "tag": "r1prov", "nonce": NONCE} | how
    key: SigningKey = how.get("key", signing_key())
    return signed(exchange or question(), keyid=key.public.thumbprint, **how)


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    pem = signing_key()._material.public_key()
    Path("answers.key.pub").write_bytes(
        pem.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )

    def judge(exchange: Exchange, **fill: str | None) -> tuple[int, set[str]]:
        Path(POLICY).write_text(filled(POLICY, FILL | fill))
        Path("exchange.json").write_bytes(exchange_to_json(exchange))
        verify = ["response", "verify", "exchange.json", "--policy", POLICY]
        status = run([*verify, "--format", "json", "-o", "report.json", "-q"])
        report = json.loads(Path("report.json").read_text())
        return status, {f["rule"] for f in report["findings"] if f["severity"] == "error"}

    return judge


# Criterion and rule, to an answer and what the parties filled in otherwise.
BREACHES: dict[tuple[str, str], Callable[[], tuple[Exchange, dict[str, str]]]] = {
    ("S-1", "R1P802"): lambda: (question(), {}),
    ("S-2", "R1P802"): lambda: (answer(tag="other"), {}),
    ("S-3", "R1P820"): lambda: (answer(key=signing_key(number=1)), {}),
    ("S-3", "R1P824"): lambda: (answer(), {"valid_until": "2026-11-02T00:00:00Z"}),
    ("S-3", "R1P825"): lambda: (answer(), {"valid_from": "2026-11-25T00:00:00Z"}),
    ("S-3", "R1P826"): lambda: (answer(), {"origins": '["https://other.example"]'}),
    ("S-3", "R1P827"): lambda: (answer(), {"models": '["deepseek-v3"]'}),
    ("S-4", "R1P807"): lambda: (answer(components=[*COVER[:3], *BINDING]), {}),
    ("S-5", "R1P816"): lambda: (answer(created=CREATED - 331), {}),
    ("S-5", "R1P817"): lambda: (answer(created=CREATED + 31), {}),
    ("S-6", "R1P813"): lambda: (answer(nonce="c3RhbGU"), {}),
    ("S-7", "R1P860"): lambda: (answer(question(manifest="0" * 64)), {}),
    ("S-8", "R1P861"): lambda: (answer(question(weights="stated")), {}),
    ("S-9", "R1P806"): lambda: (with_response(answer(), status=201), {}),
    ("S-9", "R1P808"): lambda: (with_response(answer(), body=RESPONSE_BODY + b" "), {}),
    ("S-9", "R1P811"): lambda: (with_request(answer(), body=b'{"model":"deepseek-r1"}'), {}),
}


def test_every_criterion_of_answers_can_be_breached() -> None:
    named = {(one.number, rule) for one in criteria() if one.number[0] == "S" for rule in one.rules}
    assert set(BREACHES) == named


def test_an_answer_as_agreed_is_accepted(judged: Callable[..., Any]) -> None:
    assert judged(answer()) == (0, set())
    # At the very thresholds.
    assert judged(answer(created=CREATED - 330)) == (0, set())
    assert judged(answer(created=CREATED + 30)) == (0, set())


def test_another_scheme_is_not_the_agreed_one(judged: Callable[..., Any]) -> None:
    """S-2: a webhook's signature counts for nothing here."""
    other = question()
    fields = (
        ("Webhook-Id", "1"),
        ("Webhook-Timestamp", str(CREATED)),
        ("Webhook-Signature", "v1,YQ=="),
    )
    other = with_response(other, headers=other.response.headers + fields)
    assert judged(other) == (1, {"R1P802"})


@pytest.mark.parametrize("left_out", COVER)
def test_each_part_has_to_be_covered(judged: Callable[..., Any], left_out: str) -> None:
    """S-4: what a signature leaves out can be changed by anyone on the way."""
    components = [one for one in (*COVER, *BINDING) if one != left_out]
    status, errors = judged(answer(components=components))
    assert status == 1
    assert "R1P807" in errors


def test_a_request_that_asks_for_no_nonce_gets_no_answer_that_counts(
    judged: Callable[..., Any],
) -> None:
    """S-6: an old answer to the same request could not be told from a new one."""
    assert judged(answer(question(nonce=None), nonce=None)) == (1, {"R1P813"})


@pytest.mark.parametrize(("number", "rule"), BREACHES, ids=list(map("-".join, BREACHES)))
def test_a_breach_is_named(judged: Callable[..., Any], number: str, rule: str) -> None:
    exchange, fill = BREACHES[number, rule]()
    status, errors = judged(exchange, **fill)
    (row,) = (one for one in criteria() if one.number == number)
    assert (status, errors) == (row.status, {rule})
