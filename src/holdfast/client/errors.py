"""What the client raises.

    HoldfastError
    ├── GatewayError             a gateway could not do what the client asked
    │   ├── GatewayUnreachable       no answer: nothing listens there, or it went silent
    │   ├── Unauthorized             401 or 403: user and password are missing or wrong
    │   ├── UnknownFunction          404: no such function
    │   ├── UnknownCall              404 or 410: no such call, or its record has expired
    │   ├── UnknownDeadLetter        404: the call is no dead letter
    │   ├── UnknownQueue             404: no such queue
    │   ├── UnknownSecret            404: no such secret
    │   ├── NoBundlesTaken           404: a gateway of images, which takes no bundles
    │   ├── BundleFailed             a bundle arrived and could not be prepared
    │   ├── NotReady                 a function does not become ready
    │   └── GatewayRefused           any other answer of 400 or above, or one that is not this API's
    └── LoginFileUnusable        the file of logins cannot be read or written

Those of a gateway carry its URL. What the user can do about it is said by the command line, which knows its own name.
"""

from __future__ import annotations

from pathlib import Path

from holdfast.errors import HoldfastError


class GatewayError(HoldfastError):
    """A gateway could not do what was asked. `gateway` is its URL."""

    def __init__(self, gateway: str, message: str) -> None:
        super().__init__(message)
        self.gateway = gateway


class GatewayUnreachable(GatewayError):
    """No usable answer came. `sent` says whether the request may have arrived."""

    def __init__(self, gateway: str, reason: str, *, sent: bool) -> None:
        super().__init__(gateway, f"cannot reach the gateway at {gateway}: {reason}")
        self.reason = reason
        self.sent = sent


class Unauthorized(GatewayError):
    """The gateway wants a user and password. `tried` says whether any were sent."""

    def __init__(self, gateway: str, *, tried: bool) -> None:
        was = "does not accept the user and password it was given" if tried else "wants a user and password"
        super().__init__(gateway, f"the gateway at {gateway} {was}")
        self.tried = tried


class UnknownFunction(GatewayError):
    """No function has this name. `similar` holds names that exist and look like it, nearest first."""

    def __init__(self, gateway: str, name: str, similar: tuple[str, ...] = ()) -> None:
        super().__init__(gateway, f"no function is called {name} at {gateway}")
        self.name = name
        self.similar = similar


class UnknownCall(GatewayError):
    """No call has this id, or no longer. `text` is the gateway's explanation."""

    def __init__(self, gateway: str, call_id: str, text: str) -> None:
        super().__init__(gateway, f"the gateway at {gateway} knows no call {call_id}: {text}".rstrip())
        self.call_id = call_id
        self.text = text


class UnknownDeadLetter(GatewayError):
    """Neither this call nor its callback is a dead letter."""

    def __init__(self, gateway: str, call_id: str) -> None:
        super().__init__(gateway, f"the gateway at {gateway} keeps no dead letter of call {call_id}")
        self.call_id = call_id


class UnknownQueue(GatewayError):
    """No queue has this name. `text` is the gateway's explanation."""

    def __init__(self, gateway: str, name: str, text: str) -> None:
        super().__init__(gateway, f"the gateway at {gateway} knows no queue {name}: {text}".rstrip())
        self.name = name
        self.text = text


class GatewayRefused(GatewayError):
    """The gateway answered, but not with what was asked for. `status` is its HTTP status, `text` its explanation."""

    def __init__(self, gateway: str, action: str, status: int, text: str) -> None:
        super().__init__(gateway, f"the gateway at {gateway} did not {action}: {status} {text}".rstrip())
        self.action = action
        self.status = status
        self.text = text


class UnknownSecret(GatewayError):
    """No secret has this name."""

    def __init__(self, gateway: str, name: str, namespace: str) -> None:
        super().__init__(gateway, f"no secret is called {name} in {namespace} at {gateway}")
        self.name = name
        self.namespace = namespace


class NoBundlesTaken(GatewayError):
    """The gateway knows nothing of bundles: it runs images, as OpenFaaS's own does."""

    def __init__(self, gateway: str, name: str) -> None:
        super().__init__(gateway, f"the gateway at {gateway} takes no bundles, so the folder of {name} cannot go there")
        self.name = name


class BundleFailed(GatewayError):
    """The gateway has the bundle and cannot prepare it. `text` is its explanation, pip's own words among it."""

    def __init__(self, gateway: str, name: str, text: str) -> None:
        super().__init__(gateway, text or f"{name}: the bundle could not be prepared")
        self.name = name
        self.text = text


class NotReady(GatewayError):
    """A function was deployed and does not become ready.

    `restarts` is how often its replicas have ended by themselves, `lines` is what they wrote last.
    """

    def __init__(self, gateway: str, name: str, reason: str, *, restarts: int = 0, lines: tuple[str, ...] = ()) -> None:
        said = "".join(f"\n  {line}" for line in lines)
        super().__init__(gateway, f"{name} is deployed but {reason}." + (f" It wrote:{said}" if said else ""))
        self.name = name
        self.restarts = restarts
        self.lines = lines


class LoginFileUnusable(HoldfastError):
    """The file of logins cannot be used; it has been left as it was."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the logins in {path} cannot be used: {reason}")
        self.path = path
        self.reason = reason
