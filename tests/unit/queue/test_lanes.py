"""The names of lanes: those of functions, and those of providers, which older workers must not take for theirs."""

from __future__ import annotations

from holdfast.function import FunctionRef
from holdfast.queue.depth import Consumer
from holdfast.queue.lanes import consumer_of, durable_of, lane_config, provider_of, words_of_provider


def of_lane(words: str) -> Consumer:
    config = lane_config("q", words, 10.0, None)
    return Consumer(str(config.durable_name), str(config.filter_subject), 0, 0, 0, None, None, None)  # type: ignore[arg-type]


def test_each_message_is_handed_out_by_the_consumer_of_its_lane() -> None:
    assert consumer_of(b"q.call.dev.f.c1") == "workers"
    assert consumer_of(b"q.lane.dev.f.c1") == durable_of("dev.f") == "lane~dev~f"
    assert consumer_of(b"q.lane.@0a1b.dev.f.c1") == durable_of("@0a1b") == "provider~0a1b"
    assert provider_of(words_of_provider("0a1b")) == "0a1b"
    assert provider_of("dev.f") == ""


def test_a_function_is_counted_in_the_lane_of_its_provider_as_in_its_own() -> None:
    assert of_lane("@0a1b").narrowed_to(FunctionRef("f", "dev")) == "q.lane.@0a1b.dev.f.>"
    assert of_lane("dev.f").narrowed_to(FunctionRef("f", "dev")) == "q.lane.dev.f.>"
    assert of_lane("dev.g").narrowed_to(FunctionRef("f", "dev")) is None


def test_no_lane_takes_what_stands_in_another() -> None:
    subjects = {"dev.f": "q.lane.dev.f.c1", "@0a1b": "q.lane.@0a1b.dev.f.c1", "@2c3d": "q.lane.@2c3d.dev.f.c1"}
    for words in subjects:
        assert [other for other, subject in subjects.items() if of_lane(words).takes(subject)] == [words]
