"""A headless Chromium for tests, where it is installed, and its pictures."""

import os
import shutil
import time
from pathlib import Path

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
IN_CHROMIUM = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)",
    ),
]


def shoot(browser, name: str) -> None:
    """Keep a picture in the folder that LIT_FT_SCREENSHOTS names."""
    if folder := os.environ.get("LIT_FT_SCREENSHOTS"):
        time.sleep(2)  # animations
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(f"{folder}/{name}.png")
