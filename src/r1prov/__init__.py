"""r1prov: integrity and provenance of DeepSeek-R1 deployments.

The public API is loaded when it is used; `import r1prov` alone costs a few milliseconds.

    >>> import r1prov
    >>> report = r1prov.verify_path("/models/DeepSeek-R1", expect="full")  # doctest: +SKIP
    >>> report.verdict, report.headline  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_WHERE = {
    "Finding": "r1prov.verify.findings",
    "Inventory": "r1prov.formats.inventory",
    "LocalStore": "r1prov.stores.local",
    "Manifest": "r1prov.manifest.schema",
    "R1ProvError": "r1prov.errors",
    "Report": "r1prov.verify.findings",
    "Verdict": "r1prov.verify.findings",
    "VerificationFailed": "r1prov.errors",
    "VerifiedModel": "r1prov.verify.verified",
    "identify": "r1prov.family.identify",
    "open_verified": "r1prov.verify.load",
    "parse_manifest": "r1prov.manifest.schema",
    "read_header": "r1prov.formats.safetensors",
    "verify_path": "r1prov.verify.local",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'r1prov' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
