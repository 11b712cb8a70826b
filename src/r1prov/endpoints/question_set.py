"""The user's own questions, with the right answers and how to score: JSON lines or CSV.

One question a line: `prompt`, `expected`, and optionally `scorer` (a name in `SCORERS`, `exact` if
absent) and `id`. The answer is scored without its reasoning. With the scorer `code`, `expected` is
Python that runs behind the code of the answer and raises an exception if that is wrong.
"""

from __future__ import annotations

import ast
import csv
import io
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from r1prov.errors import QuestionSetError, R1ProvError, UsageError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_QUESTION_SET_BYTES, MAX_QUESTION_SET_LINE_BYTES, MAX_QUESTIONS
from r1prov.text import quoted

_COLUMNS = ("id", "prompt", "expected", "scorer")
# A pattern of the test set is run on text that an endpoint chose: it must end.
_PATTERN_SECONDS = 1.0
_BOXED = re.compile(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_NUMBER = re.compile(
    r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?:\s?[%％])?"
)
_CHOICE = re.compile(
    r"(?:answer|option|choice|答案|选项|选择|选)\s*(?:is|为|是|:|：)*\s*\(?\**([A-Ja-j])\b",
    re.IGNORECASE,
)
# A fence that is not closed is of an answer that was cut off.
_FENCED = re.compile(
    r"^[ \t]*```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.M | re.S | re.I
)
_DEFINES = re.compile(r"^[ \t]*(?:async[ \t]+def|def|class)[ \t]", re.M)
_LETTER = re.compile(r"(?<![A-Za-z])\(?\**([A-J])\**\)?(?![A-Za-z'’])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question.

    Attributes:
        id: Its own, or `q1`, `q2` … by its place.
        prompt: What is asked.
        expected: The right answer, as its scorer reads it.
        scorer: A name in `SCORERS`.
    """

    id: str
    prompt: str
    expected: str
    scorer: str


def score_exact(answer: str, expected: str) -> bool:
    """The whole answer is the expected one, but for case, width and space around it."""
    return _plain(answer) == _plain(expected)


def score_regex(answer: str, expected: str) -> bool:
    """The pattern is found in the answer; one that takes too long is not found."""
    import regex

    try:
        return regex.search(expected, answer, timeout=_PATTERN_SECONDS) is not None
    except TimeoutError:
        return False


def score_numeric(answer: str, expected: str) -> bool:
    """The last number in a box or, without a box, of the answer equals the expected one."""
    found, wanted = _last_number(answer), _last_number(expected)
    return found is not None and found == wanted


def score_choice(answer: str, expected: str) -> bool:
    """The letter that the answer settles on, the last that it names as its answer."""
    boxed = _BOXED.findall(answer)
    text = boxed[-1] if boxed else answer
    named = _CHOICE.findall(text) or _LETTER.findall(text)
    return bool(named) and named[-1].upper() == expected.strip().upper()


def score_code(answer: str, expected: str) -> bool:
    """The code of the answer, and the tests behind it, run to their end in the sandbox.

    The code is the last fenced block that defines something, the last one, or the whole answer.

    Raises:
        UsageError: There is no sandbox on this machine.
    """
    from r1prov.endpoints.sandbox import sandbox

    return sandbox().run(f"{code_of(answer)}\n\n{expected}\n")


def code_of(answer: str) -> str:
    """The code in an answer."""
    blocks = [textwrap.dedent(block) for block in _FENCED.findall(answer)]
    defining = [block for block in blocks if _DEFINES.search(block)]
    return (defining or blocks or [answer])[-1]


SCORERS: Mapping[str, Callable[[str, str], bool]] = {
    "exact": score_exact,
    "regex": score_regex,
    "numeric": score_numeric,
    "choice": score_choice,
    "code": score_code,
}


def require_scorers(questions: Iterable[Question]) -> None:
    """Find out whether questions can be scored here, before anyone is asked.

    Raises:
        UsageError: Code would have to be run and there is no sandbox.
    """
    if any(one.scorer == "code" for one in questions):
        from r1prov.endpoints.sandbox import sandbox

        sandbox()


def parse_question_set(raw: bytes, *, subject: str) -> tuple[Question, ...]:
    """Read questions: CSV where the file's name ends so, else JSON lines.

    Raises:
        QuestionSetError: Malformed, too large, empty, or a question is no question.
    """
    if len(raw) > MAX_QUESTION_SET_BYTES:
        raise QuestionSetError(f"more than {MAX_QUESTION_SET_BYTES} bytes", subject=subject)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QuestionSetError("not UTF-8", subject=subject, hint="save it as UTF-8") from error
    rows = _csv(text, subject) if subject.lower().endswith(".csv") else _json_lines(text, subject)
    if not rows:
        raise QuestionSetError("no question in it", subject=subject)
    if len(rows) > MAX_QUESTIONS:
        raise QuestionSetError(f"more than {MAX_QUESTIONS} questions", subject=subject)
    questions = [
        _question(row, number, f"{subject} line {line}")
        for number, (line, row) in enumerate(rows, 1)
    ]
    counted = Counter(one.id for one in questions)
    if len(counted) < len(questions):
        twice = next(one for one, count in counted.items() if count > 1)
        raise QuestionSetError(f"id {quoted(twice)} stands twice", subject=subject)
    return tuple(questions)


def _json_lines(text: str, subject: str) -> list[tuple[int, Mapping[str, object]]]:
    rows: list[tuple[int, Mapping[str, object]]] = []
    # Not `splitlines`: U+2028 may stand in a JSON string as it is.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{subject} line {number}"
        try:
            row = parse_json(line.encode(), subject=where, max_bytes=MAX_QUESTION_SET_LINE_BYTES)
        except R1ProvError as error:
            raise QuestionSetError(error.message, subject=where, hint=error.hint) from error
        if not isinstance(row, dict):
            raise QuestionSetError(
                "not an object", subject=where, hint='{"prompt": …, "expected": …}'
            )
        rows.append((number, row))
    return rows


def _csv(text: str, subject: str) -> list[tuple[int, Mapping[str, object]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows: list[tuple[int, Mapping[str, object]]] = [
            (reader.line_num, {name: cell for name, cell in row.items() if cell != ""})
            for row in reader
        ]
    except csv.Error as error:
        where = f"{subject} line {reader.line_num}"
        raise QuestionSetError(f"not CSV: {error}", subject=where) from error
    for line, row in rows:
        if None in row or None in row.values():
            raise QuestionSetError(
                "has not as many cells as the first line", subject=f"{subject} line {line}"
            )
    return rows


def _question(row: Mapping[str, object], number: int, where: str) -> Question:
    for name, value in row.items():
        if name not in _COLUMNS:
            raise QuestionSetError(
                f"unknown column {quoted(str(name))}",
                subject=where,
                hint=f"there are {', '.join(_COLUMNS)}",
            )
        if not isinstance(value, str):
            raise QuestionSetError(f"{name} is not a string", subject=where)
    texts = {name: str(value) for name, value in row.items()}
    for name in ("prompt", "expected"):
        if not texts.get(name):
            raise QuestionSetError(f"{name} is missing or empty", subject=where)
    scorer = texts.get("scorer", "exact")
    if scorer not in SCORERS:
        raise QuestionSetError(
            f"there is no scorer {quoted(scorer)}",
            subject=where,
            hint=f"one of {', '.join(SCORERS)}",
        )
    question = Question(
        id=texts.get("id", f"q{number}"),
        prompt=texts["prompt"],
        expected=texts["expected"],
        scorer=scorer,
    )
    _check_expected(question, where)
    return question


def _check_expected(question: Question, where: str) -> None:
    """A question that no answer can get right is a mistake in the file, not in the model."""
    if question.scorer == "regex":
        import regex

        try:
            regex.compile(question.expected)
        except regex.error as error:
            raise QuestionSetError(f"expected is no pattern: {error}", subject=where) from error
    elif question.scorer == "code":
        try:
            ast.parse(question.expected)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise QuestionSetError(f"expected is not Python: {error}", subject=where) from error
    elif question.scorer == "numeric" and _last_number(question.expected) is None:
        raise QuestionSetError("expected is not a number", subject=where)
    elif question.scorer == "choice" and not re.fullmatch(
        r"[A-Ja-j]", question.expected.strip(), re.ASCII
    ):
        raise QuestionSetError("expected is not a letter from A to J", subject=where)


def score(question: Question, answer: str) -> bool:
    """Whether an answer is right.

    Raises:
        UsageError: The scorer `regex` is asked for and its package is missing.
    """
    try:
        return SCORERS[question.scorer](answer, question.expected)
    except ImportError as error:
        raise UsageError(
            "patterns need the package `regex`", hint="install r1prov[endpoint]"
        ) from error


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _last_number(text: str) -> Decimal | None:
    folded = unicodedata.normalize("NFKC", text)
    if boxed := _BOXED.findall(folded):
        folded = boxed[-1]
    numbers = _NUMBER.findall(folded)
    if not numbers:
        return None
    plain = numbers[-1].replace(",", "").replace("−", "-").replace(" ", "")
    percent = plain.endswith("%")
    try:
        value = Decimal(plain.removesuffix("%"))
    except InvalidOperation:
        return None
    return value / 100 if percent else value
