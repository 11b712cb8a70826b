"""The rule table: every way a model can be wrong, with an id that never changes.

Ids are grouped by hundreds: 0xx files, 1xx safetensors and GGUF headers, 2xx shard index and JSON,
3xx signatures and trust, 4xx identity and architecture, 5xx hygiene, 6xx provenance, 7xx policy,
8xx signatures on API responses, 9xx answers of an endpoint (95x and 96x what a policy asks of an
audit, 97x an audit as evidence), 98x and 99x evidence bundles. An id is never reused.
"""

from __future__ import annotations

from r1prov.verify.rule import Rule, Severity
from r1prov.verify.rules_of_audits import AUDITS
from r1prov.verify.rules_of_endpoints import ENDPOINTS
from r1prov.verify.rules_of_evidence import EVIDENCE
from r1prov.verify.rules_of_files import FILES
from r1prov.verify.rules_of_models import MODELS
from r1prov.verify.rules_of_responses import RESPONSES
from r1prov.verify.rules_of_streams import STREAMS

__all__ = ["RULES", "Rule", "Severity", "knows", "rule"]

RULES: tuple[Rule, ...] = tuple(
    Rule(f"R1P{number}", name, title, severity, text)
    for number, name, title, severity, text in (
        *FILES,
        *MODELS,
        *RESPONSES,
        *STREAMS,
        *ENDPOINTS,
        *AUDITS,
        *EVIDENCE,
    )
)
_BY_NAME = {rule.name: rule for rule in RULES}


def rule(name: str) -> Rule:
    """The rule with that name; an unknown name is a bug and raises `KeyError`."""
    return _BY_NAME[name]


def knows(name: str) -> bool:
    """Whether the table has a rule with that name."""
    return name in _BY_NAME
