from pathlib import Path

import pytest

from holdfast.errors import DeploymentError
from holdfast.function import FunctionRef
from holdfast.provider.limits import Limits, limits_of, mebibytes, warnings
from holdfast.stack import Deployment, Resources


def deployment(memory: str = "", cpu: str = "") -> Deployment:
    return Deployment(FunctionRef("f", "openfaas-fn"), Path(), limits=Resources(memory, cpu))


def test_limits_are_read_in_bytes_and_thousandths() -> None:
    assert limits_of(deployment("40Mi", "0.5")) == Limits(40 * 2**20, 500)
    assert limits_of(deployment()) == Limits()
    assert limits_of(Deployment(FunctionRef("f", "openfaas-fn"), Path())) == Limits()


def test_what_is_no_quantity_refuses_the_deployment() -> None:
    with pytest.raises(DeploymentError, match=r"f: limits: 'lots' is not a quantity"):
        limits_of(deployment(cpu="lots"))


@pytest.mark.parametrize(
    ("memory", "cpu", "processor_free", "texts"),
    [
        ("", "", "no groups", []),
        ("40Mi", "", "no groups", []),
        ("", "500m", "", []),
        ("", "500m", "no groups", ["limits.cpu=500m is not enforced on this machine: no groups"]),
        ("", "0", "no groups", []),
        ("0", "", "", []),
        ("10Mi", "", "", ["limits.memory=10Mi is less than a watchdog needs for itself, 16Mi"]),
        ("10Mi", "1", "none", ["limits.cpu=1", "limits.memory=10Mi"]),
    ],
)
def test_what_is_not_done_as_it_says_is_said(memory: str, cpu: str, processor_free: str, texts: list[str]) -> None:
    found = warnings(deployment(memory, cpu), processor_free=processor_free)
    assert len(found) == len(texts)
    assert all(warning.startswith(text) for warning, text in zip(found, texts, strict=True))


def test_sizes_are_shown_in_mebibytes() -> None:
    assert mebibytes(61 * 2**20 + 2**18) == "61.2 MiB"
