from typing import Any

import pytest

from holdfast.errors import BadRequest
from holdfast.gateway.alerts import MOST_ALERTS, Alert, read_alerts, replicas_after

LEAST, MOST, FACTOR = "com.openfaas.scale.min", "com.openfaas.scale.max", "com.openfaas.scale.factor"


def test_alerts_are_those_that_name_a_function() -> None:
    document = {
        "status": "firing",
        "alerts": [
            {"status": "resolved", "labels": {"function_name": "a.ns"}},
            {"labels": {"function_name": "b", "namespace": "x"}},
            {"labels": {"alertname": "DiskFull"}},
            {"labels": None},
            {},
        ],
    }
    assert read_alerts(document) == [Alert("a.ns", "", firing=False), Alert("b", "x", firing=True)]


@pytest.mark.parametrize("document", [None, [], {}, {"alerts": None}, {"alerts": ["a"]}, {"alerts": [{}] * 101}])
def test_what_is_no_notification_is_a_bad_request(document: Any) -> None:
    assert MOST_ALERTS == 100
    with pytest.raises(BadRequest):
        read_alerts(document)


@pytest.mark.parametrize(
    ("labels", "replicas", "firing", "expected"),
    [
        ({}, 1, True, 5),
        ({}, 5, True, 9),
        ({}, 19, True, 20),
        ({}, 20, True, None),
        ({}, 9, False, 1),
        ({}, 1, False, None),
        ({LEAST: "2", MOST: "10", FACTOR: "50"}, 2, True, 7),
        ({LEAST: "2", MOST: "10", FACTOR: "50"}, 9, False, 2),
        ({FACTOR: "100"}, 1, True, 20),
        ({FACTOR: "0"}, 1, True, None),
        ({LEAST: "3", MOST: "3"}, 1, True, None),
        ({LEAST: "many", MOST: "-1", FACTOR: "x"}, 1, True, 5),
        (None, 0, True, 4),
    ],
)
def test_a_firing_alert_adds_a_share_of_the_maximum_and_a_resolved_one_sets_the_minimum(
    *, labels: dict[str, str] | None, replicas: int, firing: bool, expected: int | None
) -> None:
    assert replicas_after(Alert("f", "", firing), {"labels": labels, "replicas": replicas}) == expected
