"""`r1prov response`: signatures on API responses."""

from __future__ import annotations

import typer

from r1prov.cli import response_proxy

app = typer.Typer(
    help="Signatures on API responses: verify them, make them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("proxy", short_help="Sign the answers of any server")(response_proxy.command)
