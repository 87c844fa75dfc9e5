"""Every loop, timer and task of a service is kept by holdfast.unexpected, or says here why it need not be.

The source is read, not run: a new `while True` or `create_task` that nobody keeps fails this test. What it cannot see
is an error that ends a task from within, such as a `return` in the wrong place.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import holdfast

ROOT = Path(holdfast.__file__).parent
# Commands that end by themselves, and what they are made of.
NO_SERVICES = ("cli/", "client/", "demo.py", "stack.py", "samples/", "unexpected.py")

KEPT_BY = {"alone", "forever"}

# Loops that end: each goes once through something, or until it has what it was called for. An error in one is its
# caller's, and the task that calls is kept.
LOOPS = {
    "directory.py ready": "ends when there is a replica, or with the wait",
    "gateway/calls.py _cancel": "ends when the call cannot move on any more",
    "gateway/calls.py stream": "ends with the call, or its reader",
    "gateway/claims.py _claim": "ends when the record is written, or another's is found",
    "gateway/purge.py _note_cancelled": "ends when the record is written",
    "http1/asgi.py _receive": "ends with the next part of a request",
    "process.py supervise": "each error counts as an exit of the child",
    "provider/install.py _lines": "ends with the installer",
    "provider/logs.py follow": "ends with who follows",
    "queue/bodies.py sizes": "ends with the last page",
    "queue/chains.py each": "ends with the last link",
    "queue/contents.py contents": "ends with the last page",
    "queue/dead_letters.py _note": "ends when the record is written",
    "queue/dead_letters.py _messages": "ends with the last letter",
    "queue/depth.py consumers": "ends with the last page",
    "queue/embedded.py wait_ready": "ends with the time to get ready",
    "queue/lanes.py lanes_of": "ends with the last page",
    "queue/records.py amend": "ends when the record is written",
    "queue/waiting.py _remove_all": "ends when nothing is left",
    "queue/waiting.py queues": "ends with the last page",
    "worker/attempt.py run": "ends with the call's outcome",
    "worker/insist.py insist": "ends when NATS takes the step",
    "worker/slots.py _serve_many": "the step of a forever, which goes on after an error",
    "worker/recorder.py _keep_instead": "ends when the record is written, or a later one stands there",
}

TASKS = {
    "gateway/room.py watched_room": "Room.watch is a forever",
    "http1/asgi.py begin": "run sets errors aside and answers",
    "lifecycle.py until_stopped": "waits for an event",
    "provider/bundles.py _to_the_end": "awaited by who asked for it",
    "provider/confinement.py confinements": "watch_memory is a forever",
    "provider/install.py _lines": "one installer's end, awaited by who installs",
    "provider/replicas.py _begin_scaling": "Autoscaler.run is a forever",
    "queue/body_sweep.py sweeping": "BodySweep.run and RecordSweep.run are forevers",
    "queue/reconcile.py reconciled": "Reconciler.run is a forever",
    "worker/app.py _main": "Providers.introduce is a forever",
    "worker/callback_queue.py begin": "_take sets errors aside",
    "worker/first_attempt.py _begin_to_park": "_park sets errors aside",
    "queue/consumer.py _resume": "_get_ready sets errors aside and tries again",
    "serve/run.py _all_ready": "an error of the start ends the start",
    "serve/run.py _keep_running": "supervise goes on, unless a part did not start",
    "serve/run.py begin": "an error of the start ends the start",
    "watchdog/app.py _either": "waits for an event",
    "watchdog/app.py _upstream": "the end of the function's own server ends the watchdog, whatever is logged",
    "watchdog/fork.py start": "_run sets errors aside and answers",
    "watchdog/python_function.py start": "_run answers whatever the handler does",
    "watchdog/upstream.py _listening": "waits for a process",
    "worker/body.py _send_stored": "its error is that of the call that it is part of",
    "worker/callback_queue.py callback_queue": "CallbackQueue.run is a forever",
    "worker/lanes.py _look_ahead": "_pump is a forever",
    "worker/lanes.py start": "_keep is a forever",
    "worker/slots.py _own": "_serve is a forever",
    "worker/slots.py stop": "the end of the worker, awaited",
}

TIMERS = {
    "lifecycle.py supervised": "asks the process to stop",
    "process.py _begin_linger": "closes a transport",
    "tally.py _note": "write_all keeps each count by itself",
    "watchdog/app.py _main": "asks the process to stop",
    "yamux/session.py _close_if_idle": "closes a transport",
}


class Place(NamedTuple):
    where: str
    line: int
    text: str


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(NO_SERVICES):
            yield name, ast.parse(path.read_text("utf-8"))


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def own(function: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function, without the functions in it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from own(child)


def called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def endless_loops() -> Iterator[Place]:
    for name, module in sources():
        for function in functions(module):
            if isinstance(function, ast.AsyncFunctionDef):
                for node in own(function):
                    if isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
                        yield Place(f"{name} {function.name}", node.lineno, "while True")


def bare_tasks() -> Iterator[Place]:
    for name, module in sources():
        for function in functions(module):
            kept = {
                target.id
                for node in own(function)
                if isinstance(node, ast.Assign) and called(node.value) in KEPT_BY
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for node in own(function):
                if called(node) in {"create_task", "ensure_future"} and isinstance(node, ast.Call):
                    work = node.args[0]
                    if called(work) not in KEPT_BY and getattr(work, "id", "") not in kept:
                        yield Place(f"{name} {function.name}", node.lineno, ast.unparse(node))


def bare_timers() -> Iterator[Place]:
    for name, module in sources():
        guarded = {
            function.name
            for function in functions(module)
            if any(called(decorator) == "guarded" for decorator in function.decorator_list)
        }
        for function in functions(module):
            for node in own(function):
                at = {"call_later": 1, "call_at": 1, "add_reader": 1, "add_signal_handler": 1}.get(called(node))
                if at is None or not isinstance(node, ast.Call):
                    continue
                callback = node.args[at]
                if getattr(callback, "attr", getattr(callback, "id", "")) in guarded:
                    continue
                if isinstance(callback, ast.Call) and called(callback.func) == "guarded":
                    continue
                yield Place(f"{name} {function.name}", node.lineno, ast.unparse(node))


@pytest.mark.parametrize(
    ("found", "reasons"),
    [
        pytest.param(endless_loops, LOOPS, id="loops"),
        pytest.param(bare_tasks, TASKS, id="tasks"),
        pytest.param(bare_timers, TIMERS, id="timers"),
    ],
)
def test_whatever_goes_on_for_ever_is_kept_or_says_why_not(
    found: Callable[[], Iterator[Place]], reasons: dict[str, str]
) -> None:
    places = list(found())
    unknown = [place for place in places if place.where not in reasons]
    assert unknown == [], "give it to holdfast.unexpected: forever, alone or guarded"
    assert sorted(reasons.keys() - {place.where for place in places}) == [], "these are gone: take them out of the list"
