"""Exit codes: a promise to scripts, written down in docs/reference/cli.md and checked against it."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNAUTHORIZED = 4
    UNKNOWN_FUNCTION = 5
    ERROR_ANSWER = 6
    CALL_NOT_RUN = 7
    CALL_NOT_ENDED = 8
    NOT_READY = 9
    INTERRUPTED = 130
    BROKEN_PIPE = 141

    @property
    def meaning(self) -> str:
        """The line of the reference."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.DONE: "Done. A server part: stopped in order.",
    Exit.FAILED: "Failed; the message on standard error says at what and why.",
    Exit.USAGE: "The command line or a setting cannot be used; nothing was done.",
    Exit.UNREACHABLE: "The gateway could not be reached, or stopped answering.",
    Exit.UNAUTHORIZED: "The gateway wants a user and password, or refuses the ones it got.",
    Exit.UNKNOWN_FUNCTION: "No function, secret or queue has that name, or no call or dead letter that id.",
    Exit.ERROR_ANSWER: "The function or the gateway answered with 400 or above; an asynchronous call failed.",
    Exit.CALL_NOT_RUN: "The asynchronous call was cancelled, or expired before it was run.",
    Exit.CALL_NOT_ENDED: "The asynchronous call had not ended when the time to wait was over; it goes on.",
    Exit.NOT_READY: "The function is deployed and does not become ready, or `ready` has waited in vain.",
    Exit.INTERRUPTED: "Ended by Ctrl-C, by a second one for a server part.",
    Exit.BROKEN_PIPE: "Whoever read the output stopped reading, as `head` does.",
}
