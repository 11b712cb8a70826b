"""Rules on audits of endpoints: 95x and 96x what a policy asks of one, 97x one as evidence."""

from __future__ import annotations

from r1prov.verify.rule import Row, Severity

_E, _W = Severity.ERROR, Severity.WARNING
_TABLE = "The table [endpoint] of the policy asks for it. "
_ANEW = "Audit the endpoint again: `r1prov endpoint audit`, or `r1prov evidence create --endpoint`."

AUDITS: tuple[Row, ...] = (
    (
        "950",
        "endpoint-required",
        "There is no audit of an endpoint",
        _E,
        _TABLE + "Make one by `r1prov evidence create --endpoint URL`, or say `required = false`.",
    ),
    (
        "951",
        "endpoint-address",
        "The endpoint that the policy names was not audited",
        _E,
        _TABLE + "An audit of another address says nothing about this one.",
    ),
    ("952", "endpoint-claim", "The audit is about another model", _E, _TABLE + _ANEW),
    (
        "953",
        "endpoint-verdict",
        "The audit does not come to the verdict that the policy asks for",
        _E,
        _TABLE + "What was not tested stands in the report, with what it would take.",
    ),
    (
        "954",
        "endpoint-error-rate",
        "The audit may err more often than the policy takes",
        _E,
        _TABLE + "Lower --alpha; each decisive test adds its own rate.",
    ),
    (
        "955",
        "endpoint-tests",
        "A test that the policy asks for came to no result",
        _E,
        _TABLE + "The report says what it lacks: a tokenizer, a reference, questions, answers.",
    ),
    (
        "956",
        "endpoint-samples",
        "A test rests on too few samples",
        _E,
        _TABLE + "Raise --streams, --samples or the number of questions.",
    ),
    (
        "957",
        "endpoint-accuracy",
        "Too few questions were answered right",
        _E,
        _TABLE + "Questions without an answer count as wrong; look at answers that were cut off.",
    ),
    (
        "958",
        "endpoint-drop",
        "Accuracy fell against the reference by more than the policy takes",
        _E,
        _TABLE + "This is the measured drop, not a test: it varies by chance with few questions.",
    ),
    (
        "959",
        "endpoint-failed",
        "Too many requests came to nothing",
        _E,
        _TABLE + "Go on with the audit: `--log LOG --resume` asks them again.",
    ),
    ("960", "endpoint-age", "The audit is too old", _E, _TABLE + _ANEW),
    (
        "961",
        "endpoint-reference",
        "The endpoint was held against another reference than the policy takes",
        _E,
        _TABLE + "It must be signed by a key that the policy names and that is pinned here.",
    ),
    (
        "970",
        "audit-plan",
        "The plan of an audit, or a file that it names, is not that of the audit",
        _E,
        "Plan, reference, questions and log belong together: take all four from the same run.",
    ),
    (
        "971",
        "audit-log",
        "The log of an audit does not hold",
        _E,
        "A record was changed, moved or taken away, or a request went elsewhere. Ask the maker for "
        "the log as `r1prov endpoint audit` wrote it.",
    ),
    (
        "972",
        "audit-report",
        "The report of an audit says something else than its answers",
        _E,
        "What counts is what was computed from the answers. Ask the maker for the run behind it.",
    ),
    (
        "973",
        "audit-claim",
        "The audit is about another model than the bundle",
        _E,
        "An endpoint that serves another model says nothing about this one. " + _ANEW,
    ),
    (
        "974",
        "audit-inconsistent",
        "The answers of the endpoint contradict the claim",
        _E,
        "Ask the operator which model answers. The report names harmless causes that look alike.",
    ),
    (
        "975",
        "audit-unused",
        "The log holds answers that the plan does not ask for",
        _E,
        "Somebody made the plan smaller after the answers came, or put two runs into one log. "
        "Audit again, with a log of its own.",
    ),
    (
        "976",
        "audit-time",
        "The audit ended after the bundle was made",
        _E,
        "Check the clocks of both machines.",
    ),
    (
        "977",
        "audit-old",
        "The audit is much older than the bundle",
        _W,
        "What answers today was not asked. " + _ANEW,
    ),
)
