from holdfast.watchdog.event import Event


def event(target: bytes = b"/", headers: list[tuple[bytes, bytes]] | None = None) -> Event:
    return Event(b"POST", target, headers or [], b"body")


def test_the_target_arrives_as_sent_and_the_path_is_its_first_part() -> None:
    found = event(b"/a%2Fb//..?x=%20&y=")
    assert (found.method, found.body) == ("POST", b"body")
    assert found.target == "/a%2Fb//..?x=%20&y="
    assert found.path == "/a%2Fb//.."


def test_query_fields_are_decoded_and_repeated_ones_are_all_there() -> None:
    query = event(b"/?a=1&b=x%20y+z&a=2&empty=").query
    assert dict(query) == {"a": "1", "b": "x y z", "empty": ""}
    assert query.getlist("a") == ["1", "2"]
    assert query.get("missing") is None
    assert len(query) == 3


def test_headers_are_found_in_any_spelling_and_repeated_ones_are_all_there() -> None:
    raw = [(b"X-One", b"1"), (b"accept", b"a"), (b"ACCEPT", b"b\xe9")]
    headers = event(headers=raw).headers
    assert headers["x-oNe"] == "1"
    assert headers.get("Accept") == "a, bé"
    assert headers.getlist("accept") == ["a", "bé"]
    assert headers.raw is raw
    assert "x-one" in headers
    assert headers.get("missing") is None
    assert sorted(headers) == ["accept", "x-one"]
