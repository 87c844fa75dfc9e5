"""What a bundle is: a function's folder on its way to a runtime that has no images. No I/O.

A bundle is a gzipped tar archive of

    holdfast.json    the manifest: {"name": "hello", "lang": "python3-http"}
    handler/…        the folder's files; its requirements.txt is installed for it

It is named by its content, `bundle:hello@sha256:<hex digest of the archive>`, and that name is a deployment's image.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple, Self

from holdfast.function import DEPLOYABLE

MANIFEST = "holdfast.json"
HANDLER = "handler"
REQUIREMENTS = "requirements.txt"
MEDIA_TYPE = "application/gzip"

_IMAGE = re.compile(rf"bundle:(?P<name>{DEPLOYABLE.pattern})@sha256:(?P<digest>[0-9a-f]{{64}})")
_LANGUAGE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class BundleImage(NamedTuple):
    """The name of a bundle with its content, in the place of a container's image."""

    name: str
    digest: str

    def __str__(self) -> str:
        return f"bundle:{self.name}@sha256:{self.digest}"

    @classmethod
    def parse(cls, image: str) -> Self | None:
        """Read it; None for any other image."""
        match = _IMAGE.fullmatch(image)
        return cls(match["name"], match["digest"]) if match else None


class Manifest(NamedTuple):
    """What the archive says of itself. `language` is a stack's `lang`, empty for a command."""

    name: str
    language: str

    def dump(self) -> bytes:
        """The file's bytes, the same for the same manifest."""
        return json.dumps({"name": self.name, "lang": self.language}).encode() + b"\n"

    @classmethod
    def load(cls, content: bytes) -> Self:
        """Read the file; members that are not known are ignored. Raises ValueError, which says what is wrong."""
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{MANIFEST} is not JSON") from error
        fields = document if isinstance(document, dict) else {}
        name, language = fields.get("name"), fields.get("lang", "")
        if not isinstance(name, str) or DEPLOYABLE.fullmatch(name) is None:
            raise ValueError(f"{MANIFEST} has no name of a function: 1 to 63 of a-z, 0-9 and -")
        if not isinstance(language, str) or (language and _LANGUAGE.fullmatch(language) is None):
            raise ValueError(f"{MANIFEST} has a lang that cannot be one")
        return cls(name, language)
