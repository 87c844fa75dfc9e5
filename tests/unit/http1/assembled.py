"""Assemblers that write down what they find, for the tests of the protocol without sockets."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from holdfast.headers import RawHeaders, first
from holdfast.http1.answer_assembler import AnswerAssembler
from holdfast.http1.framing import Refusal
from holdfast.http1.limits import Limits
from holdfast.http1.request_assembler import RequestAssembler


class Found(NamedTuple):
    """One request, whole."""

    method: bytes
    target: bytes
    headers: RawHeaders
    version: str
    keep: bool
    body: bytes


class Requests(RequestAssembler):
    """Requests that became complete, the one under way, and the refusal that ended it."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits or Limits())
        self.found: list[Found] = []
        self.begun: list[Found] = []
        self.refusal: Refusal | None = None

    def take_request(
        self, method: bytes, target: bytes, headers: RawHeaders, fields: dict[bytes, bytes], *, version: str, keep: bool
    ) -> None:
        for name, _ in headers:
            assert fields[name.lower()] == first(headers, name.lower())
        self.begun.append(Found(method, target, headers, version, keep, b""))

    def take_body(self, data: bytes) -> None:
        if not self.deaf:
            self.begun[-1] = self.begun[-1]._replace(body=self.begun[-1].body + data)

    def take_end(self) -> None:
        if not self.deaf:
            self.found.append(self.begun.pop())

    def take_refusal(self, refusal: Refusal) -> None:
        assert not self.deaf
        assert self.refusal is None
        self.deaf = True
        self.refusal = refusal


def assemble(*pieces: bytes, limits: Limits | None = None) -> Requests:
    """Feed an assembler until it is deaf."""
    requests = Requests(limits)
    for piece in pieces:
        if not requests.deaf:
            requests.feed(piece)
    return requests


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces, cut at these offsets (taken modulo its length)."""
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


class Answers(AnswerAssembler):
    """One answer as it came."""

    def __init__(self, *, head_only: bool = False, max_header_bytes: int = 131_072) -> None:
        super().__init__(max_header_bytes)
        self.status = 0
        self.headers: RawHeaders = []
        self.body = b""
        self.fault: str | None = None
        self.expect(head_only=head_only)

    def take_head(self, status: int, headers: RawHeaders) -> None:
        assert not self.status
        self.status = status
        self.headers = headers

    def take_data(self, data: bytes) -> None:
        assert self.status
        self.body += data

    def take_fault(self, fault: str) -> None:
        assert self.fault is None
        self.fault = fault


def answer(*pieces: bytes, head_only: bool = False, max_header_bytes: int = 131_072) -> Answers:
    """Feed an assembler until its answer is complete or faulty."""
    answers = Answers(head_only=head_only, max_header_bytes=max_header_bytes)
    for piece in pieces:
        if not answers.complete and answers.fault is None:
            answers.feed(piece)
    return answers
