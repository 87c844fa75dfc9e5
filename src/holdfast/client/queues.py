"""The queues, asked of a gateway: Holdfast's routes below `/system/queues`. A queue is the gateway's JSON object."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from holdfast.client.errors import GatewayRefused, UnknownQueue
from holdfast.client.gateway import API_TIMEOUT_S, Gateway

_ROUTE = "/system/queues"
# A purge works for ten seconds before it answers how far it has come.
_PURGE_TIMEOUT_S = API_TIMEOUT_S + 10.0


class Queues:
    """Those of one gateway, whose client stays its owner's. All but `all` raise UnknownQueue."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def all(self) -> list[dict[str, Any]]:
        """Every queue, by name."""
        found = self._gateway.manage("GET", _ROUTE, "list queues")
        with self._gateway.understood("list queues"):
            return [dict(queue) for queue in found]

    def show(self, name: str) -> dict[str, Any]:
        """One."""
        return self._ask("GET", name, f"show the queue {name}")

    def pause(self, name: str, for_s: float | None) -> dict[str, Any]:
        """Hand out no more of its calls, for so long or until it is resumed; gives the queue."""
        body = {} if for_s is None else {"for": f"{for_s:.3f}s"}
        return self._ask("POST", name, f"pause the queue {name}", "/pause", body)

    def resume(self, name: str) -> dict[str, Any]:
        """Hand them out again; gives the queue."""
        return self._ask("POST", name, f"resume the queue {name}", "/resume", {})

    def purge(self, name: str, function: str = "") -> int:
        """Cancel all that waits in it, or what waits for one function; gives how many calls that were."""
        purged = 0
        while True:
            done = self._ask(
                "POST", name, f"purge the queue {name}", "/purge", {"function": function} if function else {}
            )
            with self._gateway.understood(f"purge the queue {name}"):
                purged += int(done["purged"])
                if done["complete"]:
                    return purged

    def _ask(
        self, method: str, name: str, action: str, below: str = "", body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        path = f"{_ROUTE}/{quote(name, safe='')}{below}"
        try:
            found = self._gateway.manage(method, path, action, body, timeout_s=_PURGE_TIMEOUT_S, tells=True)
        except GatewayRefused as error:
            if error.status != 404:
                raise
            raise UnknownQueue(self._gateway.url, name, error.text) from None
        with self._gateway.understood(action):
            return dict(found)
