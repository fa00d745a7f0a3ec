"""Chromium for the files that look at pages."""

from collections.abc import Iterator

import pytest
from chromium import CHROMIUM, DRIVER


@pytest.fixture(scope="module")
def driver() -> Iterator:
    """Chromium that asks nobody outside this machine."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync hide-scrollbars disable-dev-shm-usage"
    ).split():
        options.add_argument(f"--{flag}")
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as browser:
        browser.set_window_size(1400, 1100)
        yield browser
