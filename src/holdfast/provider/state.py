"""What was deployed through the API, kept over restarts: one JSON file, written whole or not at all.

Functions of the stack are not kept here: they are deployed anew from their file at every start.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from holdfast.errors import StartError

VERSION = 1


class State:
    """The documents of deployments and namespaces, by name, as they were sent."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.json"
        self.functions: dict[str, dict[str, Any]] = {}
        """`name.namespace` -> {"document", "created_at", "replicas"}."""
        self.namespaces: dict[str, dict[str, Any]] = {}
        """Name -> {"labels", "annotations"}."""

    @classmethod
    def load(cls, folder: Path) -> State:
        """What was kept, nothing at the first start. Raises StartError when the file cannot be used."""
        state = cls(folder)
        try:
            content = json.loads(state._path.read_text("utf-8"))
            state.functions, state.namespaces = content["functions"], content["namespaces"]
        except FileNotFoundError:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StartError(
                f"{state._path}, which holds what was deployed, cannot be read: {error}. Repair or remove it."
            ) from error
        return state

    def images(self) -> set[str]:
        """The images of the functions kept."""
        documents = (kept.get("document") for kept in self.functions.values())
        return {str(document.get("image", "")) for document in documents if isinstance(document, dict)}

    def save(self) -> None:
        """Keep it. A crash leaves the old or the new file, never half of one."""
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        content = {"version": VERSION, "functions": self.functions, "namespaces": self.namespaces}
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
