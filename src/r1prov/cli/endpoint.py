"""`r1prov endpoint`: which model answers, as far as answers can tell."""

from __future__ import annotations

import typer

from r1prov.cli import audit_options as audits
from r1prov.cli import endpoint_compare, endpoint_record
from r1prov.cli import endpoint_options as options
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
    reference: audits.Reference = None,
    unsigned_reference: audits.UnsignedReference = False,
    questions: options.Questions = None,
    question_tokens: options.QuestionTokens = 4096,
    drop: options.Drop = 0.05,
    streams: audits.Streams = 8,
    stream_tokens: audits.StreamTokens = 800,
    parameters: audits.Parameters = True,
    context: audits.Context = False,
    samples: audits.SampleCount = None,
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
    policy: audits.PolicyTable = None,
    keys: Keys = None,
    format: EndpointFormat = EndpointFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> int:
    """Ask an endpoint, and say what its answers bear out: consistent, inconsistent, not testable.

    Never `genuine`: that takes signed answers and verified weights. The cheapest tests come first;
    a contradiction is decisive only where independent tests agree and a repeat confirms it. Exit
    status 0 consistent, 1 inconsistent or short of --policy, 3 not testable. API keys come from
    the environment alone.

    \b
    Examples:
      R1PROV_API_KEY=... r1prov endpoint audit https://api.example/v1 --model deepseek-r1
      r1prov endpoint audit https://api.example/v1 --reference r1.json --format html -o audit.html
      r1prov endpoint audit https://api.example/v1 --log audit.jsonl --resume
    """  # noqa: D301 - \b is how the help keeps lines as they are
    what = audits.AuditChoices(
        claim=claim,
        reference=reference,
        unsigned_reference=unsigned_reference,
        questions=questions,
        question_tokens=question_tokens,
        drop=drop,
        streams=streams,
        stream_tokens=stream_tokens,
        parameters=parameters,
        context=context,
        samples=samples,
        logprob_samples=logprob_samples,
        looks=looks,
        kernel=kernel,
        alpha=alpha,
        tokenizer=tokenizer,
        run_all=run_all,
        seed=seed,
        keys=keys,
    )
    how = audits.Asking(
        url=url,
        model=model,
        key_env=key_env,
        plain_http=plain_http,
        log=log,
        resume=resume,
        max_requests=max_requests,
        max_tokens=max_tokens,
        prices=prices,
        yes=yes,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        quiet=quiet,
    )
    criteria = audits.criteria_of(policy)
    with audits.prepared(what, how) as ready:
        report = ready.run()
    if criteria is not None:
        report = ready.held_to(criteria, report)
    status = options.show(report, format, output, quiet=quiet, no_color=no_color)
    return 1 if audits.falls_short(report) else status
