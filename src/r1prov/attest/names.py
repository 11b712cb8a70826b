"""What statements and bills of materials call models, manifests, this verifier and themselves."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r1prov.manifest.schema import Manifest

# in-toto svr.md, `verifier.id`: versioned, because consumers trust a verifier for what it checks.
# Another number means that a property below has come to mean something else.
VERIFIER_ID = "urn:r1prov:verifier:1"
# Extension field (in-toto v1, "Parsing rules"): no `.` or `$` in its name.
EXTENSION = "urn:r1prov:report:1"

_MANIFEST_PREFIX = "urn:r1prov:manifest:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HUB = re.compile(
    r"(?:https://huggingface\.co/|hf://)([A-Za-z0-9._-]{1,96})/([A-Za-z0-9._-]{1,96})/?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
# RFC 3986 with a host name and nothing that a reader of URIs could take in two ways.
_WEB = re.compile(
    r"https://[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}(?::[0-9]{1,5})?"
    r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2}){0,1000})?"
)


class Kind(StrEnum):
    """Which statement is made of a report."""

    SVR = "svr"  # in-toto Simple Verification Result
    VSA = "vsa"  # SLSA Verification Summary


def manifest_uri(name: str) -> str:
    """What the manifest of a model is called as a policy."""
    return _MANIFEST_PREFIX + name


def model_of_manifest_uri(uri: str) -> str | None:
    """The model name in a URI that `manifest_uri` made; None for any other URI."""
    name = uri.removeprefix(_MANIFEST_PREFIX)
    return name if uri.startswith(_MANIFEST_PREFIX) and _NAME.fullmatch(name) else None


def manifest_subject(name: str) -> str:
    """The subject name of a manifest. `:` keeps it apart from every file name of a model."""
    return f"manifest:{name}"


def hub_repository(manifest: Manifest) -> tuple[str, str] | None:
    """Organisation and name of the Hub repository that a manifest states as its source."""
    match = _HUB.fullmatch(manifest.source)
    return (match.group(1), match.group(2)) if match else None


def hub_commit(manifest: Manifest) -> str | None:
    """The Hub commit that a manifest describes."""
    return manifest.revision if _COMMIT.fullmatch(manifest.revision) else None


def package_url(manifest: Manifest) -> str | None:
    """The model as a package URL of type `huggingface`; None if it is not from the Hub."""
    repository = hub_repository(manifest)
    if repository is None:
        return None
    commit = hub_commit(manifest)
    return f"pkg:huggingface/{'/'.join(repository)}" + (f"@{commit}" if commit else "")


def web_source(manifest: Manifest) -> str | None:
    """The page at which the model is published, if the manifest states one."""
    repository = hub_repository(manifest)
    if repository is not None:
        return f"https://huggingface.co/{'/'.join(repository)}"
    return manifest.source if _WEB.fullmatch(manifest.source) else None


def resource_uri(manifest: Manifest) -> str:
    """From where a consumer is expected to fetch the model: `resourceUri` of a VSA."""
    return package_url(manifest) or web_source(manifest) or f"urn:r1prov:model:{manifest.name}"
