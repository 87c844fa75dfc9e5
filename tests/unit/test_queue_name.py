from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import SettingError
from holdfast.queue.topology import stream_of
from holdfast.queue_name import problem_with
from holdfast.settings import GatewaySettings, WorkerSettings


@pytest.mark.parametrize("name", ["faas-request", "slow", "A_b-9", "-", "x" * 64])
def test_a_word_of_letters_digits_and_lines_can_be_a_queue(name: str) -> None:
    assert problem_with(name) is None


@pytest.mark.parametrize("name", ["", "holdfast", "_INBOX", "$JS", "a.b", "a b", "*", ">", "ü", "slow\n", "x" * 65])
def test_a_name_that_means_something_else_in_nats_cannot(name: str) -> None:
    assert problem_with(name) is not None


def test_a_setting_that_cannot_be_a_queue_is_refused_at_start_up() -> None:
    for environ, part in ({"faas_nats_channel": "a.b"}, GatewaySettings), ({"queue_name": "holdfast"}, WorkerSettings):
        with pytest.raises(SettingError, match="a queue's name"):
            part.from_environment(environ)


@given(st.text(max_size=80))
def test_whatever_can_be_a_queue_is_one_word_of_a_subject_and_of_a_streams_name(name: str) -> None:
    if problem_with(name) is None:
        assert name.encode("ascii").translate(None, b" \t\r\n\f.*>$/\\") == name.encode("ascii") != b""
        assert stream_of(name) == f"OF_{name}"
