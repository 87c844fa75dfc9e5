"""`calls`: what became of asynchronous calls, their results, and cancelling them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeVar

import click

from holdfast.cli.command import Command, Group, complete_queue, function_option, gateway_option, output_option
from holdfast.cli.exits import Exit
from holdfast.cli.listing import print_table
from holdfast.cli.output import fields
from holdfast.cli.progress import say
from holdfast.cli.values import call_id, duration
from holdfast.client import find_credentials
from holdfast.client.calls import Calls, CallStatus
from holdfast.client.gateway import Answer, Gateway
from holdfast.function import FunctionRef

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_STATUSES = ("waiting", "scheduled", "running", "retrying", "succeeded", "failed", "cancelled", "expired")
_CALLBACKS = ("pending", "delivered", "failed", "cancelled")
_OUTCOMES = {
    "succeeded": Exit.DONE,
    "failed": Exit.ERROR_ANSWER,
    "cancelled": Exit.CALL_NOT_RUN,
    "expired": Exit.CALL_NOT_RUN,
}


@click.group("calls", cls=Group)
def calls() -> None:
    """Ask after asynchronous calls, and cancel them.

    A call's id is what `invoke --async` prints. Whoever knows it may ask; a password is needed for the list alone.
    """


def _id_argument(function: Decorated) -> Decorated:
    return click.argument("call", type=call_id, metavar="ID")(function)


@calls.command(
    "list",
    cls=Command,
    examples=[
        ("the last calls, newest first", "holdfast calls list"),
        ("what failed lately of one function", "holdfast calls list --function charge --status failed"),
        ("whose receiver was not told yet", "holdfast calls list --callback pending"),
        ("all that waits in a queue, for a script", "holdfast calls list --queue slow --status waiting -o json"),
    ],
)
@function_option("Only calls of this function, NAME or NAME.NAMESPACE.")
@click.option("--queue", default="", metavar="QUEUE", help="Only calls of this queue.", shell_complete=complete_queue)
@click.option("--status", type=click.Choice(_STATUSES), help="Only calls in this state.")
@click.option("--callback", type=click.Choice(_CALLBACKS), help="Only calls whose callback is in this state.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="Show no more than so many."
)
@gateway_option
@output_option
def list_(
    *, function: str, queue: str, status: str | None, callback: str | None, limit: int, gateway: str, output: str
) -> None:
    """List calls, those that changed last first.

    Calls that have ended are in it as long as their records are kept, a day by default (results_ttl).
    """
    filters = {"function": function, "queue": queue, "status": status, "callback": callback}
    selection = {name: value for name, value in filters.items() if value}
    with _gateway(gateway) as client:
        # One more than is shown tells whether there are more.
        found = list(islice(Calls(client).each(selection), limit + 1))
    if output == "json":
        click.echo(json.dumps(found[:limit], indent=2))
    elif found:
        print_table(_HEADING, [_row(call) for call in found[:limit]], right=frozenset({4, 5}))
    else:
        say("No calls.")
    if len(found) > limit:
        say(f"There are more than {limit}: --limit shows more, --function, --queue, --status and --callback choose.")


@calls.command(
    "show",
    cls=Command,
    examples=[
        ("what became of a call", "holdfast calls show 5d2f0c7a"),
        ("as JSON, for a script", "holdfast calls show 5d2f0c7a --output json"),
    ],
)
@_id_argument
@gateway_option
@output_option
def show(*, call: str, gateway: str, output: str) -> None:
    """Show what is known of a call."""
    with _gateway(gateway) as client:
        _print(Calls(client).show(call), output)


@calls.command(
    "wait",
    cls=Command,
    examples=[
        ("until it has ended, at most a minute", "holdfast calls wait 5d2f0c7a --timeout 1m"),
        ("go on only when it has succeeded", "holdfast calls wait 5d2f0c7a && holdfast calls result 5d2f0c7a"),
    ],
)
@_id_argument
@gateway_option
@click.option(
    "--timeout", type=duration, default="15m", show_default=True, metavar="DURATION", help="Longest time to wait."
)
@output_option
def wait(*, call: str, gateway: str, timeout: float, output: str) -> Exit:
    """Wait until a call has ended, and show what became of it.

    The exit code tells the outcome: 0 succeeded, 6 failed, 7 cancelled or expired, 8 not ended in time.
    """
    with _gateway(gateway) as client:
        found = Calls(client).wait(call, timeout)
    _print(found, output)
    return outcome(found)


@calls.command(
    "result",
    cls=Command,
    examples=[("the function's answer, byte for byte", "holdfast calls result 5d2f0c7a > banner.txt")],
)
@_id_argument
@gateway_option
def result(*, call: str, gateway: str) -> Exit:
    """Print what the function answered.

    The exit code is that of a synchronous `invoke`: 6 when the function answered with a status of 400 or above.
    """
    with _gateway(gateway) as client:
        return print_result(client, call)


@calls.command(
    "cancel",
    cls=Command,
    examples=[
        ("a call that waits is never run, one that runs is stopped", "holdfast calls cancel 5d2f0c7a"),
        ("of one that has ended, the callback is not tried again", "holdfast calls cancel 7b6ce3f1"),
    ],
)
@_id_argument
@gateway_option
def cancel(*, call: str, gateway: str) -> None:
    """Cancel a call; nobody is called back. Of one that has ended, cancel the callback that is still pending.

    With the id of a chain, the X-Call-Id of its first call, all of its calls that have not ended are cancelled.
    """
    with _gateway(gateway) as client:
        Calls(client).cancel(call)
    click.echo(f"Cancelled: {call}")


@calls.command(
    "tail",
    cls=Command,
    examples=[
        ("each change until it has ended", "holdfast calls tail 5d2f0c7a"),
        ("one JSON object a line", "holdfast calls tail 5d2f0c7a --output json"),
    ],
)
@_id_argument
@gateway_option
@output_option
def tail(*, call: str, gateway: str, output: str) -> Exit:
    """Follow a call: a line at each change, until it has ended. The exit code is that of `calls wait`."""
    code = Exit.CALL_NOT_ENDED
    with _gateway(gateway) as client:
        for found in Calls(client).events(call):
            click.echo(json.dumps(found.raw) if output == "json" else _line(found))
            code = outcome(found)
    return code


def outcome(found: CallStatus) -> Exit:
    """The exit code for what became of a call."""
    return _OUTCOMES.get(found.status, Exit.CALL_NOT_ENDED)


def print_result(client: Gateway, call: str) -> Exit:
    """Print the function's answer to a call that has one, as for a synchronous call."""
    with Calls(client).result(call) as answer:
        return print_answer(answer, f"the function of call {call}")


def print_answer(answer: Answer, who: str) -> Exit:
    """Print an answer's body as it comes; a status of 400 or above is named on standard error."""
    last = b"\n"
    for chunk in answer.body():
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()  # events are to be seen when they come
        last = chunk[-1:] or last
    if answer.status < 400:
        return Exit.DONE
    if last != b"\n" and sys.stdout.isatty() and sys.stderr.isatty():
        click.echo(err=True)  # both are one screen: the body's last line and ours are two
    click.secho(f"{who} answered {answer.status} {answer.reason}".rstrip(), err=True, fg="red")
    return Exit.ERROR_ANSWER


def _gateway(url: str) -> Gateway:
    return Gateway(url, find_credentials(url))


def _print(found: CallStatus, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(found.raw, indent=2))
        return
    for line in fields(_description(found)):
        click.echo(line)


def _description(found: CallStatus) -> dict[str, str | list[str]]:
    raw = found.raw
    answer, callback = raw.get("result"), raw.get("callback")
    return {
        "Call": found.id,
        "Of chain": _chain(raw),
        "Function": f"{found.function}.{raw.get('namespace', '')}".rstrip("."),
        "Queue": str(raw.get("queue") or ""),
        "Status": found.status,
        "Reason": found.reason,
        "Accepted": str(raw.get("accepted_at") or ""),
        "Started": str(raw.get("started_at") or ""),
        "Finished": str(raw.get("finished_at") or ""),
        "Waiting": str((raw.get("waiting") or {}).get("text") or ""),
        "Next run": str(raw.get("next_attempt_at") or ""),
        "Runs": [_run(attempt) for attempt in raw.get("attempts") or []],
        "Result": f"{answer.get('status')}, {answer.get('bytes')} bytes" if answer else "",
        "Callback": _callback(callback) if callback else "",
        "Later calls": _later(raw.get("later") or {}),
    }


def _chain(raw: Mapping[str, Any]) -> str:
    """The `X-Call-Id` that a call shares with those before it; empty when it is its own."""
    common_id = raw.get("x_call_id")
    return "" if common_id is None or common_id == raw.get("id") else str(common_id)


def _later(raw: Mapping[str, Any]) -> list[str]:
    ids = [str(path).rpartition("/")[2] for path in raw.get("calls") or []]
    return [*ids, f"and {raw['more']} more"] if raw.get("more") else ids


def _callback(raw: dict[str, Any]) -> str:
    became = f"{raw.get('status')}: {raw.get('url')}"
    if raw.get("error"):
        became = f"{became}, attempt {raw.get('attempts')}: {raw['error']}"
    return f"{became}, next attempt {raw['next_attempt_at']}" if raw.get("next_attempt_at") else became


def _run(attempt: dict[str, Any]) -> str:
    became = attempt.get("status") or attempt.get("error") or "no answer"
    return f"{attempt.get('started_at')}  {became}  {float(attempt.get('duration_seconds') or 0):.3f} s"


_HEADING = ("Call", "Function", "Status", "Accepted", "Runs", "Answer", "Reason")


def _row(call: Mapping[str, Any]) -> list[str]:
    result = call.get("result")
    return [
        f"{call.get('id')} of {chain}" if (chain := _chain(call)) else str(call.get("id")),
        FunctionRef(str(call.get("function")), str(call.get("namespace"))).short,
        str(call.get("status")),
        str(call.get("accepted_at")),
        str(len(call.get("attempts") or [])),
        str(result.get("status")) if result else "",
        str(call.get("reason") or ""),
    ]


def _line(found: CallStatus) -> str:
    raw = found.raw
    runs = len(raw.get("attempts") or [])
    parts = [f"{found.status:<9}", f"runs: {runs}"]
    if raw.get("next_attempt_at"):
        parts.append(f"next at {raw['next_attempt_at']}")
    if found.reason:
        parts.append(found.reason)
    return "  ".join(parts)
