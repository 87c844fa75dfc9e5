"""What a failure means to the user."""

import pytest

from holdfast.cli.exits import Exit
from holdfast.cli.problems import explain
from holdfast.client import errors as client
from holdfast.errors import HoldfastError, SettingError, StartError

GATEWAY = "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("error", "code", "advice"),
    [
        (client.GatewayUnreachable(GATEWAY, "connection refused", sent=False), Exit.UNREACHABLE, "faas serve"),
        (client.GatewayUnreachable(GATEWAY, "silence", sent=True), Exit.UNREACHABLE, "may have been carried out"),
        (client.Unauthorized(GATEWAY, tried=False), Exit.UNAUTHORIZED, f"login -g {GATEWAY}"),
        (client.Unauthorized(GATEWAY, tried=True), Exit.UNAUTHORIZED, "OPENFAAS_PASSWORD"),
        (client.UnknownFunction(GATEWAY, "figlt", ("figlet",)), Exit.UNKNOWN_FUNCTION, "Did you mean figlet?"),
        (client.UnknownFunction(GATEWAY, "nothing"), Exit.UNKNOWN_FUNCTION, "faas list"),
        (client.GatewayRefused(GATEWAY, "list functions", 500, "broken"), Exit.ERROR_ANSWER, ""),
        (client.UnknownSecret(GATEWAY, "key", "openfaas-fn"), Exit.UNKNOWN_FUNCTION, "faas secret list"),
        (client.UnknownDeadLetter(GATEWAY, "id-1"), Exit.UNKNOWN_FUNCTION, "faas dead list"),
        (client.UnknownQueue(GATEWAY, "slow", "no"), Exit.UNKNOWN_FUNCTION, "faas queue list"),
        (client.NoBundlesTaken(GATEWAY, "hello"), Exit.ERROR_ANSWER, "skip_build: true"),
        (client.BundleFailed(GATEWAY, "hello", "hello: no such library"), Exit.FAILED, ""),
        (client.NotReady(GATEWAY, "hello", "does not start", lines=("no key",)), Exit.NOT_READY, "faas logs hello"),
        (SettingError("ack_wait", "6O", "a duration such as 60s"), Exit.USAGE, "--help"),
        (StartError("port 8080 is in use"), Exit.FAILED, ""),
        (HoldfastError("anything else"), Exit.FAILED, ""),
    ],
)
def test_each_failure_has_an_exit_code_and_says_what_to_do(error: HoldfastError, code: Exit, advice: str) -> None:
    problem = explain(error, "faas")
    assert problem.code == code
    assert problem.message == str(error)
    assert advice in "\n".join(problem.advice)


def test_every_exit_code_has_a_meaning() -> None:
    assert all(code.meaning for code in Exit)
