"""Documents about bundles: what they are made from, and an audit with everything that they show."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import r1prov
from r1prov.endpoints.report import EndpointReport, NotRun, Plots, Side
from r1prov.endpoints.result import ErrorRates, Outcome, TestResult
from r1prov.evidence.open import open_bundle
from r1prov.evidence.verify import Demands, verify_evidence
from r1prov.render.evidence_document import as_html
from r1prov.render.evidence_dossier import Criteria, Dossier, gather_dossier
from r1prov.render.evidence_words import Language
from r1prov.responses.report import ExchangeReport, KeyUse, State
from r1prov.trust.authorities import TimestampAuthority, TrustedAuthority
from r1prov.trust.certificates import Certificate
from r1prov.trust.states import SignatureCheck, SignatureState, TimestampCheck, TimestampState
from r1prov.verify.findings import Verdict, finding
from r1prov.verify.local import load_authorities

ZH, EN = (Language.ZH,), (Language.EN,)
BOTH = (Language.ZH, Language.EN)
MOMENT = datetime(2026, 11, 25, tzinfo=UTC)
LANGUAGES = {"zh": ZH, "en": EN, "both": BOTH}


def dossier(
    raw: bytes,
    keys: Path,
    *,
    name: str = "b.zip",
    now: datetime | None = None,
    shown: Criteria | None = None,
    **demands: Any,
) -> Dossier:
    now = now or datetime.now(UTC)
    authorities = load_authorities(keys)
    result = verify_evidence(raw, authorities, now=now, demands=Demands(**demands), subject=name)
    opened = open_bundle(raw, subject=name)
    return gather_dossier(
        opened, result, authorities, now=now, version=r1prov.__version__, policy=shown
    )


def document(raw: bytes, keys: Path, languages: tuple[Language, ...] = BOTH, **more: Any) -> str:
    return as_html(dossier(raw, keys, **more), languages)


def with_text(made: Dossier, text: str) -> Dossier:
    """The same with a text wherever strangers choose one."""
    result = made.result
    found = finding("file-digest", text, text, expected=text, found=text, hint=text)
    coverage = tuple(replace(one, item=text, detail=text) for one in result.coverage)
    report = result.report
    if report is not None and report.manifest is not None:
        use = replace(
            report.manifest, name=text, publisher=text, revision=text, variant=text, signers=(text,)
        )
        report = replace(report, manifest=use, headline=text, expected=text, provenance=(text,))
    check = SignatureCheck(text, "0" * 64, text, SignatureState.GOOD, text, (text,), text)
    signature = replace(
        result.signature,
        owner=text,
        detail=text,
        check=check,
        timestamps=(TimestampCheck(TimestampState.GOOD, text, MOMENT),),
    )
    result = replace(
        result,
        subject=text,
        signature=signature,
        report=report,
        findings=(found, replace(found, subject="s" + text), finding("leftover", text, text)),
        coverage=coverage,
        audits=((text, audit(text)),),
        countersignatures=(replace(signature, state=SignatureState.UNKNOWN_KEY),),
        exchanges=((text, exchange(text)),),
        limits=(text,),
        digests={text: "0" * 64},
    )
    return replace(
        made,
        result=result,
        manifest=None,  # whose files would stand before or after that of the text
        pinned=tuple(replace(one, owner=text, models=(text,)) for one in made.pinned),
        config={"model_type": text, "num_hidden_layers": text, "hidden_size": [text]},
        environment=dict.fromkeys(("r1prov", "tool_sha256", "python", "clock"), text),
        criteria=criteria(text),
        redacted={text: (text, text)},
        chains={
            text: tuple(
                replace(one, subject=text, issuer=text)
                for chain in made.chains.values()
                for one in chain
            )
        },
        authorities=tuple(
            replace(one, owner=text, models=(text,), identities=(text,)) for one in made.authorities
        ),
        clocks=tuple(replace(one, owner=text) for one in made.clocks),
    )


def certified(made: Dossier, root: Certificate) -> Dossier:
    """The same with a certificate wherever one is shown."""
    shown = TrustedAuthority(
        root=root, file="f", owner="o", valid_from=MOMENT, valid_until=MOMENT, models=("m",)
    )
    clock = TimestampAuthority(
        root=root, file="f", owner="o", valid_from=MOMENT, valid_until=MOMENT
    )
    return replace(made, chains={"s": (root,)}, authorities=(shown,), clocks=(clock,))


def criteria(text: str) -> Criteria:
    """A policy file with a text for key and value."""
    clean = text.encode("utf-8", "replace").decode().replace("\x7f", "")
    quoted = json.dumps(clean, ensure_ascii=False)
    raw = f"[endpoint]\nclaim = {quoted}\n[rules.{quoted}]\nseverity = {quoted}\n".encode()
    return Criteria(text, raw, by_verifier=True)


def exchange(text: str) -> ExchangeReport:
    return ExchangeReport(
        subject=text,
        state=State.VERIFIED,
        verdict=Verdict.PASS,
        headline=text,
        scheme=text,
        key=KeyUse(thumbprint=text, algorithm=text, owner=text, source=text),
        covered=(text,),
        created=MOMENT,
        expires=None,
        nonce=text,
        tag=text,
        model=text,
        findings=(),
        coverage=(),
        judged_at=MOMENT,
        policy=text,
        version="1",
    )


def english(page: str) -> list[str]:
    """What a Chinese document says in English: sentences, not names and numbers."""
    texts = [
        html.unescape(re.sub("<[^>]+>", "", one))
        for one in re.findall(r'lang="en">(.*?)</span>', page, re.DOTALL)
    ]
    return [one for one in texts if len(re.findall(r"\b[a-z]{2,}\b", one)) > 2]


def audit(text: str = "plain") -> EndpointReport:
    results = tuple(
        TestResult(
            name=text,
            outcome=outcome,
            summary=text,
            samples=24,
            error_rates=ErrorRates(alpha=0.001, beta=0.05, basis=text),
            findings=(finding("tokenizer-contradiction", text, text, expected=text, found=text),),
            benign=(text,),
            cannot_tell=(text,),
        )
        for outcome in Outcome
    )
    return EndpointReport(
        kind="audit",
        claim=text,
        verdict=Outcome.INCONSISTENT,
        headline=text,
        sides=(Side(role="endpoint", name=text, model=text, detail=text),),
        results=results,
        not_run=(NotRun(text, text),),
        alpha=0.001,
        requests=73,
        tokens=31_044,
        replayed=0,
        seed=7,
        log=text,
        log_head="3:" + "a" * 64,
        started_at=MOMENT,
        finished_at=MOMENT,
        version="1",
        plots=Plots(
            times={text: [0.1, 0.2, 3.0], "first piece": [1.0, 2.0]},
            residuals={text: -5.0, "digits": 200.0},
            sprt=[0.0, 1.2, -3.0, 9.5],
            sprt_bounds=(-9.2, 9.2),
        ),
    )
