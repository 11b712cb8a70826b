"""Markdown, read by GitHub's own parser with raw HTML allowed: text of a stranger is only code."""

from dataclasses import replace

import cmarkgfm
import html5lib
from cmarkgfm.cmark import Options
from hypothesis import given
from hypothesis import strategies as st

from r1prov.render import markdown
from r1prov.text import printable
from r1prov.verify.rules import RULES

HELPS = {rule.help for rule in RULES}  # shown for an empty hint


def tree(report):
    """The page that GitHub's parser makes, before any sanitizer."""
    text = markdown.render(report)
    made = cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE)
    return html5lib.parse(made, namespaceHTMLElements=False)


def elements(root):
    return [(one.tag, dict(one.attrib)) for one in root.iter() if isinstance(one.tag, str)]


def codes(root):
    return [content(one) for one in root.iter("code")]


def content(element):
    """The text of an element without its comments."""
    inner = "".join(content(one) + (one.tail or "") for one in element)
    return (element.text or "") + inner if isinstance(element.tag, str) else ""


def test_the_parser_of_this_test_finds_what_must_not_be_there():
    text = "| a | b |\n| --- | --- |\n| www.b.c a&#64;b.c `x|<img src=x>` | y |\n"
    made = cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE)
    found = [tag for tag, _ in elements(html5lib.parse(made, namespaceHTMLElements=False))]
    assert "img" in found
    assert found.count("a") == 2


def test_the_flipped_bit(real):
    root = tree(real["fail"])
    (one,) = real["fail"].findings
    rows = [list(row) for row in root.iter("tr")]
    row = ["".join(cell.itertext()) for cell in rows[1]]
    assert row == [
        "R1P004 file-digest",
        one.subject,
        one.message,
        one.expected,
        one.found,
        one.rule.help,
    ]
    assert real["fail"].headline in codes(root)
    assert root.find(".//h2").text == "❌ r1prov verify: FAIL"


def test_what_was_not_checked(real):
    text = markdown.render(real["incomplete"])
    assert "INCOMPLETE" in text
    assert "### Had to be checked, and was not (2)" in text
    assert (
        "| not checked | `SHA-256 of weight files` | ``level `structure` reads headers only`` |"
        in text
    )


def test_too_many_are_counted(every_rule):
    many = replace(every_rule, findings=every_rule.findings * 10)
    text = markdown.render(many)
    assert text.count("\n| R1P") == 200
    assert "more; `--format json` lists them all." in text
    assert len(text) < 1024 * 1024  # a step summary of GitHub


def test_names_that_take_much_room_leave_the_summary_its_size(every_rule):
    """GitHub drops a step summary of more than 1 MiB, and shows nothing in its place."""
    wide = "|" + "@" * 499
    one = replace(every_rule.findings[0], subject=wide, message=wide, expected=wide, found=wide)
    text = markdown.render(replace(every_rule, findings=(one,) * 300))
    assert len(text.encode()) < 256 * 1024
    shown = text.count("\n| R1P")
    assert shown >= 5
    assert f"… and {300 - shown:,} more; `--format json` lists them all." in text


def test_the_hostile_report(hostile, report_of):
    check_is_text(hostile, report_of)


@given(data=st.data())
def test_any_text_stays_text(data, untrusted, report_of):
    check_is_text(report_of(data.draw(untrusted)), report_of)


def check_is_text(report, report_of):
    """The same elements as with harmless text, and the text itself in the code elements."""
    root, plain = tree(report), tree(report_of("x"))
    assert elements(root) == elements(plain)
    found, wanted = codes(root), codes(plain)
    assert len(found) == len(wanted)
    shown = printable(report.headline, limit=500)
    for have, want in zip(found, wanted, strict=True):
        if want == "x":
            assert have == shown or (not shown and have in HELPS)
