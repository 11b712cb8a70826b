"""What no policy may turn down, and why.

A policy weighs what a team accepts. It may not accept what makes the rest of the verdict
meaningless: then a `pass` would be one in name only. Every rule may be turned up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.verify.findings import Finding, Part

if TYPE_CHECKING:
    from r1prov.verify.rules import Rule

_DIFFERENTIAL = "another reader could load other weights than those that were verified"
_NEVER = {
    "signature-invalid": "somebody changed the manifest after it was signed",
    "signer-revoked": "its owner says that the key may be in other hands",
    "certificate-revoked": "its owner says that the key may be in other hands",
    "commit-proof": "the manifest contradicts the commit that it cites",
    "file-changed": "what was checked is not what is there now",
    "listing-changed": "what was checked is not what is there now",
    "symlink": "what a link points to was not verified",
    "not-regular": "there is no content that could have been verified",
    "shadowing-file": _DIFFERENTIAL,
    "index-json": _DIFFERENTIAL,
    "index-duplicate": _DIFFERENTIAL,
    "index-path": _DIFFERENTIAL,
    "index-entry": _DIFFERENTIAL,
    "index-mismatch": _DIFFERENTIAL,
    "tensor-duplicate": _DIFFERENTIAL,
    "inventory-mismatch": "it is another model than the manifest's",
    "config-mismatch": "a config of one model over the weights of another is how a distill is sold",
    "no-weights": "there is nothing to verify",
    "no-manifest": "there is nothing to verify it against",
    "model-not-expected": "the command line asked for another model",
}
# By the first digits of the id: headers (GGUF begins at 130), tensors against their digests, and
# the policy's own demands.
_NEVER_BEGINNING = {
    "R1P10": _DIFFERENTIAL,
    "R1P11": _DIFFERENTIAL,
    "R1P12": _DIFFERENTIAL,
    "R1P31": "then nothing that a trusted key signed says what the file must be",
    "R1P41": "the manifest is there for the weights",
    "R1P7": "a policy does not weaken itself",
    "R1P8": "the table [responses] says what an answer needs",
    "R1P95": "the table [endpoint] says what an audit needs",
    "R1P96": "the table [endpoint] says what an audit needs",
    "R1P97": "the table [endpoint] says what an audit needs",
}
_BUT = frozenset({"header-padding", "tensor-name-twins"})
# These count for weights and code whatever a policy says; for other files they may be turned down.
OTHER_FILES_ONLY = frozenset(
    {"file-missing", "file-unlisted", "file-size", "file-digest", "git-blob"}
)
# A pin of the manifest's digest in the policy says which bytes are meant, as a signature does.
NEEDS_PIN = frozenset(
    {
        "signature-missing",
        "signer-unknown",
        "signer-expired",
        "signer-not-yet-valid",
        "signer-out-of-scope",
        "signature-threshold",
        "certificate-not-yet-valid",
    }
)


def why_never(rule: Rule) -> str | None:
    """Why a rule may not be turned down; None if it may."""
    if rule.name in _BUT:
        return None
    beginning = (why for start, why in _NEVER_BEGINNING.items() if rule.id.startswith(start))
    return _NEVER.get(rule.name) or next(beginning, None)


def may_turn_down(one: Finding) -> bool:
    """Whether an override of its rule may turn a finding down.

    Weights and code are what a manifest is for: exceptions for them are named file by file.
    """
    return one.rule.name not in OTHER_FILES_ONLY or one.part is Part.OTHER
