"""Which ids gateways give, and which ids keys stand for."""

from __future__ import annotations

import uuid

from holdfast.function import FunctionRef
from holdfast.gateway.claims import likely_id
from holdfast.gateway.idempotency import id_of_key, id_of_key_in_0_1, identified
from holdfast.http1.message import read_request
from holdfast.invocation import CallId, Invocation, is_call_id, is_issued_id, new_call_id

SECRET = bytes(range(32))
CHARGE = FunctionRef("charge", "shop")
OWN = CallId("order-4711")


def test_an_id_that_a_gateway_made_is_a_uuid_of_version_8_and_told_from_all_others() -> None:
    ids = {new_call_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {(uuid.UUID(call_id).version, uuid.UUID(call_id).variant) for call_id in ids} == {(8, uuid.RFC_4122)}
    assert all(is_issued_id(call_id) and is_call_id(call_id.encode()) for call_id in ids)
    others = [str(uuid.uuid4()), str(uuid.uuid1()), str(uuid.uuid5(uuid.NAMESPACE_DNS, "x")), "order-4711"]
    others += [new_call_id().upper(), f"{new_call_id()}0", "", "0" * 36]
    assert [one for one in others if is_issued_id(one)] == []


def test_a_key_has_one_id_for_each_secret_namespace_function_and_generation() -> None:
    first = id_of_key(SECRET, CHARGE, "order-1001", 0)
    assert first == id_of_key(SECRET, CHARGE, "order-1001", 0)
    assert is_issued_id(first)
    others = {
        id_of_key(SECRET[::-1], CHARGE, "order-1001", 0),
        id_of_key(SECRET, FunctionRef("charge", "other"), "order-1001", 0),
        id_of_key(SECRET, FunctionRef("refund", "shop"), "order-1001", 0),
        id_of_key(SECRET, CHARGE, "order-1002", 0),
        id_of_key(SECRET, CHARGE, "order-1001", 1),
        id_of_key(SECRET, CHARGE, "order-100", 10),
        id_of_key_in_0_1(CHARGE, "order-1001"),
        first,
    }
    assert len(others) == 8


def test_version_0_1_gave_this_id_to_this_key() -> None:
    # As its gateway answered for `Idempotency-Key: order-1001`.
    assert id_of_key_in_0_1(FunctionRef("echo"), "order-1001") == "a724bb45-903e-5a1b-8ff5-bc090ff49cab"


def test_the_function_is_told_the_id_that_its_call_got_by_its_key() -> None:
    call = Invocation(CallId("x"), "m", CHARGE, 1, None, b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nHi")
    named = identified(call, OWN)
    request = read_request(named.request)
    assert (request.target, request.body, named.call_id) == (b"/a", b"Hi", OWN)
    assert (b"X-Call-Id", b"order-4711") in request.headers
    assert named.message_id.startswith("order-4711-")


def test_a_large_body_is_stored_under_the_id_that_its_call_will_most_likely_have() -> None:
    own_id = new_call_id()
    assert likely_id(own_id, None) == own_id
    assert likely_id(own_id, OWN) == OWN
    assert likely_id(own_id, new_call_id()) == own_id
