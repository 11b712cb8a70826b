"""What is wrong with answers themselves, told once a kind: refusals, bad JSON, streams that end."""

from __future__ import annotations

from collections.abc import Sequence

from r1prov.endpoints.answer import Answer
from r1prov.text import quoted
from r1prov.verify.findings import Finding, finding

_REFUSED = "questions-refused"
# What the text of an error takes at most: it is the server's.
_LONGEST = 200


def answer_findings(answers: Sequence[Answer], *, subject: str = "endpoint") -> list[Finding]:
    """Why answers to ordinary questions could not be used, or not wholly.

    Nothing is concluded from it: it says why a test has fewer answers than questions.

    Args:
        answers: To questions that every chat API answers; of those that never came none.
        subject: What findings call the endpoint.
    """
    came = [one for one in answers if one.status]
    found = []
    refused = [one for one in came if one.error is not None or not 200 <= one.status < 300]
    if refused:
        first = refused[0]
        said = f"status {first.status}"
        if first.error is not None:
            said = quoted(first.error, limit=_LONGEST)
        message = f"{len(refused):,} of {len(came):,} questions are refused: {said}"
        found.append(finding(_REFUSED, subject, message))
    for rule in ("answer-malformed", "answer-incomplete"):
        broken = [
            [one.message for one in answer.faults if one.rule.name == rule]
            for answer in came
            if answer.error is None and 200 <= answer.status < 300
        ]
        told = [messages[0] for messages in broken if messages]
        if told:
            message = f"{len(told):,} of {len(came):,} answers: {told[0]}"
            found.append(finding(rule, subject, message))
    return found
