"""A CycloneDX 1.6 ML-BOM of a model: what its manifest states, and what a verification found.

`cyclonedx-python-lib` builds, orders and writes the document. Its component class has no model card
yet, so that one element is added to what it wrote, at the place that the schema gives it. Every
field comes from the manifest; what the manifest does not state is absent.
"""

from __future__ import annotations

import json
import uuid
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import r1prov
from r1prov.attest.names import hub_commit, hub_repository, package_url, web_source
from r1prov.errors import UsageError
from r1prov.text import is_unsafe, printable

if TYPE_CHECKING:
    from datetime import datetime

    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

    from r1prov.manifest.schema import Manifest
    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.verify.findings import Report

# So that a serial number follows from the manifest alone, in every version of r1prov.
_SERIAL_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:r1prov:bom:1")
_MODEL_REF = "model"
_CLASS_TASKS = {
    "ForCausalLM": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
}


def cyclonedx_json(
    shelved: ShelvedManifest, *, timestamp: datetime, report: Report | None = None
) -> str:
    """The ML-BOM as JSON, the same text for the same arguments.

    Args:
        shelved: The manifest.
        timestamp: When the document is made.
        report: A verification against that manifest, whose verdict is then stated.

    Raises:
        UsageError: The extra `bom` is not installed, or the report rests on another manifest.
    """
    with_library()
    from cyclonedx.output.json import JsonV1Dot6

    bom = _bom(shelved, timestamp, report)
    value = json.loads(JsonV1Dot6(bom).output_as_string())
    card = _model_card(shelved.manifest)
    if card:
        value["metadata"]["component"]["modelCard"] = {"modelParameters": card}
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def cyclonedx_xml(
    shelved: ShelvedManifest, *, timestamp: datetime, report: Report | None = None
) -> str:
    """The ML-BOM as XML; see `cyclonedx_json`."""
    with_library()
    from cyclonedx.output.xml import XmlV1Dot6

    output = XmlV1Dot6(_bom(shelved, timestamp, report))
    space = output.get_target_namespace()
    root = ET.fromstring(output.output_as_string())  # noqa: S314 - text that we just wrote
    card = _model_card(shelved.manifest)
    component = root.find(f"{{{space}}}metadata/{{{space}}}component")
    if card and component is not None:
        # The last of the elements used here: bom-1.6.xsd, sequence of `component`.
        parameters = ET.SubElement(
            ET.SubElement(component, f"{{{space}}}modelCard"), f"{{{space}}}modelParameters"
        )
        for name in ("task", "architectureFamily", "modelArchitecture"):
            if name in card:
                ET.SubElement(parameters, f"{{{space}}}{name}").text = card[name]
    ET.register_namespace("", space)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def with_library() -> None:
    """Make sure that the optional library is there.

    Raises:
        UsageError: It is not.
    """
    try:
        import cyclonedx.model.bom  # noqa: F401
    except ImportError:
        raise UsageError(
            "CycloneDX needs a library that is not installed", hint="install r1prov[bom]"
        ) from None


def _bom(shelved: ShelvedManifest, timestamp: datetime, report: Report | None) -> Bom:
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository

    if report is not None:
        use = report.manifest
        if use is None or use.sha256 != shelved.sha256:
            raise UsageError("the report rests on another manifest", subject=str(shelved.path))
    tool = Component(
        name="r1prov",
        version=r1prov.__version__,
        type=ComponentType.APPLICATION,
        bom_ref=f"tool:r1prov@{r1prov.__version__}",
    )
    metadata = BomMetaData(
        timestamp=timestamp,
        tools=ToolRepository(components=[tool]),
        component=_model(shelved, report),
    )
    return Bom(
        serial_number=uuid.uuid5(_SERIAL_NAMESPACE, shelved.sha256), version=1, metadata=metadata
    )


def _model(shelved: ShelvedManifest, report: Report | None) -> Component:
    from cyclonedx.model import (
        ExternalReference,
        ExternalReferenceType,
        HashAlgorithm,
        HashType,
        XsUri,
    )
    from cyclonedx.model.component import (
        Commit,
        Component,
        ComponentType,
        Pedigree,
    )
    from packageurl import PackageURL

    manifest = shelved.manifest
    purl, page, commit = package_url(manifest), web_source(manifest), hub_commit(manifest)
    references = []
    commits = []
    if page is not None:
        references.append(
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(page))
        )
    if page is not None and commit is not None and hub_repository(manifest) is not None:
        at_commit = XsUri(f"{page}/commit/{commit}")
        references.append(ExternalReference(type=ExternalReferenceType.VCS, url=at_commit))
        commits.append(Commit(uid=commit, url=at_commit))
    ancestors = []
    if manifest.base_model is not None:
        ancestors.append(
            Component(
                name=_text(manifest.base_model),
                type=ComponentType.MACHINE_LEARNING_MODEL,
                bom_ref="base-model",
            )
        )
    files = [
        Component(
            name=_text(entry.path),
            type=ComponentType.FILE,
            bom_ref=f"file:{_text(entry.path)}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry.sha256)]
            if entry.sha256
            else [],
            properties=_properties(
                {
                    "r1prov:file:role": entry.role.value,
                    "r1prov:file:size": None if entry.size is None else str(entry.size),
                }
            ),
        )
        for entry in manifest.files
    ]
    return Component(
        name=manifest.name,
        version=manifest.revision or None,
        publisher=_text(manifest.publisher),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=_MODEL_REF,
        purl=PackageURL.from_string(purl) if purl else None,
        licenses=_licenses(manifest),
        external_references=references,
        pedigree=Pedigree(ancestors=ancestors, commits=commits) if ancestors or commits else None,
        components=files,
        properties=_properties(_facts(shelved, report)),
    )


def _facts(shelved: ShelvedManifest, report: Report | None) -> dict[str, str | None]:
    """What CycloneDX has no field for, under our own prefix."""
    manifest = shelved.manifest
    architecture = manifest.architecture
    facts = {
        "r1prov:manifest:sha256": shelved.sha256,
        "r1prov:manifest:tree_digest": manifest.tree_digest() if manifest.complete else None,
        "r1prov:manifest:variant": manifest.variant,
        "r1prov:manifest:complete": "true" if manifest.complete else "false",
        "r1prov:manifest:complete_listing": "true" if manifest.complete_listing else "false",
        "r1prov:released": manifest.released.isoformat() if manifest.released else None,
        "r1prov:verdict": "not verified" if report is None else report.verdict.value,
    }
    if report is not None:
        facts |= {
            "r1prov:verdict:level": report.level,
            "r1prov:verdict:scope": report.scope,
            "r1prov:verdict:exceptions": str(report.exceptions),
            "r1prov:verdict:cached_digests": str(len(report.cached)),
            "r1prov:verdict:stated_digests": str(len(report.stated)),
        }
    if architecture is not None:
        facts |= {
            "r1prov:architecture:parameters": str(architecture.parameters),
            "r1prov:architecture:tensors": str(architecture.tensors),
            "r1prov:architecture:inventory_sha256": architecture.inventory_sha256,
        }
        facts |= {
            f"r1prov:architecture:dtype:{name}": str(count)
            for name, count in architecture.dtypes.items()
        }
    return facts


def _properties(facts: dict[str, str | None]) -> list[Property]:
    from cyclonedx.model import Property

    return [Property(name=name, value=value) for name, value in facts.items() if value is not None]


def _licenses(manifest: Manifest) -> list[License]:
    """An SPDX id or expression where the manifest's text is one, else a licence by that name."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    if manifest.license == "unknown":
        return []
    return [LicenseFactory().make_from_string(_text(manifest.license))]


def _model_card(manifest: Manifest) -> dict[str, str]:
    """`modelParameters` of a model card, as far as the manifest states them."""
    if manifest.architecture is None:
        return {}
    card = {"architectureFamily": _text(manifest.architecture.model_type)}
    names = manifest.architecture.config.get("architectures")
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        card["modelArchitecture"] = _text(names[0])
        for ending, task in _CLASS_TASKS.items():
            if names[0].endswith(ending):
                card["task"] = task
    return card


def _text(text: str) -> str:
    """Text that XML can hold and nobody misreads: a manifest may state anything printable."""
    return printable(text) if any(map(is_unsafe, text)) else text
