"""What a Python handler is given: the event, which is the request, and the context, which is everything else. No I/O.

The attributes are those of OpenFaaS's python3-http template; `event.target` is ours. Headers and query are read when
they are asked for: many handlers never do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

from holdfast.headers import INSTANCE, RawHeaders, without

_BETWEEN_PARTS = INSTANCE.lower()


class Headers(Mapping[str, str]):
    """Headers by name, in any spelling. The values of a header that stands more than once are joined by `, `.

    `raw` are the headers as they came: byte pairs, order, spelling and duplicates kept.
    """

    __slots__ = ("_by_name", "raw")

    def __init__(self, raw: RawHeaders) -> None:
        self.raw = raw
        self._by_name: dict[str, str] = {}
        for name_bytes, value_bytes in raw:
            name, value = name_bytes.decode("latin-1").lower(), value_bytes.decode("latin-1")
            self._by_name[name] = f"{self._by_name[name]}, {value}" if name in self._by_name else value

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def getlist(self, name: str) -> list[str]:
        """Each value of a header, in order."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self.raw if key.lower() == wanted]


class Query(Mapping[str, str]):
    """The query's fields, decoded. Of a field that stands more than once the first; `getlist` gives each."""

    __slots__ = ("_pairs", "_values")

    def __init__(self, text: str) -> None:
        self._pairs = parse_qsl(text, keep_blank_values=True)
        self._values: dict[str, str] = {}
        for name, value in self._pairs:
            self._values.setdefault(name, value)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def getlist(self, name: str) -> list[str]:
        """Each value of a field, in order."""
        return [value for key, value in self._pairs if key == name]


class Event:
    """The request. `body` is bytes; `target` is path and query as the caller sent them, `path` its first part."""

    __slots__ = ("_headers", "_method", "_query", "_raw_headers", "body", "target")

    def __init__(self, method: bytes, target: bytes, headers: RawHeaders, body: bytes) -> None:
        self.body = body
        self.target = target.decode("latin-1")
        self._method = method
        self._raw_headers = headers
        self._headers: Headers | None = None
        self._query: Query | None = None

    @property
    def method(self) -> str:
        """The method, such as `POST`."""
        return self._method.decode("ascii")

    @property
    def path(self) -> str:
        """The path as sent, percent-encoding untouched: decoded, `/a%2Fb` and `/a/b` would be the same."""
        return self.target.partition("?")[0]

    @property
    def headers(self) -> Headers:
        """The headers."""
        if self._headers is None:
            self._headers = Headers(without(self._raw_headers, _BETWEEN_PARTS))
        return self._headers

    @property
    def query(self) -> Query:
        """The query's fields."""
        if self._query is None:
            self._query = Query(self.target.partition("?")[2])
        return self._query


class Context:
    """Where the handler runs: the replica's host name, the function's name and namespace, the call's id."""

    __slots__ = ("call_id", "function_name", "hostname", "namespace")

    def __init__(self, hostname: str, function_name: str, namespace: str, call_id: str) -> None:
        self.hostname = hostname
        self.function_name = function_name
        self.namespace = namespace
        self.call_id = call_id
