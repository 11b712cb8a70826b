"""Which model of one family: added tokens, and what the chat template adds.

DeepSeek-R1, V3, V3.1 and later have one vocabulary and differ in added tokens: `<think>` is one
token in R1 and three in V3, the search tokens came with V3.1. Both tests are weak by themselves:
gateways remove or escape such strings, and hosts count a template or do not.
"""

from __future__ import annotations

from collections.abc import Sequence

from r1prov.endpoints.result import Outcome, TestResult
from r1prov.endpoints.tokens.explain import Kind, Observation, explain
from r1prov.endpoints.tokens.fit import TOLERANCE
from r1prov.endpoints.tokens.prompts import CLAIM, Ask
from r1prov.endpoints.tokens.reference import token_reference
from r1prov.verify.findings import Finding, finding

# R1-0528 has no `tokenizer_config.json` of its own in the table; the distill of its release has
# its template, which leaves `<think>` to the model.
_TEMPLATE_0528 = "deepseek-r1-0528-qwen3-8b"
_BENIGN_ADDED = (
    "a gateway removes or escapes strings that look like special tokens",
    "a server may tokenize user text without added tokens",
)
_BENIGN_OVERHEAD = (
    "a hidden system prompt adds its own tokens",
    "some hosts count the text alone, or leave the first token out",
)


def added_token_requests(
    observations: Sequence[Observation], *, claim: str = CLAIM
) -> tuple[Ask, ...]:
    """The requests of this test that are still to make: two, once the family fits unscaled.

    Raises:
        UsageError: The table does not know the claimed model.
    """
    reference = token_reference()
    if _offset(observations, claim) is None:
        return ()
    known = {one.probe for one in observations}
    return tuple(Ask(one, 0) for one in reference.added if one.id not in known)


def added_token_test(
    observations: Sequence[Observation], *, claim: str = CLAIM, subject: str = "usage"
) -> TestResult:
    """Which model of the claimed family has added tokens that count like these.

    Args:
        observations: Of the family probes and of the added-token probes.
        claim: Model that is claimed.
        subject: What findings call the endpoint.

    Raises:
        UsageError: The table does not know the claimed model.
    """
    reference = token_reference()
    family = reference.family_of(claim)
    offset = _offset(observations, claim)
    names = [one.id for one in reference.added]
    seen = {one.probe: one.tokens for one in observations if one.tokens is not None}
    used = [one for one in observations if one.probe in names]
    outcome = Outcome.NOT_TESTABLE
    findings: tuple[Finding, ...] = ()
    statistics: dict[str, float] = {}
    if offset is None:
        summary = f"the counts do not fit the vocabulary of {claim}, so added tokens say nothing"
    elif any(name not in seen for name in names):
        summary = "probes with added tokens were not counted"
    else:
        implied = {name: seen[name] - offset for name in names}
        statistics = {f"tokens_{name}": value for name, value in implied.items()}
        members = [
            one
            for one in family.members
            if all(
                abs(reference.added_counts[one][name] - implied[name]) <= TOLERANCE
                for name in names
            )
        ]
        if reference.model(claim) in members:
            outcome = Outcome.CONSISTENT
            summary = f"added tokens are those of {', '.join(members)}"
        elif members:
            outcome = Outcome.INCONSISTENT
            summary = f"added tokens are those of {', '.join(members)}"
            expected = reference.added_counts[reference.model(claim)]
            findings = (
                finding(
                    "added-tokens-other-model",
                    subject,
                    summary,
                    expected=", ".join(f"{name}: {expected[name]} tokens" for name in names),
                    found=", ".join(f"{name}: {implied[name]:.0f} tokens" for name in names),
                ),
            )
        else:
            summary = "strings of added tokens were removed or changed before they were counted"
    return TestResult(
        name="added-tokens",
        outcome=outcome,
        summary=summary,
        samples=len(statistics),
        requests=len(used),
        tokens=sum(one.spent or one.tokens or 0 for one in used),
        statistics=statistics,
        findings=findings,
        benign=_BENIGN_ADDED,
        cannot_tell=(
            "DeepSeek-R1 from R1-0528: they are thought to have the same added tokens, and the "
            "table has no tokenizer of 0528",
        ),
    )


def template_overhead_test(
    observations: Sequence[Observation], *, claim: str = CLAIM, subject: str = "usage"
) -> TestResult:
    """Tokens that stand around the text of every prompt, held against known chat templates.

    Never against the claim: honest hosts of R1 add five, four or none.

    Raises:
        UsageError: The table does not know the claimed model.
    """
    reference = token_reference()
    offset = _offset(observations, claim)
    used = [one for one in observations if one.probe in {p.id for p in reference.probes}]
    expected = reference.overheads.get(_template_of(claim))
    findings: tuple[Finding, ...] = ()
    outcome = Outcome.NOT_TESTABLE
    if offset is None or expected is None:
        summary = f"the counts do not fit the vocabulary of {claim}"
    elif abs(offset - expected) < 1:
        outcome = Outcome.CONSISTENT
        summary = f"the chat template adds {expected} tokens, as that of {claim} does"
    else:
        outcome = Outcome.DESCRIPTION
        summary = (
            f"{offset:.0f} tokens stand around the text; the template of {claim} has {expected}"
        )
        like = sorted(
            "the template of R1-0528" if name == _TEMPLATE_0528 else name
            for name, count in reference.overheads.items()
            if abs(offset - count) < 1 and name.startswith("deepseek")
        )
        findings = (
            finding(
                "template-overhead",
                subject,
                f"{summary}; so many has {', '.join(like) or 'no template of the table'}",
                expected=f"{expected} tokens",
                found=f"{offset:.0f} tokens",
            ),
        )
    return TestResult(
        name="template-overhead",
        outcome=outcome,
        summary=summary,
        samples=len({one.probe for one in used if one.tokens is not None}),
        requests=len(used),
        tokens=sum(one.spent or one.tokens or 0 for one in used),
        statistics={} if offset is None else {"overhead": offset},
        findings=findings,
        benign=_BENIGN_OVERHEAD,
        cannot_tell=(
            "which weights answer: a template is text that anybody may use",
            "DeepSeek-R1 from its distills, whose templates add as many tokens",
        ),
    )


def _template_of(claim: str) -> str:
    if claim.lower() == "deepseek-r1-0528":
        return _TEMPLATE_0528
    return token_reference().model(claim)


def _offset(observations: Sequence[Observation], claim: str) -> float | None:
    """Tokens added to every probe, where the counts fit the claimed vocabulary to the token."""
    reference = token_reference()
    names = {one.id for one in reference.probes}
    seen = {
        one.probe: one.tokens
        for one in observations
        if one.probe in names and one.tokens is not None
    }
    found = explain(seen, 0, reference.family_of(claim), reference)
    if found.kind is not Kind.CLAIMED or found.rounding > 1 or found.fit is None:
        return None
    return found.fit.offset
