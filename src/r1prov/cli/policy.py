"""`r1prov policy`: write a first policy, and say what one demands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli.options import Keys, Model

app = typer.Typer(
    help="Write a policy, and say what one demands.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("init", short_help="Write a commented policy for a model")
def init(
    model: Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Policy file to write; never overwritten.")
    ] = Path("r1prov.toml"),
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            "-m",
            envvar="R1PROV_MANIFEST",
            metavar="NAME|FILE",
            help="Manifest to demand; by default the model is identified.",
        ),
    ] = None,
    keys: Keys = None,
) -> None:
    """Write a commented policy for the model at hand: what its manifest and signers are today.

    Nothing is hashed, and nothing is let through: files beyond the manifest stand in it as
    comments.

    \b
    Examples:
      r1prov policy init /models/DeepSeek-R1
      r1prov policy init ./my-model --manifest my-model.toml --keys ./keys -o deploy/r1prov.toml
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, write_new
    from r1prov.errors import UsageError
    from r1prov.stores.local import LocalStore
    from r1prov.verify.local import load_authorities
    from r1prov.verify.policy_draft import draft_policy
    from r1prov.verify.policy_file import lies_inside

    if lies_inside(output, Path(model)):
        raise UsageError(
            f"{output} lies inside the model that it is to judge",
            subject=str(output),
            hint="name a file outside the model's directory with --output",
        )
    if output.exists():
        raise UsageError(f"{output} exists and is not overwritten", subject=str(output))
    text = draft_policy(
        LocalStore(model), load_authorities(keys), manifest=manifest, folder=output.parent
    )
    write_new(output, text.encode())
    emit(f"{output}: written; `r1prov policy check {output}` says what it demands\n", None)


@app.command("check", short_help="Say in plain words what a policy demands")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Policy file; by default the one verify would take."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Only what holds for a model of this name."),
    ] = None,
    keys: Keys = None,
) -> int:
    """Say in plain words what a policy demands, and what about it is wrong or weak.

    Exit status 1 if something can never be met or has expired, 4 if the file is malformed.

    \b
    Examples:
      r1prov policy check
      r1prov policy check deploy/r1prov.toml --model DeepSeek-R1
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from datetime import UTC, datetime

    from r1prov.cli.output import emit
    from r1prov.endpoints.acceptance import read_endpoint_criteria
    from r1prov.errors import NotFound
    from r1prov.render.policy import render_check
    from r1prov.responses.policy import TOOL_TABLE, read_response_policy
    from r1prov.verify.local import load_authorities
    from r1prov.verify.policy_check import check_policy
    from r1prov.verify.policy_file import find_policy

    policy = find_policy(file).file
    if policy is None:
        raise NotFound(
            "no policy: neither ./r1prov.toml nor [tool.r1prov] in ./pyproject.toml",
            hint="name one, or write one: r1prov policy init MODEL",
        )
    # What is malformed in [responses] and [endpoint] ends here, too.
    location = Path(policy.location.removesuffix(f" [{TOOL_TABLE}]"))
    read_response_policy(location)
    read_endpoint_criteria(location)
    result = check_policy(
        policy, load_authorities(keys, policy), now=datetime.now(UTC), model=model
    )
    emit(render_check(result), None)
    return result.exit_status
