"""Every text of the document in both languages, every rule and common sentence in Chinese."""

import ast
import re
import string
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import r1prov
from r1prov.endpoints.acceptance import TESTS
from r1prov.endpoints.offline import NEVER_ASKED
from r1prov.endpoints.report import NEVER
from r1prov.endpoints.tokens.reference import token_reference
from r1prov.evidence.parts import Kind
from r1prov.render import sentences_zh
from r1prov.render.evidence_policy import _BREACHES
from r1prov.render.evidence_words import WORDS
from r1prov.render.rules_zh import _table, rule_in_chinese
from r1prov.render.sentences_zh import in_chinese, item_in_chinese
from r1prov.responses.verify import _HEADLINES
from r1prov.trust.states import TimestampState
from r1prov.verify.findings import Verdict
from r1prov.verify.rules import RULES, Severity

HAN = re.compile(r"[\u4e00-\u9fff]")
# A half-width mark after a Chinese character; a period or colon inside a file name is none.
HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;:!?()]|[,;!?()][\u4e00-\u9fff]")
# Names that are the same in both languages.
SAME = {"a-r1", "f-depth-says"}
SLOT = re.compile(r"\{[ntlw]?\}")
SENTENCES = tomllib.loads(sentences_zh._FILE.read_text(encoding="utf-8"))
# Names and formats, which Chinese writes as they are.
AS_IT_IS = {"sha256:{}, {n} byte(s)"}


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", WORDS)
def test_every_text_stands_in_both_languages(key: str) -> None:
    chinese, english = WORDS[key]
    assert chinese
    assert english
    assert fields(chinese) == fields(english)
    assert not HAN.search(english)
    assert key in SAME or HAN.search(chinese)
    assert not HALF_WIDTH.search(chinese)
    # Of typographic signs only what every font has; Chinese fonts draw English quotes full-width.
    assert not set(english) & set("“”，。；：（）、")


def test_every_value_that_is_shown_has_a_word() -> None:
    for one in (*Verdict, *Severity, *TimestampState):
        assert one.value in WORDS
    for kind in Kind:
        assert f"k-{kind.value}" in WORDS, "a new kind of part needs a word in evidence.words.toml"


def test_every_rule_stands_in_chinese() -> None:
    assert set(_table()) == {one.name for one in RULES}
    for one in RULES:
        title, text = rule_in_chinese(one.name)
        for said in (title, text):
            assert HAN.search(said), one.name
            assert not HALF_WIDTH.search(said), said
        assert not title.endswith("。")
        assert text.endswith("。"), one.name
        # What is code in the English is code in the Chinese.
        for code in re.findall(r"`[^`]+`", one.title):
            assert code in title, one.name


def test_no_two_rules_have_one_chinese_title() -> None:
    titles = [rule_in_chinese(one.name)[0] for one in RULES]
    english = [one.title for one in RULES]
    twice = {one for one in titles if titles.count(one) > 1}
    for title in twice:
        same = {english[at] for at, one in enumerate(titles) if one == title}
        assert len(same) == 1, (title, same)


@pytest.mark.parametrize("table", SENTENCES)
def test_templates_are_whole(table: str) -> None:
    for english, chinese in SENTENCES[table].items():
        slots = len(SLOT.findall(english))
        assert fields(chinese) == {str(number) for number in range(slots)}, english
        assert HAN.search(chinese) or english in AS_IT_IS, english
        assert not HALF_WIDTH.search(chinese), chinese
        assert not HAN.search(english)


def test_sentences_are_translated_piece_by_piece() -> None:
    known = "2 of 3 files equal, 1 differ; 2 by the digest that the signer of the evidence states"
    assert in_chinese(f"{known}, not read") == (
        "3 个文件中 2 个一致，1 个不同；其中 2 个以证据包签名人陈述的摘要值为准，并非此次读取"
    )
    assert in_chinese("holds") == "成立"
    assert in_chinese("holds; and something new") is None
    assert in_chinese("1 member held to the index") == "1 个成员均与索引逐一比对"
    assert in_chinese("many members held to the index") is None  # no number
    assert item_in_chinese("holds") is None
    # What says most comes first, whatever order the table has.
    assert in_chinese("signed by a trusted key, over this answer to this request") == (
        "由受信任的密钥签名，覆盖对此请求的此回答"
    )
    assert in_chinese("signed by 0a1b2c3d") == "由 0a1b2c3d 签名"
    # A name takes no sentence that stands behind it.
    told = "prompt tokens are those of GLM-4; 3 of 4 deltas end inside a token of R1"
    assert in_chinese(told) == (
        "提示词元数与 GLM-4 的分词器相符；4 个增量中有 3 个终止于 R1 的词元内部"
    )
    headline = (
        "inconsistent: inconsistent with R1: prompt tokens and deltas are not those of R1, and a "
        "repeat confirmed it; 1,200 requests, tests: tokenizer inconsistent (1,520), "
        "reasoning consistent (4); not run: parameters"
    )
    assert in_chinese(headline) == (
        "不一致：与 R1 不一致：提示词元数与增量均不符合 R1 的分词器，重复检验亦已证实；"
        "1,200 个请求，检验：分词器 不一致（1,520）、推理过程 一致（4）；未进行：参数处理"
    )


@pytest.mark.parametrize(
    "why",
    [
        "3 requests in a row failed",
        "3 requests in a row failed: HTTP status 503",
        f"{NEVER_ASKED}: `Name a colour.`",
        "the budget of 3 requests is spent",
        "of the budget of 2,000 tokens 12 are left, and the next request may need 4,096",
    ],
)
def test_why_an_audit_stopped_is_in_chinese(why: str) -> None:
    told = f"not-testable: not decided: {why}; 4 requests, tests: reasoning not-testable (0)"
    assert in_chinese(told) is not None


def test_what_every_audit_and_exchange_says_is_in_chinese() -> None:
    for name in (*TESTS, *(one.title for one in token_reference().counters if "," in one.title)):
        assert in_chinese(name), name
    for sentence in (*NEVER, *_HEADLINES.values()):
        assert in_chinese(sentence), sentence


def filled(value: ast.expr) -> list[str]:
    """What a sentence of the code can read as, with something in each place."""
    if isinstance(value, ast.IfExp):
        return filled(value.body) + filled(value.orelse)
    if isinstance(value, ast.Constant):
        return [str(value.value)]
    if not isinstance(value, ast.JoinedStr):
        return []
    text = ""
    for piece in value.values:
        if isinstance(piece, ast.Constant):
            text += str(piece.value)
        elif isinstance(piece, ast.FormattedValue):
            call = piece.value
            counts = isinstance(call, ast.Call) and ast.unparse(call.func) == "plural"
            numeric = piece.format_spec is not None or "len(" in ast.unparse(call)
            word = f"5 {ast.literal_eval(call.args[1])}s" if counts else "m"  # type: ignore[attr-defined]
            text += "5" if numeric and not counts else word
    return [text]


def test_what_is_found_of_a_model_is_in_chinese() -> None:
    """Every sentence of the checks, as it stands in the code."""
    seen, lacking = 0, []
    root = Path(r1prov.__file__).parent / "verify"
    for path in (*sorted((root / "checks").glob("*.py")), root / "apply_policy.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "finding":
                continue
            for sentence in filled(node.args[2]):
                seen += 1
                if in_chinese(sentence) is None:
                    lacking.append(f"{path.name}:{node.lineno}: {sentence}")
    assert seen > 40
    assert lacking == [], "\n".join(lacking)


def test_criteria_have_words_and_rules() -> None:
    names = {one.name for one in RULES}
    for table, keys in _BREACHES.items():
        for key, rules in keys.items():
            assert f"pk-{table}-{key}" in WORDS or f"pk-{key}" in WORDS, (table, key)
            assert set(rules) <= names, (table, key)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*SLOT.split(" ; ".join(SENTENCES["sentences"])), ", ", "; ", "7", "x"]),
        max_size=12,
    )
)
def test_any_text_is_taken(pieces: list[str]) -> None:
    found = in_chinese("".join(pieces))
    assert found is None or isinstance(found, str)


def test_long_text_of_strangers_takes_no_time() -> None:
    start = time.process_time()
    for text in (
        "key " + " of , may sign , not " * 180,
        "; ".join(["holds"] * 500),
        "consistent: " * 300,
        "as , by cached digests" * 150,
    ):
        in_chinese(text)
    assert time.process_time() - start < 1
