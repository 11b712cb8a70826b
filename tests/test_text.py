"""What the helpers for untrusted text promise, each against a parser that is not ours."""

import html
from xml.etree import ElementTree as ET

import cmarkgfm
from cmarkgfm.cmark import Options
from hypothesis import example, given
from hypothesis import strategies as st

from r1prov.text import (
    annotation_data,
    annotation_property,
    html_text,
    is_unsafe,
    markdown_code,
    printable,
)

ANYTHING = st.text(st.characters(exclude_categories=()))
MARKUP = st.text(st.sampled_from("`|\\<>&'\"*_[]()!@#:. ax\n\x1b\u202e\ud800\ufffe"))
TEXT = st.one_of(ANYTHING, MARKUP)


@given(TEXT)
@example("]]>\x00\ufffe\ud800\x1b\u202e")
def test_html_text_is_text_in_xml_and_in_html(text):
    made = html_text(text)
    tree = ET.fromstring(f'<a b="{made}">{made}</a>')
    shown = printable(text, limit=2000)
    assert (tree.text or "") == tree.get("b") == shown
    assert html.unescape(made) == shown
    assert "'" not in made


def rendered(markdown):
    options = Options.CMARK_OPT_UNSAFE
    return cmarkgfm.github_flavored_markdown_to_html(markdown, options=options)


@given(TEXT)
@example("`")
@example("``a`")
@example("\\|<img src=x>")
@example("a@b.c www.b.c http://b.c | @team #1")
@example(" ")
@example("")
def test_markdown_code_is_one_code_element_in_a_table(text):
    made = markdown_code(text)
    assert "\n" not in made
    page = rendered(f"| x | y |\n| --- | --- |\n| {made} | {made} |\n")
    body = page.partition("<tbody>")[2]
    cells = [one.partition("</td>")[0] for one in body.split("<td>")[1:]]
    assert len(cells) == 2
    shown = printable(text, limit=2000)
    for cell in cells:
        assert cell.startswith("<code>")
        assert cell.endswith("</code>")
        inner = cell.removeprefix("<code>").removesuffix("</code>").replace("<!-- -->", "")
        assert "<" not in inner
        assert html.unescape(inner) == shown


@given(TEXT)
@example("%0A")
@example("%250A::error::")
def test_annotations_are_one_line_and_come_back(text):
    data, prop = annotation_data(text), annotation_property(text)
    for escaped in (data, prop):
        assert "\r" not in escaped
        assert "\n" not in escaped
    assert not set(":,") & set(prop)
    for escape, character in (("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        data = data.replace(escape, character)
    assert data == text
    for escape, character in (
        ("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"),
    ):  # fmt: skip
        prop = prop.replace(escape, character)
    assert prop == text


@given(TEXT)
def test_printable_leaves_nothing_unsafe(text):
    assert not any(map(is_unsafe, printable(text)))


def test_what_was_made_printable_stays_as_it_is() -> None:
    """Messages quote text that was made printable, and are made printable as a whole."""
    for text in ("\x1b[2J", "a\\b\x00", r"C:\models", r"\x1b", "\u202e"):
        assert printable(printable(text)) == printable(text)
