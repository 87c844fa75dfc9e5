"""Links lead somewhere, and what a reader would copy is understood by the program."""

import ast
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from holdfast.cli.program import ENTRIES, program
from holdfast.stack import parse_stack
from tests.docs.pages import PAGES, ROOT, Block, blocks, without_blocks
from tests.docs.reference import RECORDS

_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<to>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_ENDS_A_COMMAND = {"|", ";", "&&", "||", "&"}
_ENVIRONMENT = {
    *(setting.name for record in RECORDS for setting in record.declared()),
    "OPENFAAS_URL",
    "OPENFAAS_USER",
    "OPENFAAS_PASSWORD",
}


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings can be reached by, made as GitHub makes them."""
    headings = _HEADING.findall(without_blocks(page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for match in _LINK.finditer(without_blocks(page.read_text("utf-8"))):
        target, _, fragment = match["to"].partition("#")
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), match["to"]
        assert not fragment or fragment in anchors(path), match["to"]


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for match in _LINK.finditer(page.read_text("utf-8")):
            path = (page.parent / match["to"].partition("#")[0]).resolve()
            waiting += sorted(path.glob("*.md")) if path.is_dir() else [path] if path.suffix == ".md" else []
    assert set(PAGES) <= seen


def commands(block: Block) -> Iterator[list[str]]:
    """The simple commands of a shell block, each as its words, redirections taken out."""
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
        lexer.whitespace_split = True
        words: list[str] = []
        redirected = False
        for word in lexer:
            if word in _ENDS_A_COMMAND:
                yield words
                words = []
            elif set(word) <= set("<>"):
                redirected = True
            elif redirected:
                redirected = False
            else:
                words.append(word)
        if words:
            yield words


@pytest.mark.parametrize("block", [*blocks("sh")], ids=lambda block: block.place)
def test_every_command_in_a_page_is_understood(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stack.yml").touch()  # named by examples, and checked for existence
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for command in commands(block):
        words = list(command)
        while words and re.match(r"\w+=", words[0]):
            name = words.pop(0).partition("=")[0]
            assert name in _ENVIRONMENT, name
        if words[:1] == ["make"]:
            assert words[1] in targets
        elif words[:1] in (["holdfast"], ["faas"]):
            understood(words)


def understood(words: list[str]) -> None:
    """Parse a command line as the program would, without running it."""
    root = click.Context(program, info_name=words[0])
    assert words[1] in ENTRIES, words
    command = program.get_command(root, words[1])
    assert command is not None
    command.make_context(words[1], words[2:], parent=root).close()


@pytest.mark.parametrize("block", [*blocks("yaml")], ids=lambda block: block.place)
def test_every_stack_in_a_page_is_read_without_a_warning(block: Block) -> None:
    content = yaml.safe_load(block.text)
    assert isinstance(content, dict)
    if content.keys() <= {"scrape_configs", "groups"}:
        return  # Prometheus's own files

    def no_file(path: Path, _function: str) -> str:
        raise AssertionError(path)

    stack = parse_stack(block.text, source=block.place, folder=ROOT, environ=os.environ, read_file=no_file)
    assert stack.deployments
    assert stack.warnings == ()


@pytest.mark.parametrize("block", [*blocks("python")], ids=lambda block: block.place)
def test_every_python_example_is_python(block: Block) -> None:
    ast.parse(block.text)


def test_every_block_says_what_language_it_is_in() -> None:
    for page in PAGES:
        fences = re.findall(r"^```(\w*)$", page.read_text("utf-8"), re.MULTILINE)
        assert all(fences[0::2]), page
        assert not any(fences[1::2]), page
