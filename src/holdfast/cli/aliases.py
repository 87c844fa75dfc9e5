"""Other names of commands, as faas-cli knows them. They work everywhere and are listed nowhere."""

ALIASES = {"rm": "remove", "delete": "remove", "ls": "list"}
