"""`dead`: calls and callbacks that failed for good, to be looked at, done again or dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeVar

import click

from holdfast.cli import work
from holdfast.cli.command import Command, Group, complete_queue, function_option, gateway_option, output_option
from holdfast.cli.exits import Exit
from holdfast.cli.listing import print_table
from holdfast.cli.output import fields, plain
from holdfast.cli.progress import say
from holdfast.cli.values import call_id
from holdfast.client import find_credentials
from holdfast.client.dead_letters import DONE, DeadLetters, Verb
from holdfast.client.gateway import Gateway
from holdfast.function import FunctionRef

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# Of a body in the text for people; JSON has what the gateway shows.
_SHOWN_CHARACTERS = 2000


@click.group("dead", cls=Group)
def dead() -> None:
    """Look at what failed for good, do it again, or drop it.

    A call that failed at its last attempt, and a callback that was given up, are kept as dead letters until somebody
    replays or drops them.
    """


def _filters(function: Decorated) -> Decorated:
    for option in reversed(
        (
            function_option("Only those of this function, NAME or NAME.NAMESPACE."),
            click.option(
                "--queue", default="", metavar="QUEUE", help="Only those of this queue.", shell_complete=complete_queue
            ),
            click.option(
                "--kind", type=click.Choice(["call", "callback"]), help="Only failed calls, or failed callbacks."
            ),
        )
    ):
        function = option(function)
    return function


@dead.command(
    "list",
    cls=Command,
    examples=[
        ("what failed, oldest first", "holdfast dead list"),
        ("of one function, for a script", "holdfast dead list --function charge --output json"),
        ("callbacks that nobody took", "holdfast dead list --kind callback"),
    ],
)
@_filters
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Show no more than so many.",
)
@gateway_option
@output_option
def list_(*, function: str, queue: str, kind: str | None, limit: int, gateway: str, output: str) -> None:
    """List what failed for good, oldest first."""
    with Gateway(gateway, find_credentials(gateway)) as client:
        # One more than is shown tells whether there are more.
        found = list(islice(DeadLetters(client).each(_given(function=function, queue=queue, kind=kind)), limit + 1))
    letters = found[:limit]
    if output == "json":
        click.echo(json.dumps(letters, indent=2))
    elif letters:
        print_table(_HEADING, [_row(letter) for letter in letters], right=frozenset({5, 6}))
    else:
        say("No dead letters.")
    if len(found) > limit:
        say(f"There are more than {limit}: --limit shows more, --function, --queue and --kind choose.")


@dead.command(
    "show",
    cls=Command,
    examples=[
        ("why it failed, with the request and the last answer", "holdfast dead show 5d2f0c7a"),
        ("its callback, when both failed", "holdfast dead show 5d2f0c7a --kind callback"),
    ],
)
@click.argument("call", type=call_id, metavar="ID")
@click.option(
    "--kind", type=click.Choice(["call", "callback"]), help="Which, when a call and its callback failed. Else the call."
)
@gateway_option
@output_option
def show(*, call: str, kind: str | None, gateway: str, output: str) -> None:
    """Show one: the request, the reason, each run, the last answer.

    In the text, bodies are cut after 2,000 characters, and control characters are replaced; JSON has up to 64 KiB.
    Credentials of the caller are kept for the replay and never shown.
    """
    with Gateway(gateway, find_credentials(gateway)) as client:
        letter = DeadLetters(client).show(call, kind or "")
    if output == "json":
        click.echo(json.dumps(letter, indent=2))
        return
    for line in fields(_description(letter)):
        click.echo(line)
    for what in ("request", "answer"):
        message = letter.get(what)
        if message and message.get("body"):
            click.secho(f"\nBody of the {what}, {message.get('bytes')} bytes:", bold=True)
            click.echo(plain(message["body"][:_SHOWN_CHARACTERS], lines=True))


def _acting(function: Decorated) -> Decorated:
    """Arguments and options of `replay` and `drop`."""
    for option in reversed(
        (
            click.argument("calls", type=call_id, nargs=-1, metavar="[ID]..."),
            _filters,
            click.option("--all", "all_", is_flag=True, help="All of them; with --kind, all of that kind."),
            click.option("--dry-run", is_flag=True, help="Say what it would be, and do nothing."),
            gateway_option,
            output_option,
        )
    ):
        function = option(function)
    return function


@dead.command(
    "replay",
    cls=Command,
    examples=[
        ("one call, after its function was repaired", "holdfast dead replay 5d2f0c7a"),
        ("first see which those of a function are", "holdfast dead replay --function charge --dry-run"),
        ("send all callbacks again", "holdfast dead replay --all --kind callback"),
    ],
)
@_acting
def replay(**given: Any) -> Exit:
    """Have done again what failed.

    A call is run from the beginning, by the function as it is deployed now, and keeps its id. A callback is sent again
    and no function is run. What fails again is a dead letter again. Nothing is done without an id, a filter or --all.
    """
    return _act("replay", **given)


@dead.command(
    "drop",
    cls=Command,
    examples=[
        ("one call, for good", "holdfast dead drop 5d2f0c7a"),
        ("those of a queue", "holdfast dead drop --queue slow"),
    ],
)
@_acting
def drop(**given: Any) -> Exit:
    """Remove for good what failed. Nothing is done without an id, a filter or --all."""
    return _act("drop", **given)


def _act(verb: Verb, *, dry_run: bool, gateway: str, output: str, **given: Any) -> Exit:
    """Do it for each selection, and show what it was; an id that is unknown does not keep the others."""
    done: list[dict[str, Any]] = []
    word = f"Would {verb}" if dry_run else DONE[verb].capitalize()
    with Gateway(gateway, find_credentials(gateway)) as client:

        def one(selection: Mapping[str, Any]) -> None:
            letters = DeadLetters(client).act(verb, selection, dry_run=dry_run)
            done.extend(letters)
            for letter in letters if output == "text" else ():
                click.echo(f"{word}: {letter['id']}  {_route(letter)}, {letter['kind']}")

        code = work.each(_selections(**given), one)
    if output == "json":
        click.echo(json.dumps({DONE[verb]: done, "dry_run": dry_run}, indent=2))
    elif not done and code == Exit.DONE:
        say(f"There was nothing to {verb}.")
    return code


def _selections(
    calls: tuple[str, ...], *, all_: bool, function: str, queue: str, kind: str | None
) -> list[dict[str, Any]]:
    """What the command line selects, as the API's bodies. Nothing is selected by accident."""
    if calls:
        if all_ or function or queue:
            raise click.UsageError("give ids, or --all, --function and --queue, not both")
        return [{"id": call, **_given(kind=kind)} for call in dict.fromkeys(calls)]
    if all_:
        if function or queue:
            raise click.UsageError("--all is all of them: leave out --function and --queue")
        return [{"all": True, **_given(kind=kind)}]
    if not (function or queue):
        raise click.UsageError("say which: an ID, --function, --queue, or --all")
    return [_given(function=function, queue=queue, kind=kind)]


def _given(**members: str | None) -> dict[str, str]:
    return {name: value for name, value in members.items() if value}


_HEADING = ("Call", "Kind", "Function", "Queue", "Died", "Runs", "Answer", "Reason")


def _row(letter: Mapping[str, Any]) -> list[str]:
    return [
        str(letter.get("id")),
        str(letter.get("kind")),
        _route(letter),
        str(letter.get("queue")),
        str(letter.get("died_at")),
        str(letter.get("runs")),
        str(letter.get("status") or "none"),
        str(letter.get("reason") or ""),
    ]


def _route(letter: Mapping[str, Any]) -> str:
    return FunctionRef(str(letter.get("function")), str(letter.get("namespace"))).short


def _description(letter: Mapping[str, Any]) -> dict[str, str | list[str]]:
    request, answer, callback = letter.get("request"), letter.get("answer"), letter.get("callback")
    return {
        "Call": str(letter.get("id")),
        "Kind": str(letter.get("kind")),
        "Function": _route(letter),
        "Queue": str(letter.get("queue")),
        "Accepted": str(letter.get("accepted_at")),
        "Died": str(letter.get("died_at")),
        "Reason": str(letter.get("reason") or ""),
        "Runs": [
            f"{run.get('started_at')}  {run.get('status') or run.get('error') or 'no answer'}"
            for run in letter.get("attempts") or []
        ],
        "Callback": (
            f"{callback.get('url')}, {callback.get('attempts')} attempts"
            if callback
            else str(letter.get("callback_url") or "")
        ),
        "Request": [f"{request.get('method')} {request.get('target')}", *_headers(request)] if request else [],
        "Answer": [str(answer.get("status")), *_headers(answer)] if answer else [],
    }


def _headers(message: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {value}" for name, value in message.get("headers") or []]
