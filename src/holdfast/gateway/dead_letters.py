"""Dead letters over HTTP: what failed for good, to be looked at, run again or dropped.

    GET    /system/dead-letters[?kind=&function=&namespace=&queue=&limit=&after=]
    GET    /system/dead-letters/<call id>[?kind=]
    POST   /system/dead-letters/replay    {"id": "…"}, {"function": "…", "queue": "…"}, {"all": true}; "kind", "dry_run"
    POST   /system/dead-letters/drop      the same

Who may ask was decided in system.py. Replaying a call runs the function as it is deployed now; replaying a callback
sends what the function answered then.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from holdfast.errors import BadRequest
from holdfast.function import FunctionRef
from holdfast.gateway.call_document import rfc3339
from holdfast.gateway.placement import Placement
from holdfast.gateway.query import whole_number
from holdfast.headers import RawHeaders
from holdfast.http1.message import read_request
from holdfast.invocation import StoredBody, is_call_id
from holdfast.queue.dead_letter import DeadCallback, DeadLetter, Kind
from holdfast.queue.dead_letters import DeadLetters, Kept
from holdfast.queue.parked_callback import ParkedCallback
from holdfast.queue_name import problem_with

PREFIX = b"/system/dead-letters"
DEFAULT_LIMIT = 100
MOST_LISTED = 1000
MOST_BODY_SHOWN = 64 * 1024
# Of a request's or an answer's body in a description; the rest is counted, not shown.
_SELECTING = frozenset({"id", "kind", "function", "namespace", "queue", "all", "dry_run"})


class DeadLetterRoutes:
    """The routes, in `routes`."""

    def __init__(self, letters: DeadLetters, placement: Placement, namespace: str) -> None:
        self._letters = letters
        self._placement = placement
        self._namespace = namespace
        self.routes = [
            Route("/system/dead-letters", self.list_letters, methods=["GET"]),
            Route("/system/dead-letters/replay", self.replay, methods=["POST"]),
            Route("/system/dead-letters/drop", self.drop, methods=["POST"]),
            Route("/system/dead-letters/{call_id}", self.show, methods=["GET"]),
        ]

    async def list_letters(self, request: Request) -> Response:
        """One page, oldest first; `next` is the `after` of the following page, null on the last."""
        query = request.query_params
        limit = whole_number(query.get("limit", str(DEFAULT_LIMIT)), "limit", MOST_LISTED)
        after = whole_number(query.get("after", "0"), "after", 2**62)
        shown: list[dict[str, Any]] = []
        following: int | None = None
        async for kept in self._select(dict(query), after):
            if len(shown) == limit:
                following = after
                break
            shown.append(_summary(kept))
            after = kept.sequence
        return JSONResponse({"dead_letters": shown, "next": following})

    async def show(self, request: Request) -> Response:
        """All there is to know: the request, the reason, each attempt, the last answer.

        When the call failed and its callback too, `kind` says which; without it the call's is shown.
        """
        call_id: str = request.path_params["call_id"]
        wanted = {"id": call_id, "kind": request.query_params.get("kind")}
        found = [kept async for kept in self._select(wanted, 0)]
        if not found:
            raise BadRequest(404, f"there is no dead letter of call {call_id[:128]}.")
        calls = [kept for kept in found if kept.letter.kind is Kind.CALL]
        return JSONResponse(_description((calls or found)[-1]))

    async def replay(self, request: Request) -> Response:
        """Have done again what is selected; with `dry_run` only say what that is."""
        return await self._act(request, "replayed")

    async def drop(self, request: Request) -> Response:
        """Remove for good what is selected; with `dry_run` only say what that is."""
        return await self._act(request, "dropped")

    async def _act(self, request: Request, verb: str) -> Response:
        wanted = await _selection(request)
        # Selected before the first is touched: a call that fails again at once must not be met a second time.
        selected = [kept async for kept in self._select(wanted, 0)]
        if "id" in wanted and not selected:
            raise BadRequest(404, f"there is no dead letter of call {str(wanted['id'])[:128]}.")
        dry_run = bool(wanted.get("dry_run"))
        act = self._replay if verb == "replayed" else self._letters.drop
        # What somebody else was faster with is in their answer, not in this one.
        done = [_summary(kept) for kept in selected if dry_run or await act(kept)]
        return JSONResponse({verb: done, "dry_run": dry_run})

    async def _replay(self, kept: Kept) -> bool:
        """To the function as it is now, which may have another queue than it had."""
        letter = kept.letter
        queue = letter.queue
        if letter.kind is Kind.CALL:
            queue = await self._placement.now(letter.invocation.function, queue)
        return await self._letters.replay(kept, queue)

    def _select(self, wanted: dict[str, Any], after: int) -> AsyncIterator[Kept]:
        """The dead letters that a query or a body selects. Raises BadRequest."""
        call_id, queue, name, kind = (str(wanted.get(key) or "") for key in ("id", "queue", "function", "kind"))
        if kind and kind not in set(Kind):
            raise BadRequest(400, f"kind cannot be used: expected {' or '.join(Kind)}, not {kind[:40]!r}.")
        if call_id and not is_call_id(call_id.encode()):
            raise BadRequest(400, f"{call_id[:100]!r} is not a call id.")
        if queue:
            problem = problem_with(queue)
            if problem is not None:
                raise BadRequest(400, f"{problem}.")
        function = None
        if name:
            namespace = str(wanted.get("namespace") or "")
            function = FunctionRef(name, namespace) if namespace else FunctionRef.parse(name, self._namespace)
            if not is_call_id(function.name.replace(".", "_").encode()) or not is_call_id(function.namespace.encode()):
                raise BadRequest(400, f"{name[:100]!r} is not the name of a function.")
        return self._letters.each(
            queue=queue or "*",
            function=function,
            call_id=call_id or "*",
            kind=Kind(kind) if kind else None,
            after=after,
        )


async def _selection(request: Request) -> dict[str, Any]:
    """What a body selects: one, those of a function or queue, or expressly all. Raises BadRequest."""
    try:
        wanted = json.loads(await request.body())
    except ValueError as error:
        raise BadRequest(400, f"the body is not JSON: {error}.") from error
    if not isinstance(wanted, dict) or not set(wanted) <= _SELECTING:
        raise BadRequest(400, f"expected a JSON object with some of {', '.join(sorted(_SELECTING))}.")
    if not (wanted.get("id") or wanted.get("function") or wanted.get("queue") or wanted.get("all") is True):
        raise BadRequest(400, 'say which: "id", "function", "queue", or "all": true.')
    return wanted


def _summary(kept: Kept) -> dict[str, Any]:
    letter = kept.letter
    invocation = letter.invocation
    return {
        "id": invocation.call_id,
        "x_call_id": invocation.common_id,
        "kind": letter.kind,
        "function": invocation.function.name,
        "namespace": invocation.function.namespace,
        "queue": letter.queue,
        "accepted_at": rfc3339(invocation.accepted_at_ns),
        "died_at": rfc3339(letter.died_at_ns),
        "reason": letter.reason,
        "runs": len(invocation.attempts) + 1,
        "status": None if letter.answer is None else letter.answer.status,
        "callback": _callback(letter.parked) if isinstance(letter, DeadCallback) else None,
    }


def _callback(parked: ParkedCallback) -> dict[str, Any]:
    return {"url": parked.url, "attempts": parked.attempts, "first_at": rfc3339(parked.first_at_ns)}


def _description(kept: Kept) -> dict[str, Any]:
    letter = kept.letter
    answer = letter.answer
    return {
        **_summary(kept),
        "attempts": [
            {"started_at": rfc3339(attempt.started_at_ns), "status": attempt.status, "error": attempt.error}
            for attempt in letter.invocation.attempts
        ],
        "callback_url": letter.invocation.callback_url,
        "request": _request(letter) if isinstance(letter, DeadLetter) else None,
        "answer": None
        if answer is None
        else {"status": answer.status, **_message(answer.headers, answer.body, answer.stored)},
    }


def _request(letter: DeadLetter) -> dict[str, Any]:
    stored = letter.invocation.body
    request = read_request(letter.invocation.request, body_elsewhere=stored is not None)
    return {
        "method": request.method.decode("latin-1"),
        "target": request.target.decode("latin-1"),
        **_message(request.headers, request.body, stored),
    }


# Credentials of the caller are kept for the replay, and shown to nobody.
_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"})


def _message(headers: RawHeaders, body: bytes, stored: StoredBody | None) -> dict[str, Any]:
    return {
        "headers": [
            [name.decode("latin-1"), "(hidden)" if name.lower() in _SECRET else value.decode("latin-1")]
            for name, value in headers
        ],
        "body": body[:MOST_BODY_SHOWN].decode("utf-8", "replace"),
        "bytes": len(body) if stored is None else stored.size,
        "sha256": None if stored is None else stored.sha256,
    }
