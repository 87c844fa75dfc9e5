from holdfast.client.administration import once


def test_what_a_function_wrote_twice_is_told_once() -> None:
    assert once(["Traceback", "RuntimeError: no key", "Traceback", "RuntimeError: no key"]) == (
        "Traceback",
        "RuntimeError: no key",
    )
    assert once(["one", "two", "three", "two"]) == ("one", "two", "three", "two")
    assert once(["one", "one", "one"]) == ("one", "one", "one")
    assert once([]) == ()
