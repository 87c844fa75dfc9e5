"""A gateway's HTTP API, synchronously: calling functions and asking about them.

A thin layer on httpx: this module is the one place that knows httpx, maps its errors to holdfast.client.errors, and
gives back records. It prints nothing and chooses nothing for the user. No proxies from the environment, no redirects.
"""

from __future__ import annotations

import difflib
import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx

from holdfast import __version__
from holdfast.basic_auth import Credentials
from holdfast.bundle import MEDIA_TYPE
from holdfast.client.errors import GatewayError, GatewayRefused, GatewayUnreachable, Unauthorized, UnknownFunction
from holdfast.function import DEFAULT_NAMESPACE, FunctionRef

CONNECT_TIMEOUT_S = 5.0
# The /system API answers from memory or from the provider next to it; a gateway that needs longer is not well.
API_TIMEOUT_S = 30.0
# How much of a refusal's text is shown: a gateway's is one sentence, a proxy's in between may be a page.
_MOST_REFUSAL_CHARACTERS = 500
_MOST_REFUSAL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FunctionStatus:
    """What a gateway says about one function. `raw` is its JSON object, complete."""

    name: str
    namespace: str
    image: str
    process: str
    invocations: int
    replicas: int
    available_replicas: int
    created_at: str
    raw: dict[str, Any]

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Self:
        """Read the API's object. Absent members, which OpenFaaS leaves out when they are empty, count as empty."""
        return cls(
            name=str(raw["name"]),
            namespace=str(raw.get("namespace") or DEFAULT_NAMESPACE),
            image=str(raw.get("image") or ""),
            process=str(raw.get("envProcess") or ""),
            invocations=int(raw.get("invocationCount") or 0),
            replicas=int(raw.get("replicas") or 0),
            available_replicas=int(raw.get("availableReplicas") or 0),
            created_at=str(raw.get("createdAt") or ""),
            raw=raw,
        )

    @property
    def route(self) -> str:
        """The name by which it is called: with its namespace, unless that is the default one."""
        return FunctionRef(self.name, self.namespace).short


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a function wrote. `raw` is the JSON text as received."""

    name: str
    namespace: str
    instance: str
    timestamp: str
    text: str
    raw: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, with its body still to come: `body()` gives it once, as it arrives."""

    status: int
    reason: str
    headers: httpx.Headers
    _gateway: str
    _response: httpx.Response

    def body(self) -> Iterator[bytes]:
        """The body's bytes exactly as sent, no content coding undone. Raises GatewayUnreachable when it breaks off."""
        with _mapped(self._gateway):
            yield from self._response.iter_raw()

    def text(self) -> str:
        """The beginning of the body as text, or the status's words when there is none: for showing a refusal."""
        text = b""
        for chunk in self.body():
            text += chunk
            if len(text) > _MOST_REFUSAL_BYTES:
                break
        return text[:_MOST_REFUSAL_BYTES].decode(errors="replace").strip() or self.reason


class Gateway:
    """A client of one gateway; a context manager that owns its connections."""

    def __init__(self, url: str, credentials: Credentials | None = None) -> None:
        self.url = url.rstrip("/")
        self.credentials = credentials
        self._auth = httpx.BasicAuth(credentials.user, credentials.password) if credentials else None
        self._http = httpx.Client(
            trust_env=False,  # what a shell has set for browsing must not carry calls and passwords elsewhere
            follow_redirects=False,
            timeout=httpx.Timeout(API_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            verify=_trust(url),
            headers={"User-Agent": f"holdfast/{__version__}", "Accept-Encoding": "identity"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @contextmanager
    def invoke(
        self,
        name: str,
        *,
        body: bytes,
        method: str = "POST",
        headers: Sequence[tuple[str, str]] = (),
        query: Sequence[tuple[str, str]] = (),
        asynchronous: bool = False,
        timeout_s: float,
    ) -> Iterator[Answer]:
        """Call a function; yields the answer whatever its status. No credentials are sent: these routes are open.

        `timeout_s` is the longest silence to bear, before the answer's head and between two pieces of its body.
        """
        route = "async-function" if asynchronous else "function"
        url = f"{self.url}/{route}/{name}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        with _mapped(self.url):
            request = self._http.build_request(
                method,
                url,
                # Bytes, because header values may be UTF-8 and httpx would try ASCII.
                headers=[(key.encode(), value.encode()) for key, value in headers],
                content=body or None,
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            )
            response = self._http.send(request, stream=True)
            try:
                yield Answer(response.status_code, response.reason_phrase, response.headers, self.url, response)
            finally:
                response.close()

    @contextmanager
    def exchange(
        self, method: str, path: str, query: dict[str, str] | None = None, *, timeout_s: float
    ) -> Iterator[Answer]:
        """Ask one of the open routes; yields the answer whatever its status. No credentials are sent."""
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        with (
            _mapped(self.url),
            self._http.stream(method, f"{self.url}{path}", params=query, timeout=timeout) as response,
        ):
            yield Answer(response.status_code, response.reason_phrase, response.headers, self.url, response)

    def functions(self, namespace: str = "") -> list[FunctionStatus]:
        """All functions of a namespace, as the gateway orders them."""
        found = self._json("list functions", "/system/functions", {"namespace": namespace} if namespace else {})
        with self.understood("list functions"):
            return [FunctionStatus.of(raw) for raw in found or []]

    def function(self, name: str, namespace: str = "") -> FunctionStatus:
        """One function. Raises UnknownFunction, with names that look alike."""
        query = {"usage": "1"} | ({"namespace": namespace} if namespace else {})
        try:
            found = self._json(f"describe {name}", f"/system/function/{name}", query)
        except GatewayRefused as error:
            if error.status == 404:
                raise UnknownFunction(self.url, name, self.similar(name, namespace)) from None
            raise
        with self.understood(f"describe {name}"):
            return FunctionStatus.of(found)

    def similar(self, name: str, namespace: str = "") -> tuple[str, ...]:
        """Names of functions that look like `name`, nearest first; none when the gateway does not tell."""
        try:
            names = [function.name for function in self.functions(namespace)]
        except GatewayError:
            return ()
        return tuple(difflib.get_close_matches(name, names, n=3, cutoff=0.5))

    def logs(
        self,
        name: str,
        *,
        namespace: str = "",
        follow: bool = False,
        tail: int | None = None,
        since: str | None = None,
        instance: str | None = None,
    ) -> Iterator[LogLine]:
        """A function's output, oldest first; with `follow`, until the gateway or the caller ends it.

        `since` is an RFC 3339 instant. Raises UnknownFunction before the first line.
        """
        query: dict[str, str] = {"name": name, "follow": "true" if follow else "false"}
        optional = {"namespace": namespace, "since": since, "instance": instance}
        query |= {key: value for key, value in optional.items() if value}
        if tail is not None:
            query["tail"] = str(tail)
        # A function may be silent for hours, so nothing limits the pause while following.
        timeout = httpx.Timeout(None if follow else API_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        with (
            _mapped(self.url),
            self._http.stream(
                "GET", f"{self.url}/system/logs", params=query, auth=self._auth, timeout=timeout
            ) as response,
        ):
            if response.status_code == 404:
                raise UnknownFunction(self.url, name, self.similar(name, namespace))
            if response.status_code != 200:
                response.read()
                self._refuse(f"show the logs of {name}", response)
            for line in response.iter_lines():
                if line:
                    with self.understood(f"show the logs of {name}"):
                        yield _log_line(line)

    def info(self) -> dict[str, Any]:
        """The gateway's and the provider's versions, as `/system/info` gives them."""
        found = self._json("tell its version", "/system/info", {})
        with self.understood("tell its version"):
            return dict(found)

    def manage(
        self,
        method: str,
        path: str,
        action: str,
        document: Any = None,
        query: dict[str, str] | None = None,
        *,
        timeout_s: float = API_TIMEOUT_S,
        tells: bool = False,
    ) -> Any:
        """Ask a route of /system, with the password; gives the JSON of the answer to a GET, None when it has no body.

        `action` is what the gateway is asked to do, in words for its refusal. `tells`: the answer to a change is JSON
        as well. Raises GatewayRefused for any status but 200, 201, 202 and 204.
        """
        with _mapped(self.url):
            response = self._http.request(
                method,
                f"{self.url}{path}",
                params=query,
                json=document,
                auth=self._auth,
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            )
        if response.status_code not in {200, 201, 202, 204}:
            self._refuse(action, response)
        # Only what was asked for is read: a change may be answered with a sentence.
        if not (method == "GET" or tells) or not response.content:
            return None
        with self.understood(action):
            return response.json()

    @contextmanager
    def upload(
        self, path: str, action: str, pieces: Iterator[bytes], size: int, query: dict[str, str], *, timeout_s: float
    ) -> Iterator[Iterator[Any]]:
        """POST a file as it is read; yields the JSON objects that are answered line by line, as they come.

        `timeout_s` is the longest silence to bear.
        """
        with (
            _mapped(self.url),
            self._http.stream(
                "POST",
                f"{self.url}{path}",
                params=query,
                content=pieces,
                headers={"Content-Type": MEDIA_TYPE, "Content-Length": str(size)},
                auth=self._auth,
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            ) as response,
        ):
            if response.status_code != 200:
                response.read()
                self._refuse(action, response)
            yield (self._object(action, line) for line in response.iter_lines() if line)

    def _object(self, action: str, line: str) -> Any:
        with self.understood(action):
            return dict(json.loads(line))

    def _json(self, action: str, path: str, query: dict[str, str]) -> Any:
        return self.manage("GET", path, action, query=query)

    def _refuse(self, action: str, response: httpx.Response) -> None:
        if response.status_code in {401, 403}:
            raise Unauthorized(self.url, tried=self.credentials is not None)
        text = response.text.strip()[:_MOST_REFUSAL_CHARACTERS] or response.reason_phrase
        raise GatewayRefused(self.url, action, response.status_code, text)

    @contextmanager
    def understood(self, action: str) -> Iterator[None]:
        """Map what reading a foreign JSON answer can raise: something else than a gateway may be listening there."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            text = f"but the answer is not an OpenFaaS gateway's ({type(error).__name__})"
            raise GatewayRefused(self.url, action, 200, text) from error


def _trust(url: str) -> ssl.SSLContext:
    """Whom to trust. For plain HTTP nobody, which saves reading the certificates: 60 ms of a command's start."""
    return ssl.create_default_context() if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _log_line(line: str) -> LogLine:
    raw = json.loads(line)
    return LogLine(
        name=str(raw.get("name", "")),
        namespace=str(raw.get("namespace", "")),
        instance=str(raw.get("instance", "")),
        timestamp=str(raw.get("timestamp", "")),
        text=str(raw.get("text", "")),
        raw=line,
    )


@contextmanager
def _mapped(gateway: str) -> Iterator[None]:
    """Turn httpx's errors into ours."""
    try:
        yield
    except httpx.ConnectTimeout:
        raise GatewayUnreachable(gateway, f"no connection within {CONNECT_TIMEOUT_S:g} s", sent=False) from None
    except (httpx.ConnectError, httpx.PoolTimeout) as error:
        raise GatewayUnreachable(gateway, _plain(error), sent=False) from None
    except httpx.TimeoutException:
        raise GatewayUnreachable(gateway, "it did not answer in time", sent=True) from None
    except (httpx.RequestError, httpx.StreamError) as error:
        raise GatewayUnreachable(gateway, _plain(error), sent=True) from None
    except httpx.InvalidURL as error:
        raise GatewayUnreachable(gateway, f"the URL cannot be used: {error}", sent=False) from None


def _plain(error: Exception) -> str:
    """The operating system's words without its number: `[Errno 111] Connection refused` tells nothing more."""
    text = str(error).strip() or type(error).__name__
    return text.partition("] ")[2].lower() if text.startswith("[Errno") else text
