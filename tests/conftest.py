"""For all tests: Ctrl-C works in the processes they start, and examples may take as long as a busy machine needs.

A shell that starts something in the background has it ignore SIGINT, and every child inherits that. Tests of Ctrl-C
would then wait for ever for an end that was never asked for.

Hypothesis fails a test whose examples are slow to make or to run. The first ones of a fresh clone are: tables of
Unicode are built for them.
"""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
