"""HTML: one page that asks for nothing, and text of a stranger is only text."""

import base64
import hashlib
import re
from dataclasses import replace

import html5lib
from hypothesis import given
from hypothesis import strategies as st

from r1prov.render import html
from r1prov.text import is_unsafe, printable

ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "bdi", "article", "table",
    "tbody", "tr", "th", "td", "footer", "p",
}  # fmt: skip


def tree(report):
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(html.render(report))


def elements(root):
    return [(one.tag, dict(one.attrib)) for one in root.iter()]


def test_the_flipped_bit(real):
    root = tree(real["fail"])
    text = "".join(root.itertext())
    (one,) = real["fail"].findings
    for part in (one.subject, one.message, one.expected, one.found, one.rule.help, "R1P004"):
        assert part in text
    assert root.find(".//h1").get("class") == "fail"
    assert root.find(".//title").text.startswith("r1prov: FAIL against all-MiniLM-L6-v2")


def test_every_verdict_says_its_name(real):
    for report in real.values():
        heading = "".join(tree(report).find(".//h1").itertext())
        assert heading.startswith(report.verdict.value.upper())


def test_nothing_is_loaded_and_nothing_runs(real):
    text = html.render(real["fail"])
    root = tree(real["fail"])
    assert {tag for tag, _ in elements(root)} <= ALLOWED
    for _, attributes in elements(root):
        assert not {"src", "href", "style"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|://", root.find(".//style").text)
    (policy,) = [
        one.get("content")
        for one in root.iter("meta")
        if one.get("http-equiv") == "Content-Security-Policy"
    ]
    style = root.find(".//style").text
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert text.index("Content-Security-Policy") < text.index("<style>")
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_it_is_ascii(hostile):
    assert html.render(hostile).isascii()


def test_too_many_are_counted(every_rule):
    text = html.render(replace(every_rule, findings=every_rule.findings * 50))
    assert text.count("<article>") == 2_000
    assert "more; --format json lists them all" in text


def test_the_hostile_report(hostile, report_of):
    check_is_text(hostile, report_of)


@given(data=st.data())
def test_any_text_stays_text(data, untrusted, report_of):
    check_is_text(report_of(data.draw(untrusted)), report_of)


def check_is_text(report, report_of):
    root = tree(report)
    assert elements(root) == elements(tree(report_of("x")))
    for one in root.iter():
        if one.tag != "style":
            assert not any(map(is_unsafe, (one.text or "").replace("\n", "")))
    shown = printable(report.headline, limit=2000)
    assert "".join(root.find(".//h1/bdi").itertext()) == shown
