"""`report.html` in Chromium: sizes, scripts, filters, print, letters of the world, and axe-core's rules."""

import base64
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import IN_CHROMIUM, shoot
from report_runs import ARABIC, JAPANESE, LONG, names_of, written_run
from selenium.webdriver.common.keys import Keys

pytestmark = IN_CHROMIUM
CLASSES = (2, 5, 25, 150)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The report of a run by its number of classes."""
    folder = tmp_path_factory.mktemp("reports")
    return {count: written_run(folder / f"c{count}/version_0", count) for count in CLASSES}


@pytest.fixture
def window(driver) -> Iterator:
    """(page, width) -> the browser with that page in a window of that width."""

    def opened(page: Path, width: int = 1280, **media: str):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        driver.get(page.as_uri())
        return driver

    yield opened
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def shown(browser, selector: str) -> int:
    """How many elements of a selector are visible."""
    script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.offsetParent !== null).length"
    return browser.execute_script(script, selector)


@pytest.mark.parametrize("width", [1280, 768, 390])
@pytest.mark.parametrize("count", CLASSES)
def test_fits_every_screen(pages, window, count, width):
    browser = window(pages[count], width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert pages[count].stat().st_size < 300_000
    assert shown(browser, ".matrix td a") > 0 if count <= 12 else shown(browser, ".matrix") == 0
    assert shown(browser, "#texts li") == 10
    height = browser.execute_script("return document.documentElement.scrollHeight")
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    shoot(browser, f"pages_{count}_{width}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("count", [5, 25])
def test_axe_finds_nothing_serious(pages, window, count, scheme):
    import axe_core_python

    browser = window(pages[count], 1280, prefers_color_scheme=scheme)
    shoot(browser, f"pages_{count}_{scheme}")
    browser.execute_script((Path(axe_core_python.__file__).parent / "axe.min.js").read_text())
    run = "const done = arguments[arguments.length - 1]; axe.run().then(found => done(found.violations))"
    serious = [
        (found["id"], found["impact"], [node["html"][:120] for node in found["nodes"][:3]])
        for found in browser.execute_async_script(run)
        if found["impact"] in ("serious", "critical")
    ]
    assert not serious, serious


def test_filters_lead_to_the_texts(pages, window):
    browser = window(pages[5])
    assert browser.find_element("id", "found").text == "10 of 60 shown"
    browser.find_element("id", "more").click()
    assert shown(browser, "#texts li") == 60
    link = browser.find_element("css selector", ".matrix td.wrong a")
    given, said = (link.get_attribute(f"data-{name}") for name in ("given", "said"))
    link.send_keys(Keys.ENTER)  # as by keyboard
    assert browser.execute_script("return location.hash") == "#mistakes"
    fits = f'#texts li[data-given="{given}"][data-said="{said}"]'
    count = shown(browser, fits)
    assert shown(browser, "#texts li") == count > 0
    told = browser.find_element("id", "found").text
    assert told.startswith(f"{count} of ") and told.endswith(f" shown, of {link.text} in all")
    browser.find_element("id", "word").send_keys("no such word")
    assert shown(browser, "#texts li") == 0 and "None of the 60" in browser.find_element("id", "none").text


def test_the_slider_says_what_is_accepted(pages, window):
    browser = window(pages[5])
    browser.execute_script(
        "const s = document.querySelector('#least'); s.value = 90; s.dispatchEvent(new Event('input'))"
    )
    told = browser.find_element("id", "outcome").text
    row = browser.find_element("xpath", "//tr[th[text()='above 0.90']]").text
    found = re.search(r"([\d.]+) % of these are right, ([\d,]+) wrong; ([\d,]+) are left", told)
    assert found and all(part in row for part in found.groups()), (told, row)


def test_no_other_script_runs(pages, window, tmp_path):
    """Neither one in a text nor one that somebody put into the file."""
    browser = window(pages[5])
    assert "hacked" not in browser.title
    assert "<script>document.title" in browser.find_element("id", "texts").text  # as typed
    page = tmp_path / "page.html"
    forged = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
    page.write_text(pages[5].read_text().replace("</main>", f"{forged}</main>"))
    browser = window(page)
    assert "hacked" not in browser.title and shown(browser, "#texts li") == 10, "ours still runs"


def test_everything_is_readable_without_scripts(pages, window):
    browser = window(pages[5])
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.refresh()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown(browser, "#texts li") == 60 and shown(browser, "#filters, #more, #least") == 0
    assert "above 0.90" in browser.find_element("tag name", "main").text


def test_letters_of_the_world(pages, window):
    fonts = subprocess.run(["fc-list", ":lang=ja"], capture_output=True, text=True).stdout
    browser = window(pages[5])
    text = browser.find_element("id", "classes").find_element("xpath", "following-sibling::div").text
    assert all(name in text for name in (LONG, ARABIC, JAPANESE))
    arabic = browser.execute_script(
        "return [...document.querySelectorAll('.text')].find(e => /[\\u0600-\\u06ff]/.test(e.textContent))"
        ".matches(':dir(rtl)')"
    )
    assert arabic is True
    if not fonts:
        pytest.skip("no font with Japanese letters is installed: their shapes were not looked at")
    shoot(browser, "pages_letters")


def test_prints_on_six_pages(pages, window):
    browser = window(pages[25])
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert len(re.findall(rb"/Type\s*/Page[^s]", pdf)) <= 6
    assert names_of(25)[0] == LONG
