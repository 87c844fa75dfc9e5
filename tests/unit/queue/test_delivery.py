from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.queue.delivery import Memory, Receipt, is_delivery, read_receipt
from holdfast.queue.wire import Msg


@pytest.mark.parametrize(
    "reply",
    [
        b"$JS.ACK.OF_work.workers.3.41.57.1795511424135349825.9",
        b"$JS.ACK._.AbCdEf.OF_work.workers.3.41.57.1795511424135349825.9",
        b"$JS.ACK.hub.AbCdEf.OF_work.workers.3.41.57.1795511424135349825.9.r4nd0m",
    ],
)
def test_a_receipt_is_read_in_each_of_its_forms(reply: bytes) -> None:
    assert read_receipt(reply) == Receipt(b"41@1795511424135349825", sequence=41, delivered=3, behind=9)


def test_the_same_sequence_of_another_stream_is_another_message() -> None:
    old = read_receipt(b"$JS.ACK.OF_work.workers.1.1.1.1700000000000000000.0")
    new = read_receipt(b"$JS.ACK.OF_work.workers.1.1.1.1700000000000000001.0")
    assert old.sequence == new.sequence
    assert old.key != new.key


def test_a_status_of_a_pull_is_no_delivery() -> None:
    assert not is_delivery(Msg(b"1", b"_INBOX.x", b"", b"NATS/1.0 408 Request Timeout\r\n\r\n", b""))
    assert is_delivery(Msg(b"1", b"work.call.ns.f.id", b"$JS.ACK.OF_work.workers.1.1.1.1.0", b"", b""))


@given(st.lists(st.integers(0, 400).map(lambda number: b"%d" % number), max_size=300), st.integers(1, 50))
def test_the_last_that_ended_are_remembered_and_the_memory_stays_bounded(keys: list[bytes], size: int) -> None:
    memory = Memory(size)
    for key in keys:
        memory.add(key)
    assert all(key in memory for key in keys[-size:])
    assert len(memory._new) + len(memory._old) <= 2 * size
