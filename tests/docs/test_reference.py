"""What others can see is documented."""

import re
import tomllib
from pathlib import Path

import pytest

from holdfast import headers
from holdfast.cli.program import ENTRIES
from tests.docs import reference
from tests.docs.pages import ROOT

HOW = "write them anew: .venv/bin/python -m tests.docs.reference"


@pytest.mark.parametrize("page", reference.PAGES, ids=lambda page: page.name)
def test_generated_parts_are_as_the_code_has_them(page: Path) -> None:
    content = page.read_text("utf-8")
    assert content == reference.rewritten(content), f"the tables of {page.name} are old; {HOW}"


def test_every_setting_command_exit_code_and_metric_has_its_place() -> None:
    placed = [name for page in reference.PAGES for name in reference.generated_in(page.read_text("utf-8"))]
    assert sorted(placed) == sorted(reference.PARTS)


def test_every_command_is_in_the_reference() -> None:
    text = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == list(ENTRIES)


def test_every_metric_has_a_name_of_openfaas_or_of_ours() -> None:
    assert reference.metric_names()
    for name in reference.metric_names():
        assert name.startswith(("gateway_", "http_", "queue_worker_", "holdfast_")), name


def test_queries_in_the_documents_ask_for_metrics_that_there_are() -> None:
    exposed = reference.metric_names()
    exposed |= {f"{name}_{part}" for name in exposed for part in ("bucket", "sum", "count")}
    text = (ROOT / "docs/howto/monitoring.md").read_text("utf-8")
    asked = set(re.findall(r"\b(?:gateway|http|queue_worker|holdfast)_[a-z_]+\b", text)) - {"queue_worker"}
    assert asked
    assert asked - exposed == set()


def test_every_header_that_holdfast_speaks_is_in_the_http_reference() -> None:
    text = (ROOT / "docs/reference/http.md").read_text("utf-8")
    spoken = [value.decode() for name, value in vars(headers).items() if name.isupper() and isinstance(value, bytes)]
    assert spoken
    assert [header for header in spoken if f"`{header}`" not in text] == []


def test_every_route_of_the_provider_is_in_the_http_reference() -> None:
    text = (ROOT / "docs/reference/http.md").read_text("utf-8")
    source = (ROOT / "src/holdfast/provider/app.py").read_text("utf-8")
    routes = re.findall(r'Route\("(/[^"]+)"', source)
    assert routes
    assert [route for route in routes if f"`{route.replace('{name}', '<name>')}" not in text] == []


def test_every_status_that_is_answered_is_in_the_http_reference() -> None:
    text = (ROOT / "docs/reference/http.md").read_text("utf-8")
    sources = [*(ROOT / "src/holdfast/http1").glob("*.py"), *(ROOT / "src/holdfast/gateway").glob("*.py")]
    answered = {
        status
        for source in sources
        for status in re.findall(
            r"(?:Refusal|BadRequest|refuse|respond)\(\s*(?:\w+,\s*)?([2-5]\d\d)\b", source.read_text("utf-8")
        )
    }
    assert {"202", "404", "405", "413", "503"} <= answered
    assert [status for status in sorted(answered) if f"| {status} |" not in text] == []


def test_every_header_of_a_callback_is_in_the_callback_guide() -> None:
    text = (ROOT / "docs/howto/callbacks.md").read_text("utf-8").lower()
    not_there_yet = {b"x-retry", b"x-retry-max"}
    # Between Holdfast's own parts; no receiver sees it.
    reserved = headers.RESERVED_IN_CALLBACK - not_there_yet - {headers.INSTANCE.lower()}
    assert [name for name in reserved if f"`{name.decode()}`" not in text] == []


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[<>=~! \[]", requirement)[0] for requirement in project["dependencies"]}
    text = (ROOT / "docs/decisions/0002-libraries.md").read_text("utf-8")
    assert set(re.findall(r"^\| ([a-z-]+) \| (?!for\b)", text, re.MULTILINE)) - {"library"} == names
