"""The document about a bundle as a page: what stands first, what is shown, and what never is."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import html5lib
import pytest
from document_case import (
    BOTH,
    EN,
    LANGUAGES,
    ZH,
    audit,
    certified,
    document,
    dossier,
    english,
    with_text,
)
from evidence_case import ROOT, Case, case, raw, rezip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1prov.endpoints.acceptance import read_endpoint_criteria
from r1prov.evidence.archive import read_archive
from r1prov.evidence.bag import DATA, TAG_FILES, tag_files
from r1prov.evidence.parts import Kind, chosen
from r1prov.render.evidence_document import as_html
from r1prov.render.evidence_dossier import Criteria, Dossier
from r1prov.render.evidence_words import WORDS
from r1prov.render.sentences_zh import in_chinese, item_in_chinese
from r1prov.stores.locate import open_store
from r1prov.text import is_unsafe
from r1prov.trust.states import TimestampCheck, TimestampState
from r1prov.verify.findings import Verdict, finding
from r1prov.verify.policy import Scope
from r1prov.verify.policy_file import load_policy

__all__ = ["case", "raw"]
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "div", "strong", "span", "p", "h1", "h2"),
    *("h3", "bdi", "code", "section", "table", "thead", "tbody", "tr", "th", "td", "ul", "ol"),
    *("li", "pre", "footer", "figure", "figcaption", "svg", "path", "circle", "line", "rect"),
    *("text", "polyline", "br"),
}
# No name for a command either, so that the page says the same of it as of worse.
PLAIN = "plain;"
HOSTILE = (
    "</code></bdi><script>alert(1)</script><img src=http://x.invalid/ onerror=y>",
    "\u202e\u2066pass\x00\x1b[31m\ud800\ufffe",
    "{verdict} {0} {__class__} %s",
    ']]> --> <!-- <svg onload=x> &amp;lt; class="line a" \'',
    "</style></title><plaintext>",
    "x" * 3000,
    "\u5b57" * 500,
    '"><text class="a" x="1" y="2">',
)


@pytest.fixture(scope="module")
def held(case: Case, raw: bytes, authority: Any) -> Dossier:
    """A verified bundle, with a certificate wherever one is shown."""
    return certified(dossier(raw, case.keys), authority.root().certificate)


@pytest.fixture(scope="module")
def plain(held: Dossier) -> list[tuple[str, dict[str, str]]]:
    return shape(tree(as_html(with_text(held, PLAIN), BOTH)))


def tree(page: str) -> Any:
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(page)


def shape(root: Any) -> list[tuple[str, dict[str, str]]]:
    """Elements with their attributes; those of plots, which say numbers, without their values."""
    return [
        (
            one.tag.rpartition("}")[2],
            {k: v for k, v in one.attrib.items() if k in ("class", "lang")},
        )
        for one in root.iter()
        if isinstance(one.tag, str)
    ]


def text_of(page: str) -> str:
    return "".join(tree(page).find("body").itertext())


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_verdict_stands_first(case: Case, raw: bytes, language: str) -> None:
    root = tree(document(raw, case.keys, LANGUAGES[language]))
    words = root.find(".//div[@class='word']")
    said = "".join(words.itertext())
    assert said == {"zh": "通过", "en": "PASS", "both": "通过PASS"}[language]
    assert root.find(".//div[@class='unverified']") is None
    headings = [one.tag for one in root.iter() if one.tag in ("h1", "h2")]
    assert headings[0] == "h1"
    # Nothing but title and subtitle stands before it.
    before = [one.tag for one in root.find("body")][:3]
    assert before == ["h1", "p", "div"]
    assert root.get("lang") == ("en" if language == "en" else "zh-Hans")
    if language != "both":
        other = 0 if language == "en" else 1
        text = "".join(root.find("body").itertext())
        assert WORDS["h-coverage"][other] not in text
        assert WORDS["h-coverage"][1 - other] in text


def test_everything_that_the_issue_names_is_shown(case: Case, raw: bytes) -> None:
    made = dossier(raw, case.keys)
    text = text_of(as_html(made, BOTH))
    result = made.result
    assert result.sha256 in text
    assert made.raw_index_sha256 in text
    assert result.signature.key_id in text
    for path, digest in result.digests.items():
        assert path in text
        assert digest in text
    for one in result.coverage:
        assert one.item in text
        assert one.detail in text
        assert item_in_chinese(one.item), one.item
    for key in made.pinned:
        assert key.key.key_id in text
    # The architecture beside R1's: the true figures, not those that circulate.
    for figure in ("61", "7,168", "128", "256", "129,280", "671,026,419,200", "91,991", "163"):
        assert figure in text
    assert "688,586,727,753" in text
    for name in ("r1prov evidence verify b.zip --keys ./pinned", "sha256sum b.zip"):
        assert name in text
    # Whoever reads a pass of m must not take it for R1.
    assert "m 不是 671B 满血版 DeepSeek-R1" in text
    assert str(made.result.report and made.result.report.headline) in text


def test_a_chinese_document_has_no_english_sentence(case: Case, raw: bytes) -> None:
    assert (
        english(document(raw, case.keys, ZH, expect="full", model=open_store(str(case.model))))
        == []
    )
    assert english(document(raw, ROOT / "keys", ZH)) == []


POLICY = """schema = "r1prov/policy/1"
[rules.executable-file]
severity = "error"
reason = "不得含加载时可执行代码的文件"
[[models]]
name = "m"
min_level = "full"
variant = "full"
scope = "all"
[endpoint]
urls = ["https://api.example/v1"]
verdict = "consistent"
[endpoint.min_samples]
completions = 480
"""


def outcomes(page: str) -> dict[str, str]:
    """Key of a policy to what became of it."""
    (table,) = [one for one in tree(page).iter("table") if one.get("class") == "policy"]
    rows = [["".join(cell.itertext()) for cell in row] for row in table.find("tbody")]
    return {row[0]: row[3] for row in rows}


@pytest.mark.parametrize("bundled", [True, False])
def test_criteria_and_what_became_of_them(case: Case, bundled: bool, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(POLICY)
    demands: dict[str, Any] = {}
    if bundled:
        raw = case.bundle(policy=path)
    else:
        raw = case.bundle()
        demands = {
            "policy": load_policy(path),
            "endpoint": read_endpoint_criteria(path),
        }
    whose = None if bundled else Criteria(path.name, path.read_bytes(), by_verifier=True)
    made = dossier(raw, case.keys, shown=whose, **demands)
    found = outcomes(as_html(made, EN))
    assert found["models[0].variant"] == "breached: R1P705"
    assert found["endpoint.urls"] == "not checked"  # there is no audit at all
    assert found["rules.executable-file.severity"] == "not breached"
    for key in ("name", "min_level", "scope"):
        assert found[f"models[0].{key}"] == "not breached", key
    assert found["schema"] == found["rules.executable-file.reason"] == "—"
    # An audit of another address than the policy names is held to nothing.
    result = replace(made.result, audits=(("endpoint/00", audit("https://other.example")),))
    found = outcomes(as_html(replace(made, result=result), EN))
    assert found["endpoint.verdict"] == found["endpoint.min_samples.completions"] == "not checked"
    url = "https://api.example/v1/chat/completions"
    result = replace(made.result, audits=(("endpoint/00", audit(url)),))
    found = outcomes(as_html(replace(made, result=result), ZH))
    assert found["endpoint.verdict"] == "未见违反"
    text = text_of(as_html(made, ZH))
    assert ("由验证方提出" in text) is not bundled
    assert hashlib.sha256(path.read_bytes()).hexdigest() in text


def test_what_a_pass_is_limited_by_stands_with_the_verdict(case: Case) -> None:
    made = dossier(case.bundle(scope=Scope.WEIGHTS), case.keys)
    assert made.result.verdict is Verdict.PASS
    for languages, said in ((ZH, "此结论受以下限制：仅限权重"), (EN, "limited:weights only")):
        (box,) = [
            o
            for o in tree(as_html(made, languages)).iter("div")
            if o.get("class") == "verdict pass"
        ]
        assert said in "".join(box.itertext())


def test_coverage_of_a_common_bundle_is_all_in_chinese(case: Case, raw: bytes) -> None:
    for one in dossier(raw, case.keys).result.coverage:
        assert item_in_chinese(one.item), one.item
        # That of the manifest signature is a file name.
        assert one.item == "manifest signature" or in_chinese(one.detail), one.detail


def first_text(page: str) -> str:
    body = tree(page).find("body")
    return str(next(one.strip() for one in body.itertext() if one.strip()))


def test_what_is_not_verified_says_so_in_the_first_line(case: Case, raw: bytes) -> None:
    for languages, said in ((ZH, "未经验证"), (EN, "NOT VERIFIED"), (BOTH, "未经验证")):
        page = document(raw, ROOT / "keys", languages)  # keys of others
        assert first_text(page) == said
        assert tree(page).find(".//title").text.startswith(said)
        (banner,) = [one for one in tree(page).iter("div") if one.get("class") == "unverified"]
        assert banner.find("strong") is not None
        text = text_of(page)
        assert WORDS["verified"][0][:6] not in text
        # On every page of paper too.
        style = tree(page).find(".//style").text
        assert "".join(f"\\{ord(one):x} " for one in "未经验证") in style or "NOT VERIFIED" in style
    assert first_text(document(raw, case.keys)) == "模型证据报告"


def test_an_altered_bundle_shows_nothing_of_its_content(case: Case, raw: bytes) -> None:
    members = read_archive(raw, subject="b")
    name = next(one for one in members if one.endswith("m.toml"))
    members[name] += b"# changed\n"
    kept = {n: d for n, d in members.items() if n not in TAG_FILES}
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    altered = rezip(kept | tag_files(kept, day=day))
    made = dossier(altered, case.keys)
    assert made.altered
    page = as_html(made, BOTH)
    assert first_text(page) == "未经验证"
    text = text_of(page)
    assert WORDS["unverified-altered"][1] in text
    # Criteria, architecture, exchanges, audits and digests: nothing is said of what was not read.
    assert text.count(WORDS["withheld"][0]) == 5
    assert WORDS["x-none"][0] not in text
    assert WORDS["e-none"][0] not in text
    assert name.removeprefix(DATA).rpartition("/")[2] in text  # as the finding says
    assert "671,026,419,200" not in text


def test_fail_and_incomplete(case: Case, raw: bytes) -> None:
    made = dossier(raw, case.keys, expect="full")
    root = tree(as_html(made, BOTH))
    assert "不通过" in "".join(root.find(".//div[@class='word']").itertext())
    text = text_of(as_html(made, BOTH))
    for one in made.result.findings:
        assert one.message in text
        assert one.rule.id in text
        assert one.rule.title in text
    assert "模型不是所要求的型号" in text
    assert "本证据不能证明其所记录的就是 671B 满血版 DeepSeek-R1" in text
    less = case.bundle(kinds=chosen(frozenset(), frozenset({Kind.MANIFEST})))
    root = tree(document(less, case.keys, ZH))
    assert "".join(root.find(".//div[@class='word']").itertext()) == "不完整"
    text = "".join(root.find("body").itertext())
    assert "“不完整”不等于通过" in text
    assert "未检查（必需）" in text


def test_chain_and_timestamps(case: Case, raw: bytes, tmp_path: Path) -> None:
    before = tmp_path / "before.zip"
    before.write_bytes(raw)
    made = dossier(case.bundle(previous=before), case.keys)
    assert hashlib.sha256(raw).hexdigest() in text_of(as_html(made, EN))
    proven = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    good = TimestampCheck(TimestampState.GOOD, "of ACME time", proven)
    bad = TimestampCheck(TimestampState.UNTRUSTED, "of another authority")
    signature = replace(made.result.signature, timestamps=(good, bad))
    made = replace(made, result=replace(made.result, signature=signature))
    text = text_of(as_html(made, BOTH))
    assert "时间戳证明不晚于 2026-01-02 03:04:05 UTC" in text
    assert "机构不在固定之列" in text


def test_audits_with_plots(case: Case, raw: bytes) -> None:
    made = dossier(raw, case.keys)
    result = replace(made.result, audits=(("audit/a.json", audit("tok")),))
    page = as_html(replace(made, result=result), BOTH)
    root = tree(page)
    assert len(list(root.iter("figure"))) == 3
    text = text_of(page)
    for said in (
        "不一致",
        "耗时分布",
        "首个片段 first piece",
        "本审计无法判断的事项",
        "31,044",
        "α = 0.001",
    ):
        assert said in text
    # Lines differ without colour too.
    lines = [one for one in root.iter() if str(one.tag).endswith("polyline")]
    assert len({one.get("stroke-dasharray") for one in lines[:2]}) == 2
    assert not any(one.get("class") for one in lines)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("language", LANGUAGES)
def test_text_of_strangers_is_only_text(held: Dossier, text: str, language: str) -> None:
    made = held
    harmless = tree(as_html(with_text(made, PLAIN), LANGUAGES[language]))
    page = as_html(with_text(made, text), LANGUAGES[language])
    assert page.isascii()
    root = tree(page)
    assert shape(root) == shape(harmless)
    shown = "".join(root.find("body").itertext())
    assert not any(is_unsafe(one) for one in shown if one != "\n")


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(min_size=1, max_size=60))
def test_any_text_leaves_the_structure_as_it_is(held: Dossier, plain: Any, text: str) -> None:
    assert shape(tree(as_html(with_text(held, PLAIN + text), BOTH))) == plain


def test_nothing_is_loaded_and_nothing_runs(held: Dossier) -> None:
    page = as_html(with_text(held, HOSTILE[0]), BOTH)
    root = tree(page)
    assert {tag for tag, _ in shape(root)} <= ALLOWED
    for one in root.iter():
        assert not {"src", "href", "style", "background"} & {n.lower() for n in one.attrib}
        assert not any(name.startswith("on") for name in one.attrib)
    style = root.find(".//style").text
    assert not re.search(r"url\(|@import|@font-face|//", style)
    (policy,) = [
        one.get("content")
        for one in root.iter("meta")
        if one.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("june bundle.zip", "'june bundle.zip'"),
        ("x; rm -rf ~.zip", "bundle.zip"),
        ("-o.zip", "bundle.zip"),
        ("$(id).zip", "bundle.zip"),
        ("证据.zip", "bundle.zip"),
    ],
)
def test_commands_are_safe_to_type(case: Case, raw: bytes, name: str, shown: str) -> None:
    root = tree(document(raw, case.keys, EN, name=name))
    commands = ["".join(one.itertext()) for one in root.iter("pre")]
    assert len(commands) == 3
    assert commands[0] == f"sha256sum {shown}"
    assert commands[2].startswith(f"r1prov evidence verify {shown} --keys ./pinned")
    for one in commands:
        assert shlex.join(shlex.split(one)) == one


def test_a_large_model_is_summarised(case: Case, raw: bytes) -> None:
    made = dossier(raw, case.keys)
    many = {f"f{number:06}.bin": "0" * 64 for number in range(50_000)}
    wrong = tuple(finding("file-digest", name, "another SHA-256") for name in many)
    page = as_html(replace(made, result=replace(made.result, digests=many, findings=wrong)), BOTH)
    assert len(page) < 500_000
    text = text_of(page)
    assert "另有 49,940 项未在此逐条列出" in text
    assert "49,940 more are not listed here" in text
    assert "f000390.bin" in text
    assert "f000410.bin" not in text


def test_the_same_bundle_and_moment_give_the_same_page(case: Case, raw: bytes) -> None:
    now = datetime.now(UTC)
    assert document(raw, case.keys, now=now) == document(raw, case.keys, now=now)
    later = document(raw, case.keys, now=now + timedelta(hours=1))
    assert later != document(raw, case.keys, now=now)
