"""The ML-BOM holds what the manifest states, and the library's own validators take it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from cyclonedx.validation.xml import XmlValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.attest.bom import cyclonedx_json, cyclonedx_xml
from r1prov.errors import UsageError
from r1prov.manifest.emit import emit_manifest
from r1prov.manifest.schema import Manifest, parse_manifest
from r1prov.manifest.shelf import ShelvedManifest, load_manifest

from .conftest import Case

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "manifests").glob("*.toml"))
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
R1 = ROOT / "manifests" / "DeepSeek-R1.toml"


def valid_json(text: str) -> dict[str, Any]:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


def valid_xml(text: str) -> ET.Element:
    assert XmlValidator(SchemaVersion.V1_6).validate_str(text) is None
    return ET.fromstring(text)


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in component["properties"]}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_shipped_manifest(path: Path) -> None:
    shelved = load_manifest(path)
    manifest = shelved.manifest
    text = cyclonedx_json(shelved, timestamp=WHEN)
    model = valid_json(text)["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    # A partial manifest states no digest of some files, and then neither does the document.
    hashed = {entry.path: entry.sha256 for entry in manifest.files if entry.sha256}
    assert [one["name"] for one in model["components"]] == sorted(e.path for e in manifest.files)
    assert {
        one["name"]: [(digest["alg"], digest["content"]) for digest in one["hashes"]]
        for one in model["components"]
        if "hashes" in one
    } == {path: [("SHA-256", sha256)] for path, sha256 in hashed.items()}
    assert {one["type"] for one in model["components"]} == {"file"}

    root = valid_xml(cyclonedx_xml(shelved, timestamp=WHEN))
    space = {"c": "http://cyclonedx.org/schema/bom/1.6"}
    hashes = root.findall("c:metadata/c:component/c:components/c:component/c:hashes/c:hash", space)
    assert {one.text for one in hashes} == set(hashed.values())
    card = root.find("c:metadata/c:component/c:modelCard/c:modelParameters", space)
    assert card is not None
    assert {one.tag.partition("}")[2]: one.text for one in card} == (
        model["modelCard"]["modelParameters"]
    )
    assert cyclonedx_json(load_manifest(path), timestamp=WHEN) == text


def test_r1_as_its_manifest_states_it() -> None:
    shelved = load_manifest(R1)
    manifest, architecture = shelved.manifest, shelved.manifest.architecture
    assert architecture is not None
    bom = valid_json(cyclonedx_json(shelved, timestamp=WHEN))
    model = bom["metadata"]["component"]
    assert bom["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"
    assert bom["metadata"]["tools"]["components"][0]["name"] == "r1prov"
    assert (model["name"], model["version"]) == ("DeepSeek-R1", manifest.revision)
    assert model["publisher"] == manifest.publisher
    assert model["purl"] == f"pkg:huggingface/deepseek-ai/DeepSeek-R1@{manifest.revision}"
    assert model["modelCard"]["modelParameters"] == {
        "architectureFamily": "deepseek_v3",
        "modelArchitecture": "DeepseekV3ForCausalLM",
        "task": "text-generation",
    }
    assert [one["name"] for one in model["pedigree"]["ancestors"]] == [manifest.base_model]
    assert model["pedigree"]["commits"][0]["uid"] == manifest.revision
    page = "https://huggingface.co/deepseek-ai/DeepSeek-R1"
    assert {one["type"]: one["url"] for one in model["externalReferences"]} == {
        "distribution": page,
        "vcs": f"{page}/commit/{manifest.revision}",
    }
    facts = properties(model)
    assert facts["r1prov:architecture:parameters"] == str(architecture.parameters)
    assert facts["r1prov:architecture:inventory_sha256"] == architecture.inventory_sha256
    assert facts["r1prov:manifest:sha256"] == shelved.sha256
    assert facts["r1prov:manifest:tree_digest"] == manifest.tree_digest()
    assert facts["r1prov:verdict"] == "not verified"


def test_what_the_manifest_does_not_state_is_absent(case: Case) -> None:
    case.restate(
        lambda m: replace(
            m,
            architecture=None,
            files=(replace(m.files[0], size=None, sha256=None), *m.files[1:]),
        )
    )
    model = valid_json(cyclonedx_json(load_manifest(case.manifest), timestamp=WHEN))
    component = model["metadata"]["component"]
    for name in ("modelCard", "pedigree", "purl", "licenses", "externalReferences", "version"):
        assert name not in component
    facts = properties(component)
    assert "r1prov:manifest:tree_digest" not in facts
    assert facts["r1prov:manifest:complete"] == "false"
    assert "hashes" not in component["components"][0]


def test_the_verdict_is_stated_as_it_is(case: Case) -> None:
    shelved = load_manifest(case.manifest)
    for verdict in ("pass", "fail"):
        report = case.report()
        model = valid_json(cyclonedx_json(shelved, timestamp=WHEN, report=report))
        facts = properties(model["metadata"]["component"])
        assert facts["r1prov:verdict"] == report.verdict.value == verdict
        assert facts["r1prov:verdict:scope"] == "all"
        assert facts["r1prov:verdict:exceptions"] == "0"
        assert facts["r1prov:verdict:cached_digests"] == "0"
        assert facts["r1prov:verdict:stated_digests"] == "0"
        (case.model / "config.json").write_text("{}")
    case.restate(lambda m: replace(m, publisher="someone else"))
    with pytest.raises(UsageError, match="another manifest"):
        cyclonedx_json(load_manifest(case.manifest), timestamp=WHEN, report=report)


def test_serial_numbers_follow_the_manifest(case: Case) -> None:
    shelved = load_manifest(case.manifest)
    serial = valid_json(cyclonedx_json(shelved, timestamp=WHEN))["serialNumber"]
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f-]{21}", serial)
    report = case.report()
    other = valid_json(cyclonedx_json(shelved, timestamp=WHEN, report=report))
    assert other["serialNumber"] == serial
    case.restate(lambda m: replace(m, publisher="someone else"))
    changed = valid_json(cyclonedx_json(load_manifest(case.manifest), timestamp=WHEN))
    assert changed["serialNumber"] != serial


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        ("MIT", [{"license": {"id": "MIT"}}]),
        ("MIT OR Apache-2.0", [{"expression": "MIT OR Apache-2.0"}]),
        ("our own", [{"license": {"name": "our own"}}]),
        ("unknown", None),
    ],
)
def test_licences(stated: str, written: list[Any] | None, case: Case) -> None:
    case.restate(lambda m: replace(m, license=stated))
    bom = valid_json(cyclonedx_json(load_manifest(case.manifest), timestamp=WHEN))
    licenses = bom["metadata"]["component"].get("licenses")
    for one in licenses or []:
        one.pop("acknowledgement", None)
        one.get("license", {}).pop("acknowledgement", None)
    assert licenses == written


_TEXT = st.text(
    st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")), min_size=1
)
_HUB = st.from_regex(r"\A(https://huggingface\.co/|hf://)[a-z.]{1,5}/[a-z._-]{1,5}\Z")

_WEB = st.from_regex(r"\Ahttps://[a-z.-]{1,6}(:[0-9]{0,3})?(/[a-z:%/@&'?#0-9-]{0,6})?\Z")


@given(
    publisher=_TEXT,
    license_=_TEXT,
    base=st.none() | _TEXT,
    source=_TEXT | _HUB | _WEB | _TEXT.map(lambda text: f"https://{text}"),
    revision=_TEXT | st.just("a" * 40),
    released=st.none() | st.dates(date(1990, 1, 1)),
)
@settings(max_examples=150, deadline=None)
def test_any_manifest_makes_a_valid_document(
    publisher: str,
    license_: str,
    base: str | None,
    source: str,
    revision: str,
    released: date | None,
) -> None:
    plain = parse_manifest(MANIFESTS[0].read_bytes(), subject="m")
    changed: Manifest = replace(
        plain,
        publisher=publisher,
        license=license_,
        base_model=base,
        source=source,
        revision=revision,
        released=released,
    )
    raw = emit_manifest(changed)
    shelved = ShelvedManifest(parse_manifest(raw, subject="m"), raw, Path("m"))
    valid_json(cyclonedx_json(shelved, timestamp=WHEN))
    valid_xml(cyclonedx_xml(shelved, timestamp=WHEN))


def test_a_missing_library_is_named() -> None:
    script = (
        "import sys; sys.modules['cyclonedx'] = None\n"
        "from r1prov.cli.app import run\n"
        "sys.exit(run(['manifest', 'export', 'DeepSeek-R1', '--format', 'cyclonedx']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "install r1prov[bom]" in done.stderr
