"""What a failure means to the user: the text to show, what to do about it, and the exit code. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.cli.exits import Exit
from holdfast.errors import HoldfastError, SettingError


class Problem(NamedTuple):
    """A failure as it is shown: what happened, then what helps, one line each."""

    message: str
    advice: tuple[str, ...]
    code: Exit


def explain(error: HoldfastError, program: str) -> Problem:
    """Put an error into words for the user of `program`, the name the command line was called by."""
    # Imported late: only commands that talk to a gateway can raise these, and they have loaded them already.
    from holdfast.client import errors as client  # noqa: PLC0415 - keeps `--help` fast

    match error:
        case client.GatewayUnreachable():
            return Problem(str(error), _reach(error.sent, program), Exit.UNREACHABLE)
        case client.Unauthorized():
            return Problem(str(error), _log_in(error.gateway, program, tried=error.tried), Exit.UNAUTHORIZED)
        case client.UnknownFunction():
            return Problem(str(error), (_similar(error, program),), Exit.UNKNOWN_FUNCTION)
        case client.UnknownCall():
            advice = "An id is what `invoke --async` printed; records are kept for results_ttl, a day by default."
            return Problem(str(error), (advice,), Exit.UNKNOWN_FUNCTION)
        case client.UnknownDeadLetter():
            advice = f"List those there are: {program} dead list"
            return Problem(str(error), (advice,), Exit.UNKNOWN_FUNCTION)
        case client.UnknownQueue():
            return Problem(str(error), (f"List those there are: {program} queue list",), Exit.UNKNOWN_FUNCTION)
        case client.UnknownSecret():
            advice = f"List the secrets there are: {program} secret list"
            return Problem(str(error), (advice,), Exit.UNKNOWN_FUNCTION)
        case client.NoBundlesTaken():
            advice = "Give it an image instead, with skip_build: true in the stack file, or use another gateway: -g URL"
            return Problem(str(error), (advice,), Exit.ERROR_ANSWER)
        case client.NotReady():
            return Problem(str(error), _not_ready(error.name, program), Exit.NOT_READY)
        case client.LoginFileUnusable():
            return Problem(str(error), ("Name another folder for logins: OPENFAAS_CONFIG.",), Exit.FAILED)
        case client.GatewayRefused():
            return Problem(str(error), (), Exit.ERROR_ANSWER)
        case SettingError() if error.name.startswith("--"):
            return Problem(str(error), (), Exit.USAGE)
        case SettingError():
            return Problem(str(error), ("Settings come from the environment; --help lists them.",), Exit.USAGE)
        case _:
            return Problem(str(error), (), Exit.FAILED)


def _reach(sent: bool, program: str) -> tuple[str, ...]:
    if sent:
        return ("The request was sent and may have been carried out.",)
    return (
        f"Start everything on this machine: {program} serve",
        "Or name another gateway: -g URL, or OPENFAAS_URL in the environment.",
    )


def _log_in(gateway: str, program: str, *, tried: bool) -> tuple[str, ...]:
    if tried:
        return (
            "They came from the command line, from OPENFAAS_USER and OPENFAAS_PASSWORD, from ~/.openfaas/config.yml,",
            "or from the data folder of a server on this machine: the first of these that has any.",
        )
    return (
        "Set OPENFAAS_USER and OPENFAAS_PASSWORD in the environment,",
        f"or log in: {program} login -g {gateway}",
        "A server started on this machine by the same user needs neither.",
    )


def _not_ready(name: str, program: str) -> tuple[str, ...]:
    return (
        f"All that it wrote: {program} logs {name}",
        "A version that ran before goes on serving; mend this one and deploy it again.",
    )


def _similar(error: object, program: str) -> str:
    similar: tuple[str, ...] = getattr(error, "similar", ())
    if similar:
        return f"Did you mean {' or '.join(similar)}?"
    return f"List the functions there are: {program} list"
