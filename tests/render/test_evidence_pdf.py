"""The document about a bundle as PDF: fonts, text, pages, and the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pypdf
import pypdfium2
import pytest
from document_case import BOTH, EN, ZH, audit, dossier, with_text
from evidence_case import Case, case, raw
from PIL import Image

from r1prov.render import sentences_zh
from r1prov.render.evidence_document import as_html
from r1prov.render.evidence_pdf import as_pdf
from r1prov.render.evidence_words import WORDS
from r1prov.render.rules_zh import _table

__all__ = ["case", "raw"]
pytestmark = pytest.mark.documents
A4 = (595.3, 841.9)
HOSTILE = (
    "</code><script>alert(1)</script>\u202e\x00 {0} <img src='http://x.invalid/a.png'>" + "x" * 200
)
# A hieroglyph, which fonts-noto-cjk has not.
UNKNOWN = "\U00013080"


@pytest.fixture(scope="module")
def page(case: Case, raw: bytes) -> str:
    made = dossier(raw, case.keys, now=datetime(2026, 12, 1, tzinfo=UTC))
    result = replace(made.result, audits=(("audit/a.json", audit("tok")),))
    return as_html(replace(made, result=result), BOTH)


@pytest.fixture(scope="module")
def made(page: str) -> bytes:
    return as_pdf(page, identifier="0" * 64)


def fonts(reader: pypdf.PdfReader) -> Iterator[tuple[str, Any]]:
    """Name and descriptor of every font of every page."""
    for one in reader.pages:
        resources: Any = one["/Resources"]
        for reference in resources.get("/Font", {}).values():
            font = reference.get_object()
            inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
            yield font["/BaseFont"], inner["/FontDescriptor"].get_object()


def texts(raw: bytes) -> list[str]:
    """Text of every page, as a reader copies it."""
    return [one.extract_text() for one in pypdf.PdfReader(io.BytesIO(raw)).pages]


def pictures(raw: bytes, scale: float = 1.0) -> list[Image.Image]:
    document = pypdfium2.PdfDocument(raw)
    return [one.render(scale=scale).to_pil().convert("L") for one in document]


def test_every_font_is_in_the_file(made: bytes) -> None:
    found = list(fonts(pypdf.PdfReader(io.BytesIO(made))))
    names = {name for name, _ in found}
    assert any("Sans-CJK-SC" in name for name in names), names
    assert any("Serif-CJK-SC" in name for name in names), names
    for name, descriptor in found:
        files = [key for key in ("/FontFile", "/FontFile2", "/FontFile3") if key in descriptor]
        assert files, f"{name} is not embedded"
        assert len(descriptor[files[0]].get_object().get_data()) > 1000
        # A subset, as its name says.
        assert re.match(r"/[A-Z]{6}\+", name), name


def test_text_can_be_read_back(made: bytes) -> None:
    text = "".join(texts(made))
    for word in ("通过", "PASS", "模型证据报告", "摘要值", "签名", "时间戳", "证据包", "满血版"):
        assert word in text, word
    for said in ("耗时分布", "首个片段 first piece", "本审计无法判断的事项"):
        assert said in text
    assert "688,586,727,753" in text


def test_pages_are_a4_numbered_and_not_blank(made: bytes) -> None:
    reader = pypdf.PdfReader(io.BytesIO(made))
    count = len(reader.pages)
    assert count > 4
    for number, (one, text) in enumerate(zip(reader.pages, texts(made), strict=True), 1):
        assert tuple(float(side) for side in one.mediabox[2:]) == pytest.approx(A4, abs=1)
        assert f"Page {number} of {count}" in text
        assert f"第 {number} 页，共 {count} 页" in text
    for picture in pictures(made):
        ink = sum(picture.histogram()[:160]) / (picture.width * picture.height)
        assert 0.002 < ink < 0.3
        # Nothing is cut off: the margins have no ink.
        width, height = picture.size
        for side in (
            (0, 0, 30, height),
            (width - 30, 0, width, height),
            (0, height - 18, width, height),
        ):
            assert min(picture.crop(side).tobytes()) > 200


def test_a_long_table_repeats_its_heading_and_splits_no_row(case: Case, raw: bytes) -> None:
    found = dossier(raw, case.keys)
    many = {f"model-{number:05}-of-00163.safetensors": "ab" * 32 for number in range(163)}
    result = replace(found.result, digests=many)
    set_page = as_pdf(as_html(replace(found, result=result), EN), identifier="1" * 64)
    pages = [one for one in texts(set_page) if "-of-00163.safetensors" in one]
    assert len(pages) > 2
    shown = 0
    for text in pages:
        assert "file" in text.split("-of-00163", 1)[0]
        assert "bytes" in text.split("-of-00163", 1)[0]
        # Name and digest of a row stand on one page.
        names, digests = text.count("-of-00163.safetensors"), text.count("ab" * 32)
        assert names == digests
        shown += names
    assert shown == 163


def test_the_same_page_gives_the_same_bytes(page: str, made: bytes) -> None:
    """In another process, with other seeds of hashes; and nothing is said on the way."""
    code = (
        "import hashlib, logging, sys\nfrom r1prov.render.evidence_pdf import as_pdf\n"
        "names = ('weasyprint', 'fontTools')\n"
        "before = [logging.getLogger(one).level for one in names]\n"
        "raw = as_pdf(sys.stdin.read(), identifier='0' * 64)\n"
        "assert before == [logging.getLogger(one).level for one in names]\n"
        "print(hashlib.sha256(raw).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=page, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(made).hexdigest()
    assert done.stderr == ""
    small = small_page("text")
    assert as_pdf(small, identifier="1") == as_pdf(small, identifier="1")
    assert as_pdf(small, identifier="1") != as_pdf(small, identifier="2")


def test_it_is_an_archive_format_with_a_title(made: bytes) -> None:
    reader = pypdf.PdfReader(io.BytesIO(made))
    assert reader.metadata is not None
    assert "通过" in str(reader.metadata.title)
    catalog: Any = reader.trailer["/Root"]
    metadata = catalog["/Metadata"].get_object().get_data()
    assert b'pdfaid:part="3"' in metadata or b"<pdfaid:part>3<" in metadata
    assert catalog["/MarkInfo"]["/Marked"]
    for name in ("/OpenAction", "/AA", "/AcroForm", "/Names"):
        assert name not in catalog
    for one in reader.pages:
        assert "/Annots" not in one  # no link


def test_text_of_strangers(case: Case, raw: bytes) -> None:
    found = with_text(dossier(raw, case.keys), HOSTILE)
    set_page = as_pdf(as_html(found, ZH), identifier="3" * 64)
    text = "".join(texts(set_page)).replace("\n", "")
    assert "<script>alert(1)</script>\\u202e\\x00 {0} <img src=" in text
    reader = pypdf.PdfReader(io.BytesIO(set_page))
    for one in reader.pages:
        assert "/Annots" not in one
        resources: Any = one["/Resources"]
        assert not [
            name
            for name, value in resources.get("/XObject", {}).items()
            if value.get_object().get("/Subtype") == "/Image"
        ]
    # 200 letters without a space break into lines inside the margins.
    for picture in pictures(set_page):
        assert min(picture.crop((picture.width - 30, 0, *picture.size)).tobytes()) > 200


def test_long_names_take_time_as_they_are_long(case: Case, raw: bytes) -> None:
    """And not as the square of that, as columns did that were measured."""
    found = dossier(raw, case.keys)
    names = {f"{number}{'x' * 1500}": "0" * 64 for number in range(8)}
    page = as_html(replace(found, result=replace(found.result, digests=names)), EN)
    start = time.process_time()
    as_pdf(page, identifier="7" * 64)
    assert time.process_time() - start < 9


def small_page(text: str) -> str:
    """A page in the fonts of the document."""
    return (
        '<html lang="zh-Hans"><title>t</title><body style="font-family: Noto Sans CJK SC">'
        f"<p>{text.encode('ascii', 'xmlcharrefreplace').decode()}</p></body></html>"
    )


def test_what_no_font_has_is_written_as_its_number(case: Case, raw: bytes) -> None:
    assert f"&#{ord(UNKNOWN)};" in as_html(dossier(raw, case.keys, name=f"{UNKNOWN}.zip"), EN)
    text = "".join(texts(as_pdf(small_page(f"{UNKNOWN}.zip"), identifier="4" * 64)))
    assert "\\U00013080.zip" in text
    assert UNKNOWN not in text


def test_without_chinese_fonts_there_is_no_document(tmp_path: Path) -> None:
    config = tmp_path / "fonts.conf"
    config.write_text(
        '<?xml version="1.0"?>\n<!DOCTYPE fontconfig SYSTEM "fonts.dtd">\n<fontconfig>'
        "<dir>/usr/share/fonts/truetype/dejavu</dir>"
        f"<cachedir>{tmp_path}/cache</cachedir></fontconfig>\n"
    )
    code = (
        "import sys\nfrom r1prov.errors import UsageError\n"
        "from r1prov.render.evidence_pdf import as_pdf\n"
        "try:\n    as_pdf(sys.stdin.read(), identifier='0')\n"
        "except UsageError as error:\n    print(error.message, '|', error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=small_page("模型"),
        capture_output=True,
        text=True,
        check=True,
        env={"FONTCONFIG_FILE": str(config), "PATH": "/usr/bin", "HOME": str(tmp_path)},
    )
    assert "no font here has Chinese characters" in done.stdout
    assert "fonts-noto-cjk" in done.stdout


def test_every_word_of_ours_has_a_glyph() -> None:
    """In the Chinese fonts alone: where they are installed, nothing of ours is a box."""
    said = [text for pair in WORDS.values() for text in pair]
    said += [one for row in _table().values() for one in row]
    said.append(sentences_zh._FILE.read_text(encoding="utf-8"))
    every = sorted({one for text in said for one in text if unicodedata.category(one) != "Cc"})
    text = "".join(texts(as_pdf(small_page("".join(every)), identifier="6" * 64)))
    assert "\\u" not in text
