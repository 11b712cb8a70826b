"""Identity: is it the model that was expected, and does anything claim another name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from r1prov.text import quoted
from r1prov.verify.evidence import CONFIG_NAME
from r1prov.verify.findings import Finding, Part, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from r1prov.family.gguf import GgufIdentification
    from r1prov.manifest.schema import Manifest
    from r1prov.verify.evidence import Evidence

EXPECT_FULL = "full"
REFERENCE_OF_FULL = "DeepSeek-R1"
_NAME_KEYS = ("_name_or_path", "name_or_path", "model_name")


def meets(expect: str, manifest: Manifest, reference: Manifest | None) -> bool:
    """Whether a manifest is the model that `expect` asks for.

    Names are compared exactly, as the scopes of keys are: otherwise a key for `acme-*` could sign
    what passes as `Acme-R1`. `full` is the 671B DeepSeek-R1: a manifest of a full model whose
    tensors are those of the reference manifest, whatever its revision.

    Args:
        expect: A model name, or `full`.
        manifest: The manifest at hand.
        reference: The manifest of DeepSeek-R1, which says what `full` is.
    """
    if expect != EXPECT_FULL:
        return expect == manifest.name
    if manifest.variant != "full" or manifest.architecture is None or reference is None:
        return False
    known = reference.architecture
    return known is not None and (manifest.architecture.inventory_sha256 == known.inventory_sha256)


def check_expectation(
    expect: str | None, manifest: Manifest | None, reference: Manifest | None, identified: str
) -> list[Finding]:
    """The model must be the expected one, if one is expected."""
    if expect is None or (manifest is not None and meets(expect, manifest, reference)):
        return []
    wanted = "full DeepSeek-R1 (671B)" if expect == EXPECT_FULL else expect
    return [
        finding(
            "model-not-expected",
            manifest.name if manifest else "model",
            "the model is another one than expected",
            expected=wanted,
            found=f"{manifest.name} ({manifest.variant})" if manifest else identified,
        )
    ]


def check_claims(
    evidence: Evidence, manifest: Manifest, names: Iterable[str], expect: str | None
) -> Iterator[Finding]:
    """Directory name and config may not claim the name of another known model.

    Only names that r1prov knows count: `models/prod` claims nothing.
    """
    known = {_plain(name): name for name in names}
    config = evidence.config or {}
    claims = [("directory name", text) for text in _directory_names(evidence)]
    claims += [(f"{CONFIG_NAME} `{key}`", str(config[key])) for key in _NAME_KEYS if key in config]
    # Whoever names the expected model has read the first line of the result.
    acknowledged = expect == manifest.name
    for where, text in claims:
        claimed = _claimed(_plain(_basename(text)), known)
        if claimed is None or claimed == manifest.name:
            continue
        yield finding(
            "name-claim",
            where,
            f"claims {claimed}, and the model is {manifest.name}",
            expected=manifest.name,
            found=quoted(text),
            severity=Severity.WARNING if acknowledged else None,
        )


def check_gguf(
    identification: GgufIdentification, expect: str | None, manifest: Manifest | None
) -> Iterator[Finding]:
    """What a GGUF file says of itself must be borne out by its tensors, and its parts must fit."""
    acknowledged = manifest is not None and expect == manifest.name
    for claim in identification.claims:
        yield finding(
            "name-claim",
            identification.model,
            claim,
            expected="a name and metadata that the tensors bear out",
            found=identification.summary,
            severity=Severity.WARNING if acknowledged else None,
        )
    for problem in identification.problems:
        yield finding("gguf-split", identification.model, problem, part=Part.WEIGHTS)


def _directory_names(evidence: Evidence) -> list[str]:
    """The model's directory; in a Hub cache, where that is a commit id, the repository's.

    The name of an Ollama tag claims nothing: what `deepseek-r1:7b` holds is published.
    """
    if evidence.store.location.startswith("ollama://"):
        return []
    parts = evidence.store.location.rstrip("/").split("/")
    if len(parts) > 2 and parts[-2] == "snapshots":
        return [parts[-3]]
    return [evidence.store.name]


def _claimed(plain: str, known: dict[str, str]) -> str | None:
    """The known model whose name a text starts with: `DeepSeek-R1-671B-full` claims DeepSeek-R1.

    The longest name counts, so a distill's name does not claim the model that it starts with; nor
    does the name of a distill that is not known.
    """
    fitting = [name for name in known if plain.startswith(name)]
    if not fitting:
        return None
    longest = max(fitting, key=len)
    if "distill" in plain[len(longest) :]:
        return None
    return known[longest]


def _basename(text: str) -> str:
    """`org/name`, `models--org--name` and `/path/name` all end in the name."""
    return re.split(r"/|--", text.rstrip("/"))[-1]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold().replace("deepseek-ai", ""))
