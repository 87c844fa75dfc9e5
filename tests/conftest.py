"""For all tests: Ctrl-C works in the processes they start.

A shell that starts something in the background has it ignore SIGINT, and every child inherits that. Tests of Ctrl-C
would then wait for ever for an end that was never asked for.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
