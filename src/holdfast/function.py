"""What names a function: its name and its namespace. No I/O.

Source of the rules: OpenFaaS's routes, `/function/<name>` and `/function/<name>.<namespace>`, the namespace being what
follows the last dot. `faas-cli` always sends the namespace.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

DEFAULT_NAMESPACE = "openfaas-fn"

# What may stand in a route. A name that is deployed is a DNS label, which is narrower: see DEPLOYABLE.
ROUTE_NAME = r"[-a-zA-Z_0-9.]+"
# RFC 1123 label, at most 63 characters: the rule of Kubernetes, kept so that a stack moves there unchanged.
DEPLOYABLE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class FunctionRef(NamedTuple):
    """A function within a namespace. `str()` gives `name.namespace`, the form used in metrics and subjects."""

    name: str
    namespace: str = DEFAULT_NAMESPACE

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}"

    @property
    def short(self) -> str:
        """The form for people: the name alone in the default namespace."""
        return self.name if self.namespace == DEFAULT_NAMESPACE else str(self)

    @classmethod
    def parse(cls, text: str, default_namespace: str = DEFAULT_NAMESPACE) -> Self:
        """Read `name` or `name.namespace`. Any text that matches ROUTE_NAME gives a reference, which need not exist."""
        name, dot, namespace = text.rpartition(".")
        if dot and name and namespace:
            return cls(name, namespace)
        return cls(text, default_namespace)
