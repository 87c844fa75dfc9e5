"""`holdfast invoke`."""

import os
import pty
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.acceptance.cli.conftest import (
    CALL_ID,
    FakeGateway,
    Holdfast,
    Request,
    Scripted,
    like_a_gateway,
    on_a_terminal,
)


def test_a_synchronous_call_sends_standard_input_and_prints_the_answer(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    ended = holdfast("invoke", "echo", "-g", gateway.url, stdin=b"Hi")
    assert (ended.code, ended.out, ended.err) == (0, b"answer to Hi", "")
    request = gateway.request()
    assert (request.method, request.target, request.body) == ("POST", "/function/echo", b"Hi")
    assert request.all("Content-Type") == ["text/plain"]


def test_the_body_travels_byte_for_byte_in_both_directions(gateway: FakeGateway, holdfast: Holdfast) -> None:
    body = bytes(range(256)) * 1000
    ended = holdfast("invoke", "echo", "-g", gateway.url, stdin=body)
    assert ended.out == b"answer to " + body
    assert gateway.request().body == body


def test_a_compressed_answer_is_printed_as_it_was_sent(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b not really")
    assert holdfast("invoke", "echo", "-g", gateway.url).out == b"\x1f\x8b not really"


def test_headers_method_query_namespace_and_content_type_are_sent_as_given(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    arguments = ["-m", "put", "--query", "a=1 2", "--query", "a=ä&b", "-n", "dev", "--content-type", "application/json"]
    headers = ["-H", "X-Twice: one", "-H", "X-Twice=two: three", "--header", "X-Text: grüße"]
    gateway.answering = lambda _: Scripted()
    assert holdfast("invoke", "echo", "-g", gateway.url, *arguments, *headers, stdin=b"{}").code == 0
    request = gateway.request()
    assert (request.method, request.target) == ("PUT", "/function/echo.dev?a=1%202&a=%C3%A4%26b")
    assert request.all("X-Twice") == ["one", "two: three"]
    assert request.all("X-Text")[0].encode("latin-1").decode() == "grüße"
    assert request.all("Content-Type") == ["application/json"]


def test_a_content_type_given_as_a_header_is_the_only_one(gateway: FakeGateway, holdfast: Holdfast) -> None:
    holdfast("invoke", "echo", "-g", gateway.url, "-H", "content-type: text/csv")
    assert gateway.request().all("Content-Type") == ["text/csv"]


def test_an_asynchronous_call_prints_its_id_and_nothing_else_on_standard_output(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    ended = holdfast("invoke", "-a", "figlet", "-g", gateway.url, stdin=b"Hi")
    assert (ended.code, ended.out) == (0, CALL_ID.encode() + b"\n")
    assert "nobody is told" in ended.err
    request = gateway.request()
    assert (request.method, request.target, request.body) == ("POST", "/async-function/figlet", b"Hi")


def test_a_callback_header_means_an_asynchronous_call(gateway: FakeGateway, holdfast: Holdfast) -> None:
    ended = holdfast(
        "invoke", "figlet", "-H", "X-Callback-Url: http://127.0.0.1:8888", "-g", gateway.url, stdin=b"Hi", name="faas"
    )
    assert (ended.code, ended.out) == (0, CALL_ID.encode() + b"\n")
    assert "http://127.0.0.1:8888" in ended.err
    request = gateway.request()
    assert request.target == "/async-function/figlet"
    assert request.all("X-Callback-Url") == ["http://127.0.0.1:8888"]


def test_an_asynchronous_call_with_another_method_is_refused_before_anything_is_sent(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    ended = holdfast("invoke", "figlet", "-a", "-m", "GET", "-g", gateway.url)
    assert ended.code == 2
    assert "always POST" in ended.err
    assert gateway.received.empty()


def test_a_function_that_fails_gives_exit_code_6_its_answer_and_its_status(
    gateway: FakeGateway, holdfast: Holdfast
) -> None:
    gateway.answering = lambda _: Scripted(503, {}, b"out of paper")
    ended = holdfast("invoke", "echo", "-g", gateway.url)
    assert (ended.code, ended.out) == (6, b"out of paper")
    assert "echo answered 503 Service Unavailable" in ended.err


def test_a_refused_asynchronous_call_shows_the_gateways_text(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(413, {}, b"the body is larger than 1048576 bytes\n")
    ended = holdfast("invoke", "figlet", "-a", "-g", gateway.url)
    assert (ended.code, ended.out) == (6, b"")
    assert "413 the body is larger than 1048576 bytes" in ended.err


@pytest.mark.parametrize("mode", [[], ["-a"]])
def test_an_unknown_function_is_answered_with_names_that_look_like_it(
    gateway: FakeGateway, holdfast: Holdfast, mode: list[str]
) -> None:
    ended = holdfast("invoke", "figlt", "-g", gateway.url, *mode)
    assert (ended.code, ended.out) == (5, b"")
    assert "Did you mean figlet?" in ended.err


def test_a_404_of_the_function_itself_is_its_answer(gateway: FakeGateway, holdfast: Holdfast) -> None:
    def answering(request: Request) -> Scripted:
        if request.target.startswith("/function/echo"):
            return Scripted(404, {}, b"no such page")
        return like_a_gateway(request)

    gateway.answering = answering
    ended = holdfast("invoke", "echo", "-g", gateway.url)
    assert (ended.code, ended.out) == (6, b"no such page")


@pytest.mark.parametrize("body", [b"broken", b"broken\n", b""])
def test_on_a_terminal_the_status_has_a_line_of_its_own(gateway: FakeGateway, holdfast: Holdfast, body: bytes) -> None:
    gateway.answering = lambda _: Scripted(500, {}, body)
    arguments = ("invoke", "figlet", "-g", gateway.url)
    shown = on_a_terminal(holdfast, *arguments, environ={"NO_COLOR": "1"}, stream="both")
    assert (
        shown.replace(b"\r\n", b"\n") == (b"broken\n" if body else b"") + b"figlet answered 500 Internal Server Error\n"
    )


def test_a_redirect_is_not_followed(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(302, {"Location": f"{gateway.url}/elsewhere"}, b"over there")
    assert holdfast("invoke", "echo", "-g", gateway.url).out == b"over there"
    gateway.request()
    assert gateway.received.empty()


def test_a_proxy_of_the_environment_is_not_used(gateway: FakeGateway, holdfast: Holdfast) -> None:
    proxy = {"http_proxy": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9"}
    assert holdfast("invoke", "echo", "-g", gateway.url, environ=proxy).code == 0


def test_the_gateway_can_be_named_by_the_environment(gateway: FakeGateway, holdfast: Holdfast) -> None:
    assert holdfast("invoke", "echo", environ={"OPENFAAS_URL": gateway.url}).code == 0


def test_a_password_is_not_sent_to_a_function(gateway: FakeGateway, holdfast: Holdfast) -> None:
    secret = {"OPENFAAS_USER": "admin", "OPENFAAS_PASSWORD": "secret"}
    holdfast("invoke", "echo", "-g", gateway.url, environ=secret)
    assert gateway.request().all("Authorization") == []


def test_a_gateway_that_is_not_there_is_named_with_how_to_start_one(holdfast: Holdfast) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ended = holdfast("invoke", "echo", "-g", f"http://127.0.0.1:{port}", name="faas")
    assert ended.code == 3
    assert f"http://127.0.0.1:{port}: connection refused" in ended.err
    assert "faas serve" in ended.err


def test_an_answer_that_breaks_off_is_a_failure(holdfast: Holdfast) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_half() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

        thread = threading.Thread(target=answer_half)
        thread.start()
        ended = holdfast("invoke", "echo", "-g", f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert (ended.code, ended.out) == (3, b"half")
    assert "may have been carried out" in ended.err


def test_a_silent_gateway_is_given_up_after_the_timeout(holdfast: Holdfast) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended = holdfast("invoke", "echo", "--timeout", "200ms", "-g", url)
    assert ended.code == 3
    assert "did not answer in time" in ended.err


def test_events_are_printed_when_they_come(gateway: FakeGateway, holdfast: Holdfast) -> None:
    seen = threading.Event()

    def events() -> Iterator[bytes]:
        yield b"one\n"
        assert seen.wait(20)
        yield b"two\n"

    gateway.answering = lambda _: Scripted(200, {}, events())
    process = holdfast.start("invoke", "echo", "-g", gateway.url, stdin=subprocess.DEVNULL)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"one\n"
        seen.set()
        assert process.stdout.read() == b"two\n"
    assert process.returncode == 0


def test_ctrl_c_ends_a_waiting_call_with_130_and_no_traceback(gateway: FakeGateway, holdfast: Holdfast) -> None:
    stopped = threading.Event()

    def waiting(_: Request) -> Scripted:
        stopped.wait(30)
        return Scripted()

    gateway.answering = waiting
    process = holdfast.start("invoke", "echo", "-g", gateway.url, stdin=subprocess.DEVNULL)
    gateway.request()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    stopped.set()
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


def test_a_reader_that_leaves_ends_the_command_quietly(gateway: FakeGateway, holdfast: Holdfast) -> None:
    gateway.answering = lambda _: Scripted(200, {}, (b"x" * 65536 for _ in range(1000)))
    process = holdfast.start("invoke", "echo", "-g", gateway.url, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr is not None
    with process:
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_person_at_a_terminal_is_told_that_the_body_is_read(gateway: FakeGateway, holdfast: Holdfast) -> None:
    ours, theirs = pty.openpty()
    process = holdfast.start("invoke", "echo", "-g", gateway.url, stdin=theirs)
    os.close(theirs)
    assert process.stderr is not None
    assert b"Ctrl-D" in process.stderr.readline()
    os.write(ours, b"typed\n\x04")
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    assert out == b"answer to typed\n"


def test_a_get_at_a_terminal_asks_for_no_body(gateway: FakeGateway, holdfast: Holdfast) -> None:
    ours, theirs = pty.openpty()
    process = holdfast.start("invoke", "echo", "-m", "GET", "-g", gateway.url, stdin=theirs)
    os.close(theirs)
    _, err = process.communicate(timeout=30)
    os.close(ours)
    assert (process.returncode, err) == (0, b"")
    assert gateway.request().method == "GET"


@pytest.mark.parametrize(
    "arguments",
    [["figlet", "-H", "no sign"], ["figlet", "--query", "x"], ["a/b"], ["figlet", "-g", "ftp://x"], []],
)
def test_what_cannot_be_understood_is_exit_code_2_and_nothing_is_sent(
    gateway: FakeGateway, holdfast: Holdfast, arguments: list[str]
) -> None:
    ended = holdfast("invoke", *arguments, environ={"OPENFAAS_URL": gateway.url})
    assert ended.code == 2
    assert "Try 'holdfast invoke" in ended.err
    assert gateway.received.empty()
