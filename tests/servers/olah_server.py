"""The mirror server `olah` in front of the test Hub: a Hub that somebody else wrote."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub_server import Hub


@contextmanager
def running_olah(hub: Hub, folder: Path) -> Iterator[str]:
    """Start olah as a caching proxy of a Hub; gives its address.

    `olah-cli` asks the Hub at start whether it is there and logs a failure of that; it serves all
    the same.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    here = f"127.0.0.1:{port}"
    command = [str(Path(sys.executable).parent / "olah-cli"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--hf-scheme", "http"]
    command += ["--hf-netloc", hub.url.removeprefix("http://")]
    command += ["--hf-lfs-netloc", hub.cdn_url.removeprefix("http://")]
    command += ["--mirror-netloc", here, "--mirror-lfs-netloc", here]
    command += ["--repos-path", str(folder / "repos"), "--log-path", str(folder / "logs")]
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "output"
    with output.open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            _wait(port, process, output)
            yield f"http://{here}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"olah does not start:\n{output.read_text(errors='replace')[-3000:]}")
