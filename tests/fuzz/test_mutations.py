"""A short taste of fuzzing in every run of the tests: random bytes, and valid inputs with a few bytes changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

EDITS = st.lists(
    st.tuples(
        st.integers(0, 2000),
        st.integers(0, 4),
        st.one_of(
            st.binary(max_size=4),
            st.sampled_from(
                [b"\r\n", b"\n", b"\0", b": ", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n"]
            ),
        ),
    ),
    max_size=5,
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_and_random_inputs_break_no_promise(name: str) -> None:
    @given(st.one_of(st.binary(max_size=200), st.sampled_from(seeds(name))), EDITS)
    @settings(max_examples=100)
    def run(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
        for place, length, text in edits:
            at = place % (len(data) + 1)
            data = data[:at] + text + data[at + length :]
        TARGETS[name](data)

    run()
