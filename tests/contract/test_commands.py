"""That the exchanges leave out no command of faas-cli that speaks to a gateway."""

from pathlib import Path

import yaml

COMMANDS = {
    *("login", "list", "describe", "deploy", "invoke", "logs", "remove", "scale", "ready", "version", "namespaces"),
    *("secret create", "secret list", "secret update", "secret remove", "namespace create", "namespace delete"),
}


def test_every_command_of_faas_cli_that_speaks_to_a_gateway_has_its_exchanges() -> None:
    stories = (Path(__file__).parent / "exchanges").glob("*.yml")
    text = "\n".join(step["command"] for story in stories for step in yaml.safe_load(story.read_text("utf-8")))
    assert [command for command in sorted(COMMANDS) if f"faas-cli {command}" not in text] == []
