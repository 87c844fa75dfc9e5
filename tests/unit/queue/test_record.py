import json

from hypothesis import given
from hypothesis import strategies as st

from holdfast.function import FunctionRef
from holdfast.invocation import Attempt, CallId, StoredBody
from holdfast.queue.record import CallbackStatus, CallRecord, CallStatus, Result, decode, encode

names = st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True)
instants = st.integers(0, 2**63)
texts = st.text(max_size=40)
attempts = st.builds(Attempt, instants, st.floats(0, 1e6), st.integers(100, 599), st.one_of(st.none(), texts))
stored = st.builds(StoredBody, st.just("result.c-1.0193"), st.integers(0, 2**40), st.just("ab" * 32))
in_headers = st.binary(max_size=20).filter(lambda text: b"\n" not in text)
headers = st.lists(st.tuples(in_headers, in_headers), max_size=4)
plain = st.builds(
    CallRecord,
    call_id=st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True).map(CallId),
    message_id=st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True),
    function=st.builds(FunctionRef, names, names),
    queue=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    status=st.sampled_from(CallStatus),
    accepted_at_ns=instants,
    attempts=st.lists(attempts, max_size=3).map(tuple),
    running_since_ns=st.one_of(st.none(), instants),
    next_attempt_at_ns=st.one_of(st.none(), instants),
    finished_at_ns=st.one_of(st.none(), instants),
    result=st.one_of(
        st.none(), st.builds(Result, st.integers(100, 599), headers, st.integers(0, 2**40), st.none() | stored)
    ),
    reason=st.one_of(st.none(), texts),
    callback_url=st.none(),
    callback=st.just(CallbackStatus.NONE),
    callback_attempts=st.just(0),
    callback_error=st.none(),
    callback_next_at_ns=st.none(),
    chain_id=st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True).map(CallId),
)
called_back = st.builds(
    lambda record, url, callback, tries, error, next_at: record._replace(
        callback_url=url,
        callback=callback,
        callback_attempts=tries,
        callback_error=error,
        callback_next_at_ns=next_at,
    ),
    plain,
    texts,
    st.sampled_from(sorted(set(CallbackStatus) - {CallbackStatus.NONE})),
    st.integers(0, 1000),
    st.one_of(st.none(), texts),
    st.one_of(st.none(), instants),
)


@given(st.one_of(plain, called_back), st.binary(max_size=50))
def test_a_record_is_read_as_it_was_written(record: CallRecord, body: bytes) -> None:
    assert decode(encode(record, body)) == (record, body)


def test_a_record_is_a_line_of_json_before_the_body() -> None:
    record = CallRecord(CallId("c"), "m", FunctionRef("figlet"), "q", CallStatus.SUCCEEDED, 1, reason='"\n\\é')
    line, _, body = encode(record, b"\nbody\n").partition(b"\n")
    assert json.loads(line)["reason"] == '"\n\\é'
    assert body == b"\nbody\n"
