"""Reading a stack.yml, OpenFaaS's description of functions, into deployments. Running them is left to a provider.

The rules are those of faas-cli's documented format (docs.openfaas.com/reference/yaml):

- `${NAME}` and `${NAME:-default}` are replaced in the text before it is read as YAML. `$${NAME}` stays `${NAME}`, and
  a `$` without a brace means nothing.
- Scalars are taken as written. YAML 1.1 would turn `on` into true, `0644` into 420 and `1.10` into 1.1; a function's
  environment has to see what the file says. Only the fields that are flags are read as flags.
- A key that stands twice in one mapping is an error: one of the two would silently vanish.
- `environment_file` overrides `environment`, and of several files the last wins. Paths are relative to the stack.

A field that is not known is a warning: newer stacks still deploy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from holdfast.errors import DeploymentError
from holdfast.function import DEFAULT_NAMESPACE, DEPLOYABLE, FunctionRef
from holdfast.queue_name import ANNOTATION as QUEUE
from holdfast.queue_name import problem_with

PROVIDER_NAMES = ("openfaas", "faas")
VERSIONS = ("1.0", "1")

_TOP_LEVEL = frozenset({"version", "provider", "functions", "configuration"})
_PROVIDER = frozenset({"name", "gateway", "network"})
_DEPLOYED = frozenset(
    {
        "lang",
        "handler",
        "image",
        "fprocess",
        "namespace",
        "environment",
        "environment_file",
        "labels",
        "annotations",
        "secrets",
        "constraints",
        "limits",
        "requests",
        "readonly_root_filesystem",
    }
)
# These tell faas-cli how to build an image; a deployment does not have them.
_FOR_THE_BUILD = frozenset(
    {"skip_build", "build_args", "build_options", "build_secrets", "registry_auth", "platforms", "copy", "publish"}
)
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Resources:
    """Kubernetes quantities as written, such as `40Mi` and `100m`; empty: not given."""

    memory: str = ""
    cpu: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One function as described: what an OpenFaaS provider is asked to run. Nothing is checked against this machine."""

    ref: FunctionRef
    folder: Path
    """The stack's folder: where a command runs that has no handler folder."""
    language: str = ""
    handler: Path | None = None
    """Folder of the function's code, absolute."""
    packages: Path | None = None
    """Where libraries of its own are installed; None: there are none. A stack has none, a bundle may."""
    image: str = ""
    process: str = ""
    """`fprocess`, the command that is started for each request."""
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    limits: Resources | None = None
    requests: Resources | None = None
    read_only_root_filesystem: bool = False
    skip_build: bool = False
    """Whether a client leaves the folder where it is and deploys the image as it is named."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack.yml. `warnings` name what was not understood and therefore left out."""

    gateway: str
    deployments: tuple[Deployment, ...]
    warnings: tuple[str, ...]


def read_stack(path: Path, environ: Mapping[str, str] | None = None, *, namespace: str = DEFAULT_NAMESPACE) -> Stack:
    """Read a file. `namespace` is that of a function that names none. Raises DeploymentError."""
    return parse_stack(
        _read_file(path, str(path), ""),
        source=str(path),
        folder=path.resolve().parent,
        environ=os.environ if environ is None else environ,
        namespace=namespace,
        read_file=lambda file, function: _read_file(file, str(path), function),
    )


def _read_file(path: Path, source: str, function: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        named = "" if str(path) == source else f"environment_file {path} of "
        raise DeploymentError(function, f"{named}{source} cannot be read: {reason}") from error


def parse_stack(
    text: str,
    *,
    source: str,
    folder: Path,
    environ: Mapping[str, str],
    namespace: str = DEFAULT_NAMESPACE,
    read_file: Callable[[Path, str], str],
) -> Stack:
    """Read the text of a stack.yml. `read_file(path, function)` reads an environment_file. No I/O of its own."""
    warnings: list[str] = []
    content = _load(substitute(text, environ, source), source, "")
    top = _Fields(source, "", "", content, warnings)
    top.warn_unknown(_TOP_LEVEL)
    if (version := top.text("version")) and version not in VERSIONS:
        raise top.error("version", version, "1.0")
    provider = top.within("provider")
    provider.warn_unknown(_PROVIDER)
    if (name := provider.text("name")) and name not in PROVIDER_NAMES:
        raise provider.error("name", name, "openfaas")
    functions = top.within("functions")
    deployments = tuple(_deployment(functions, name, folder, namespace, read_file) for name in functions.names())
    return Stack(provider.text("gateway"), deployments, tuple(warnings))


def _deployment(
    functions: _Fields, name: str, folder: Path, namespace: str, read_file: Callable[[Path, str], str]
) -> Deployment:
    if not DEPLOYABLE.fullmatch(name):
        raise DeploymentError(name, f"{functions.source}: a function's name is {_LABEL_RULE}")
    fields = functions.within(name, function=name)
    fields.warn_unknown(_DEPLOYED | _FOR_THE_BUILD)
    namespace = fields.text("namespace") or namespace
    if not DEPLOYABLE.fullmatch(namespace):
        raise fields.error("namespace", namespace, _LABEL_RULE)
    environment = fields.texts_by_name("environment")
    for file in fields.texts("environment_file"):
        path = folder / file
        content = _load(read_file(path, name), str(path), name)
        environment |= _Fields(str(path), name, "", content, fields.warnings).texts_by_name("environment")
    _check_environment(environment, fields)
    annotations = fields.texts_by_name("annotations")
    if (queue := annotations.get(QUEUE)) and (problem := problem_with(queue)) is not None:
        raise DeploymentError(name, f"{functions.source}: annotation {QUEUE}: {problem}")
    handler = fields.text("handler")
    return Deployment(
        ref=FunctionRef(name, namespace),
        folder=folder,
        language=fields.text("lang").lower(),
        handler=Path(os.path.normpath(folder / handler)) if handler else None,
        image=fields.text("image"),
        process=fields.text("fprocess"),
        environment=environment,
        labels=fields.texts_by_name("labels"),
        annotations=annotations,
        secrets=fields.texts("secrets"),
        constraints=fields.texts("constraints"),
        limits=fields.resources("limits"),
        requests=fields.resources("requests"),
        read_only_root_filesystem=fields.flag("readonly_root_filesystem"),
        skip_build=fields.flag("skip_build"),
    )


_LABEL_RULE: Final = "1 to 63 characters of a-z, 0-9 and -, a letter or digit first and last"


def _check_environment(environment: Mapping[str, str], fields: _Fields) -> None:
    """Refuse what a process environment cannot hold."""
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name:
            raise fields.error("environment", name, "names without '=' and NUL")
        if "\0" in value:
            raise fields.error(f"environment.{name}", value, "text without NUL")


class _Fields:
    """One mapping of the file; errors and warnings name the file, the function and the path of the field."""

    def __init__(self, source: str, function: str, path: str, value: Any, warnings: list[str]) -> None:
        self.source = source
        self.warnings = warnings
        self._function = function
        self._path = path
        if value is not None and not isinstance(value, dict):
            raise self._mistake(path or "the file", value, "a mapping of names to values")
        self._values: dict[Any, Any] = value or {}
        for key in self._values:
            if not isinstance(key, str):
                raise self._mistake(path or "the file", key, "names that are text")

    def names(self) -> list[str]:
        return list(self._values)

    def within(self, name: str, function: str | None = None) -> _Fields:
        function = self._function if function is None else function
        return _Fields(self.source, function, self._at(name), self._values.get(name), self.warnings)

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(name, value, "text")
        return value

    def flag(self, name: str) -> bool:
        text = self.text(name)
        if text and text.lower() not in _FLAGS:
            raise self.error(name, text, "true or false")
        return _FLAGS.get(text.lower(), False)

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(name, value, "a list of texts, one after each '- '")
        return tuple(value)

    def texts_by_name(self, name: str) -> dict[str, str]:
        inner = self.within(name)
        return {key: inner.text(key) for key in inner.names()}

    def resources(self, name: str) -> Resources | None:
        if self._values.get(name) is None:
            return None
        inner = self.within(name)
        inner.warn_unknown(frozenset({"memory", "cpu"}))
        return Resources(memory=inner.text("memory"), cpu=inner.text("cpu"))

    def warn_unknown(self, known: frozenset[str]) -> None:
        for name in self._values:
            if name not in known:
                self.warnings.append(f"{self.source}: {self._at(name)} is not known and left out")

    def error(self, name: str, value: Any, expected: str) -> DeploymentError:
        return self._mistake(self._at(name), value, expected)

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _mistake(self, at: str, value: Any, expected: str) -> DeploymentError:
        return DeploymentError(self._function, f"{self.source}: {at}: expected {expected}, not {value!r}")


class _Loader(yaml.CSafeLoader):
    """Leaves scalars as written, except null; refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the interface's
        seen: set[str] = set()
        for key, _ in node.value:
            # A merge (`<<`) may bring a key that stands here too: that is what merging is for.
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands here twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_KEPT = frozenset({"tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"})
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _load(text: str, source: str, function: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a loader derived from the safe one
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DeploymentError(function, f"{source}{where}: {error.problem or error.context or 'not YAML'}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DeploymentError(function, f"{source} cannot be read as YAML: {error}") from error


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":=", "-", "=")


def substitute(text: str, environ: Mapping[str, str], source: str) -> str:
    """Replace `${NAME}` (empty when unset) and `${NAME:-default}`; `:=`, `-` and `=` as in a shell. No I/O.

    A default may hold replacements of its own. Raises DeploymentError, with the line, for any other form.
    """
    result: list[str] = []
    position = 0
    while True:
        start = text.find("${", position)
        if start < 0:
            result.append(text[position:])
            return "".join(result)
        if start > position and text[start - 1] == "$":
            result.append(text[position : start - 1] + "${")
            position = start + 2
            continue
        end = _closing_brace(text, start + 2)
        expression = text[start + 2 : end]
        name = _NAME.match(expression)
        rest = expression[name.end() :] if name else ""
        operator = next((known for known in _OPERATORS if rest.startswith(known)), "")
        if end < 0 or not name or (rest and not operator):
            line = text.count("\n", 0, start) + 1
            seen = text[start : end + 1] if end >= 0 else text[start:].partition("\n")[0]
            raise DeploymentError("", f"{source}, line {line}: {seen} is not ${{NAME}} or ${{NAME:-default}}")
        result.append(text[position:start])
        value = environ.get(name.group())
        if operator and (value is None or (value == "" and operator.startswith(":"))):
            value = substitute(rest[len(operator) :], environ, source)
        result.append(value or "")
        position = end + 1


def _closing_brace(text: str, start: int) -> int:
    """Where the brace opened before `start` closes, -1 when it does not."""
    depth = 1
    for match in re.compile(r"\$\{|\}").finditer(text, start):
        depth += 1 if match.group() == "${" else -1
        if depth == 0:
            return match.start()
    return -1
