"""The retry policy of each function: the worker's defaults with what the function's annotations change."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.directory import Directory
from holdfast.function import FunctionRef
from holdfast.settings import WorkerSettings
from holdfast.worker.retry import RetryPolicy


class Policies:
    """Policies by function; a deployment that changes the annotations changes the policy of the next run."""

    def __init__(self, settings: WorkerSettings, functions: Directory) -> None:
        self._settings = settings
        self._functions = functions
        self._default = RetryPolicy.of(settings, {})
        self._known: dict[FunctionRef, tuple[Mapping[str, str], RetryPolicy]] = {}

    def __getitem__(self, ref: FunctionRef) -> RetryPolicy:
        """The policy that applies now. HOT: two look-ups."""
        entry = self._functions.known(ref)
        if entry is None:
            return self._default
        known = self._known.get(ref)
        if known is None or known[0] is not entry.annotations:
            known = self._known[ref] = (entry.annotations, RetryPolicy.of(self._settings, entry.annotations))
        return known[1]
