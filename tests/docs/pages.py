"""The pages of the documentation and the blocks in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNABLE = "<!-- runnable -->\n"

_BLOCK = re.compile(
    r"(?P<mark><!-- runnable -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str
    runnable: bool

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> Iterator[Block]:
    """All blocks in these languages."""
    for page in PAGES:
        content = page.read_text("utf-8")
        for match in _BLOCK.finditer(content):
            line = content.count("\n", 0, match.start("language")) + 1
            if match["language"] in languages:
                yield Block(page, line, match["language"], match["text"], match["mark"] is not None)


def without_blocks(content: str) -> str:
    """A page's text with its fenced blocks emptied."""
    return _BLOCK.sub("", content)
