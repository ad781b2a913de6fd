"""The report in a browser: desktop and phone width, light and dark, on paper, and while it is watched."""

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.report import build
from arcanna_metrics_cli.report.facts import Facts
from arcanna_metrics_cli.report.watch import Watch
from tests.support.browser import EXECUTABLE, Browser, browser
from tests.support.fleet import EVIL, fleet
from tests.support.fleet import hostile as hostile_facts
from tests.support.waiting import eventually
from tests.tools.demo.page import WIDTHS
from tests.tools.demo.page import page as demo_page
from tests.tools.demo.samples import hostile, recorded

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="Chromium is not installed")

Scheme = Literal["light", "dark"]

MEASURE = (Path(__file__).parent / "measure_page.js").read_text()
SCREENS = pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
NAMES = ("fleet", "hostile", "demo", "hostile demo")
PAGES = pytest.mark.parametrize("name", NAMES)
OPEN_ALL = "document.querySelector('#unfold[aria-expanded=false]')?.click()"
SHOWN = "[...document.querySelectorAll('.list > tbody')].filter(m => !m.hidden)"
NAMES_SHOWN = f"{SHOWN}.map(m => m.querySelector('.fold bdi').textContent)"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pages."""
    folder = tmp_path_factory.mktemp("pages")
    texts = (build(fleet(12)), build(hostile_facts()), demo_page(recorded()), demo_page(hostile()))
    for name, text in zip(NAMES, texts, strict=True):
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    (folder / "many.html").write_text(build(fleet(200, 10)), encoding="utf-8")
    return folder


def measured(
    chromium: Browser, file: Path, width: int, height: int = 900, scheme: Scheme = "light", first: str = ""
) -> Any:
    """The result of measure_page.js on the page, after the script `first`."""
    chromium.open(file, width=width, height=height, scheme=scheme)
    chromium.evaluate(first)
    return chromium.evaluate(MEASURE)


# --- It can be read -------------------------------------------------------------------------------------


@PAGES
@SCREENS
@SCHEMES
def test_page_is_readable_with_all_details_open(
    chromium: Browser, pages: Path, name: str, width: int, height: int, scheme: Scheme
) -> None:
    found = measured(chromium, pages / f"{name}.html", width, height, scheme, OPEN_ALL)

    assert found["viewport"] == width
    assert found["scheme"] == scheme
    assert found["texts"] > 200
    assert found["beyond"] == []
    assert found["overlaps"] == []
    assert found["faint"] == []


@pytest.mark.parametrize("width", [320, 390, 559, 560, 700, 859, 860, 1000, 1100, 1280, 1920])
def test_one_timeline_fits_at_any_width(chromium: Browser, pages: Path, width: int) -> None:
    found = measured(chromium, pages / "demo.html", width)

    assert len(found["charts"]) == 1
    assert set(found["charts"]) <= {f"chart {size}" for size in WIDTHS}
    assert (found["beyond"], found["overlaps"], found["scrolling"]) == ([], [], [])
    assert found["smallest"] >= 9


def test_two_hundred_models_of_ten_runs_can_be_read_on_a_phone(chromium: Browser, pages: Path) -> None:
    found = measured(chromium, pages / "many.html", 390, 844)

    assert (found["beyond"], found["overlaps"], found["faint"]) == ([], [], [])
    assert chromium.evaluate(f"{SHOWN}.length") == 200


@PAGES
def test_page_loads_nothing_and_logs_no_error(chromium: Browser, pages: Path, name: str) -> None:
    file = pages / f"{name}.html"
    chromium.open(file, width=1280, height=900, scheme="light")
    chromium.evaluate(OPEN_ALL)
    chromium.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))")

    assert asked_for(chromium) == [file.as_uri()]
    assert complaints(chromium) == []


def asked_for(chromium: Browser) -> list[str]:
    return [
        event["params"]["request"]["url"]
        for event in chromium.events
        if event["method"] == "Network.requestWillBeSent"
    ]


def complaints(chromium: Browser) -> list[str]:
    """The messages of the console."""
    kinds = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
    return [event["method"] for event in chromium.events if event["method"] in kinds]


def test_injected_script_is_not_run(chromium: Browser, tmp_path: Path) -> None:
    injected = "<script>document.title = 'run'</script><b style='color: red' onclick='x()'>b</b></main>"
    file = tmp_path / "injected.html"
    file.write_text(build(fleet(2)).replace("</main>", injected), encoding="utf-8")

    chromium.open(file, width=1280, height=900, scheme="light")

    assert chromium.evaluate("document.title") == "Model metrics: arcanna-metrics"
    assert complaints(chromium) != []


def test_demos_list_of_events_opens(chromium: Browser, pages: Path) -> None:
    found = measured(
        chromium, pages / "demo.html", 390, 844, first="document.querySelector('summary').click()"
    )

    assert (found["beyond"], found["overlaps"], found["scrolling"]) == ([], [], [])
    assert chromium.evaluate("document.querySelector('.events td').getBoundingClientRect().height") > 0


# --- Sorting, finding, folding --------------------------------------------------------------------------


def press(chromium: Browser, selector: str) -> None:
    """Focuses a button and presses Enter, as people without a mouse do."""
    chromium.evaluate(f"document.querySelector({selector!r}).focus()")
    for kind in ("keyDown", "keyUp"):
        chromium.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            windowsVirtualKeyCode=13,
            text="\r",
        )


def sorted_by(chromium: Browser) -> dict[str, str]:
    """The aria-sort of the headings that have one."""
    found: dict[str, str] = chromium.evaluate(
        "Object.fromEntries([...document.querySelectorAll('[aria-sort]')]"
        ".map(th => [th.querySelector('[data-sort]').dataset.sort, th.ariaSort]))"
    )
    return found


def test_heading_sorts_and_reverses_when_pressed_again(chromium: Browser, pages: Path) -> None:
    chromium.open(pages / "many.html", width=1280, height=900, scheme="light")
    accuracy = f"{SHOWN}.map(m => Number(m.querySelector('.overall-accuracy').dataset.v))"

    assert sorted_by(chromium) == {"metrics": "ascending"}
    press(chromium, "[data-sort=overall_accuracy]")
    up, up_by = chromium.evaluate(accuracy), sorted_by(chromium)
    press(chromium, "[data-sort=overall_accuracy]")
    down, down_by = chromium.evaluate(accuracy), sorted_by(chromium)
    press(chromium, "[data-sort=model]")

    assert (up, up_by) == (sorted(up), {"overall_accuracy": "ascending"})
    assert (down, down_by) == (sorted(up, reverse=True), {"overall_accuracy": "descending"})
    assert chromium.evaluate(NAMES_SHOWN)[:3] == ["cloud-audit", "cloud-audit-2", "cloud-audit-3"]


def test_models_are_found_by_any_word_and_filtered_by_problem(chromium: Browser, pages: Path) -> None:
    chromium.open(pages / "many.html", width=1280, height=900, scheme="light")

    def find(text: str) -> list[str]:
        box = "document.querySelector('#find')"
        chromium.evaluate(f"{box}.value = {text!r}; {box}.dispatchEvent(new Event('input'))")
        names: list[str] = chromium.evaluate(NAMES_SHOWN)
        return names

    assert find("web-fire 1221") == ["web-firewall-2"]
    assert find("alerts-021.csv") == ["web-firewall-2"]
    assert find("<script>") == []
    assert chromium.evaluate("document.querySelector('#nothing').checkVisibility()")
    assert len(find("")) == 200
    press(chromium, "[data-only=worse]")
    worse = chromium.evaluate(NAMES_SHOWN)
    assert len(worse) == int(chromium.evaluate("document.querySelector('.tile.worse b').textContent"))
    assert chromium.evaluate("document.querySelector('#count').textContent") == f"{len(worse)} of 200 shown"
    press(chromium, "[data-only=worse]")
    assert chromium.evaluate(f"{SHOWN}.length") == 200


def test_slash_key_focuses_the_search_box(chromium: Browser, pages: Path) -> None:
    chromium.open(pages / "fleet.html", width=1280, height=900, scheme="light")
    chromium.call("Input.dispatchKeyEvent", type="keyDown", key="/", code="Slash", text="/")

    assert chromium.evaluate("[document.activeElement.id, document.activeElement.value]") == ["find", ""]


@SCREENS
def test_model_opens_and_closes_by_its_name_and_by_links(
    chromium: Browser, pages: Path, width: int, height: int
) -> None:
    chromium.open(pages / "fleet.html", width=width, height=height, scheme="light")
    state = (
        "(m => [m.querySelector('.more').checkVisibility(), m.querySelector('.fold').ariaExpanded])"
        "(document.querySelector('.list > tbody'))"
    )

    assert chromium.evaluate(state) == [False, "false"]
    press(chromium, ".fold")
    assert chromium.evaluate(state) == [True, "true"]
    press(chromium, ".fold")
    assert chromium.evaluate(state) == [False, "false"]
    press(chromium, ".items a")
    eventually("the model to open", lambda: chromium.evaluate(state) == [True, "true"])


# --- On paper -------------------------------------------------------------------------------------------


def test_print_shows_open_details_and_no_controls(chromium: Browser, pages: Path) -> None:
    chromium.open(pages / "fleet.html", width=720, height=1000, scheme="dark", media="print")
    chromium.evaluate("document.querySelector('.fold').click()")

    found = chromium.evaluate(MEASURE)
    assert (found["scheme"], found["beyond"], found["overlaps"], found["faint"]) == ("light", [], [], [])
    assert not chromium.evaluate("document.querySelector('#find').checkVisibility()")
    assert chromium.evaluate("document.querySelector('.more').checkVisibility()")
    assert len(chromium.call("Page.printToPDF", printBackground=True)["data"]) > 10_000


# --- Kept up to date ------------------------------------------------------------------------------------


class Live:
    """A watched stack. A test sets its facts."""

    def __init__(self) -> None:
        self.facts: Facts = fleet(30)
        self.error: Exception | None = None
        self.made = 0
        self.watch = Watch(self._make, refresh=0.2)

    def _make(self) -> str:
        self.made += 1
        if self.error:
            raise self.error
        return build(self.facts, refresh=0.2)


@pytest.fixture
def live() -> Iterator[Live]:
    live = Live()
    live.watch.start()
    yield live
    live.watch.stop()


def test_watched_page_updates_and_keeps_the_users_choices(chromium: Browser, live: Live) -> None:
    chromium.open(live.watch.url, width=1280, height=600, scheme="light")
    press(chromium, "[data-sort=model]")
    chromium.evaluate(
        "(box => { box.value = 'a'; box.dispatchEvent(new Event('input')) })(document.querySelector('#find'))"
    )
    chromium.evaluate(f"{SHOWN}[3].querySelector('.fold').click(); scrollTo(0, 400)")
    before = chromium.evaluate(f"[{NAMES_SHOWN}, scrollY]")
    opened = chromium.evaluate("document.querySelector('tbody.open .fold bdi').textContent")

    live.facts = replace(live.facts, dead=4711)
    eventually(
        "what is new",
        lambda: chromium.evaluate("document.querySelector('.tile.letters b').textContent") == "4,711",
    )

    assert chromium.evaluate(f"[{NAMES_SHOWN}, scrollY]") == before
    assert chromium.evaluate("document.querySelector('#find').value") == "a"
    assert sorted_by(chromium) == {"model": "ascending"}
    assert chromium.evaluate("document.querySelectorAll('tbody.open').length") == 1
    assert chromium.evaluate("document.querySelector('tbody.open .fold bdi').textContent") == opened
    assert complaints(chromium) == []
    assert set(asked_for(chromium)) == {live.watch.url}


def test_models_appear_and_disappear_on_the_watched_page(chromium: Browser, live: Live) -> None:
    chromium.open(live.watch.url, width=1280, height=600, scheme="light")

    live.facts = fleet(34)
    eventually("new models", lambda: chromium.evaluate(f"{SHOWN}.length") == 34)
    live.facts = fleet(5)
    eventually("fewer models", lambda: chromium.evaluate(f"{SHOWN}.length") == 5)


def test_watched_page_says_when_stack_or_command_does_not_answer(chromium: Browser, live: Live) -> None:
    chromium.open(live.watch.url, width=1280, height=600, scheme="light")
    said = "(p => p.hidden ? '' : p.textContent)(document.querySelector('.lost'))"

    live.error = NoCredentialsError()
    eventually("the trouble", lambda: "Unable to locate credentials" in chromium.evaluate(said))
    live.error = None
    eventually("the end of the trouble", lambda: chromium.evaluate(said) == "")
    live.watch.stop()
    eventually("the silence", lambda: "does not answer" in chromium.evaluate(said))
    live.watch = Watch(live._make, refresh=0.2)
    live.watch.start()


# --- Who may look ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""],
)
def test_host_name_other_than_loopback_is_refused(live: Live, host: str) -> None:
    port = live.watch.url.rpartition(":")[2].strip("/")

    answer = httpx.get(live.watch.url, headers={"Host": host.format(port=port)})

    assert answer.status_code == 421
    assert live.made == 0


def test_loopback_may_read_and_no_other_page_may_frame_or_read_it(live: Live) -> None:
    port = live.watch.url.rpartition(":")[2].strip("/")

    answer = httpx.get(live.watch.url, headers={"Host": f"localhost:{port}"})

    assert live.watch.url.startswith("http://127.0.0.1:")
    assert answer.status_code == 200
    assert "arcanna-metrics" in answer.text
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_server_accepts_only_reads(live: Live, method: str) -> None:
    assert httpx.request(method, live.watch.url).status_code == 501


def test_other_paths_are_not_found(live: Live) -> None:
    answer = httpx.get(f"{live.watch.url}..%2fetc%2fpasswd")

    assert (answer.status_code, live.made) == (404, 0)


def test_many_viewers_cause_one_look_at_the_stack_per_interval(live: Live) -> None:
    live.watch.stop()
    live.watch = Watch(live._make, refresh=3600)
    live.watch.start()

    looks = [threading.Thread(target=httpx.get, args=(live.watch.url,)) for _ in range(8)]
    for look in looks:
        look.start()
    for look in looks:
        look.join()

    assert live.made == 1


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "AccessDenied", "Message": EVIL}}, "Scan"),
        Trouble(Exit.WRONG, f"AccessDenied {EVIL}"),
    ],
)
def test_error_of_the_stack_is_shown_as_text(live: Live, error: Exception) -> None:
    live.error = error

    answer = httpx.get(live.watch.url)

    assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/plain; charset=utf-8")
    assert "AccessDenied" in answer.text
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'; default-src 'none'"


# --- The measurements themselves find planted faults ------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ('<p class="planted wide">wide</p>', "beyond"),
        ('<p class="planted over">over the title</p>', "overlaps"),
        ('<svg viewBox="0 0 90 20"><text y="9">one</text><text y="12" x="4">two</text></svg>', "overlaps"),
        ('<svg viewBox="0 0 20 20"><text y="9">cut off at the edge</text></svg>', "beyond"),
        ('<p class="planted faint">faint</p>', "faint"),
        ('<svg viewBox="0 0 90 20"><text y="9" class="faint">faint</text></svg>', "faint"),
        ('<div class="planted narrow"><p class="planted">scroll</p></div>', "scrolling"),
    ],
)
def test_unreadable_page_is_detected(chromium: Browser, tmp_path: Path, fault: str, finding: str) -> None:
    (tmp_path / "faulty.html").write_text(with_fault(fault), encoding="utf-8")

    assert measured(chromium, tmp_path / "faulty.html", 1280)[finding] != []


@pytest.mark.parametrize("fault", ['<img src="other.png">', "<script>console.log(1)</script>"])
def test_page_that_loads_or_logs_errors_is_detected(chromium: Browser, tmp_path: Path, fault: str) -> None:
    file = tmp_path / "faulty.html"
    file.write_text(with_fault(fault), encoding="utf-8")

    chromium.open(file, width=1280, height=900, scheme="light")

    assert len(asked_for(chromium)) > 1 or complaints(chromium) != []


FAULTS = """<style>
.planted.wide { width: 1300px; } .planted.over { position: absolute; top: 40px; left: 30px; }
.planted.faint { color: #999; background: #fff; } text.faint { fill: #ccc; }
.planted.narrow { width: 50px; overflow-x: auto; } .planted .planted { width: 90px; }
</style>"""


def with_fault(fault: str) -> str:
    """A page with a fault, without the security policy that would block it."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', FAULTS, demo_page(recorded()))
    return page.replace("</main>", f"{fault}</main>")
