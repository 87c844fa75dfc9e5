"""What a notification of Prometheus's Alertmanager means for the replicas of functions. No I/O.

OpenFaaS's oldest way to scale: while an alert fires a function grows by a share of its maximum, and when the alert is
resolved it falls back to its minimum.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from holdfast.errors import BadRequest
from holdfast.labels import DEFAULT_FACTOR, DEFAULT_MAX, DEFAULT_MIN, SCALE_FACTOR, SCALE_MAX, SCALE_MIN

MOST_ALERTS = 100


class Alert(NamedTuple):
    """One function and whether it needs more."""

    function: str
    """`name` or `name.namespace`."""
    namespace: str
    """Empty when the alert names none."""
    firing: bool


def read_alerts(document: Any) -> list[Alert]:
    """The alerts of a notification that name a function. Raises BadRequest for anything but a notification."""
    alerts = document.get("alerts") if isinstance(document, dict) else None
    if not isinstance(alerts, list) or not all(isinstance(alert, dict) for alert in alerts):
        raise BadRequest(400, 'expected a notification of Alertmanager: {"alerts": [{"status": …, "labels": {…}}]}.')
    if len(alerts) > MOST_ALERTS:
        raise BadRequest(400, f"a notification of more than {MOST_ALERTS} alerts is not taken.")
    found = []
    for alert in alerts:
        labels = alert.get("labels")
        name = labels.get("function_name") if isinstance(labels, dict) else None
        if isinstance(name, str) and name:
            status = alert.get("status") or document.get("status")
            found.append(Alert(name, str(labels.get("namespace") or ""), status == "firing"))
    return found


def replicas_after(alert: Alert, status: dict[str, Any]) -> int | None:
    """How many replicas the function of a FunctionStatus should have after an alert; None: as it is."""
    labels = status.get("labels") or {}
    least = _whole(labels.get(SCALE_MIN), DEFAULT_MIN)
    most = max(least, _whole(labels.get(SCALE_MAX), DEFAULT_MAX))
    factor = min(100, _whole(labels.get(SCALE_FACTOR), DEFAULT_FACTOR))
    now = _whole(status.get("replicas"), 0)
    if least == most or factor == 0:
        return None  # both are ways to say: do not scale
    wanted = min(most, max(least, now + math.ceil(most * factor / 100))) if alert.firing else least
    return None if wanted == now else wanted


def _whole(value: Any, otherwise: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        return otherwise
    return number if number >= 0 else otherwise
