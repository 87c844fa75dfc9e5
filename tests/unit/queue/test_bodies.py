"""What is read of large bodies' names, and where they are named."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from holdfast.function import FunctionRef
from holdfast.invocation import CallId, Invocation, StoredBody
from holdfast.queue import dead_letter, parked_callback
from holdfast.queue.answer import KeptAnswer
from holdfast.queue.bodies import HEADS_BYTES, BodyName, inline_limit, new_name
from holdfast.queue.dead_letter import DeadCallback, DeadLetter
from holdfast.queue.message import from_delivery, to_publish, to_publish_later
from holdfast.queue.parked_callback import ParkedCallback
from holdfast.queue.record import CallRecord, CallStatus, Result, decode, encode

REQUEST = StoredBody("request.c-1.0193", 41_943_040, "ab" * 32)
RESULT = StoredBody("result.c-1.0194", 67_108_864, "cd" * 32)
INVOCATION = Invocation(
    CallId("c-1"),
    "m-1",
    FunctionRef("echo", "openfaas-fn"),
    1,
    None,
    b"POST / HTTP/1.1\r\nContent-Length: 41943040\r\n\r\n",
    body=REQUEST,
)
ANSWER = KeptAnswer(200, [(b"Content-Type", b"x/y")], b"", RESULT)


def test_a_call_names_its_body_wherever_it_waits() -> None:
    for message in (to_publish("q", INVOCATION), to_publish_later("q", INVOCATION, datetime.now(UTC))):
        assert from_delivery(*message) == INVOCATION


def test_a_callback_and_both_dead_letters_name_the_bodies_that_they_need() -> None:
    parked = ParkedCallback(INVOCATION, "http://example.com/", "q", ANSWER, 0.5, 1, 2)
    assert parked_callback.from_message(*parked_callback.to_publish_now(parked, "x")).answer == ANSWER
    for letter in (DeadLetter(INVOCATION, "q", 3, "why", ANSWER), DeadCallback(parked, 3, "why")):
        read = dead_letter.from_message(*dead_letter.to_publish(letter))
        assert (read.kind, read.answer, read.invocation.body) == (letter.kind, ANSWER, REQUEST)
    assert ANSWER.size == RESULT.size


def test_a_record_names_the_body_of_its_result_and_one_that_was_written_before_such_bodies_is_read() -> None:
    record = CallRecord.of(INVOCATION, "q", CallStatus.SUCCEEDED)
    for stored in (RESULT, None):
        with_result = record._replace(result=Result(200, [(b"A", b"b")], RESULT.size, stored))
        assert decode(encode(with_result, b"")) == (with_result, b"")


def test_names_sort_by_time_and_say_when_they_were_given() -> None:
    before = time.time()
    name = BodyName.parse(new_name("request", CallId("c-1")))
    assert (name.kind, name.call_id) == ("request", "c-1")
    assert before - 0.01 <= name.begun_at_s <= time.time()
    assert BodyName.parse("request.c-1.of-somebody-else").begun_at_s == 0.0


@pytest.mark.parametrize(
    ("wanted", "max_payload", "limit"),
    [
        (1024 * 1024, 8 * 1024 * 1024, 1024 * 1024),
        (1024 * 1024, 1024 * 1024, (1024 * 1024 - HEADS_BYTES) // 2),
        (1000, 1024 * 1024, 1000),
    ],
)
def test_two_bodies_and_their_heads_fit_into_one_message(wanted: int, max_payload: int, limit: int) -> None:
    assert inline_limit(wanted, max_payload) == limit
    assert 2 * limit + HEADS_BYTES <= max_payload
