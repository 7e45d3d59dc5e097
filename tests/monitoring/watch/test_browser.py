"""The page in a real browser, beside a run that goes on: what is drawn, what the console says, and whom it asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lehr.monitoring.watch import endpoint, page
from lehr.monitoring.watch.serving import serve
from lehr.monitoring.watch.watcher import Watcher
from tests.monitoring.watch import runs
from tests.monitoring.watch.chromium import Browser, browser, found

pytestmark = pytest.mark.skipif(found() is None, reason="there is no Chromium on the path")
WIDTHS = (420, 1920)
DRAWN = "document.querySelectorAll('.panel:not([hidden]) .line').length"
CARD = "document.querySelector('.run').textContent"
LOG = "[...document.querySelectorAll('.panel.lines:not([hidden])')].find((p) => p.querySelector('h3').textContent === 'Loss')"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def finished(folder: Path, name: str, answer: str) -> Path:
    run = runs.begin(folder / name)
    runs.made(run, "stage1", log=runs.curves(120))
    runs.made(run, "scores-stage1", "scores", runs.scores("stage1", 0.75, answer))
    (run / "report.html").write_text("")
    return run


def test_a_run_under_way_beside_a_finished_one(chromium: Browser, tmp_path: Path) -> None:
    live, done = runs.begin(tmp_path / "live"), finished(tmp_path, runs.HOSTILE.replace("/", "|"), runs.HOSTILE)
    log = runs.work(live, "stage1", runs.curves(40))
    with runs.exporter() as (tracker, url), runs.locked(live):
        endpoint.announce(live, url)
        tracker.stage_started("stage1", total_steps=200, params={})
        watcher = Watcher([live, done])
        for step in (40, 41):
            tracker.progress("stage1", step, 200, runs.STEP)
            watcher.look()
        server, address = serve(watcher, 0)
        try:
            chromium.look(1280, dark=False)
            chromium.call("Page.navigate", url=address)
            drawn = chromium.wait(DRAWN, lambda count: count > 10)
            assert "at work" in chromium.evaluate(CARD) and "41 of 200" in chromium.evaluate(CARD)
            with log.open("a") as file:
                file.write("".join(runs.row(step) for step in range(41, 60)))
            watcher.look()
            last = (
                "Math.max(...[...page.panels.find((p) => p.about.title === 'Loss' && p.chart).lines.values()]"
                ".filter((l) => l.run === 0 && !l.name.includes('guard')).map((l) => l.points.at(-1)[1]))"
            )
            assert chromium.wait(last, lambda step: step == 59) == 59  # without a reload
            chromium.evaluate(f"{LOG}.querySelector('svg').focus()")
            for key in ("ArrowLeft", "Home", "ArrowRight"):
                chromium.press(key)
            chromium.wait(
                f"{LOG}.querySelector('output').textContent", lambda said: "live: stage1" in said and "onerror" in said
            )
            chromium.evaluate(f"{LOG}.querySelector('.log').click()")
            assert chromium.evaluate(f"{LOG}.querySelector('.log').getAttribute('aria-pressed')") == "true"
            chromium.evaluate("document.querySelector('[value=step]').click()")
            assert chromium.evaluate(f"{LOG}.querySelectorAll('.line').length") >= 2
            chromium.evaluate("document.querySelector('[value=time]').click()")
            _screenshots(chromium, tmp_path)
            assert chromium.evaluate("document.querySelectorAll('img, .answer img, script:not([src])').length") == 0
            assert "onerror" in chromium.evaluate("document.querySelector('#samples').textContent")
            assert drawn > 10 and chromium.complaints == []
            assert {request.split("/")[2] for request in chromium.requests} == {address.split("/")[2]}
        finally:
            server.shutdown()
            server.server_close()
        chromium.wait("document.querySelector('#link').textContent", lambda text: "does not answer" in text)


def _screenshots(chromium: Browser, folder: Path) -> None:
    for width in WIDTHS:
        for dark in (False, True):
            chromium.look(width, dark)
            chromium.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            assert chromium.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
            background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (background == "rgb(20, 23, 26)") == dark
            file = folder / f"watch-{width}-{'dark' if dark else 'light'}.png"
            chromium.screenshot(file)
            assert file.read_bytes()[:4] == b"\x89PNG" and file.stat().st_size > 20_000


def test_the_page_as_a_file_draws_the_same_and_asks_nobody(chromium: Browser, tmp_path: Path) -> None:
    watcher = Watcher([finished(tmp_path, "done", runs.HOSTILE)])
    watcher.look()
    file = tmp_path / "page.html"
    file.write_text(page.static(watcher.news(0)))
    chromium.call("Page.navigate", url="about:blank")
    chromium.wait("location.href", lambda address: address == "about:blank")
    chromium.requests.clear()
    chromium.complaints.clear()
    chromium.call("Page.navigate", url=file.as_uri())
    chromium.wait(DRAWN, lambda count: count > 3)
    assert "finished" in chromium.evaluate(CARD)
    assert "onerror" in chromium.evaluate("document.querySelector('#samples').textContent")
    assert chromium.evaluate("document.querySelectorAll('img').length") == 0
    assert chromium.complaints == [] and chromium.requests == [file.as_uri()]
