from typing import Any

import pytest

from holdfast.provider.backlog import waiting_of


def test_what_waits_is_added_up_over_the_queues() -> None:
    queues = [
        {"name": "faas-request", "functions": [{"function": "a.x", "waiting": 3}, {"function": "b.x", "waiting": 1}]},
        {"name": "slow", "functions": [{"function": "a.x", "waiting": 4}]},
        {"name": "empty", "functions": []},
    ]
    waiting = waiting_of(queues)
    assert (waiting["a.x"], waiting["b.x"], waiting["c.x"]) == (7, 1, 0)


@pytest.mark.parametrize("document", [None, 5, {"a": 1}, [{"name": "q"}], [{"functions": [{"function": "a"}]}], ["x"]])
def test_any_other_document_is_an_error(document: Any) -> None:
    with pytest.raises(ValueError, match="not a list of queues"):
        waiting_of(document)
