"""Fuzz one target in this process, as libFuzzer does: python -m tests.fuzz.run TARGET [libFuzzer's options]."""

from __future__ import annotations

import logging
import sys

import atheris
import structlog


def main() -> None:
    """Does not return: libFuzzer ends the process."""
    # Findings are told by exceptions; what the parts log of hostile input would only slow this down.
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with atheris.instrument_imports(include=["holdfast", "durationpy", "urllib"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - the fuzzer must see the imports
    name, *options = sys.argv[1:]
    # libFuzzer starts itself again, through a shell, when it merges inputs.
    atheris.Setup([f"{sys.executable} -m tests.fuzz.run {name}", *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
