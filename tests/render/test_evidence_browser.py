"""The document about a bundle in a real browser: nothing leaves it, nothing runs, Chinese shows.

The browser starts once: a page with three documents in frames. Whatever it asks for goes through a
proxy that remembers it; in the third frame, where nothing holds it back, it asks.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from document_case import BOTH, ZH, certified, document, dossier, with_text
from evidence_case import Case, case, raw
from PIL import Image, ImageDraw

from r1prov.render.evidence_document import as_html

__all__ = ["case", "raw"]
pytestmark = pytest.mark.documents
WIDTH, HEIGHT = 900, 1200


def leaks(host: str) -> str:
    """Markup that asks a host for something in every way there is, script too."""
    return (
        f'</title></style></bdi></code><img src="http://{host}/pixel.png">'
        f'<link rel="stylesheet" href="http://{host}/s.css">'
        f'<script src="http://{host}/s.js"></script>'
        f'<iframe src="http://{host}/frame"></iframe>'
        f"<style>@import url(http://{host}/i.css);</style>"
        f"<script>new Image().src = 'http://{host}/ran'; document.body.hidden = 1</script>"
        f"<svg onload=\"new Image().src='http://{host}/svg'\">"
    )


class Proxy:
    """Takes every connection that the browser makes, and remembers what it asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                client.settimeout(5)
                try:
                    line = client.recv(4096).split(b"\r\n", 1)[0].decode("latin-1")
                    self.asked.append(line)
                    client.sendall(b"HTTP/1.1 502 no\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    continue

    def close(self) -> None:
        self._server.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    found = Proxy()
    yield found
    found.close()


def without_policy(page: str) -> str:
    """The page without what forbids it to load and to run anything."""
    found, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n', "", page)
    assert count == 1
    return found


@pytest.fixture(scope="module")
def picture(
    case: Case,
    raw: bytes,
    authority: Any,
    proxy: Proxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Image.Image:
    """What the browser shows of the first document, with all three loaded."""
    folder = tmp_path_factory.mktemp("browser")
    page = document(raw, case.keys, ZH)
    # Even if markup of a stranger got into a page, its policy lets nothing load or run.
    (folder / "held.html").write_text(page.replace("</body>", f"{leaks('policy.invalid')}</body>"))
    # Even without that policy, text of strangers is no markup.
    made = certified(dossier(raw, case.keys), authority.root().certificate)
    hostile = as_html(with_text(made, leaks("hostile.invalid")), BOTH)
    (folder / "hostile.html").write_text(without_policy(hostile))
    # And without either the browser asks, and runs what it is given.
    control = without_policy(page).replace("</body>", f"{leaks('control.invalid')}</body>")
    (folder / "control.html").write_text(control)
    frames = "".join(
        f'<iframe src="{name}.html" width="{WIDTH}" height="{HEIGHT}"'
        ' style="border:0;display:block"></iframe>'
        for name in ("held", "hostile", "control")
    )
    outer = folder / "outer.html"
    outer.write_text(f'<!DOCTYPE html><body style="margin:0">{frames}</body>')
    return browse(outer, proxy, folder / "shown.png")


def browse(page: Path, proxy: Proxy, picture: Path) -> Image.Image:
    """The page as the browser shows it; every request of any kind has to go through the proxy."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "install Chromium: on Debian the package chromium"
    home = picture.parent / "home"
    home.mkdir()
    done = subprocess.run(
        [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--user-data-dir={home}/profile",
            f"--proxy-server=http://127.0.0.1:{proxy.port}",
            "--proxy-bypass-list=<-loopback>",
            # All frames are in sight: a browser may leave others for later.
            f"--window-size={WIDTH},{3 * HEIGHT}",
            "--virtual-time-budget=1500",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"},
        check=False,
    )
    assert picture.exists(), done.stderr.decode(errors="replace")[-2000:]
    return Image.open(picture).convert("RGB")


def title_cells(picture: Image.Image) -> list[bytes]:
    """The six characters of the title, 模型证据报告, as six pictures of the same size."""
    grey = picture.convert("L").point(lambda one: 255 if one < 140 else 0)
    rows = [grey.crop((0, y, WIDTH, y + 1)).getbbox() is not None for y in range(200)]
    top = rows.index(True)
    bottom = top + rows[top:].index(False)
    box = grey.crop((0, top, WIDTH, bottom)).getbbox()
    assert box is not None
    width = (box[2] - box[0]) / 6
    cells = []
    for number in range(6):
        left = box[0] + round(number * width)
        cell = grey.crop((left, top, left + round(width), bottom)).resize((24, 24))
        cells.append(cell.tobytes())
    return cells


def most_alike(cells: list[bytes]) -> float:
    """Share of equal pixels of the two cells that are most alike."""

    def alike(one: bytes, other: bytes) -> float:
        return sum((a > 127) == (b > 127) for a, b in zip(one, other, strict=True)) / len(one)

    return max(alike(a, b) for at, a in enumerate(cells) for b in cells[:at])


def pixels(picture: Image.Image, color: tuple[int, int, int]) -> int:
    found = picture.getcolors(picture.width * picture.height) or []
    return sum(count for count, one in found if one == color)


def test_nothing_leaves_the_page_and_nothing_runs(proxy: Proxy, picture: Image.Image) -> None:
    asked = set(re.findall(r"http://([a-z]+\.invalid)/(\w+)", "\n".join(proxy.asked)))
    assert {host for host, _ in asked} == {"control.invalid"}, proxy.asked
    # What else it asks for is its maker's, and would be without a page.
    others = [one for one in proxy.asked if not re.search(r"[./]google(apis)?\.com[:/]", one)]
    assert all("control.invalid" in one for one in others), others
    # The control ran its scripts: the others would have been seen to.
    assert {("control.invalid", "ran"), ("control.invalid", "pixel")} <= asked


def test_the_page_is_shown_verdict_first(picture: Image.Image) -> None:
    assert picture.size == (WIDTH, 3 * HEIGHT)
    held, hostile, control = (
        picture.crop((0, at * HEIGHT, WIDTH, (at + 1) * HEIGHT)) for at in range(3)
    )
    passed = (0x00, 0x66, 0x4A)
    # Frame and sign of the verdict, in the first third of the page.
    assert pixels(held.crop((0, 0, WIDTH, HEIGHT // 3)), passed) > 1000
    assert pixels(hostile, passed) > 1000
    assert pixels(control, passed) == 0  # its script hid it


def test_chinese_characters_are_shown(picture: Image.Image) -> None:
    message = "characters look the same: boxes for want of a font?"
    assert most_alike(title_cells(picture)) < 0.85, message
    # Boxes are what is there without a font: they would be seen.
    boxes = Image.new("RGB", (WIDTH, 400), "white")
    draw = ImageDraw.Draw(boxes)
    for number in range(6):
        draw.rectangle((60 + 30 * number, 40, 84 + 30 * number, 66), outline="black", width=2)
    assert most_alike(title_cells(boxes)) > 0.95
