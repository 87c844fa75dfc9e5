"""An invocation on its way through a stream, and its record."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.function import FunctionRef
from holdfast.invocation import Attempt, CallId, Invocation, StoredBody
from holdfast.queue import wire
from holdfast.queue.message import (
    Undecodable,
    from_delivery,
    original_of,
    replayed,
    subject_of,
    subjects_of_call,
    to_move_to_provider,
    to_publish,
    to_publish_later,
    was_recorded,
)
from holdfast.queue.record import CallbackStatus, CallRecord, CallStatus, Result, UnreadableRecord, decode, encode

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nHi"
CALL = Invocation(CallId("c1"), "m1", FunctionRef("figlet", "dev"), 1_543_915_495_384_346_700, None, REQUEST)

labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
ids = st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True).map(CallId)
urls = st.none() | st.from_regex(r"https?://[a-z]{1,9}/[!-~]{0,40}", fullmatch=True)
providers = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
attempts = st.builds(
    Attempt,
    st.integers(0, 2**62),
    st.floats(0, 1e6),
    st.integers(100, 599),
    st.none() | st.text(max_size=30),
)
invocations = st.builds(
    Invocation,
    ids,
    ids,
    st.builds(FunctionRef, labels, labels),
    st.integers(0, 2**62),
    urls,
    st.binary(max_size=50).map(lambda body: b"POST / HTTP/1.1\r\n\r\n" + body),
    attempts=st.lists(attempts, max_size=3).map(tuple),
    failure_callback_url=urls,
    timeout_s=st.none() | st.floats(0.001, 1e6),
    expires_at_ns=st.none() | st.integers(0, 2**62),
    depth=st.integers(0, 9),
    body=st.none() | st.builds(StoredBody, ids.map("request.{}.1".format), st.integers(0, 2**40), st.just("ab" * 32)),
    provider=st.just("") | providers,
    refused_by=st.lists(providers, max_size=2).map(tuple),
    chain_id=st.none() | ids,
)


@given(invocations)
def test_a_call_is_read_as_it_was_published(call: Invocation) -> None:
    assert from_delivery(*to_publish("faas-request", call)) == call


@given(invocations)
def test_a_parked_call_is_read_as_it_was_published(call: Invocation) -> None:
    at = datetime(2026, 11, 24, 12, 0, 0, 250_000, tzinfo=UTC)
    subject, headers, payload = to_publish_later("faas-request", call, at)
    assert wire.header(headers, b"Nats-Schedule") == b"@at 2026-11-24T12:00:00.250000Z"
    assert wire.header(headers, b"Nats-Schedule-Target") == subject_of("faas-request", call.function, call.call_id)
    assert from_delivery(subject, headers, payload) == call


def test_a_call_is_found_by_its_subject() -> None:
    assert to_publish("q", CALL).subject == b"q.call.dev.figlet.c1"
    assert to_publish_later("q", CALL, datetime.now(UTC)).subject == b"q.later.dev.figlet.c1.m1"
    assert subjects_of_call("q", CALL.call_id) == (
        b"q.later.*.*.c1.*",
        b"q.call.*.*.c1",
        b"q.lane.*.*.c1",
        b"q.lane.*.*.*.c1",
    )


def test_a_call_for_another_provider_stands_in_that_ones_lane_once_for_each_time_it_is_handed_on() -> None:
    call = CALL._replace(provider="0a1b")
    assert to_move_to_provider("q", call).subject == b"q.lane.@0a1b.dev.figlet.c1"
    handed_on = call._replace(provider="2c3d", refused_by=("0a1b",))
    retried = call._replace(attempts=(Attempt(1, 1.0, 500),))
    headers = [to_move_to_provider("q", one).headers for one in (call, call, handed_on, retried)]
    assert len({wire.header(lines, b"Nats-Msg-Id") for lines in headers}) == 3
    assert from_delivery(*to_move_to_provider("q", handed_on)) == handed_on


def test_each_retry_is_a_message_of_its_own() -> None:
    once = CALL._replace(attempts=(Attempt(1, 1.0, 500),))
    at = datetime.now(UTC)
    message_ids = {
        wire.header(publication.headers, b"Nats-Msg-Id")
        for publication in (to_publish("q", CALL), to_publish_later("q", CALL, at), to_publish_later("q", once, at))
    }
    assert message_ids == {b"m1", b"m1/0", b"m1/1"}


@pytest.mark.parametrize(
    "change",
    [
        (b"Holdfast-Call-Id: c1", b"Holdfast-Call-Id: a/b"),
        (b"Holdfast-Call-Id: c1\r\n", b""),
        (b"Holdfast-Chain-Id: first", b"Holdfast-Chain-Id: a/b"),
        (b"Holdfast-Chain-Id: first", b"Holdfast-Chain-Id: "),
        (b"Holdfast-Message-Id: m1\r\n", b""),
        (b"Holdfast-Function: figlet.dev\r\n", b""),
        (b"Holdfast-Function: figlet", b"Holdfast-Function: \xff"),
        (b"Holdfast-Accepted-At: 1", b"Holdfast-Accepted-At: -1"),
        (b"Holdfast-Depth: 1", b"Holdfast-Depth: many"),
        (b"Holdfast-Attempts: [[", b"Holdfast-Attempts: [[[["),
        (b"Holdfast-Attempts: [[1,", b'Holdfast-Attempts: [["1",'),
        (b"Holdfast-Attempts: [[1,1.0", b"Holdfast-Attempts: [[1,NaN"),
        (b"Holdfast-Attempts: [[", b"Holdfast-Attempts: " + b"[" * 100_000),
        (b"Holdfast-Timeout: 1.0", b"Holdfast-Timeout: nan"),
        (b"Holdfast-Function: figlet.dev", b"Holdfast-Function: "),
        (b"Holdfast-Provider: 0a1b", b"Holdfast-Provider: a.>"),
        (b"Holdfast-Refused-By: 2c3d", b"Holdfast-Refused-By: a,"),
    ],
)
def test_poison_is_told_apart_with_its_subject(change: tuple[bytes, bytes]) -> None:
    call = CALL._replace(
        depth=1,
        attempts=(Attempt(1, 1.0, 500),),
        timeout_s=1.0,
        provider="0a1b",
        refused_by=("2c3d",),
        chain_id=CallId("first"),
    )
    subject, headers, payload = to_publish("q", call)
    assert change[0] in headers
    with pytest.raises(Undecodable) as caught:
        from_delivery(subject, headers.replace(*change), payload)
    assert caught.value.subject == subject


@given(invocations, st.sampled_from([b"", b"Nats-Batch-Commit: 1\r\n"]))
def test_a_call_that_was_stored_in_a_batch_is_the_same_call(call: Invocation, commit: bytes) -> None:
    subject, headers, payload = to_publish("q", call)
    batch = b"NATS/1.0\r\nNats-Batch-Id: 0a1b-7\r\nNats-Batch-Sequence: 12\r\n" + commit
    assert from_delivery(subject, headers.replace(b"NATS/1.0\r\n", batch, 1), payload) == call


def test_a_payload_that_is_no_http_message_is_poison() -> None:
    subject, headers, _ = to_publish("q", CALL)
    with pytest.raises(Undecodable, match="not an HTTP message"):
        from_delivery(subject, headers, b"{}")


@given(invocations, st.sampled_from(CallStatus), st.binary(max_size=100))
def test_a_record_is_read_as_it_was_written(call: Invocation, status: CallStatus, body: bytes) -> None:
    record = CallRecord.of(call, "faas-request", status)._replace(
        result=Result(200, [(b"X-Latin", b"Gr\xfc\xdfe"), (b"X", b"1"), (b"x", b"2")], len(body)),
        callback=CallbackStatus.DELIVERED,
        callback_attempts=2,
    )
    assert decode(encode(record, body)) == (record, body)


@pytest.mark.parametrize(
    "change",
    [
        (b'"accepted_at_ns":', b'"accepted_at_ns":-'),
        (b'"queue":"faas-request"', b'"queue":null'),
        (b'"callback_attempts":2', b'"callback_attempts":"2"'),
        (b'"result":[200,"X\\n1"', b'"result":[200,[["X","1"]]'),
        (b'"result":[200,"X\\n1"', b'"result":[200,"X"'),
        (b'"result":[200', b'"result":["200"'),
        (b'"attempts":[', b'"attempts":[[1,1e999,200,null],'),
        (b'"reason":"why"', b'"reason":1'),
        (b'"reason":"why"', b'"reason":' + b"[" * 100_000),
    ],
)
def test_a_record_with_a_field_of_another_kind_is_said_to_be_none(change: tuple[bytes, bytes]) -> None:
    record = CallRecord.of(CALL, "faas-request", CallStatus.FAILED)._replace(
        result=Result(200, [(b"X", b"1")], 0),
        attempts=(Attempt(1, 1.0, 500),),
        reason="why",
        callback_url="http://h/",
        callback=CallbackStatus.DELIVERED,
        callback_attempts=2,
    )
    payload = encode(record, b"")
    assert change[0] in payload
    with pytest.raises(UnreadableRecord):
        decode(payload.replace(*change))


@given(st.binary(max_size=60))
def test_what_is_no_record_is_said_to_be_none(payload: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        decode(payload)


@given(invocations, st.integers(0, 2**62))
def test_a_replayed_call_is_another_message_that_knows_which_it_was(call: Invocation, died_at_ns: int) -> None:
    again = replayed(call, died_at_ns)
    assert (again.call_id, again.request, again.attempts, again.expires_at_ns) == (call.call_id, call.request, (), None)
    assert again.message_id != call.message_id
    assert original_of(again.message_id) == original_of(replayed(again, died_at_ns + 1).message_id) == call.message_id
    assert was_recorded(again)
    assert from_delivery(b"", to_publish("q", again).headers, again.request) == again


@pytest.mark.parametrize(
    ("call_id", "message_id", "recorded"),
    [("a1", "a1", False), ("mine", "a1", False), ("a1", "a1-fingerprint", True)],
    ids=["an id of the gateway's", "an id of its caller's", "a key"],
)
def test_a_call_with_a_key_has_a_record_before_it_is_run(call_id: str, message_id: str, recorded: bool) -> None:  # noqa: FBT001 - a row of the table
    assert was_recorded(CALL._replace(call_id=CallId(call_id), message_id=message_id)) is recorded
