"""A progress bar with bytes, rate and time left: on stderr, and only if that is a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def hashing_progress(
    *, quiet: bool = False
) -> Iterator[Callable[[int], Callable[[int], None]] | None]:
    """Yield what `verify.pipeline` takes as `progress`, or None where nothing may be shown."""
    if quiet or not sys.stderr.isatty() or os.environ.get("R1PROV_NO_PROGRESS"):
        yield None
        return
    # Imported here: rich costs 100 ms, and a pipeline never shows a bar.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("hashing", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR"))),
        transient=True,
    )

    def begin(total: int) -> Callable[[int], None]:
        task = bar.add_task("hashing", total=total)
        return lambda count: bar.advance(task, count)

    with bar:
        yield begin
