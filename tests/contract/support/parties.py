"""Supplier, Buyer and Expert, each in a folder of their own, doing what Annex B says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import string
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from contract_kit import PARTIES, page
from proxy_process import Proxy

from r1prov.cli.app import run

_PIECE = re.compile(
    r"^```sh\n# (?P<who>[^\n]+)\n(?P<commands>.*?)^```"
    r"|^Handed to the (?P<to>\w+): (?P<files>.+?)$"
    r"|^(?P<heading>## [^\n]+|B\.\d\.\d )",
    re.DOTALL | re.MULTILINE,
)
_STATUS = re.compile(r"# exit status (\d+)$")


@dataclass(frozen=True)
class Step:
    """A command of a party, or files that it hands over.

    Attributes:
        section: Such as `B.2.1`.
        who: The party, or `both parties`.
        line: The command as it stands there; empty for a hand-over.
        status: Exit status if all is well; None if none is stated.
        to: Who gets files.
        files: Their names.
    """

    section: str
    who: str
    line: str = ""
    status: int | None = None
    to: str = ""
    files: tuple[str, ...] = ()


def steps() -> list[Step]:
    """Annex B, in order; the block of placeholders excepted."""
    found: list[Step] = []
    section, who = "", ""
    for piece in _PIECE.finditer(page("dispute")):
        if piece["heading"]:
            section = piece["heading"].removeprefix("## ").split()[0]
        elif piece["to"]:
            names = tuple(re.findall(r"`([^`]+)`", piece["files"]))
            found.append(Step(section, who, to=piece["to"], files=names))
        elif section:
            who = piece["who"]
            assert who in PARTIES, who
            for line in piece["commands"].splitlines():
                status = _STATUS.search(line)
                found.append(Step(section, who, line, int(status[1]) if status else None))
    return found


def placeholders() -> set[str]:
    """The names that the first block of Annex B wants filled in."""
    first = _PIECE.search(page("dispute"))
    assert first is not None
    return set(re.findall(r"^([A-Z]+)=", first["commands"], re.MULTILINE))


@dataclass
class Parties:
    """Who has what.

    Attributes:
        home: Has a folder for each.
        values: What the placeholders stand for.
        stack: Ends what was started.
        ran: Section, command and exit status of each step so far.
        out: What the last command printed.
    """

    home: Path
    values: dict[str, str]
    stack: ExitStack
    ran: list[tuple[str, str, int]] = field(default_factory=list)

    def folder(self, who: str) -> Path:
        path = self.home / who
        path.mkdir(exist_ok=True)
        return path

    def walk(self, *sections: str) -> None:
        """Take the steps of these sections, in order."""
        for step in steps():
            if any(f"{step.section}.".startswith(f"{one}.") for one in sections):
                self.take(step)

    def take(self, step: Step) -> None:
        """Run a command, or hand files over."""
        whom = ("Supplier", "Buyer") if step.who == "both parties" else (step.who,)
        for who in whom:
            if not step.line:
                self.hand_over(who, step)
                continue
            os.chdir(self.folder(who))
            self.ran.append((step.section, step.line, self.execute(step.line)))

    def hand_over(self, who: str, step: Step) -> None:
        """What the step lists, from whoever of the two parties has it."""
        for name in step.files:
            owners = (who, "Buyer", "Supplier")
            source = next(
                self.folder(one) / name for one in owners if (self.folder(one) / name).exists()
            )
            target = self.folder(step.to) / Path(name).name
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy(source, target)

    def execute(self, line: str) -> int:
        """Run one line in the current folder; exit status."""
        words = [string.Template(one).substitute(self.values) for one in shlex.split(line, True)]
        if words[0] != "r1prov":
            return subprocess.run(["bash", "-c", line], check=False, capture_output=True).returncode
        if words[1:3] == ["response", "proxy"]:
            proxy = Proxy(words[3:])
            self.stack.callback(proxy.end)
            assert proxy.url
            return 0
        return run(words[1:])

    def statuses(self, section: str) -> list[int]:
        """Exit statuses of the commands of a section for which Annex B states one."""
        return [status for one, line, status in self.ran if one == section and _STATUS.search(line)]
