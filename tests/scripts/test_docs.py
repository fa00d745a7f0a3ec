"""Links of README, CONTRIBUTING, docs/ and bench/ lead somewhere; commands name settings that exist."""

import ast
import inspect
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    path
    for pattern in ("*.md", "docs/*.md", "bench/*.md")
    for path in sorted(REPOSITORY.glob(pattern))
    if path.name != "CHANGELOG.md"
]
SOURCES = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "lit_ft").rglob("*.py")]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes links of them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_file_and_a_heading(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), f"{page.name}: no file {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: no heading {link}"


def commands(page: Path) -> list[list[str]]:
    """The words of each command of ours in the code blocks of a page, with continued lines joined."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line.partition("#")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line.partition("-m lit_ft ")[2].split() for line in lines if "-m lit_ft " in line]


def test_commands_name_settings_and_configs_that_exist():
    from lightning import Trainer

    from lit_ft.__main__ import COMMANDS

    arguments = {
        argument.arg
        for source in SOURCES
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.arguments)
        for argument in node.args + node.kwonlyargs
    }
    trainer = set(inspect.signature(Trainer.__init__).parameters)
    found = [words for page in PAGES for words in commands(page)]
    assert len(found) > 20
    for words in found:
        assert words[0] in COMMANDS, words
        for flag, value in zip(words, [*words[1:], ""], strict=True):
            group, _, name = flag.removeprefix("--").rpartition(".")
            if flag == "--config":
                assert (REPOSITORY / "configs" / value).is_file(), words
            elif group == "trainer":
                assert name in trainer, flag
            elif group in ("data", "model") and flag.startswith("--"):
                assert name in arguments, flag
            elif flag.startswith("--") and group != "trainer_args":
                assert any(re.search(rf"\b{name}\b", source) for source in SOURCES), flag


def test_scripts_that_are_named_exist():
    for page in PAGES:
        for name in re.findall(r"\bscripts/[\w/]+\.(?:py|sh)\b", page.read_text(encoding="utf-8")):
            assert (REPOSITORY / name).is_file(), f"{page.name}: no {name}"
