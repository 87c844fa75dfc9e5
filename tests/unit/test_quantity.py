import pytest

from holdfast.quantity import is_quantity, memory_bytes, millicores


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128Mi", 128 * 2**20),
        ("1Gi", 2**30),
        ("64M", 64_000_000),
        ("1.5Ki", 1536),
        ("500k", 500_000),
        ("1000", 1000),
        ("0", 0),
        ("2E", 2 * 10**18),
    ],
)
def test_memory_is_read_in_bytes(text: str, size: int) -> None:
    assert memory_bytes(text) == size


def test_m_of_memory_is_dockers_mebibyte_not_a_thousandth_of_a_byte() -> None:
    assert memory_bytes("40m") == memory_bytes("40Mi")


@pytest.mark.parametrize(("text", "number"), [("500m", 500), ("0.5", 500), ("2", 2000), ("100m", 100), ("1k", 10**6)])
def test_processor_time_is_read_in_thousandths_of_a_processor(text: str, number: int) -> None:
    assert millicores(text) == number


@pytest.mark.parametrize(
    "text", ["", "lots", "-1", "1 Mi", "1mi", "1MiB", "1e3", "٣", ".5", "5.", "9" * 30, "1\n", "0x10", "inf"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    assert not is_quantity(text)
    for read in (memory_bytes, millicores):
        with pytest.raises(ValueError, match="is not a quantity such as 128Mi or 500m"):
            read(text)
