"""The picture of a demo in a browser: at desktop and phone width, light and dark."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.browser import EXECUTABLE, Browser, browser
from tests.tools.demo.page import WIDTHS, page
from tests.tools.demo.samples import hostile, recorded

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="Chromium is not installed")

Scheme = Literal["light", "dark"]

MEASURE = (Path(__file__).parent / "measure_page.js").read_text()
SCREENS = pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
RECORDS = pytest.mark.parametrize("name", ["recorded", "hostile"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of each record."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "recorded.html").write_text(page(recorded()), encoding="utf-8")
    (folder / "hostile.html").write_text(page(hostile()), encoding="utf-8")
    return folder


def measured(chromium: Browser, file: Path, width: int, height: int = 900, scheme: Scheme = "light") -> Any:
    """What measure_page.js finds on the page."""
    chromium.open(file, width=width, height=height, scheme=scheme)
    return chromium.evaluate(MEASURE)


@RECORDS
@SCREENS
@SCHEMES
def test_the_page_can_be_read(
    chromium: Browser, pages: Path, name: str, width: int, height: int, scheme: Scheme
) -> None:
    found = measured(chromium, pages / f"{name}.html", width, height, scheme)

    assert found["viewport"] == width
    assert found["scheme"] == scheme
    assert found["texts"] > 200
    assert found["beyond"] == []
    assert found["overlaps"] == []
    assert found["faint"] == []


@pytest.mark.parametrize("width", [320, 390, 559, 560, 700, 859, 860, 1000, 1280, 1920])
def test_at_any_width_one_timeline_is_shown_and_nothing_needs_scrolling(
    chromium: Browser, pages: Path, width: int
) -> None:
    found = measured(chromium, pages / "recorded.html", width)

    assert len(found["charts"]) == 1
    assert set(found["charts"]) <= {f"chart {size}" for size in WIDTHS}
    assert (found["beyond"], found["overlaps"], found["scrolling"]) == ([], [], [])
    assert found["smallest"] >= 9


@RECORDS
def test_nothing_is_loaded_and_nothing_is_complained_of(chromium: Browser, pages: Path, name: str) -> None:
    file = pages / f"{name}.html"
    chromium.open(file, width=1280, height=900, scheme="light")
    chromium.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))")

    asked = [
        e["params"]["request"]["url"] for e in chromium.events if e["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [file.as_uri()]
    assert complaints(chromium) == []


def complaints(chromium: Browser) -> list[str]:
    """What the console shows."""
    kinds = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
    return [event["method"] for event in chromium.events if event["method"] in kinds]


def test_the_list_of_events_opens(chromium: Browser, pages: Path) -> None:
    chromium.open(pages / "recorded.html", width=390, height=844, scheme="light")
    chromium.evaluate("document.querySelector('summary').click()")

    found = chromium.evaluate(MEASURE)
    assert (found["beyond"], found["overlaps"], found["scrolling"]) == ([], [], [])
    assert chromium.evaluate("document.querySelector('details td').getBoundingClientRect().height") > 0


# --- What measures is measured itself: each fault is planted, and found -----------------------------------


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ('<p style="width:1300px">wide</p>', "beyond"),
        ('<p style="position:absolute;top:80px;left:180px">over the title</p>', "overlaps"),
        ('<svg viewBox="0 0 90 20"><text y="9">one</text><text y="12" x="4">two</text></svg>', "overlaps"),
        ('<svg viewBox="0 0 20 20"><text y="9">cut off at the edge</text></svg>', "beyond"),
        ('<p style="color:#999;background:#fff">faint</p>', "faint"),
        ('<svg viewBox="0 0 90 20"><text y="9" style="fill:#ccc">faint</text></svg>', "faint"),
        ('<div style="width:50px;overflow-x:auto"><p style="width:90px">scroll</p></div>', "scrolling"),
    ],
)
def test_a_page_that_cannot_be_read_is_found_out(
    chromium: Browser, tmp_path: Path, fault: str, finding: str
) -> None:
    (tmp_path / "faulty.html").write_text(with_fault(fault), encoding="utf-8")

    assert measured(chromium, tmp_path / "faulty.html", 1280)[finding] != []


@pytest.mark.parametrize("fault", ['<img src="other.png">', "<script>console.log(1)</script>"])
def test_a_page_that_loads_or_complains_is_found_out(chromium: Browser, tmp_path: Path, fault: str) -> None:
    file = tmp_path / "faulty.html"
    unguarded = re.sub(r"<meta http-equiv[^>]*>", "", with_fault(fault))
    file.write_text(unguarded, encoding="utf-8")

    chromium.open(file, width=1280, height=900, scheme="light")

    asked = [e for e in chromium.events if e["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 1 or complaints(chromium) != []


def with_fault(fault: str) -> str:
    return page(recorded()).replace("</main>", f"{fault}</main>")
