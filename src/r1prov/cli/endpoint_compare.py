"""`r1prov endpoint compare`: two endpoints, or one and recorded answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli import endpoint_options as options
from r1prov.cli import endpoint_session as session
from r1prov.cli.endpoint_options import EndpointFormat, Kernel
from r1prov.cli.options import Keys, NoColor, Output, Quiet


def command(
    a: Annotated[str, typer.Argument(metavar="A", help="URL of the endpoint that is trusted.")],
    b: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="URL of the endpoint in question."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="FILE", help="Instead of B: hold A against this."),
    ] = None,
    unsigned_reference: Annotated[
        bool,
        typer.Option("--unsigned-reference", help="Take a reference that nobody signed."),
    ] = False,
    claim: Annotated[
        str | None,
        typer.Option(
            "--claim", metavar="NAME", help="Hold both against the tokenizer of this model too."
        ),
    ] = None,
    model_a: Annotated[
        str | None, typer.Option("--model-a", "--model", metavar="NAME", help="Model to ask A for.")
    ] = None,
    model_b: Annotated[
        str | None, typer.Option("--model-b", metavar="NAME", help="Model to ask B for.")
    ] = None,
    key_env_a: Annotated[
        str,
        typer.Option(
            "--key-env-a", "--key-env", metavar="VARIABLE", help="Variable with the key of A."
        ),
    ] = "R1PROV_API_KEY",
    key_env_b: Annotated[
        str | None,
        typer.Option("--key-env-b", metavar="VARIABLE", help="Variable with the key of B."),
    ] = None,
    plain_http: options.PlainHttp = False,
    prompts: options.Prompts = options.BUILTIN,
    samples: Annotated[
        int, typer.Option("--samples", min=2, max=10_000, metavar="N", help="Completions a prompt.")
    ] = 10,
    completion_tokens: options.CompletionTokens = 48,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    top_logprobs: options.LogprobCount = 20,
    logprob_samples: options.LogprobSamples = 2,
    questions: options.Questions = None,
    question_tokens: options.QuestionTokens = 4096,
    drop: options.Drop = 0.05,
    streams: Annotated[
        int, typer.Option("--streams", min=2, max=24, metavar="N", help="With --claim: streams.")
    ] = 4,
    stream_tokens: Annotated[
        int, typer.Option("--stream-tokens", min=16, metavar="N", help="Tokens of each of them.")
    ] = 800,
    looks: options.Looks = 3,
    kernel: options.KernelName = Kernel.HAMMING,
    alpha: options.Alpha = 0.01,
    tokenizer: options.Tokenizer = None,
    run_all: options.RunAll = False,
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
    keys: Keys = None,
    format: EndpointFormat = EndpointFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> int:
    """Ask two endpoints the same in random turns, and say whether B answers as A does.

    A is the side that is trusted. With --reference, A is held against recorded answers instead.
    Exit status 0 consistent, 1 inconsistent, 3 not testable.

    \b
    Examples:
      r1prov endpoint compare http://127.0.0.1:8000/v1 https://api.example/v1 --key-env-b API_KEY
      r1prov endpoint compare https://api.example/v1 --reference r1.json
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from datetime import UTC, datetime

    from r1prov.endpoints.audit import Audit
    from r1prov.endpoints.border import border_requests
    from r1prov.endpoints.compare import Comparison
    from r1prov.endpoints.plan import Plan, estimate
    from r1prov.endpoints.prompt_set import Prompt
    from r1prov.endpoints.reference import Sampling
    from r1prov.endpoints.reference_trust import load_reference
    from r1prov.errors import UsageError
    from r1prov.trust.directories import load_trust_store

    if (b is None) == (reference is None):
        raise UsageError("name two endpoints, or one and a --reference")
    used = None
    chosen = options.chosen_prompts(prompts)
    sampling = Sampling(
        max_tokens=completion_tokens,
        temperature=temperature,
        top_p=top_p,
        top_logprobs=top_logprobs,
    )
    if reference is not None:
        used = load_reference(
            reference, load_trust_store(keys), now=datetime.now(UTC), unsigned=unsigned_reference
        )
        chosen = tuple(Prompt(one.id, one.text) for one in used.reference.prompts)
        sampling = used.reference.sampling
    plan = Plan(
        claim=claim,
        streams=streams,
        stream_tokens=stream_tokens,
        parameters=False,
        samples=samples,
        logprob_samples=logprob_samples,
        looks=looks,
        kernel=kernel.value,
        alpha=alpha,
        asked=options.asked_questions(questions, question_tokens, drop),
        run_all=run_all,
        seed=seed,
    )
    claimed = None if claim is None else options.claimed_tokenizer(tokenizer, claim)
    urls, models, variables = [a], [model_a], [key_env_a]
    if b is not None:
        urls, models = [a, b], [model_a, model_b]
        # The key of one host is no business of another.
        variables = [key_env_a, key_env_b or ""]
    api_keys = [
        session.api_key(variable, url, plain_http=plain_http) if variable else None
        for variable, url in zip(variables, urls, strict=True)
    ]
    told = session.teller(quiet=quiet)
    with session.opened(
        urls,
        models,
        api_keys,
        log=session.log_path(log, resume=resume),
        resume=resume,
        max_requests=max_requests,
        max_tokens=max_tokens,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        rate=rate,
        told=told,
    ) as clients:
        alike = len({(one.url, one.model) for one in clients}) < len(clients)
        if resume and alike and api_keys[0] != api_keys[-1]:
            raise UsageError(
                "A and B differ in their keys alone, and no log tells one key from another",
                hint="begin anew with another --log",
            )
        border = border_requests(chosen) if used is None and top_logprobs else ()
        cost = estimate(plan, chosen, sampling, samples, border=border)
        names = [one.model for one in clients]
        session.agree([cost] * len(clients), names, prices, clients[0].budget, yes=yes, told=told)
        if used is not None:
            report = Audit(clients[0], plan, claimed, used, told).run()
        else:
            sides = clients[0], clients[1]
            report = Comparison(*sides, plan, chosen, sampling, claimed, told).run()
    return options.show(report, format, output, quiet=quiet, no_color=no_color)
