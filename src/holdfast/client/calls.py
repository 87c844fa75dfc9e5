"""What became of asynchronous calls, asked of a gateway: Holdfast's routes below `/async-function/<call id>`.

Whoever knows a call's id may ask: no password is sent. The list of them, `/system/calls`, needs it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from holdfast.client.errors import GatewayRefused, UnknownCall
from holdfast.client.gateway import API_TIMEOUT_S, Answer, Gateway

# The gateway holds an answer for so long at most, so that a wait of hours survives a gateway that is replaced, and a
# proxy between that ends what looks idle.
LONGEST_ASK_S = 50.0
# The gateway sends at least a comment every 15 s: three missed, and the stream is taken for dead.
_SILENCE_S = 50.0

_PAGE = 200

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class CallStatus:
    """What a gateway says about one call. `raw` is its JSON object, complete."""

    id: str
    function: str
    status: str
    reason: str
    has_result: bool
    raw: dict[str, Any]

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Self:
        """Read the API's object."""
        return cls(
            id=str(raw["id"]),
            function=str(raw["function"]),
            status=str(raw["status"]),
            reason=str(raw.get("reason") or ""),
            has_result=raw.get("result") is not None,
            raw=raw,
        )

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to the call any more."""
        return self.status in ENDED


class Calls:
    """The calls of one gateway, whose client stays its owner's."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def show(self, call_id: str, *, wait_s: float = 0.0) -> CallStatus:
        """The record; with `wait_s` once the call has ended, or after so long. Raises UnknownCall."""
        query = {"wait": f"{wait_s:.3f}s"} if wait_s > 0 else {}
        action = f"show the call {call_id}"
        with self._asked("GET", call_id, action, query=query, timeout_s=API_TIMEOUT_S + wait_s) as answer:
            return self._read(action, b"".join(answer.body()))

    def each(self, selection: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The calls that match, as JSON objects, those that changed last first; `selection` is the API's query."""
        before: str | None = ""
        while before is not None:
            query = {**selection, "limit": str(_PAGE), **({"before": before} if before else {})}
            page = self._gateway.manage("GET", "/system/calls", "list calls", query=query)
            with self._gateway.understood("list calls"):
                found, before = list(page["calls"]), page["next"]
            yield from found

    def wait(self, call_id: str, timeout_s: float) -> CallStatus:
        """The record once the call has ended, or as it is when `timeout_s` have passed."""
        deadline = time.monotonic() + timeout_s
        found = self.show(call_id, wait_s=min(timeout_s, LONGEST_ASK_S))
        while not found.has_ended and (left := deadline - time.monotonic()) > 0:
            found = self.show(call_id, wait_s=min(left, LONGEST_ASK_S))
        return found

    @contextmanager
    def result(self, call_id: str) -> Iterator[Answer]:
        """The function's own answer, whatever its status. Raises GatewayRefused while there is none."""
        action = f"give the result of {call_id}"
        with self._gateway.exchange("GET", f"/async-function/{call_id}/result", timeout_s=API_TIMEOUT_S) as answer:
            # A function may answer 404 or 409 itself; only the gateway's own refusals come without the id.
            if answer.status >= 400 and "X-Call-Id" not in answer.headers:
                self._refuse(call_id, action, answer)
            yield answer

    def cancel(self, call_id: str) -> None:
        """Cancel. Once this returns the call cannot succeed any more; the callback of one that has ended stops.

        Raises GatewayRefused when it has ended and no callback is pending.
        """
        with self._asked("DELETE", call_id, f"cancel the call {call_id}"):
            pass

    def events(self, call_id: str) -> Iterator[CallStatus]:
        """The record now and at each change, until the call has ended."""
        action = f"tell of the call {call_id}"
        with self._asked("GET", call_id, action, below="/events", timeout_s=_SILENCE_S) as answer:
            for data in _data(answer.body()):
                yield self._read(action, data)

    @contextmanager
    def _asked(
        self,
        method: str,
        call_id: str,
        action: str,
        *,
        below: str = "",
        query: dict[str, str] | None = None,
        timeout_s: float = API_TIMEOUT_S,
    ) -> Iterator[Answer]:
        with self._gateway.exchange(method, f"/async-function/{call_id}{below}", query, timeout_s=timeout_s) as answer:
            if answer.status not in {200, 202}:
                self._refuse(call_id, action, answer)
            yield answer

    def _refuse(self, call_id: str, action: str, answer: Answer) -> None:
        text = answer.text()
        if answer.status in {404, 410}:
            raise UnknownCall(self._gateway.url, call_id, text)
        raise GatewayRefused(self._gateway.url, action, answer.status, text)

    def _read(self, action: str, text: bytes) -> CallStatus:
        try:
            return CallStatus.of(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = "but the answer is no call's record: OpenFaaS's own gateway keeps none"
            raise GatewayRefused(self._gateway.url, action, 200, what) from error


def _data(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The data of each server-sent event, wherever the pieces are cut. The gateway writes one line of data an event."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[len(b"data:") :].strip()
