"""Which module writes which format. Loaded when it is used: most runs need one of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from r1prov.verify.findings import Report

MODULES = {
    "text": "r1prov.render.text",
    "json": "r1prov.render.json",
    "sarif": "r1prov.render.sarif",
    "junit": "r1prov.render.junit",
    "github": "r1prov.render.github",
    "gitlab": "r1prov.render.gitlab",
    "markdown": "r1prov.render.markdown",
    "html": "r1prov.render.html",
}


def renderer(name: str) -> Callable[[Report], str]:
    """The function that writes a report in the format called `name`, one of `MODULES`."""
    render: Callable[[Report], str] = import_module(MODULES[name]).render
    return render
