"""Every text of the document in both languages, and every rule in Chinese."""

import re
import string

import pytest

from r1prov.evidence.parts import Kind
from r1prov.render.evidence_words import ITEMS, SENTENCES, WORDS, in_chinese
from r1prov.render.rules_zh import _table, rule_in_chinese
from r1prov.trust.states import TimestampState
from r1prov.verify.findings import Verdict
from r1prov.verify.rules import RULES, Severity

HAN = re.compile(r"[\u4e00-\u9fff]")
# A half-width mark after a Chinese character; a period or colon inside a file name is none.
HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;:!?()]|[,;!?()][\u4e00-\u9fff]")
# Names that are the same in both languages.
SAME = {"a-r1", "f-depth-says"}


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
        assert f"k-{kind.value}" in WORDS, "a new kind of part needs a word in evidence_words.py"


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


def test_details_are_translated_piece_by_piece() -> None:
    known = "2 of 3 files equal, 1 differ; 2 by the digest that the signer of the evidence states"
    assert in_chinese(f"{known}, not read") == (
        "3 个文件中 2 个一致，1 个不同；其中 2 个以证据包签名人陈述的摘要值为准，并非此次读取"
    )
    assert in_chinese("holds") == "成立"
    assert in_chinese("holds; and something new") is None
    for pattern, text in SENTENCES:
        assert len(fields(text)) == pattern.groups, text
    assert all(HAN.search(one) for one in ITEMS.values())
