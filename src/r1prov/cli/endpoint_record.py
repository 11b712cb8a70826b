"""`r1prov endpoint record`: what a trusted endpoint answers, signed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli import endpoint_options as options
from r1prov.cli import endpoint_session as session
from r1prov.cli.options import Keys, ManifestChoice, Quiet
from r1prov.cli.signing import OptionalSigningKey


def command(
    url: options.Url,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Reference file to write; never replaced.")
    ],
    claim: Annotated[
        str,
        typer.Option("--claim", metavar="NAME", help="Name of the model, as manifests have it."),
    ] = "DeepSeek-R1",
    model: options.Model = None,
    key_env: options.KeyEnv = "R1PROV_API_KEY",
    plain_http: options.PlainHttp = False,
    prompts: options.Prompts = options.BUILTIN,
    samples: Annotated[
        int,
        typer.Option("--samples", min=2, max=10_000, metavar="N", help="Completions a prompt."),
    ] = 10,
    completion_tokens: options.CompletionTokens = 48,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    top_logprobs: options.LogprobCount = 20,
    logprob_samples: options.LogprobSamples = 2,
    with_border: Annotated[
        bool,
        typer.Option(
            "--border/--no-border",
            help="Look for prompts near a tie, for endpoints that give no log-probabilities.",
        ),
    ] = True,
    questions: options.Questions = None,
    question_tokens: options.QuestionTokens = 4096,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="MODEL",
            help="Verify this model and note its manifest; that it is served is your word.",
        ),
    ] = None,
    manifest: ManifestChoice = None,
    keys: Keys = None,
    key: OptionalSigningKey = None,
    seed: options.Seed = 0,
    log: options.Log = None,
    resume: options.Resume = False,
    max_requests: options.MaxRequests = 5_000,
    max_tokens: options.MaxTokens = 2_000_000,
    prices: options.PriceTable = None,
    yes: options.Yes = False,
    concurrency: options.Concurrency = 4,
    timeout: options.Timeout = 300.0,
    retries: options.Retries = 4,
    rate: options.Rate = None,
    quiet: Quiet = False,
) -> int:
    """Record what an endpoint that you trust answers to prompts, for others to be held against.

    Official DeepSeek-R1 is served no more: a reference is made of weights that you verified and
    serve yourself. With --key the file is signed, as a manifest is; `endpoint audit` takes no other
    unless it is told to.

    \b
    Examples:
      r1prov endpoint record http://127.0.0.1:8000/v1 --out r1.json --weights /models/r1 \\
        --key release.key --samples 20
      r1prov endpoint record http://127.0.0.1:8000/v1 --out r1.json --questions facts.jsonl
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, write_new
    from r1prov.cli.signing import load_private_key
    from r1prov.endpoints.border import border_requests
    from r1prov.endpoints.plan import Plan, estimate
    from r1prov.endpoints.record import record, weights_of
    from r1prov.endpoints.reference import Sampling, write_reference
    from r1prov.endpoints.reference_trust import bundle_path, sign_reference
    from r1prov.errors import UsageError
    from r1prov.verify.local import verify_path

    if out.exists():
        raise UsageError(f"{out} exists and is not overwritten", subject=str(out))
    if not out.parent.is_dir():
        raise UsageError(f"there is no directory {out.parent}", subject=str(out))
    signer = None if key is None else load_private_key(key)
    chosen = options.chosen_prompts(prompts)
    sampling = Sampling(
        max_tokens=completion_tokens,
        temperature=temperature,
        top_p=top_p,
        top_logprobs=top_logprobs,
    )
    asked = options.asked_questions(questions, question_tokens, 0.0)
    plan = Plan(claim=None, logprob_samples=logprob_samples, asked=asked, seed=seed)
    told = session.teller(quiet=quiet)
    with session.opened(
        [url],
        [model],
        [session.api_key(key_env, url, plain_http=plain_http)],
        log=session.log_path(log, resume=resume),
        resume=resume,
        max_requests=max_requests,
        max_tokens=max_tokens,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        rate=rate,
        told=told,
    ) as (client,):
        border = border_requests(chosen) if with_border and top_logprobs else ()
        cost = estimate(plan, chosen, sampling, samples, border=border)
        session.agree([cost], [client.model], prices, client.budget, yes=yes, told=told)
        verified = None
        if weights is not None:
            told(f"verifying {weights}")
            verified = weights_of(verify_path(weights, manifest=manifest, expect=claim, keys=keys))
        found = record(
            client,
            chosen,
            model=claim,
            sampling=sampling,
            samples=samples,
            logprob_samples=logprob_samples,
            seed=seed,
            with_border=with_border,
            asked=asked,
            weights=verified,
            say=told,
        )
    raw = write_reference(found)
    write_new(out, raw)
    lines = [f"{out}: {samples} completions of each of {len(chosen)} prompts"]
    if signer is not None:
        target = bundle_path(out, signer)
        write_new(target, sign_reference(raw, signer))
        lines.append(f"{target}: signed as {signer.public.key_id}")
    else:
        lines.append("not signed: `endpoint audit` takes it with --unsigned-reference alone")
    emit("\n".join(lines) + "\n", None, quiet=quiet)
    return 0
