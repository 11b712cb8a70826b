"""What became of an attestation, as text and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from r1prov.attest.statements import timestamp
from r1prov.text import printable

if TYPE_CHECKING:
    from r1prov.attest.verify import AttestationResult

SCHEMA = "r1prov/attestation/1"


def as_text(result: AttestationResult) -> str:
    """The state and why, then who says so and what."""
    statement = result.statement
    rows = [("key", result.key_id or "unnamed"), ("owner", result.owner or "unknown")]
    if statement is not None:
        rows += [
            ("type", statement.predicate_type),
            ("verifier", statement.verifier_id),
            ("verified", timestamp(statement.time)),
            ("manifest", f"sha256:{statement.manifest_sha256}"),
            ("properties", " ".join(statement.properties) or "none"),
        ]
    lines = [f"{result.state.value}: {printable(result.detail, limit=2000)}", ""]
    lines += [f"  {name:<10} {printable(value, limit=1000)}" for name, value in rows]
    return "\n".join(lines) + "\n"


def as_json(result: AttestationResult) -> str:
    """The same as one JSON object. ASCII only."""
    statement = result.statement
    value = {
        "schema": SCHEMA,
        "state": result.state.value,
        "exit_status": result.exit_status,
        "detail": result.detail,
        "key_id": result.key_id,
        "owner": result.owner,
        "differences": list(result.differences),
        "statement": None
        if statement is None
        else {
            "predicate_type": statement.predicate_type,
            "verifier_id": statement.verifier_id,
            "time": timestamp(statement.time),
            "model": statement.model,
            "manifest_sha256": statement.manifest_sha256,
            "resource_uri": statement.resource_uri,
            "passed": statement.passed,
            "properties": list(statement.properties),
            "subjects": statement.subjects,
        },
    }
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"
