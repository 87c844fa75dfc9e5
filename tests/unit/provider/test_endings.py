from datetime import UTC, datetime, timedelta

from holdfast.provider.endings import LastError, LastWords, how_it_ended, latest, still_starting, with_words


def test_an_end_is_told_with_its_code_or_signal_and_whether_it_had_been_ready() -> None:
    assert how_it_ended(1, "", was_ready=False) == "the watchdog ended with code 1 before it was ready"
    assert how_it_ended(0, "", was_ready=True) == "the watchdog ended with code 0"
    assert how_it_ended(-9, "", was_ready=True) == "the watchdog was killed by signal 9"
    assert how_it_ended(-9, "too much memory", was_ready=True) == "too much memory"


def test_the_last_words_are_the_end_of_what_was_written() -> None:
    words = LastWords()
    assert (words.last, words.text()) == ("", "")
    for number in range(100):
        words.add(f"line {number}")
    assert words.last == "line 99"
    assert words.text().splitlines() == [f"line {number}" for number in range(80, 100)]
    for _ in range(9):
        words.add("x" * 10_000)
    assert words.text() == "\n".join(["x" * 500] * 8)
    words.clear()
    words.add("\x1b[31mred\tend")
    assert words.text() == "?[31mred\tend"


def test_a_start_that_takes_long_is_told_of() -> None:
    assert still_starting(3) == ""
    assert still_starting(34.4) == "not ready 34 s after its start"


def test_a_message_has_the_functions_own_words_when_there_are_any() -> None:
    assert with_words("it ended", "Traceback") == "it ended:\nTraceback"
    assert with_words("it ended", "") == "it ended"


def test_the_latest_error_is_shown_in_utc() -> None:
    now = datetime.now(UTC)
    errors = [LastError(now - timedelta(seconds=1), "f-1", "a"), None, LastError(now, "f-2", "b")]
    found = latest(errors)
    assert found is not None
    assert found.document() == {"time": now.isoformat()[:-6] + "Z", "instance": "f-2", "message": "b"}
    assert latest([]) is None
