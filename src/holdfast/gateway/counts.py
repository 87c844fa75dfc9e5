"""What the gateway adds to the provider's answers: invocation counts and its own version. No I/O.

Answers of the provider that are not what they should be travel on as they are; the caller can judge them better than a
gateway in between.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from holdfast import __version__
from holdfast.exposition import Service
from holdfast.function import FunctionRef
from holdfast.labels import DEFAULT_MIN, DEFAULT_TARGET, SCALE_MIN, SCALE_TARGET


def counted(document: Any, counts: Mapping[str, int], default_namespace: str) -> Any:
    """A FunctionStatus, or a list of them, with `invocationCount` as the gateways counted."""
    if isinstance(document, list):
        return [counted(one, counts, default_namespace) for one in document]
    ref = _ref(document, default_namespace)
    if ref is None:
        return document
    return {**document, "invocationCount": counts.get(str(ref), 0)}


def information(provider: Any) -> dict[str, Any]:
    """/system/info: the provider's own answer beside the gateway's version, as OpenFaaS shows them.

    A provider answers with its own three members; one that answers with the gateway's document is understood as well.
    """
    if isinstance(provider, dict) and isinstance(provider.get("provider"), dict):
        provider = provider["provider"]
    return {"provider": provider, "version": version(), "arch": platform.machine()}


def version() -> dict[str, str]:
    """This release. `sha` is empty: a package knows its release, not its commit."""
    return {"release": __version__, "sha": "", "commit_message": ""}


def services(document: Any, default_namespace: str) -> list[Service]:
    """The functions of a list of FunctionStatus as the metrics show them."""
    shown = []
    for status in document if isinstance(document, list) else []:
        ref = _ref(status, default_namespace)
        if ref is not None:
            labels = status.get("labels") or {}
            shown.append(
                Service(
                    str(ref),
                    replicas=_number(status.get("replicas"), 0),
                    ready=_number(status.get("availableReplicas"), 0),
                    least=_number(labels.get(SCALE_MIN), DEFAULT_MIN),
                    target=_number(labels.get(SCALE_TARGET), DEFAULT_TARGET),
                )
            )
    return shown


def _ref(status: Any, default_namespace: str) -> FunctionRef | None:
    if not isinstance(status, dict) or not isinstance(status.get("name"), str):
        return None
    return FunctionRef(status["name"], str(status.get("namespace") or default_namespace))


def _number(value: Any, otherwise: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return otherwise
