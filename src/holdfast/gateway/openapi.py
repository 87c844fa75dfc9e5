"""The gateway's interface as an OpenAPI document, at /openapi.json: written by hand in openapi.yaml, checked by test.

It is open to everybody, outside /system, because it says nothing about this gateway that its release does not say.
"""

from __future__ import annotations

import asyncio
import json
from functools import cache
from pathlib import Path

import yaml
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from holdfast import __version__

SOURCE = Path(__file__).with_name("openapi.yaml")


@cache
def document() -> bytes:
    """The document as JSON, with this release as its version."""
    content = yaml.load(SOURCE.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders; the one in C is absent where libyaml is
    content["info"]["version"] = __version__
    return json.dumps(content, ensure_ascii=False).encode()


def openapi() -> Route:
    """`GET /openapi.json`."""

    async def answer(_request: Request) -> Response:
        # In a thread: reading it the first time takes longer than a call may wait.
        return Response(await asyncio.to_thread(document), media_type="application/json")

    return Route("/openapi.json", answer)
