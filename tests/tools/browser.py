"""A real browser without a window and without a network; writes the README's picture of a report."""

import base64
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait


def programs() -> tuple[str, str] | None:
    """Paths of chromium and chromedriver, if both are installed."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@contextmanager
def headless() -> Iterator[webdriver.Chrome]:
    found = programs()
    assert found
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(found[1]))
    try:
        yield started
    finally:
        started.quit()


def open_page(chrome: webdriver.Chrome, path: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open a report and wait until its figures are drawn."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chrome.get(path.absolute().as_uri())
    WebDriverWait(chrome, 30).until(lambda b: b.execute_script("return document.documentElement.dataset.ready"))


def screenshot(chrome: webdriver.Chrome, report: Path, png: Path) -> None:
    """Write the top of a report, down to its first figure, in 128 colours."""
    open_page(chrome, report, width=1280)
    height = chrome.execute_script("return document.querySelector('figure').getBoundingClientRect().bottom")
    clip = {"x": 0, "y": 0, "width": 1280, "height": height + 20, "scale": 1}
    shot = chrome.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    png.write_bytes(base64.b64decode(shot["data"]))
    with Image.open(png) as image:
        image.convert("RGB").quantize(128).save(png, optimize=True)


if __name__ == "__main__":
    with headless() as browser:
        screenshot(browser, Path(sys.argv[1]), Path(sys.argv[2]))
