"""What is fuzzed: functions that take any bytes and raise when a promise is broken. They know nothing of the fuzzer.

Each reads its bytes as hostile input and compares: the whole with the same in pieces, our reading with another's, what
was written with what is read back. An exception that its part documents is no finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ipaddress
import json
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import h11

from holdfast.callback_guard import CallbackGuard
from holdfast.duration import parse_duration
from holdfast.errors import BadRequest, DeploymentError
from holdfast.gateway.call_document import of_record
from holdfast.gateway.call_options import NAMES, CallOptions, check_callback_url, read_depth
from holdfast.gateway.prefer import read_preference
from holdfast.gateway.route import read_route
from holdfast.http1.connection import ServerConnection
from holdfast.http1.exchange import Exchange
from holdfast.http1.limits import Limits
from holdfast.http1.message import header_lines
from holdfast.http1.origin import Origin
from holdfast.http1.server import Server
from holdfast.invocation import Invocation
from holdfast.provider.unpacking import UnpackLimits, unpack
from holdfast.queue import dead_letter, parked_callback, record
from holdfast.queue.answer import KeptAnswer, UnreadableAnswer, read_answer, write_answer
from holdfast.queue.message import Undecodable, from_delivery, to_publish
from holdfast.queue.wire import Event, Parser, ProtocolViolation
from holdfast.worker.callback import destination
from holdfast.yamux import Session
from tests.hostile.readings import as_client, as_server
from tests.unit.http1.assembled import answer, assemble, split

Target = Callable[[bytes], None]


class Broken(AssertionError):
    """A promise that was not kept."""


def _cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """The first three bytes say where the rest is cut."""
    seeds, rest = data[:3], data[3:]
    return rest, split(rest, [seed * (len(rest) + 1) // 256 for seed in seeds])


def requests(data: bytes) -> None:
    """Bytes to the server lane: the same in pieces, and read as h11 reads them or refused."""
    data, pieces = _cut(data)
    whole, cut = assemble(data), assemble(*pieces)
    if (whole.found, whole.begun, whole.refusal is None) != (cut.found, cut.begun, cut.refusal is None):
        raise Broken("pieces give other requests than the whole")
    try:
        theirs, _ = as_server(data)
    except h11.LocalProtocolError:
        return  # h11 cannot answer what it has read
    for ours, other in zip(whole.found, theirs, strict=False):
        if (ours.method, ours.body) != (other.method, other.body):
            raise Broken("h11 reads another request")
        if other.target.startswith(b"/") and ours.target != other.target:
            raise Broken("h11 reads another target")


class _Memory(asyncio.Transport):
    """A socket that only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def write_eof(self) -> None:
        """Nothing more is sent; what comes is still read."""

    def pause_reading(self) -> None:
        """Never full."""

    def resume_reading(self) -> None:
        """Never full."""

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Never full."""


class _Some:
    """An application that answers in each way there is, as the target says."""

    def __init__(self) -> None:
        self.methods: list[bytes] = []

    def begin(self, exchange: Exchange) -> None:
        self.methods.append(exchange.method)
        match exchange.target[1:2]:
            case b"e":
                exchange.respond(404, b"", b"early")
            case b"s":
                exchange.start(200, b"A: b\r\n", None)
                exchange.write(b"some")
                exchange.end()
            case b"r":
                raise ValueError(exchange.target)
            case b"l":
                exchange.start(200, b"", 4)
                exchange.write(b"some")
                exchange.end()
            case _:
                exchange.collect(50, lambda ex, body: ex.respond(200, b"", body))


def connections(data: bytes) -> None:
    """A connection of the server lane: whatever comes, what goes out is answers, one for each request at most."""
    _, pieces = _cut(data)

    async def talk() -> tuple[_Memory, _Some]:
        application = _Some()
        server = Server(application, Limits(max_header_bytes=500, max_pipelined=4, max_drain_bytes=100))
        transport = _Memory()
        connection = ServerConnection(server)
        connection.connection_made(transport)
        for piece in pieces:
            if not transport.closed:
                connection.data_received(piece)
            await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        return transport, application

    transport, application = asyncio.run(talk())
    try:
        answers, stray = as_client(transport.sent, application.methods, ended=True)
    except h11.RemoteProtocolError as error:
        if "without sending complete" in str(error):
            return  # an answer that was broken off does not look whole
        raise Broken(f"the lane sent what is no answer: {error}") from error
    finals = [one for one in answers if one.status >= 200]
    if stray or len(finals) > len(application.methods) + 1:
        raise Broken("the lane sent more than answers")


def streams(data: bytes) -> None:
    """Frames of yamux: what arrives is the same in pieces, each stream is told of its end once, nothing is raised."""
    data, pieces = _cut(data)

    async def read(pieces: list[bytes]) -> list[bytes]:
        ends: list[_Sink] = []

        def accept() -> _Sink:
            ends.append(_Sink())
            return ends[-1]

        session = Session(accept=accept, idle_s=60, on_lost=lambda _: None)
        transport = _Memory()
        session.connection_made(transport)
        for piece in pieces:
            if not transport.closed:
                session.data_received(piece)
        await asyncio.sleep(0)
        session.connection_lost(None)
        await asyncio.sleep(0)
        if any(end.lost != 1 for end in ends):
            raise Broken("a stream was not told of its end, or twice")
        return [bytes(end.received) for end in ends]

    if asyncio.run(read([data])) != asyncio.run(read(pieces)):
        raise Broken("streams read in pieces what they do not read as a whole")


class _Sink(asyncio.Protocol):
    """Takes what comes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = 0

    def data_received(self, data: bytes) -> None:
        if self.lost or not data:
            raise Broken("data after the end, or none")
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost += 1


def answers(data: bytes) -> None:
    """Bytes of a function to the client pool's reader: the same in pieces, and what h11 reads, or a fault."""
    head_only = data[:1] == b"H"
    data, pieces = _cut(data)
    whole, cut = answer(data, head_only=head_only), answer(*pieces, head_only=head_only)
    if (whole.fault is None) != (cut.fault is None):
        raise Broken("pieces are a fault and the whole is none, or the other way round")
    if whole.fault is None and (whole.status, whole.body, whole.complete) != (cut.status, cut.body, cut.complete):
        raise Broken("pieces give another answer than the whole")
    if not whole.complete:
        return
    try:
        theirs, _ = as_client(data, [b"HEAD" if head_only else b"POST"], ended=False)
    except h11.RemoteProtocolError:
        return
    finals = [one for one in theirs if one.status >= 200][:1]
    if finals and (finals[0].status, finals[0].body) != (whole.status, whole.body):
        raise Broken("h11 reads another answer")


def _events(pieces: list[bytes]) -> tuple[list[Event], str | None]:
    parser = Parser(max_payload=1000)
    events: list[Event] = []
    try:
        for piece in pieces:
            events += parser.feed(piece)
    except ProtocolViolation as violation:
        return events, str(violation)
    return events, None


def nats(data: bytes) -> None:
    """Bytes of a NATS server: the same events in pieces, or a violation."""
    data, pieces = _cut(data)
    (whole, violation), (cut, other) = _events([data]), _events(pieces)
    if (violation is None) != (other is None):
        raise Broken("pieces are a violation and the whole is none, or the other way round")
    if violation is None and whole != cut:
        raise Broken("pieces give other events than the whole")


def stored(data: bytes) -> None:
    """Messages of the streams: read or refused as undecodable; what was read is written and read the same."""
    kind, rest = data[:1], data[1:]
    headers, _, payload = rest.partition(b"\0")
    block = b"NATS/1.0\r\n" + headers.replace(b"\n", b"\r\n") + b"\r\n\r\n"
    with contextlib.suppress(record.UnreadableRecord, UnreadableAnswer, Undecodable):
        match kind:
            case b"r":
                kept, _ = record.decode(rest)
                json.dumps(of_record(kept), allow_nan=False)
            case b"a":
                _answer_again(read_answer(rest))
            case b"d":
                letter = dead_letter.from_message(b"holdfast.dead.q.n.f.i.m", block, payload)
                dead_letter.to_publish(letter)
            case b"c":
                parked = parked_callback.from_message(b"holdfast.callback.now.i.m", block, payload)
                parked_callback.to_publish_now(parked, "m")
            case _:
                _call_again(from_delivery(b"q.call.n.f.i", block, payload))


def _answer_again(kept: KeptAnswer) -> None:
    if read_answer(write_answer(kept)) != kept:
        raise Broken("an answer is written and read as another")


def _call_again(invocation: Invocation) -> None:
    message = to_publish("q", invocation)
    if from_delivery(message.subject, message.headers, message.payload) != invocation:
        raise Broken("a call is written and read as another")


def options(data: bytes) -> None:
    """A caller's headers and target: read or refused with a BadRequest."""
    target, *lines = data.split(b"\n")
    pairs = [line.partition(b":") for line in lines]
    found = {name.lower(): value.strip() for name, _, value in pairs if name.lower() in NAMES}
    guard = CallbackGuard()
    with contextlib.suppress(BadRequest):
        CallOptions.read(found, guard)
    for value in (value for _, _, value in pairs):
        with contextlib.suppress(BadRequest):
            read_depth(value, 16)
        with contextlib.suppress(ValueError):
            if not parse_duration(value.decode("latin-1")) >= 0:
                raise Broken("a duration is below zero or no number")
    preference = read_preference(((b"Prefer", value) for _, _, value in pairs), 60.0)
    if preference is not None:
        header_lines([(b"Preference-Applied", preference.applied())])
    route = read_route(target)
    if route is not None and not (target.endswith(route.target) or route.target.startswith((b"/", b"/?"))):
        raise Broken("a function is to see what was not sent")


def callbacks(data: bytes) -> None:
    """Callback URLs: none that is taken leads where the system's own reading of addresses finds nothing public."""
    try:
        url = check_callback_url(data, CallbackGuard())
    except BadRequest:
        return
    to = destination(url, "http://127.0.0.1:8080")
    if to.own:
        if not data.startswith((b"/function/", b"/async-function/")):
            raise Broken("a URL of another's is taken for a function's")
        return
    if to.origin != Origin.parse(url):
        raise Broken("gateway and worker read another origin")
    address = _as_the_system_reads(to.origin.host)
    if address is not None and (not address.is_global or address.is_multicast):
        raise Broken(f"a callback may go to {address}")


def _as_the_system_reads(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that the C library finds in a host without asking anybody; None: it is a name."""
    try:
        found = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError, ValueError):
        return None
    return ipaddress.ip_address(str(found[0][4][0]).partition("%")[0])


def bundles(data: bytes) -> None:
    """A tar archive, compressed: unpacked into its folder and nowhere else, or refused."""
    with tempfile.TemporaryDirectory() as place:
        archive, folder = Path(place) / "archive", Path(place) / "folder"
        archive.write_bytes(gzip.compress(data, 1))
        folder.mkdir()
        with contextlib.suppress(DeploymentError):
            unpack(archive, folder, "f", UnpackLimits(max_bytes=10_000, max_files=10))
        if sorted(Path(place).iterdir()) != [archive, folder]:
            raise Broken("a bundle was written outside its folder")
        for path in folder.rglob("*"):
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise Broken("a bundle made what is neither a file nor a folder")


TARGETS: dict[str, Target] = {
    "requests": requests,
    "connections": connections,
    "answers": answers,
    "streams": streams,
    "nats": nats,
    "stored": stored,
    "options": options,
    "callbacks": callbacks,
    "bundles": bundles,
}
