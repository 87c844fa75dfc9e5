"""The OpenAPI document, the pages and the code name the same routes, labels and annotations."""

import json
import re

from holdfast.gateway.openapi import document
from tests.docs.pages import ROOT

SOURCES = sorted((ROOT / "src" / "holdfast").rglob("*.py"))
ROUTE = re.compile(r'Route\(\s*"(/(?:system|async-function|healthz|openapi)[^"]*)"')
LABEL = re.compile(r"com\.openfaas\.[a-z][a-z._-]*")
# Names in the code that begin several, and what of OpenFaaS the pages say is not there yet.
BEGINNINGS = {"com.openfaas.retry.": (".attempts", ".codes", ".min_wait", ".max_wait")}


def nameless(path: str) -> str:
    """A path with its names blanked and what may be left out left out: alike in the document, the code and the page."""
    return re.sub(r"[{<][^}>]+[}>]", "{}", re.sub(r"\[[^]]*\]", "", path).partition("?")[0])


def test_every_route_in_the_code_is_in_the_openapi_document() -> None:
    described = {nameless(path) for path in json.loads(document())["paths"]}
    routes = {nameless(path) for source in SOURCES for path in ROUTE.findall(source.read_text("utf-8"))}
    assert len(routes) > 15
    assert sorted(routes - described) == []


def test_the_openapi_document_and_the_http_page_list_the_same_routes() -> None:
    described = {nameless(path) for path in json.loads(document())["paths"]}
    page = (ROOT / "docs/reference/http.md").read_text("utf-8")
    listed = {nameless(path) for path in re.findall(r"^\| `(/[^`]+)` \|", page, re.MULTILINE)}
    assert sorted(described ^ listed) == []


def test_every_label_and_annotation_that_the_code_reads_is_in_its_page_and_no_other_is_explained() -> None:
    read = {name for source in SOURCES for name in LABEL.findall(source.read_text("utf-8"))}
    assert read
    page = (ROOT / "docs/reference/labels-and-annotations.md").read_text("utf-8")
    explained = set(LABEL.findall("".join(re.findall(r"^\| (`com[^|]*)", page, re.MULTILINE))))
    for beginning, endings in BEGINNINGS.items():
        if beginning in read:
            read.discard(beginning)
            read.add(beginning + endings[0].removeprefix("."))
            assert [ending for ending in endings if f"`{ending}`" not in page][1:] == []
    assert sorted(read ^ explained) == []
