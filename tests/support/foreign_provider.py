"""A provider that is not ours: OpenFaaS's provider API, and no more, over a real socket in a thread of its own.

As faas-netes and faasd do, it wants basic authentication for /system, leaves /function open, calls functions through
its own /function/<name> and says nothing about `endpoints`. A function of it answers with what it was sent, as JSON.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER = "provider-user"
PASSWORD = "of-the-provider"
NAMESPACE = "openfaas-fn"


class ForeignProvider:
    """What it knows and was asked. Get it from `foreign_provider()`."""

    def __init__(self) -> None:
        self.url = ""
        self.functions: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, str] = {}
        self.looks_until_ready: dict[str, int] = {}
        """How often a function that was scaled from zero is still described as not ready."""
        self.asked: list[str] = []
        """Method and path of each request, in order."""
        self.follow_until = threading.Event()
        """Set to end the logs that are followed."""

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def deploy(self, name: str, replicas: int = 1, **more: Any) -> None:
        self.functions[name] = {
            "name": name,
            "namespace": NAMESPACE,
            "image": f"example.com/{name}:latest",
            "replicas": replicas,
            "availableReplicas": replicas,
            "invocationCount": 0,
            **more,
        }


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: ForeignProvider

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.provider.asked.append(f"{self.command} {self.path}")
        if parts.path.startswith("/function/"):
            self.call(parts.path, body)
        elif self.headers.get("Authorization") != self.provider.authorization:
            self.send(401, "unauthorized", WWW_Authenticate='Basic realm="Restricted"')
        else:
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            self.system(parts.path.removeprefix("/system/"), query, body)

    def call(self, path: str, body: bytes) -> None:
        name, _, rest = path.removeprefix("/function/").partition("/")
        if name.removesuffix(f".{NAMESPACE}") not in self.provider.functions:
            self.send(404, "no such function")
            return
        if not self.provider.functions[name.removesuffix(f".{NAMESPACE}")]["replicas"]:
            self.send(503, "no replica")
            return
        seen = {
            "function": name,
            "method": self.command,
            "path": f"/{rest}",
            "query": urlsplit(self.path).query,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode(),
        }
        self.send(200, seen)

    def system(self, path: str, query: dict[str, str], body: bytes) -> None:
        functions = self.provider.functions
        match self.command, path.split("/"):
            case "GET", ["functions"]:
                self.send(200, list(functions.values()))
            case "POST" | "PUT", ["functions"]:
                document = json.loads(body)
                name = document.pop("service")
                if self.command == "PUT" and name not in functions:
                    self.send(404, "no such function")
                else:
                    self.provider.deploy(name, **document)
                    self.send(202, "")
            case "DELETE", ["functions"]:
                gone = functions.pop(json.loads(body)["functionName"], None)
                self.send(202 if gone else 404, "")
            case "GET", ["function", name] if name in functions:
                self.describe(name)
            case "POST", ["scale-function", name] if name in functions:
                replicas = json.loads(body)["replicas"]
                if not functions[name].get("replicas"):
                    self.provider.looks_until_ready[name] = 2
                functions[name] |= {"replicas": replicas, "availableReplicas": replicas}
                self.send(202, "")
            case "GET", ["secrets"]:
                self.send(200, [{"name": name, "namespace": NAMESPACE} for name in self.provider.secrets])
            case "POST" | "PUT", ["secrets"]:
                secret = json.loads(body)
                self.provider.secrets[secret["name"]] = secret["value"]
                self.send(201, "")
            case "DELETE", ["secrets"]:
                self.provider.secrets.pop(json.loads(body)["name"])
                self.send(202, "")
            case "GET", ["logs"]:
                self.logs(query)
            case "GET", ["namespaces"]:
                self.send(200, [NAMESPACE])
            case "GET", ["info"]:
                version = {"release": "0.1.2", "sha": "abc"}
                self.send(200, {"provider": "elsewhere", "orchestration": "none", "version": version})
            case _:
                self.send(404, "not found")

    def describe(self, name: str) -> None:
        status = self.provider.functions[name]
        left = self.provider.looks_until_ready.get(name, 0)
        if left:
            self.provider.looks_until_ready[name] = left - 1
            status = status | {"availableReplicas": 0}
        # As Go writes it: members that are zero are left out.
        self.send(200, {key: value for key, value in status.items() if value != 0})

    def logs(self, query: dict[str, str]) -> None:
        line = {"name": query["name"], "namespace": NAMESPACE, "instance": "one", "text": "hello"}
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(json.dumps(line).encode() + b"\n")
        self.wfile.flush()
        if query.get("follow") == "true":
            self.provider.follow_until.wait(30)
            self.wfile.write(json.dumps(line | {"text": "bye"}).encode() + b"\n")
        self.close_connection = True

    def send(self, status: int, content: Any, **headers: str) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.send_response(HTTPStatus(status))
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Not to standard error."""


@contextmanager
def foreign_provider() -> Iterator[ForeignProvider]:
    """A provider that serves its API."""
    provider = ForeignProvider()
    request = type("Request", (_Request,), {"provider": provider})
    with ThreadingHTTPServer(("127.0.0.1", 0), request) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield provider
        finally:
            provider.follow_until.set()
            server.shutdown()
            thread.join()
