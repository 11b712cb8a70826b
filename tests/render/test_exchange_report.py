"""The report of an exchange: JSON by its schema, and text that a stranger cannot bend."""

import json
from dataclasses import replace
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator
from receipts import near_receipt, with_near
from signed import (
    NOW,
    hmac_signing_key,
    policy,
    signed,
    signing_key,
    unsigned,
    with_request,
    with_response,
)

from r1prov.render import exchange as render
from r1prov.responses.report import State
from r1prov.responses.verify import verify_exchange

SCHEMA = json.loads((files("r1prov.render") / "schema" / "exchange-report-1.json").read_bytes())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)

EXCHANGES = {
    State.VERIFIED: lambda: (signed(unsigned(nonce="n"), nonce="n", expires=2**31), policy()),
    State.UNSIGNED: lambda: (unsigned(), policy()),
    State.INVALID: lambda: (with_response(signed(), status=500), policy()),
    State.UNCOVERED: lambda: (signed(components=["@status"]), policy()),
    State.INTEGRITY_ONLY: lambda: (
        signed(key=hmac_signing_key()),
        policy(hmac_signing_key()),
    ),
    State.RESERIALIZED: lambda: (
        with_near(
            unsigned(),
            near_receipt(
                signing_key(),
                response=b'{"id": "chatcmpl-1", "model": "deepseek-r1", "choices": []}',
            ),
        ),
        policy(),
    ),
    State.INCOMPLETE_STREAM: lambda: (with_response(signed(), complete=False), policy()),
    State.UNCHECKED: lambda: (with_response(signed(), body=None), policy()),
}


def report_of(state):
    exchange, chosen = EXCHANGES[state]()
    report = verify_exchange(exchange, chosen, now=NOW)
    assert report.state is state
    return report


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]["state"]["enum"]) == {state.value for state in State}


@pytest.mark.parametrize("state", EXCHANGES)
def test_json_is_by_the_schema(state):
    report = report_of(state)
    value = json.loads(render.as_json(report))
    assert [error.message for error in VALIDATOR.iter_errors(value)] == []
    assert (value["state"], value["exit_status"]) == (state.value, report.exit_status)
    assert value["schema"] == render.SCHEMA


@pytest.mark.parametrize("state", EXCHANGES)
def test_text_says_verdict_state_and_what_was_not_checked(state):
    report = report_of(state)
    text = render.as_text(report)
    first = text.splitlines()[0]
    assert first.startswith(report.verdict.value)
    assert first.endswith(f"({state.value})")
    for one in report.findings:
        assert one.rule.id in text
        assert one.rule.title in text
    for one in report.coverage:
        assert one.item in text


def test_text_of_a_stranger_cannot_bend_the_screen():
    hostile = "\x1b[2J\u202epass"
    exchange = signed(unsigned(), nonce="n", tag="t")
    exchange = with_request(exchange, url=f"https://api.example.com/{hostile}", method=hostile)
    exchange = with_response(
        exchange,
        headers=tuple(
            (k, f'{hostile}=("{hostile}");keyid="{hostile}"' if k == "Signature-Input" else v)
            for k, v in exchange.response.headers
        ),
    )
    report = verify_exchange(exchange, policy(), now=NOW)
    named = replace(report, model=hostile, nonce=hostile, tag=hostile, policy=hostile)
    for one in (report, named):
        text = render.as_text(one)
        assert all(c.isprintable() or c == "\n" for c in text)
        assert "\u202e" not in text
        assert render.as_json(one).isascii()


def test_a_secret_is_in_no_report():
    report = report_of(State.INTEGRITY_ONLY)
    assert "0123456789abcdef" not in render.as_text(report) + render.as_json(report)
