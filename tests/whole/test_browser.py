"""TensorBoard and the report in a real browser: headless Chromium, where it is installed.

LIT_FT_SCREENSHOTS=FOLDER python -m pytest tests/whole/test_browser.py  # keeps the pictures, to be looked at
"""

import contextlib
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import IN_CHROMIUM, shoot
from conftest import REPOSITORY, WORDS_OF_STARS, free_port, review, write_csv
from fresh import run_fresh

pytestmark = IN_CHROMIUM
ADDRESS = "?smoothing=0#custom_scalars&_smoothingWeight=0"  # of the page that is opened first
NASTY = "<script>alert(1)</script>"
# TensorBoard builds its pages of shadow roots, which neither page_source nor XPath look into.
SEEN = """
function walk(node, out) {
  if (node.shadowRoot) walk(node.shadowRoot, out);
  for (const child of node.childNodes) {
    if (child.nodeType === 3) out.push(child.textContent);
    else if (child.nodeType === 1 && !['SCRIPT', 'STYLE'].includes(child.tagName)) {
      if (child.tagName === 'IMG' && child.naturalWidth) out.push(`[image ${child.naturalWidth}]`);
      walk(child, out);
    }
  }
  return out;
}
return walk(document.body, []).join(' ').replace(/\\s+/g, ' ');
"""
SMOOTHING = """
function find(node) {
  if (node.localName === 'tf-smoothing-input') return node.weight;
  for (const child of [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes]) {
    const found = find(child);
    if (found !== undefined) return found;
  }
}
return find(document.body);
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A folder with one run of `fit`, with its test, and one of `sft`."""
    folder = tmp_path_factory.mktemp("seen")
    rows = [(i % 5 + 1, f"{NASTY} {review(i % 5 + 1, i)}") for i in range(120)]
    write_csv(folder / "train.csv", rows)
    write_csv(folder / "test.csv", rows[:40])
    shared = ["--model.pretrained", str(encoder), "--data.max_tokens", "32", "--data.batch_size", "8"]
    shared += ["--data.train_path", "train.csv"]
    names = [f"{word} ({stars})" for stars, word in WORDS_OF_STARS.items()]
    fit = ["--config", "yelp_local.yaml", "--name", "reviews", *shared, "--data.test_path", "test.csv"]
    fit += [f"--data.label_names={names}", "--model.learning_rate", "1e-2", "--data.validation_share", "0.3"]
    fit += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    fit += ["--trainer.precision", "32-true", "--trainer.log_every_n_steps", "1"]
    sft = ["--config", "sample_sft.yaml", "--name", "words", *shared]
    sft += ['--probes=["the plot was [MASK]!"]', "--max_steps", "12", "--logging_steps", "4"]
    for command in (["fit", *fit], ["test", *fit], ["sft", *sft]):
        with contextlib.chdir(folder):
            done = run_fresh(*command)
        assert done.code == 0, done.err
    return folder / "runs"


@pytest.fixture(scope="module")
def board(runs: Path) -> Iterator[str]:
    """The address that scripts/dashboard.sh prints."""
    port = free_port()
    script = [str(REPOSITORY / "scripts/dashboard.sh"), str(runs), str(port)]
    server = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert f"http://localhost:{port}/{ADDRESS} (Ctrl-C" in line
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://localhost:{port}/data/runs", timeout=1).read()
                break
            except OSError:
                time.sleep(0.25)
        yield f"http://localhost:{port}/"
    finally:
        server.kill()
        server.wait()


def visit(browser, address: str, *wanted: str, name: str, seconds: float = 90) -> str:
    """Open a page, wait until it shows everything wanted, keep a picture, return what is seen."""
    browser.get("about:blank")
    browser.get(address)
    end, seen = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        seen = browser.execute_script(SEEN)
        if all(text in seen for text in wanted):
            break
        time.sleep(0.5)
    shoot(browser, name)
    missing = [text for text in wanted if text not in seen]
    assert not missing, f"{name} lacks {missing}; it shows: {seen[:3000]}"
    return seen


def test_scalars(driver, board):
    visit(driver, f"{board}#timeseries", "/accuracy", "words/version_0", name="tb_timeseries")
    visit(driver, f"{board}#scalars", "reviews/version_0", "words/version_0", "train", name="tb_scalars")


def test_custom_layout(driver, board):
    wanted = ("training loss", "validation loss", "macro F1", "Masked tokens", "Throughput", "Memory")
    visit(driver, board + ADDRESS, *wanted, name="tb_custom_scalars")
    assert driver.execute_script(SMOOTHING) == 0


def test_images(driver, board):
    wanted = ("val/confusion_matrix", "val/reliability", "val/classes", "[image 6")
    visit(driver, f"{board}#images&tagFilter=val", *wanted, name="tb_images")


def test_texts_show_as_typed(driver, board):
    mistakes = f"{board}#text&tagFilter=worst"
    visit(driver, mistakes, "val/worst_mistakes", "predicted", NASTY, name="tb_text")
    probes = f"{board}#text&tagFilter=probes"
    visit(driver, probes, "probes/1_the_plot_was_MASK", "the plot was [MASK]!", name="tb_probes")


def test_pr_curves(driver, board):
    visit(driver, f"{board}#pr_curves", "val/pr/terrible (1)", name="tb_pr_curves")


def test_hparams(driver, board):
    wanted = ("model.learning_rate", "best/accuracy", "words/version_0", "0.010000")
    seen = visit(driver, f"{board}#hparams", *wanted, name="tb_hparams")
    assert "trainer.max_epochs" in seen and "model.weight_decay" not in seen  # a default


@pytest.mark.parametrize(("device", "width"), [("desktop", 1280), ("phone", 390)])
@pytest.mark.parametrize("run", ["reviews", "words"])
def test_report(driver, runs, device, width, run):
    # A headless window has a least width; the device's own is emulated.
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wanted = ["How to reproduce it", "epoch" if run == "reviews" else "step"]
    wanted += [NASTY, "What to know before you use it"] if run == "reviews" else ["masked perplexity"]
    visit(driver, (runs / run / "version_0/report.html").as_uri(), *wanted, name=f"report_{run}_{device}")
    assert driver.execute_script("return document.scripts.length") == (2 if run == "reviews" else 0)
    wide = driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width, f"the page is {wide} pixels wide on {width}"
    if folder := os.environ.get("LIT_FT_SCREENSHOTS"):
        height = driver.execute_script("return document.documentElement.scrollHeight")
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": height})
        driver.save_screenshot(f"{folder}/report_{run}_{device}_whole.png")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
