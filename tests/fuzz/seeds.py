"""Where fuzzing begins: valid and odd inputs for each target, taken from what the tests have anyway."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime

from holdfast.function import FunctionRef
from holdfast.invocation import Attempt, CallId, Invocation
from holdfast.queue import dead_letter, parked_callback, record, wire
from holdfast.queue.answer import KeptAnswer, write_answer
from holdfast.queue.message import to_publish
from holdfast.yamux.frames import DATA, FIN, GO_AWAY, HEADER, PING, RST, SYN, WINDOW_UPDATE
from tests.hostile.corpus import GROUPS

LONGEST = 2000
_CUT = b"\x20\x80\xd0"

_CALL = Invocation(
    CallId("one"),
    "two",
    FunctionRef("f", "n"),
    1,
    "http://example.com/a",
    b"POST / HTTP/1.1\r\n\r\nbody",
    attempts=(Attempt(1, 0.5, 500, None), Attempt(2, 0.5, 0, "lost")),
    timeout_s=1.5,
    expires_at_ns=5,
    depth=2,
)
_ANSWER = KeptAnswer(200, [(b"A", b"b")], b"body")
_PARKED = parked_callback.ParkedCallback(_CALL, "http://example.com/", "q", _ANSWER, 0.5, 1, 7)


def _stored() -> list[bytes]:
    kept = record.CallRecord.of(_CALL, "q", record.CallStatus.SUCCEEDED)._replace(
        result=record.Result(200, [(b"A", b"b")], 4), reason="why", finished_at_ns=9
    )
    letters: tuple[dead_letter.Letter, ...] = (
        dead_letter.DeadLetter(_CALL, "q", 3, "reason", _ANSWER),
        dead_letter.DeadCallback(_PARKED, 3, "reason"),
    )

    def message(kind: bytes, headers: bytes, payload: bytes) -> bytes:
        lines = headers.partition(b"\r\n")[2].removesuffix(b"\r\n\r\n").replace(b"\r\n", b"\n")
        return kind + lines + b"\0" + payload

    call = to_publish("q", _CALL)
    parked = parked_callback.to_publish(_PARKED, datetime(2030, 1, 1, tzinfo=UTC))
    return [
        b"r" + record.encode(kept, b"body"),
        b"a" + write_answer(_ANSWER),
        message(b"m", call.headers, call.payload),
        message(b"c", parked.headers, parked.payload),
        *(message(b"d", one.headers, one.payload) for one in [dead_letter.to_publish(letter) for letter in letters]),
    ]


def _answers() -> list[bytes]:
    ok = b"HTTP/1.1 200 OK\r\n"
    return [
        ok + b"Content-Length: 2\r\n\r\nhi",
        ok + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\nX: 1\r\n\r\n",
        ok + b"Connection: close\r\n\r\nhi",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.0 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n",
        ok + b"A: b\r\n c\r\nContent-Length: 2, 2\r\n\r\nhi",
    ]


_NATS = [
    b'INFO {"server_id":"a","max_payload":1000,"headers":true}\r\nPING\r\nPONG\r\n+OK\r\n',
    b"MSG a.b 1 5\r\nhello\r\nMSG a 1 reply 0\r\n\r\n",
    b"HMSG a 1 reply 12 17\r\nNATS/1.0\r\n\r\nhello\r\n",
    b"HMSG a 1 31 31\r\nNATS/1.0 503 No Responders\r\n\r\n\r\n-ERR 'Stale Connection'\r\n",
    wire.pub(b"a", b"b"),
]

_URLS = [
    b"http://example.com/a?b",
    b"https://EXAMPLE.com:8443",
    b"http://2130706433/",
    b"http://0x7f.1/",
    b"http://0177.0.0.1:80/",
    b"http://[::ffff:127.0.0.1]/",
    b"http://[64:ff9b::7f00:1]/",
    b"http://[fe80::1%25eth0]/",
    b"http://user:password@example.com/",
    b"http://127.0.0.1\\@example.com/",
    b"http://localhost./",
    b"/function/f/a?b",
    b"/async-function/f.n",
    b"/function/../system",
]

_OPENED = HEADER.pack(0, WINDOW_UPDATE, SYN, 1, 0)
_STREAMS = [
    _OPENED + HEADER.pack(0, DATA, 0, 1, 5) + b"hello" + HEADER.pack(0, WINDOW_UPDATE, FIN, 1, 0),
    HEADER.pack(0, DATA, SYN | FIN, 3, 2) + b"hi" + HEADER.pack(0, PING, SYN, 0, 7),
    _OPENED + HEADER.pack(0, DATA, RST, 1, 3) + b"abc" + HEADER.pack(0, GO_AWAY, 0, 0, 0),
    _OPENED + HEADER.pack(0, DATA, 0, 1, 2**32 - 1),
]

_OPTIONS = [
    b"/async-function/f.n/a?b\nX-Delay: 1m30s\nX-Expires-After: 10\nX-Timeout: 1.5s\nIdempotency-Key: k",
    b"http://h/function/f\nX-Failure-Callback-Url: http://example.com/\nX-Delay: 9999999h",
    b"/function/f\nPrefer:respond-async, wait=5\nPrefer:wait=2",
    b"/function/%2e%2e\nX-Timeout: -1s\nX-Holdfast-Depth: 15",
]


def _bundles() -> list[bytes]:
    """Small archives, not compressed."""

    def archive(form: int, *names: str, kind: bytes = tarfile.REGTYPE) -> bytes:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=form) as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.type = kind
                manifest = b'{"name": "f"}' if kind == tarfile.REGTYPE else b""
                member.size = len(manifest)
                tar.addfile(member, io.BytesIO(manifest))
        return content.getvalue().rstrip(b"\0") + bytes(600)

    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    whole = [archive(form, "holdfast.json", "handler/handler.py") for form in forms]
    odd = [archive(form, "handler/" + "n" * 120) for form in forms[1:]]
    return [*whole, *odd, archive(tarfile.GNU_FORMAT, "../a", kind=tarfile.SYMTYPE)]


def seeds(target: str) -> list[bytes]:
    """The first inputs of a target."""
    match target:
        case "requests" | "connections":
            sent = [case.sent for cases in GROUPS.values() for case in cases if len(case.sent) < LONGEST]
            return [_CUT + data for data in sent]
        case "answers":
            return [_CUT + data for data in _answers()]
        case "streams":
            return [_CUT + data for data in _STREAMS]
        case "nats":
            return [_CUT + data for data in _NATS]
        case "stored":
            return _stored()
        case "options":
            return _OPTIONS
        case "callbacks":
            return _URLS
        case "bundles":
            return _bundles()
        case _:
            raise ValueError(target)
