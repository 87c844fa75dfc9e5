"""What a browser finds at the gateway's root: until there is a dashboard, a text that says where everything is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_TEXT = """\
This is a Holdfast gateway, listening on {url}. It has no dashboard yet; what it has:

    POST /async-function/<name>   a call that is stored, answered 202 and run later
    /function/<name>              a call that is answered when the function has run
    /system/…                     functions, secrets, logs and namespaces, {access}
    /openapi.json                 all of this as an OpenAPI document
"""


def welcome(url: str, *, password: bool) -> list[Route]:
    """`/` and `/ui/`, where OpenFaaS has its dashboard: 404, so that nobody takes the text for one."""
    text = _TEXT.format(url=url, access="with the gateway's password" if password else "open: there is no password")

    async def answer(_request: Request) -> Response:
        return PlainTextResponse(text, status_code=404)

    return [Route("/", answer), Route("/ui", answer), Route("/ui/", answer)]
