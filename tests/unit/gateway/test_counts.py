from typing import Any

import pytest

from holdfast.exposition import Service
from holdfast.gateway.counts import counted, information, services, version

COUNTS = {"figlet.openfaas-fn": 3, "figlet.staging": 5}


def test_a_function_is_counted_under_its_own_namespace() -> None:
    listed = [{"name": "figlet", "namespace": "staging"}, {"name": "figlet"}, {"name": "env", "namespace": ""}]
    assert [one["invocationCount"] for one in counted(listed, COUNTS, "openfaas-fn")] == [5, 3, 0]


def test_the_other_members_stay_as_they_are() -> None:
    status = {"name": "figlet", "labels": {"a": "b"}, "invocationCount": 77, "unknown": None}
    assert counted(status, COUNTS, "openfaas-fn") == status | {"invocationCount": 3}


@pytest.mark.parametrize("document", [None, 1, "text", {}, {"name": 1}, [None, 2], {"message": "no"}])
def test_what_is_no_function_stays_as_it_is(document: Any) -> None:
    assert counted(document, COUNTS, "openfaas-fn") == document
    assert services(document, "openfaas-fn") == []


def test_information_is_the_providers_beside_ours() -> None:
    provider = {"provider": "faas-netes", "orchestration": "kubernetes", "version": {"release": "1", "sha": "x"}}
    for said in (provider, {"provider": provider, "version": {"release": "2"}, "arch": "arm64"}):
        document = information(said)
        assert document["provider"] == provider
        assert document["version"] == version()
        assert document["arch"]


def test_a_service_has_the_scaling_of_its_labels_or_the_defaults() -> None:
    listed = [
        {"name": "a", "replicas": 2, "availableReplicas": 1, "labels": {"com.openfaas.scale.min": "2"}},
        {"name": "b", "namespace": "x", "labels": {"com.openfaas.scale.target": "7.5", "com.openfaas.scale.min": "no"}},
        {"name": "c", "labels": None},
    ]
    assert services(listed, "openfaas-fn") == [
        Service("a.openfaas-fn", 2, 1, 2, 50),
        Service("b.x", 0, 0, 1, 7.5),
        Service("c.openfaas-fn", 0, 0, 1, 50),
    ]
