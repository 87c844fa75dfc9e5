"""The headers of a function's stored answer, as `/async-function/<call id>/result` serves it. No I/O.

A function's page would be a page of the gateway's own origin there, and a link to it is enough to open it: its scripts
could use /system as the browser's user may. So what a browser would run is shown and not run, and what would act on the
gateway's origin beyond this one answer is left out. Status, bytes and all other headers are the function's. Why a
sandbox and not a download: docs/decisions/0007-browsers-and-the-api.md.
"""

from __future__ import annotations

from holdfast.gateway import answers
from holdfast.headers import CALL_ID, NOT_FORWARDED, RESERVED_IN_ANSWER, SERVED_BY, START_TIME, RawHeaders, forwardable
from holdfast.queue.record import CallRecord, Result

_BROWSERS: RawHeaders = [
    # sandbox: an origin of its own, and no scripts, forms, refreshes or plugins, whatever kind of document it is. The
    # rest: nothing is loaded, so that not even a style tells anybody that, or when, it was looked at.
    (
        b"Content-Security-Policy",
        b"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    ),
    # What was said to be a text is none of the kinds that a browser might guess.
    (b"X-Content-Type-Options", b"nosniff"),
    # No page of another origin has it as its script, style or image.
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    # Its address is all that it takes to read and cancel the call.
    (b"Referrer-Policy", b"no-referrer"),
]

_OF_THE_ORIGIN = frozenset(
    {
        # What browsers keep for the whole origin, or send with its later requests.
        b"set-cookie",
        b"set-cookie2",
        b"clear-site-data",
        b"strict-transport-security",
        b"public-key-pins",
        b"expect-ct",
        b"alt-svc",
        b"accept-ch",
        b"critical-ch",
        b"origin-agent-cluster",
        b"set-login",
        b"use-as-dictionary",
        # A worker for more of the origin than its own folder.
        b"service-worker-allowed",
        # Reports about the origin, sent where the function says.
        b"content-security-policy-report-only",
        b"cross-origin-embedder-policy-report-only",
        b"cross-origin-opener-policy-report-only",
        b"report-to",
        b"reporting-endpoints",
        b"nel",
        # What a browser fetches or opens by itself, which no sandbox stops.
        b"link",
        b"refresh",
        b"speculation-rules",
        b"sourcemap",
        b"x-sourcemap",
        # Asks for a password in the gateway's name.
        b"www-authenticate",
    }
)
_CROSS_ORIGIN = b"access-control-"
# Lets pages of other origins read it. Calls that are public may be read on the synchronous path.
_REPLACED = NOT_FORWARDED | RESERVED_IN_ANSWER | _OF_THE_ORIGIN | frozenset(name.lower() for name, _ in _BROWSERS)


def answer_headers(record: CallRecord, result: Result) -> RawHeaders:
    """The headers, without the length: the function's that may pass, and ours."""
    return [
        *(
            (name, value)
            for name, value in forwardable(result.headers, _REPLACED)
            if not name.lower().startswith(_CROSS_ORIGIN)
        ),
        (CALL_ID, record.call_id.encode()),
        (START_TIME, b"%d" % record.accepted_at_ns),
        (SERVED_BY, answers.SERVED_BY),
        *_BROWSERS,
    ]
