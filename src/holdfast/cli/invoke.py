"""`invoke`: call a function, synchronously or asynchronously."""

from __future__ import annotations

import sys
from typing import NamedTuple

import click

from holdfast.cli.calls import outcome, print_answer, print_result
from holdfast.cli.command import Command, gateway_option, name_argument, namespace_option
from holdfast.cli.exits import Exit
from holdfast.cli.values import duration, header, query_pair
from holdfast.client import find_credentials
from holdfast.client.calls import Calls
from holdfast.client.errors import GatewayError, GatewayRefused, UnknownFunction
from holdfast.client.gateway import Gateway


@click.command(
    "invoke",
    cls=Command,
    examples=[
        ("call and wait", "holdfast invoke figlet <<< Hi"),
        ("call asynchronously; standard output gets the call's id alone", "holdfast invoke -a figlet <<< Hi"),
        ("store the call, wait for its end and print the answer", "holdfast invoke --async --wait figlet <<< Hi"),
        (
            "a callback URL means asynchronously",
            'holdfast invoke figlet -H "X-Callback-Url: http://127.0.0.1:8888" <<< Hi',
        ),
        (
            "send JSON with a query",
            "holdfast invoke env --content-type application/json --query verbose=1 < order.json",
        ),
    ],
)
@name_argument
@gateway_option
@namespace_option
@click.option("-a", "--async", "asynchronous", is_flag=True, help="Do not wait: print the call's id once it is stored.")
@click.option("--wait", is_flag=True, help="Call asynchronously, wait for the end, and print the function's answer.")
@click.option(
    "-H",
    "--header",
    "headers",
    type=header,
    multiple=True,
    metavar="HEADER",
    help="'Name: value' or Name=value; may be given again. X-Callback-Url implies --async.",
)
@click.option(
    "--query",
    type=query_pair,
    multiple=True,
    metavar="KEY=VALUE",
    help="Added to the query; may be given again.",
)
@click.option(
    "-m",
    "--method",
    default="POST",
    metavar="METHOD",
    show_default=True,
    help="HTTP method; asynchronous calls are POST.",
)
@click.option(
    "--content-type", metavar="TYPE", default="text/plain", show_default=True, help="Content-Type of the body."
)
@click.option(
    "--timeout",
    type=duration,
    default="15m",
    show_default=True,
    metavar="DURATION",
    help="Longest silence of the gateway to bear; with --wait, the longest time to wait.",
)
def invoke(
    *,
    name: str,
    gateway: str,
    namespace: str,
    asynchronous: bool,
    wait: bool,
    headers: tuple[tuple[str, str], ...],
    query: tuple[tuple[str, str], ...],
    method: str,
    content_type: str,
    timeout: float,
) -> Exit:
    """Call a function, and print its answer or the call's id.

    The body is read from standard input. A synchronous call prints the answer's body, byte for byte; a status of 400
    or above is named on standard error and gives exit code 6. An asynchronous call prints its id,
    with --wait instead the answer, and exits as the synchronous call does; 7 when the call was cancelled or expired,
    8 when it had not ended in time.
    """
    callback_url = next((value for key, value in headers if key.lower() == "x-callback-url"), None)
    asynchronous = asynchronous or wait or callback_url is not None
    method = method.upper()
    if asynchronous and method != "POST":
        raise click.UsageError(f"an asynchronous call is always POST, not {method}: leave out -m {method}")
    if not any(key.lower() == "content-type" for key, _ in headers):
        headers = (*headers, ("Content-Type", content_type))
    call = Call(name, namespace, method, headers, query, timeout)
    body = _read_body(wanted=method not in {"GET", "HEAD", "OPTIONS"})
    with Gateway(gateway, find_credentials(gateway)) as client:
        if asynchronous:
            call_id = _store(client, call, body)
            if wait:
                return _wait(client, call, call_id)
            whither = (
                f"its result goes to {callback_url}" if callback_url else "no callback URL was given, so nobody is told"
            )
            click.echo(f"Accepted: {call.name} will run; {whither}. Call id:", err=True)
            click.echo(call_id)
            return Exit.DONE
        return _call(client, call, body)


class Call(NamedTuple):
    """What to send, apart from the body."""

    name: str
    namespace: str
    method: str
    headers: tuple[tuple[str, str], ...]
    query: tuple[tuple[str, str], ...]
    timeout_s: float

    @property
    def route(self) -> str:
        """The function as it stands in the URL."""
        return f"{self.name}.{self.namespace}" if self.namespace else self.name


def _read_body(*, wanted: bool) -> bytes:
    """All of standard input. A person at a terminal is told that it is being read, and spared it for a plain GET."""
    if sys.stdin.isatty():
        if not wanted:
            return b""
        click.echo("Reading the body from the terminal: Ctrl-D on an empty line ends it.", err=True)
    return sys.stdin.buffer.read()


def _call(client: Gateway, call: Call, body: bytes) -> Exit:
    with client.invoke(
        call.route,
        body=body,
        method=call.method,
        headers=call.headers,
        query=call.query,
        timeout_s=call.timeout_s,
    ) as answer:
        if answer.status == 404:
            _refuse_unknown(client, call)
        return print_answer(answer, call.name)


def _refuse_unknown(client: Gateway, call: Call) -> None:
    """Tell the gateway's 404 (no such function) from the function's own, which is an answer like any other."""
    try:
        known = {function.name for function in client.functions(call.namespace)}
    except GatewayError:
        return
    if call.name not in known and call.name.rpartition(".")[0] not in known:
        raise UnknownFunction(client.url, call.name, client.similar(call.name, call.namespace))


def _store(client: Gateway, call: Call, body: bytes) -> str:
    """Have the call accepted; gives its own id, which is not the X-Call-Id that it came with when another has that."""
    with client.invoke(
        call.route,
        body=body,
        headers=call.headers,
        query=call.query,
        asynchronous=True,
        timeout_s=call.timeout_s,
    ) as answer:
        if answer.status == 404:
            raise UnknownFunction(client.url, call.name, client.similar(call.name, call.namespace))
        call_id: str | None = answer.headers.get("X-Call-Id")
        if answer.status != 202 or call_id is None:
            raise GatewayRefused(client.url, f"accept the call of {call.name}", answer.status, answer.text())
        # OpenFaaS's own gateway sends no Location.
        where, _, own_id = answer.headers.get("Location", "").rpartition("/")
    return own_id if where == "/async-function" else call_id


def _wait(client: Gateway, call: Call, call_id: str) -> Exit:
    # Named before the wait: whoever presses Ctrl-C can still ask for it.
    click.echo(f"Accepted, waiting for its end. Call id: {call_id}", err=True)
    found = Calls(client).wait(call_id, call.timeout_s)
    if found.has_ended and found.has_result:
        return print_result(client, call_id)
    click.secho(f"{call.name}: the call is {found.status}. {found.reason}".rstrip(), err=True, fg="red")
    return outcome(found)
