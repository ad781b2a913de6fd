"""`make picture`: draws .github/report.png for the README, with sample data."""

import base64
import sys
import tempfile
from pathlib import Path

from arcanna_metrics_cli.report import build
from tests.support.browser import EXECUTABLE, browser
from tests.support.fleet import NOW, fleet

PICTURE = Path(".github/report.png")
WIDTH, HEIGHT = 1280, 800
LARGEST = 150_000
"""The largest size in bytes, because every reader of the README loads it."""

PREPARED = f"""
Date.now = () => {NOW} * 1000;
document.querySelector("[data-age]").textContent = "";
"""
"""Sets the page's clock to the time of the sample."""


def main() -> None:
    """Exits with a message if there is no Chromium, or if the picture is too large."""
    if EXECUTABLE is None:
        sys.exit("The picture is drawn by Chromium, which is not installed.")
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        page = Path(folder) / "report.html"
        page.write_text(build(fleet(12)), encoding="utf-8")
        chromium.open(page, width=WIDTH, height=HEIGHT, scheme="light")
        chromium.evaluate(PREPARED)
        shot = base64.b64decode(chromium.call("Page.captureScreenshot", format="png")["data"])
    if len(shot) > LARGEST:
        sys.exit(f"The picture has {len(shot)} bytes, more than {LARGEST}.")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(shot)
    print(f"{PICTURE}: {len(shot)} bytes")


if __name__ == "__main__":
    main()
