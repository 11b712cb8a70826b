from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.endpoints.question_set import SCORERS, Question, parse_question_set, score
from r1prov.errors import QuestionSetError, R1ProvError

JSONL = b"""\
{"prompt": "2 + 2?", "expected": "4", "scorer": "numeric"}

{"id": "sky", "prompt": "Colour of the sky?", "expected": "blue"}
"""
CSV = b'id,prompt,expected,scorer\n,"2 + 2?",4,numeric\nsky,"Colour of\nthe sky?",blue,\n'


def test_both_forms():
    first = Question(id="q1", prompt="2 + 2?", expected="4", scorer="numeric")
    sky = Question(id="sky", prompt="Colour of the sky?", expected="blue", scorer="exact")
    assert parse_question_set(JSONL, subject="set.jsonl") == (first, sky)
    parsed = parse_question_set(b"\xef\xbb\xbf" + CSV, subject="set.CSV")
    assert parsed[0] == first
    assert parsed[1].prompt == "Colour of\nthe sky?"


@pytest.mark.parametrize(
    ("scorer", "expected", "right", "wrong"),
    [
        ("exact", "Blue", ["blue", " BLUE\n", "ｂｌｕｅ"], ["blue.", "", "light blue"]),
        ("regex", r"(?i)\bblue\b", ["It is Blue."], ["bluer", ""]),
        (
            "numeric",
            "1234.5",
            ["1,234.50", r"so \boxed{1234.5}, not 7", "first 3, then 1234.5", "１２３４.５"],
            ["1234", "", "no number", r"\boxed{x} 1234.5", "1.2345"],
        ),
        ("numeric", "-3", ["−3", "x = -3"], ["3"]),
        ("numeric", "0.5", ["50 %", "0.50", "5e-1"], ["50"]),
        (
            "choice",
            "b",
            ["B", "(B)", "The answer is **B**.", "答案：B", "Not A. Answer: B", r"\boxed{B}"],
            ["A", "", "Because of this: A", "The answer is B, no, the answer is C", "Bob"],
        ),
    ],
)
def test_scorers(scorer, expected, right, wrong):
    question = Question(id="q", prompt="?", expected=expected, scorer=scorer)
    assert [answer for answer in right if not score(question, answer)] == []
    assert [answer for answer in wrong if score(question, answer)] == []


def test_a_pattern_that_would_run_for_ever_ends():
    question = Question(id="q", prompt="?", expected=r"(a+)+$", scorer="regex")
    started = time.monotonic()
    assert not score(question, "a" * 40 + "b")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "no question"),
        (b"\xff", "not UTF-8"),
        (b"[]", "not an object"),
        (b"{", "line 1"),
        (b'{"prompt": "a", "prompt": "b", "expected": "c"}', "stands twice"),
        (b'{"prompt": "a"}', "expected is missing"),
        (b'{"prompt": "a", "expected": 4}', "expected is not a string"),
        (b'{"prompt": "a", "expected": "b", "answer": "c"}', "unknown column"),
        (b'{"prompt": "a", "expected": "b", "scorer": "llm"}', "no scorer"),
        (b'{"prompt": "a", "expected": "(", "scorer": "regex"}', "no pattern"),
        (b'{"prompt": "a", "expected": "two", "scorer": "numeric"}', "not a number"),
        (b'{"prompt": "a", "expected": "AB", "scorer": "choice"}', "not a letter"),
        (b'{"id": "q2", "prompt": "a", "expected": "b"}\n' * 2, "`q2` stands twice"),
    ],
)
def test_what_is_no_question_set(raw, message):
    with pytest.raises(QuestionSetError) as caught:
        parse_question_set(raw, subject="set.jsonl")
    assert message in f"{caught.value.subject} {caught.value.message}"


@pytest.mark.parametrize("raw", [b"prompt,expected\na\n", b"prompt,expected\na,b,c\n", b'"a\n'])
def test_what_is_no_csv(raw):
    with pytest.raises(QuestionSetError):
        parse_question_set(raw, subject="set.csv")


@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.jsonl"]))
def test_any_bytes_are_read_or_refused(raw, subject):
    with contextlib.suppress(R1ProvError):
        parse_question_set(raw, subject=subject)


@given(st.text(), st.sampled_from(sorted(set(SCORERS) - {"code", "regex"})))
def test_any_answer_can_be_scored(answer, scorer):
    expected = {"exact": "a", "numeric": "1", "choice": "A"}[scorer]
    score(Question(id="q", prompt="?", expected=expected, scorer=scorer), answer)


texts = st.text(st.characters(codec="utf-8"), min_size=1)


@given(texts, texts)
def test_what_was_written_is_read(prompt, expected):
    raw = json.dumps({"prompt": prompt, "expected": expected}, ensure_ascii=False).encode()
    (question,) = parse_question_set(raw, subject="a.jsonl")
    assert (question.prompt, question.expected) == (prompt, expected)
