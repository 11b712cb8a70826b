"""The document about a bundle in a real browser: nothing leaves it, and Chinese shows."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from document_case import ZH, document
from evidence_case import Case, case, raw
from PIL import Image

__all__ = ["case", "raw"]
pytestmark = pytest.mark.documents
WIDTH, HEIGHT = 900, 1200
LEAKS = (
    '<img src="http://leak.invalid/pixel.png">'
    '<link rel="stylesheet" href="http://leak.invalid/s.css">'
    '<script src="http://leak.invalid/s.js"></script>'
    '<iframe src="http://leak.invalid/frame"></iframe>'
    "<style>@import url(http://leak.invalid/i.css);</style>"
    "<script>document.body.textContent = ''; fetch('http://leak.invalid/f')</script>"
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


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    found = Proxy()
    yield found
    found.close()


def browse(page: Path, proxy: Proxy, picture: Path, *, fonts: Path | None = None) -> Image.Image:
    """The page as the browser shows it; every request of any kind has to go through the proxy."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "install Chromium: on Debian the package chromium"
    home = picture.parent / f"home-{picture.stem}"
    home.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
    if fonts is not None:
        environment["FONTCONFIG_FILE"] = str(fonts)
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
            f"--window-size={WIDTH},{HEIGHT}",
            "--virtual-time-budget=3000",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        env=environment,
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


def alike(one: bytes, other: bytes) -> float:
    """Share of equal pixels."""
    return sum((a > 127) == (b > 127) for a, b in zip(one, other, strict=True)) / len(one)


def green(picture: Image.Image) -> int:
    """Pixels of the colour that says pass."""
    found = picture.getcolors(WIDTH * HEIGHT) or []
    return sum(count for count, color in found if color == (0x00, 0x66, 0x4A))


def test_nothing_leaves_the_page_and_chinese_is_shown(
    case: Case, raw: bytes, proxy: Proxy, tmp_path: Path
) -> None:
    text = document(raw, case.keys, ZH)
    assert LEAKS not in text
    # Even if markup of a stranger got into the page, its policy lets nothing load or run.
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", f"{LEAKS}</body>"))
    picture = browse(page, proxy, tmp_path / "page.png")
    assert proxy.asked == []
    assert picture.size == (WIDTH, HEIGHT)
    assert green(picture) > 1000  # the frame and sign of the verdict
    cells = title_cells(picture)
    most = max(alike(a, b) for at, a in enumerate(cells) for b in cells[:at])
    assert most < 0.85, "characters look the same: boxes for want of a font?"

    # The same page without its policy and without Chinese fonts: both would be seen here.
    fonts = tmp_path / "fonts.conf"
    fonts.write_text(
        '<?xml version="1.0"?>\n<!DOCTYPE fontconfig SYSTEM "fonts.dtd">\n<fontconfig>'
        "<dir>/usr/share/fonts/truetype/dejavu</dir>"
        f"<cachedir>{tmp_path}/cache</cachedir></fontconfig>\n"
    )
    start = text.index('<meta http-equiv="Content-Security-Policy"')
    bare = text[:start] + text[text.index(">", start) + 1 :]
    link = LEAKS.split("<script>document")[0]
    page.write_text(bare.replace("</body>", f"{link}</body>"))
    control = browse(page, proxy, tmp_path / "control.png", fonts=fonts)
    assert any("leak.invalid" in one for one in proxy.asked), proxy.asked
    cells = title_cells(control)
    assert max(alike(a, b) for at, a in enumerate(cells) for b in cells[:at]) > 0.95
