"""Chain, contents, environment, what it proves, how to verify it, and digests, in the document."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from r1prov.evidence.parts import Kind
from r1prov.manifest.schema import Role
from r1prov.render.evidence_page import Markup, Page, code, mark
from r1prov.render.evidence_words import WORDS
from r1prov.text import html_text, human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from r1prov.evidence.index import Previous
    from r1prov.manifest.schema import FileEntry
    from r1prov.render.evidence_dossier import Dossier

# R1 has 163 weight files: all of them have their digest on paper. Of more the rest is counted.
_FILES: Final = 400
_NAMING: Final = frozenset({"--policy", "--response-keys", "--openings", "--tokenizer"})
_SAFE: Final = re.compile(r"[\w.+@-][\w.+@ -]{0,120}", re.ASCII)
_SHOWN: Final = ("r1prov", "tool_sha256", "python", "system", "machine", "clock")


def chain(page: Page, previous: Previous | None) -> Iterator[Markup]:
    """The bundle that this one continues."""
    if previous is None:
        yield page.paragraph("chain-none")
        return
    yield page.facts(
        [
            ("chain-previous", code(previous.sha256)),
            ("chain-created", f"{previous.created:%Y-%m-%d %H:%M:%S} UTC"),
        ]
    )
    yield page.paragraph("chain-note")


def contents(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """Members by kind: thousands of them are none to read."""
    index = dossier.result.index
    rows = []
    for kind in Kind:
        parts = index.of(kind)
        if parts:
            name = f"k-{kind.value}"
            holds = page.say(name if name in WORDS else "k-other")
            size = human_bytes(sum(one.size for one in parts))
            rows.append((code(kind.value), holds, f"{len(parts):,}", size))
    yield page.table("contents", ("c-kind", "c-holds", "c-members", "c-size"), rows)
    yield page.facts([("k-index", code(dossier.raw_index_sha256))])


def environment(page: Page, said: Mapping[str, str]) -> Iterator[Markup]:
    """Where the bundle was made, as its maker says."""
    if not said:
        yield page.paragraph("env-none")
        return
    yield page.paragraph("env-note")
    yield page.facts(
        [
            (f"env-{name}", code(said[name]) if name == "tool_sha256" else said[name])
            for name in _SHOWN
            if name in said
        ]
    )


def proof(page: Page) -> Iterator[Markup]:
    """What the bundle proves and what no bundle can."""
    columns = []
    for heading, name in (("proof-yes", "yes"), ("proof-no", "no")):
        items = "".join(f"<li>{page.say(f'{name}-{number}')}</li>" for number in (1, 2, 3))
        columns.append(f"<div><h3>{page.say(heading)}</h3><ul>{items}</ul></div>")
    yield Markup(f'<div class="columns">{"".join(columns)}</div>')


def yourself(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """Three commands; a name that a shell or a reader could take for more is replaced in them."""
    result = dossier.result
    safe = _SAFE.fullmatch(result.subject) is not None and not result.subject.startswith("-")
    name = shlex.quote(result.subject) if safe else "bundle.zip"
    report = result.report
    expected = report.expected if report else result.index.expected
    tail = f" --expect {shlex.quote(expected)}" if expected and _SAFE.fullmatch(expected) else ""
    tail += "".join(f" {' '.join((one[0], *map(_word, one[1:])))}" for one in dossier.asked)
    model = shlex.quote(result.index.model)  # of a strict alphabet, unlike file names
    commands = (
        f"sha256sum {name}",
        f"r1prov key add signer.key.pub --owner SIGNER --model {model} --keys ./pinned",
        f"r1prov evidence verify {name} --keys ./pinned{tail}",
    )
    yield page.paragraph("y-intro")
    values = {"sha256": code(result.sha256), "key": code(result.signature.key_id)}
    items = "".join(
        f"<li>{page.say(f'y-{number}', **values)}<pre><code>{html_text(command)}</code></pre></li>"
        for number, command in enumerate(commands, 1)
    )
    yield Markup(f"<ol>{items}</ol>")
    if any(option[0] in _NAMING for option in dossier.asked):
        yield page.paragraph("y-files")
    yield page.paragraph("y-model")
    if not safe:
        yield page.paragraph("y-renamed")


def _word(word: str) -> str:
    """A word of a command; a name that no command should carry is replaced."""
    return shlex.quote(word) if _SAFE.fullmatch(word) and word[0] != "-" else "FILE"


def digests(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """Path, size and SHA-256 of every file, weights first, held against the manifest."""
    listed = {one.path: one for one in dossier.manifest.files} if dossier.manifest else {}
    recorded = dossier.result.digests
    paths = sorted(
        recorded.keys() | {path for path, one in listed.items() if one.sha256 is not None},
        key=lambda path: (_is_other(listed.get(path)), path),
    )
    if not paths or dossier.altered:
        yield page.paragraph("withheld" if dossier.altered else "d-none")
        return
    yield page.paragraph("d-intro")
    rows = []
    for path in paths[:_FILES]:
        size = dossier.sizes.get(path)
        rows.append(
            (
                code(path),
                f"{size:,}" if size is not None else "—",
                code(recorded.get(path, "—")),
                _compared(page, recorded.get(path), size, listed.get(path)),
            )
        )
    yield page.table("digests", ("d-file", "d-bytes", "digest-head", "a-same"), rows)
    if len(paths) > _FILES:
        yield page.paragraph("d-more", count=f"{len(paths) - _FILES:,}")


def _is_other(entry: FileEntry | None) -> bool:
    return entry is None or entry.role is not Role.WEIGHTS


def _compared(page: Page, digest: str | None, size: int | None, entry: FileEntry | None) -> Markup:
    if entry is None:
        return mark("warn", page.say("d-unlisted"))
    if digest is None and size is None:
        return mark("no", page.say("d-missing"))
    if digest is None or entry.sha256 is None:
        return mark("gap", page.say("not-checked"))
    same = digest == entry.sha256 and size == entry.size
    return mark("yes", page.say("same")) if same else mark("no", page.say("differs"))
