"""`r1prov endpoint`: which model answers, as far as answers can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli import endpoint_compare, endpoint_record
from r1prov.cli import endpoint_options as options
from r1prov.cli import endpoint_session as session
from r1prov.cli.endpoint_options import EndpointFormat, Kernel
from r1prov.cli.options import Keys, NoColor, Output, Quiet

app = typer.Typer(
    help="Hold the answers of an endpoint against the model that it claims to serve.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("record", short_help="Record what a trusted endpoint answers, and sign it")(
    endpoint_record.command
)
app.command("compare", short_help="Do two endpoints answer alike?")(endpoint_compare.command)


@app.command("audit", short_help="Audit an endpoint that claims to serve a model")
def audit(
    url: options.Url,
    claim: options.Claim = "DeepSeek-R1",
    model: options.Model = None,
    key_env: options.KeyEnv = "R1PROV_API_KEY",
    plain_http: options.PlainHttp = False,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="FILE", help="Recorded answers to hold it against."),
    ] = None,
    unsigned_reference: Annotated[
        bool,
        typer.Option("--unsigned-reference", help="Take a reference that nobody signed."),
    ] = False,
    questions: options.Questions = None,
    question_tokens: options.QuestionTokens = 4096,
    drop: options.Drop = 0.05,
    streams: Annotated[
        int, typer.Option("--streams", min=2, max=24, metavar="N", help="Questions as streams.")
    ] = 8,
    stream_tokens: Annotated[
        int,
        typer.Option("--stream-tokens", min=16, metavar="N", help="Tokens of each of them."),
    ] = 800,
    parameters: Annotated[
        bool,
        typer.Option(
            "--parameters/--no-parameters", help="Try what DeepSeek's own API refuses or ignores."
        ),
    ] = True,
    context: Annotated[
        bool, typer.Option("--context", help="Send one prompt as long as R1's context.")
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=2, metavar="N", help="Completions a prompt; as many as recorded."
        ),
    ] = None,
    logprob_samples: options.LogprobSamples = 2,
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
    """Ask an endpoint, and say what its answers bear out: consistent, inconsistent, not testable.

    Never `genuine`: that takes signed answers and verified weights. The cheapest tests come first;
    a contradiction is decisive only where independent tests agree and a repeat confirms it. Exit
    status 0 consistent, 1 inconsistent, 3 not testable. API keys come from the environment alone.

    \b
    Examples:
      R1PROV_API_KEY=... r1prov endpoint audit https://api.example/v1 --model deepseek-r1
      r1prov endpoint audit https://api.example/v1 --reference r1.json --format html -o audit.html
      r1prov endpoint audit https://api.example/v1 --log audit.jsonl --resume
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from datetime import UTC, datetime

    from r1prov.endpoints.audit import Audit
    from r1prov.endpoints.border import ANSWERS, SAMPLING
    from r1prov.endpoints.plan import Plan, estimate
    from r1prov.endpoints.prompt_set import Prompt
    from r1prov.endpoints.reference_trust import load_reference
    from r1prov.endpoints.sampling import completion_request
    from r1prov.trust.directories import load_trust_store

    plan = Plan(
        claim=claim,
        streams=streams,
        stream_tokens=stream_tokens,
        parameters=parameters,
        context=context,
        samples=samples,
        logprob_samples=logprob_samples,
        looks=looks,
        kernel=kernel.value,
        alpha=alpha,
        asked=options.asked_questions(questions, question_tokens, drop),
        run_all=run_all,
        seed=seed,
    )
    used = None
    if reference is not None:
        used = load_reference(
            reference, load_trust_store(keys), now=datetime.now(UTC), unsigned=unsigned_reference
        )
    recorded = () if used is None else used.reference.prompts
    most = max((len(one.completions) for one in recorded), default=0)
    cost = estimate(
        plan,
        [Prompt(one.id, one.text) for one in recorded],
        None if used is None else used.reference.sampling,
        samples or most,
        border=[
            completion_request(one.text, SAMPLING)
            for one in (() if used is None else used.reference.border)
        ]
        * ANSWERS,
    )
    claimed = options.claimed_tokenizer(tokenizer, claim)
    key = session.api_key(key_env, url, plain_http=plain_http)
    told = session.teller(quiet=quiet)
    with session.opened(
        [url],
        [model],
        [key],
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
        session.agree([cost], [client.model], prices, client.budget, yes=yes, told=told)
        report = Audit(client, plan, claimed, used, told).run()
    return options.show(report, format, output, quiet=quiet, no_color=no_color)
