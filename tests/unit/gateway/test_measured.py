import pytest

from holdfast.gateway.measured import OTHER, route_of


@pytest.mark.parametrize(
    ("path", "route"),
    [
        (b"/system/functions", "/system/functions"),
        (b"/system/function/figlet", "/system/function/{name}"),
        (b"/system/scale-function/x", "/system/scale-function/{name}"),
        (b"/system/namespace/", "/system/namespace/{name}"),
        (b"/system/info", "/system/info"),
        (b"/system/", OTHER),
        (b"/system/functions/", OTHER),
        (b"/system/function/a/b", OTHER),
        (b"/system/whatever-a-caller-writes", OTHER),
        (b"/system/\xff", OTHER),
    ],
)
def test_a_path_is_counted_as_its_route_or_as_other(path: bytes, route: str) -> None:
    assert route_of(path) == route
