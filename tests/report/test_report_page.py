"""The report in a real browser without a network."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.tools import browser, small_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    if browser.programs() is None:
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "chromium", "chromium-driver"], capture_output=True, check=False
        )
    if browser.programs() is None:
        pytest.skip("no chromium and chromedriver, and apt-get could not install them")
    with browser.headless() as started:
        yield started


def choose(chrome: Chrome, name: str, words: str) -> None:
    Select(chrome.find_element(By.NAME, name)).select_by_visible_text(words)
    time.sleep(0.5)


def column(chrome: Chrome, number: int, table: str = "main") -> list[str]:
    script = """return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].filter(row => !row.hidden)
      .map(row => row.cells[arguments[1]].dataset.value ?? row.cells[arguments[1]].textContent)"""
    return chrome.execute_script(script, table, number)


def test_opens_offline_without_errors(chrome: Chrome, small_report: Path) -> None:
    browser.open_page(chrome, small_report)
    assert [entry for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    messages = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert asked and all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked
    shown = chrome.execute_script(
        "return [...document.querySelectorAll('.plot')].map(p => [p.hidden, !!p.querySelector('svg')])"
    )
    assert len(shown) == 8 and all(drawn for hidden, drawn in shown if not hidden)
    assert chrome.execute_script("return [...document.querySelectorAll('.plot')].every(p => p.hidden || p.ariaLabel)")
    assert chrome.execute_script("return [...document.querySelectorAll('th')].every(th => th.scope)")


def test_sorts_and_filters(chrome: Chrome, small_report: Path) -> None:
    browser.open_page(chrome, small_report)
    first = column(chrome, 1)
    header = chrome.find_elements(By.CSS_SELECTOR, "#main thead button")[1]
    header.click()
    values = [float(value) for value in column(chrome, 1)]
    assert values == sorted(values, reverse=True) and len(values) == 7 + 3 + 3
    header.click()
    assert [float(value) for value in column(chrome, 1)] == sorted(values)
    assert chrome.execute_script("return document.querySelectorAll('#main th')[1].ariaSort") == "ascending"
    header.click()
    assert column(chrome, 1) == first, "as it was"
    names = column(chrome, 0)
    chrome.find_elements(By.CSS_SELECTOR, "#main thead button")[0].click()
    assert column(chrome, 0) == sorted(names), "names from A"
    chrome.find_element(By.CSS_SELECTOR, "input[data-filters=main]").send_keys("several kl+sim")
    (left,) = chrome.execute_script("return [...document.querySelectorAll('#main tbody tr:not([hidden])')]")
    assert "several, demo-tiny" in left.text


def test_hovering_names_the_clip_and_markup_stays_text(chrome: Chrome, small_report: Path) -> None:
    browser.open_page(chrome, small_report)
    choose(chrome, "method", "PCA")
    point = chrome.execute_script("""
      const plot = document.getElementById("map"), layout = plot._fullLayout;
      const trace = plot.data.findIndex(t => t.text[0].includes("alert"));
      plot.scrollIntoView({ block: "center" });
      const box = plot.getBoundingClientRect(), [x, y] = [plot.data[trace].x[0], plot.data[trace].y[0]];
      return [box.x + layout.xaxis._offset + layout.xaxis.d2p(x), box.y + layout.yaxis._offset + layout.yaxis.d2p(y)];
    """)
    actions = ActionChains(chrome)
    actions.w3c_actions.pointer_action.move_to_location(*map(round, point))
    actions.perform()
    hover = WebDriverWait(chrome, 5).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#map .hovertext"))
    assert small_run.NASTY in hover[0].text
    assert chrome.execute_script("return document.querySelectorAll('b, .plot script').length") == 0
    assert "<b>dog & cat</b>" in chrome.execute_script(
        "return document.querySelector('select[name=label]').textContent"
    )
    assert not [e for e in chrome.get_log("browser") if e["level"] == "SEVERE"]


def test_choices_change_the_figures(chrome: Chrome, small_report: Path) -> None:
    browser.open_page(chrome, small_report)
    confusion = "return document.querySelector('[data-path^=confusion]')"
    before = chrome.execute_script(f"{confusion}.ariaLabel")
    choose(chrome, "combination", "kl")
    assert chrome.execute_script(f"{confusion}.ariaLabel") != before
    choose(chrome, "pair", "several, demo-tiny")
    assert chrome.execute_script(f"{confusion}.hidden")
    choose(chrome, "pair", "many, demo-tiny")
    assert not chrome.execute_script(f"{confusion}.hidden")
    choose(chrome, "combination", "embedding+kl+simclr")
    assert chrome.execute_script("return document.getElementById('map').data.length") == 50
    choose(chrome, "label", "class 07")
    opacity = chrome.execute_script("return document.getElementById('map').data.map(t => t.marker.opacity)")
    assert sorted(opacity)[-2:] == [0.08, 1]


def test_dark_phone_and_print(chrome: Chrome, small_report: Path) -> None:
    browser.open_page(chrome, small_report, width=360, scheme="dark")
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= 360
    ink = "return getComputedStyle(document.querySelector('.plot text.xtitle')).fill"
    assert chrome.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    assert chrome.execute_script(ink) == "rgb(227, 231, 236)"
    outside = """return [...document.querySelectorAll('.plot:not([hidden])')].flatMap(plot => {
      const { left, right } = plot.getBoundingClientRect();
      return [...plot.querySelectorAll('text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.width && (box.left < left - 1 || box.right > right + 1);
      }).map(text => text.textContent) })"""
    assert chrome.execute_script(outside) == []
    assert chrome.execute_script("return document.querySelector('.controls').offsetHeight") < 60
    first = "return document.querySelector('#main tbody td').getBoundingClientRect().right"
    assert chrome.execute_script(first) < 360, "the first number is in sight"
    browser.open_page(chrome, small_report)
    chrome.execute_script("""addEventListener('beforeprint', () => {
      const closed = document.querySelectorAll('details:not([open])').length;
      document.title = `${document.querySelector('.plot').layout.width} ${closed}`; })""")
    printed = base64.b64decode(chrome.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert printed.startswith(b"%PDF") and chrome.title == "700 0"


def test_picture_of_the_report(chrome: Chrome, small_report: Path, tmp_path: Path) -> None:
    """The top of the page, as the README shows it: ``python -m tests.tools.browser results/report.html report.png``."""
    browser.screenshot(chrome, small_report, tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as image:
        assert image.width == 1280 and len(image.getcolors(256) or []) > 20
    assert (tmp_path / "report.png").stat().st_size < 200_000
