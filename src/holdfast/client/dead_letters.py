"""What failed for good, asked of a gateway: Holdfast's routes below `/system/dead-letters`.

A dead letter is a JSON object as the gateway gives it. What is selected is said expressly; choosing is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote

from holdfast.client.errors import GatewayRefused, UnknownDeadLetter
from holdfast.client.gateway import Gateway

Verb = Literal["replay", "drop"]
DONE: dict[Verb, str] = {"replay": "replayed", "drop": "dropped"}

_ROUTE = "/system/dead-letters"
_PAGE = 500
# The gateway answers when all that is selected is done: some milliseconds each, so this is for hundreds of thousands.
_ACT_TIMEOUT_S = 30 * 60.0


class DeadLetters:
    """Those of one gateway, whose client stays its owner's."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def each(self, selection: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Those that match, oldest first, asked for page by page; `selection` is the API's query."""
        after: int | None = 0
        while after is not None:
            query = {**selection, "limit": str(_PAGE), "after": str(after)}
            page = self._gateway.manage("GET", _ROUTE, "list dead letters", query=query)
            with self._gateway.understood("list dead letters"):
                letters, after = list(page["dead_letters"]), page["next"]
            yield from letters

    def show(self, call_id: str, kind: str = "") -> dict[str, Any]:
        """One with its request and its answer. Raises UnknownDeadLetter."""
        action = f"show the dead letter of {call_id}"
        try:
            found = self._gateway.manage(
                "GET", f"{_ROUTE}/{quote(call_id, safe='')}", action, query={"kind": kind} if kind else None
            )
        except GatewayRefused as error:
            raise self._meant(error, call_id) from None
        with self._gateway.understood(action):
            return dict(found)

    def act(self, verb: Verb, selection: Mapping[str, Any], *, dry_run: bool = False) -> list[dict[str, Any]]:
        """Replay or drop what is selected; gives what that was. `selection` is the API's body.

        Raises UnknownDeadLetter for an id that has none.
        """
        action = f"{verb} dead letters"
        body = {**selection, "dry_run": dry_run}
        try:
            found = self._gateway.manage("POST", f"{_ROUTE}/{verb}", action, body, timeout_s=_ACT_TIMEOUT_S, tells=True)
        except GatewayRefused as error:
            raise self._meant(error, selection.get("id")) from None
        with self._gateway.understood(action):
            return list(found[DONE[verb]])

    def _meant(self, error: GatewayRefused, call_id: str | None) -> Exception:
        """A 404 for one call is about that call; without one the route itself is unknown."""
        if error.status != 404 or call_id is None:
            return error
        return UnknownDeadLetter(self._gateway.url, call_id)
