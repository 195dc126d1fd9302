"""Open the page in headless Chromium: quiet console, no sideways scrolling, working controls."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import fedmosaic

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here (apt-get install chromium)"
)

# A page with the report in a frame as wide as a phone or a desktop, which measures the report.
FRAME = """<!DOCTYPE html><body style="margin:0">
<iframe src="{page}" style="border:0;width:{width}px;height:900px"></iframe>
<script>
document.querySelector("iframe").addEventListener("load", (event) => {{
  const view = event.target.contentWindow, page = view.document;
  const WHOLE = "h1, h2, p, li, label, figure, .main, [data-matrix$=relevance] table, "
    + "[data-matrix$=tasks] table";
  const TEXTS = "p, li, td, th, text, label";
  const size = (element) => element.tagName === "text"
    ? element.getBoundingClientRect().height
    : parseFloat(view.getComputedStyle(element).fontSize);
  const visible = (element) => element.getClientRects().length > 0;
  for (const details of page.querySelectorAll("details")) details.open = true;
  const box = page.querySelector("[data-matrix$=relevance]");
  const cells = () => [...box.querySelectorAll("td")].map((cell) => cell.textContent);
  const seen = {{
    inner: view.innerWidth,
    scroll: page.documentElement.scrollWidth,
    verdict: page.querySelector("h1").getBoundingClientRect().bottom,
    figures: [...page.querySelectorAll("figure div")].filter(visible)
      .map((part) => part.className),
    cut: [...page.querySelectorAll(WHOLE)].filter(visible)
      .filter((element) => element.getBoundingClientRect().right > view.innerWidth + 1)
      .map((element) => element.outerHTML.slice(0, 80)),
    smallest: Math.min(...[...page.querySelectorAll(TEXTS)]
      .filter((element) => visible(element) && element.textContent.trim()).map(size)),
    frames: [cells()],
  }};
  const slider = box.querySelector("input");
  slider.value = 0;
  slider.dispatchEvent(new view.Event("input"));
  seen.frames.push(cells());
  seen.round = box.querySelector("output").textContent;
  const select = [...box.querySelectorAll("select")].at(-1);
  select.selectedIndex = 2;
  select.dispatchEvent(new view.Event("change"));
  seen.frames.push(cells());
  const out = document.createElement("pre");
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
}});
</script>"""


def opened(page: Path, width: int, place: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what the frame measured, and the messages on the console."""
    frame = place / f"frame-{width}.html"
    frame.write_text(FRAME.format(page=page.as_uri(), width=width))
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
    ]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={place / 'profile'}"]
    command += [
        "--allow-file-access-from-files",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--v=0",
    ]
    command += [
        "--virtual-time-budget=5000",
        f"--window-size={max(width, 600)},1000",
        "--dump-dom",
        frame.as_uri(),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={**os.environ, "HOME": str(place)}
    )
    found = re.search(r"<pre>(.*)</pre></body>", done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1])), [
        line for line in done.stderr.splitlines() if "CONSOLE" in line
    ]


def test_it_reads_at_phone_and_desktop_width(comparison_folder: Path, tmp_path: Path) -> None:
    page = fedmosaic.report(comparison_folder)
    lines = [
        [
            json.loads(line)
            for line in (comparison_folder / "fedmosaic" / f"seed-{seed}" / "metrics.jsonl")
            .read_text()
            .splitlines()
        ]
        for seed in (0, 1)
    ]
    first = [
        next(x for x in found if x["kind"] == "round")["relevance"]["weights"] for found in lines
    ]
    for width, shown in ((390, "narrow"), (1280, "wide")):
        seen, console = opened(page, width, tmp_path)
        assert console == []
        assert seen["inner"] == width and seen["scroll"] <= width
        assert seen["cut"] == []
        assert seen["smallest"] >= 9.5
        assert seen["verdict"] < 500  # the verdict stands on the first screen
        assert seen["figures"] == [shown] * 3
        before, mean, seed = seen["frames"]
        assert seen["round"] == "round 1" and before != mean != seed
        for cells, weights in (
            (mean, 0.5 * (first[0][0][1] + first[1][0][1])),
            (seed, first[1][0][1]),
        ):
            assert int(cells[1]) == pytest.approx(100 * weights, abs=0.6) and cells[0] == ""


def test_an_error_on_the_console_would_be_seen(comparison_folder: Path, tmp_path: Path) -> None:
    page = fedmosaic.report(comparison_folder)
    text = page.read_text().replace(
        '"use strict";', '"use strict"; console.error("planted"); fetch("https://example.org");', 1
    )
    page.write_text(text.replace("<main>", '<main><div style="width:500px">wide</div>', 1))
    seen, console = opened(page, 390, tmp_path)
    assert any("planted" in line for line in console) and any(
        "Content Security Policy" in line for line in console
    )
    assert seen["scroll"] == 516
