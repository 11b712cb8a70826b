"""Templates of `r1prov ci init`, and how a stranger's text becomes data in each of them.

A model's name may come from anywhere. Each format has a quoting of its own, and what reads the file
afterwards has a second language inside the quotes: expressions of GitHub, variables of Kubernetes
and systemd. Both are escaped here, so that the value arrives as the argument it was.
"""

from __future__ import annotations

import re
from enum import StrEnum
from importlib.resources import files

import r1prov
from r1prov.errors import UsageError
from r1prov.text import is_unsafe

_PLACE = re.compile(r"@(MODEL|EXPECT|VERSION|FOLDER)@")


class Kind(StrEnum):
    """What `ci init` can write."""

    GITHUB = "github"
    GITLAB = "gitlab"
    PRE_COMMIT = "pre-commit"
    K8S = "k8s"
    SYSTEMD = "systemd"


# The template in the package, and where the tool looks for the file in a repository.
_TEMPLATES = {
    Kind.GITHUB: ("github.yml", ".github/workflows/r1prov.yml"),
    Kind.GITLAB: ("gitlab.yml", ".gitlab-ci.yml"),
    Kind.PRE_COMMIT: ("pre-commit.yaml", ".pre-commit-config.yaml"),
    Kind.K8S: ("k8s.yaml", "r1prov-k8s.yaml"),
    Kind.SYSTEMD: ("r1prov-verify.service", "r1prov-verify.service"),
}


def default_path(kind: Kind) -> str:
    """Where a file of this kind goes, relative to the working directory."""
    return _TEMPLATES[kind][1]


def fill_template(kind: Kind, *, model: str, expect: str) -> str:
    """The template of `kind` with `model` and `expect` in it as data.

    Raises:
        UsageError: A value is empty or one that no file of this kind can carry.
    """
    for option, value in (("--model", model), ("--expect", expect)):
        _check(option, value, kind)
    values = {
        "MODEL": _word(kind, "", model),
        "EXPECT": _word(kind, _prefix(kind), expect),
        "FOLDER": quoted(model if model.startswith("/") else "/models"),
        "VERSION": r1prov.__version__,
    }
    text = (files("r1prov.cli") / "templates" / _TEMPLATES[kind][0]).read_text("utf-8")
    # In one pass: a value that reads `@EXPECT@` stays one.
    return _PLACE.sub(lambda place: values[place[1]], text)


def _check(option: str, value: str, kind: Kind) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{option} is not UTF-8, and the file must be", subject=option) from None
    if not value or "\0" in value:
        raise UsageError(f"{option} is empty or has a NUL character", subject=option)
    if kind is Kind.GITLAB and "$[[" in value:
        # Interpolated before anything is parsed, and there is no escape for it.
        raise UsageError(f"{option} has `$[[`, which GitLab would replace", subject=option)
    if kind is Kind.K8S and option == "--model" and value.startswith("/") and ":" in value:
        raise UsageError(
            "--model has a colon, which Kubernetes takes in no mount path",
            subject=option,
            hint="mount the model under another path",
        )


def _prefix(kind: Kind) -> str:
    """Where the value is an argument, it is joined to its option: it may begin with a dash."""
    return "" if kind in {Kind.GITHUB, Kind.GITLAB} else "--expect="


def _word(kind: Kind, prefix: str, value: str) -> str:
    if kind is Kind.GITHUB:
        # An expression is evaluated in any value of a workflow. This one yields its two braces.
        value = value.replace("${{", "${{ '${{' }}")
    elif kind is Kind.K8S:
        value = value.replace("$", "$$")  # $(NAME) in args; `$$` is a dollar sign
    elif kind is Kind.SYSTEMD:
        value = value.replace("%", "%%").replace("$", "$$")  # systemd.unit(5), systemd.service(5)
    return quoted(prefix + value)


def quoted(text: str) -> str:
    r"""`text` in double quotes, as YAML 1.2 (§5.7) and systemd.syntax(7) both read it.

    `\x` is a byte to systemd and a character to YAML; below 0x80 that is the same.
    """
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if not is_unsafe(character):
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
