"""The style sheet of the document about a bundle: for paper first, A4, in black and white too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.render.evidence_words import WORDS, Language

if TYPE_CHECKING:
    from collections.abc import Sequence

# Colours are bluish green, vermilion and amber, which colour-blind readers tell apart (Okabe and
# Ito, 2008), dark enough for text; a sign and a frame of its own say the same without them.
# Fonts are named, not brought along: first those of Debian's fonts-noto-cjk, then what other systems
# have. Page margins take no custom properties, so the names are put in.
_FONTS: Final = {
    "SANS": '"Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", '
    '"Microsoft YaHei", sans-serif',
    "SERIF": '"Noto Serif CJK SC", "Noto Serif SC", "Source Han Serif SC", "Songti SC", "SimSun", '
    "serif",
    "MONO": '"Noto Sans Mono CJK SC", "Noto Sans Mono", "Menlo", "Consolas", monospace',
}
_STYLE: Final = """
:root { --ink: #1c2126; --faint: #545d66; --line: #c9cfd6; --wash: #f4f6f8;
  --pass: #00664a; --fail: #a83a00; --incomplete: #7a5600; }
@page { size: A4; margin: 20mm 18mm 20mm 18mm;
  @top-left { content: "r1prov \\B7  PLACE"; font: 7.5pt SANS; color: #545d66; }
  @top-right { content: "WATERMARK"; font: 700 9pt SANS; color: #1c2126; }
  @bottom-center { content: PAGES; font: 7.5pt SANS; color: #545d66; } }
* { box-sizing: border-box; }
html { background: #ffffff; }
body { margin: 0 auto; padding: 2rem 1.5rem; max-width: 56rem; color: var(--ink);
  font: 10pt/1.6 SANS; text-align: start; }
h1, h2, h3 { font-family: SERIF; font-weight: 700; line-height: 1.35; break-after: avoid; }
h1 { font-size: 22pt; margin: 0; letter-spacing: .01em; }
.subtitle { margin: .1rem 0 1.1rem; color: var(--faint); }
h2 { font-size: 13.5pt; margin: 2rem 0 .5rem; padding-bottom: .2rem;
  border-bottom: 1.5pt solid var(--ink); }
h3 { font-size: 10.5pt; margin: 1.2rem 0 .3rem; }
p { margin: .4rem 0; }
.both h1 .en, .both h2 .en, .both h3 .en { font-size: .72em; font-weight: 400; color: var(--faint); }
.both .zh, .both .en { display: block; }
.both .en { color: var(--faint); font-size: .9em; }
.both th .en, .both td .en { line-height: 1.4; }
bdi, code { overflow-wrap: anywhere; }
code { font-family: MONO; font-size: .93em; }
.unverified { border: 4pt solid #000000; padding: .5rem 1rem .7rem; margin: 0 0 1.4rem;
  color: #000000; break-inside: avoid; }
.unverified strong { display: block; font: 700 30pt/1.3 SERIF; letter-spacing: .04em; }
.both .unverified strong .en { font-size: .8em; color: #000000; }
.unverified p .en { color: #000000; }
.verdict { display: table; width: 100%; margin: 0 0 .8rem; border: 1.5pt solid;
  break-inside: avoid; }
.verdict.pass { border-color: var(--pass); border-style: solid; }
.verdict.fail { border-color: var(--fail); border-width: 4.5pt; border-style: double; }
.verdict.incomplete { border-color: var(--incomplete); border-style: dashed; }
.verdict .sign, .verdict .words { display: table-cell; vertical-align: middle; }
.verdict .sign { width: 5.2rem; padding: .9rem 0 .9rem 1.2rem; }
.verdict .sign svg { display: block; width: 3.4rem; height: 3.4rem; }
.verdict .words { padding: .8rem 1.2rem .9rem .6rem; }
.verdict .word { font: 700 24pt/1.25 SERIF; letter-spacing: .06em; }
.both .verdict .word .zh, .both .verdict .word .en { display: inline; color: inherit; }
.both .verdict .word .en { font-size: .62em; margin-inline-start: .7em; letter-spacing: .08em; }
.pass .word { color: var(--pass); } .fail .word { color: var(--fail); }
.incomplete .word { color: var(--incomplete); }
.verdict p { margin: .15rem 0 0; }
.kind { font-weight: 700; }
.both .kind .en { font-weight: 400; }
.basis { color: var(--faint); font-size: .92em; margin-bottom: 1.2rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; font-size: 8.6pt;
  line-height: 1.5; }
thead { display: table-header-group; }
tr, .finding { break-inside: avoid; } .finding.many { break-inside: auto; }
h2 + p, .finding h3, .finding .rule { break-after: avoid; }
tbody tr:nth-child(-n+2) { break-after: avoid; } tbody tr:nth-last-child(-n+2) { break-before: avoid; }
th, td { text-align: start; vertical-align: top; padding: .28rem .7rem .28rem 0;
  border-bottom: .5pt solid var(--line); }
th:last-child, td:last-child { padding-inline-end: 0; }
thead th { border-bottom: 1pt solid var(--ink); font-weight: 700; vertical-align: bottom; }
th[scope="row"] { font-weight: 400; color: var(--faint); width: 25%; }
.both th[scope="row"] .zh, .both th[scope="row"] .en { display: inline; }
.both th[scope="row"] .zh { color: var(--ink); margin-inline-end: .5em; }
.both th[scope="row"] { width: 32%; }
table.signatures td:first-child { width: 16%; } table.signatures td:nth-child(2) { width: 53%; }
table.audit td:nth-child(1) { width: 16%; } table.audit td:nth-child(4) { width: 13%; }
table.architecture td:nth-child(n+2):nth-child(-n+5), table.digests td:nth-child(2),
table.audit td:nth-child(3), table.contents td:nth-child(n+3), table.rules td:last-child {
  text-align: end; }
table.architecture th:nth-child(n+2):nth-child(-n+5), table.digests th:nth-child(2),
table.audit th:nth-child(3), table.contents th:nth-child(n+3), table.rules th:last-child {
  text-align: end; }
table.digests { font-size: 7.4pt; line-height: 1.4; }
table.digests td { padding-top: .12rem; padding-bottom: .12rem; }
table.digests code { font-size: 6.9pt; }
table.digests td:nth-child(3), table.digests .mark { white-space: nowrap; }
table.architecture { font-size: 8pt; }
table.architecture td:first-child { width: 25%; }
table.coverage td:first-child { width: 33%; } table.coverage td:nth-child(2) { width: 19%; }
table.pinned td:nth-child(1) { width: 22%; } table.pinned td:nth-child(3) { width: 22%; }
.mark { white-space: nowrap; }
.both .mark .zh, .both .mark .en { display: inline; color: inherit; }
.both .mark .en { margin-inline-start: .4em; }
.mark::before { display: inline-block; width: 1.15em; font-weight: 700; }
.mark.yes::before { content: "\\2713"; } .mark.no::before { content: "\\D7"; }
.mark.gap::before { content: "\\25CB"; } .mark.warn::before { content: "!"; }
.mark.unlike::before { content: "\\2260"; }
.mark.yes { color: var(--pass); } .mark.no { color: var(--fail); font-weight: 700; }
.mark.gap { color: var(--faint); } .mark.warn { color: var(--incomplete); font-weight: 700; }
.finding { border: .5pt solid var(--line); border-inline-start: 3pt solid var(--faint);
  padding: .5rem .9rem .1rem; margin: .7rem 0; }
.finding.error { border-inline-start: 5pt double var(--fail); }
.finding.warning { border-inline-start: 3pt dashed var(--incomplete); }
.finding h3 { margin: 0 0 .2rem; font-family: SANS; }
.finding .rule { color: var(--faint); font-size: 8pt; margin: 0; }
table.group td:nth-child(1) { width: 30%; }
.finding p { font-size: 8.4pt; }
.finding table { margin: .3rem 0 .4rem; font-size: 8.4pt; }
.finding tr:last-child th, .finding tr:last-child td { border-bottom: 0; }
.finding th[scope="row"] { width: 24%; }
.one .finding th[scope="row"] { width: 17%; }
ol, ul { margin: .3rem 0 .8rem; padding-inline-start: 1.4rem; } li { margin: .25rem 0; }
.columns { display: table; width: 100%; } .columns > div { display: table-cell; width: 50%;
  padding-inline-end: 1.4rem; vertical-align: top; }
.h-proof, .h-yourself { break-inside: avoid; }
pre { margin: .25rem 0 .7rem; padding: .45rem .7rem; background: var(--wash);
  border: .5pt solid var(--line); font: 8.2pt/1.5 MONO; white-space: pre-wrap;
  overflow-wrap: anywhere; }
pre code { font-size: 1em; }
figure { margin: .8rem 0 1.2rem; break-inside: avoid; }
figcaption { font-size: 8.6pt; font-weight: 700; margin-bottom: .3rem; }
figure svg { width: 100%; height: auto; }
footer { margin-top: 2rem; padding-top: .5rem; border-top: .5pt solid var(--line);
  color: var(--faint); font-size: 8pt; }
@media print {
  body { margin: 0; padding: 0; max-width: none; font-size: 9.4pt; line-height: 1.55; }
  pre { background: #ffffff; }
}
"""


def style(languages: Sequence[Language], *, watermark: str) -> str:
    """The style sheet.

    Args:
        languages: Of the document, for the page numbers.
        watermark: For the head of every page: no text of a stranger, it is not escaped.
    """
    column = {Language.ZH: 0, Language.EN: 1}
    pages = [
        '"' + WORDS["page"][column[one]].format(page='" counter(page) "', pages='" counter(pages) "') + '"'
        for one in languages
    ]
    sheet = _STYLE
    for name, fonts in _FONTS.items():
        sheet = sheet.replace(name, fonts)
    sheet = (
        sheet.replace("PAGES", ' " \\B7  " '.join(pages))
        .replace("PLACE", " \\B7  ".join(WORDS["title"][column[one]] for one in languages))
        .replace("WATERMARK", watermark)
    )
    # Character references are nothing in a style sheet: escapes of CSS are.
    return "".join(one if ord(one) < 0x80 else f"\\{ord(one):x} " for one in sheet)
