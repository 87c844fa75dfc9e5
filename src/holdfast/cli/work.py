"""The steps of building, pushing and deploying one function, and doing them for each function of a stack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from holdfast.bundle import Manifest
from holdfast.cli.exits import Exit
from holdfast.cli.packing import Packed, archive_path, pack, packed_before
from holdfast.cli.plan import Way, document, find_stack, left_behind, read_selected, way
from holdfast.cli.progress import detail, say, size, uploading, warn
from holdfast.cli.report import report
from holdfast.cli.values import DEFAULT_GATEWAY, gateway_url
from holdfast.client.administration import Administration
from holdfast.client.errors import (
    BundleFailed,
    GatewayRefused,
    NoBundlesTaken,
    NotReady,
    UnknownDeadLetter,
    UnknownFunction,
)
from holdfast.client.gateway import Gateway
from holdfast.client.servers import same_gateway
from holdfast.errors import DeploymentError
from holdfast.stack import Deployment, Stack

Thing = TypeVar("Thing")

# Failures of one function or call, after which the next one may still go well.
_OF_ONE = (DeploymentError, BundleFailed, GatewayRefused, NoBundlesTaken, NotReady, UnknownDeadLetter, UnknownFunction)


class Selection(NamedTuple):
    """Which functions of which stack file, as the command line says it."""

    yaml: str | None
    name: str = ""
    pattern: str = ""
    regex: str = ""

    def read(self) -> Stack:
        """The stack with the functions that are meant. Says what in it was not understood."""
        path = find_stack(self.yaml, Path.cwd())
        if path is None:
            raise click.UsageError(
                "no stack file: name one with -f stack.yml, or go to a folder with a stack.yaml or stack.yml. "
                f"`{program()} new NAME --lang python3-http` makes one"
            )
        stack = read_selected(path, name=self.name, pattern=self.pattern, regex=self.regex)
        for warning in stack.warnings:
            warn(warning)
        return stack


def is_without_stack(yaml: str | None) -> bool:
    """Whether no stack file is named and none lies in the current folder."""
    return find_stack(yaml, Path.cwd()) is None


class Deployed(NamedTuple):
    """A function that was deployed, for showing it."""

    name: str
    namespace: str
    image: str
    updated: bool
    url: str

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return self._asdict()


def program() -> str:
    """The name the command line was called by."""
    return click.get_current_context().find_root().info_name or "holdfast"


def gateway_for(stack: Stack | None, given: str) -> str:
    """Which gateway is meant: the command line's, else the stack's unless that is the usual default, else as given.

    The order is faas-cli's: a stack that names a gateway of its own is meant for that one.
    """
    source = click.get_current_context().get_parameter_source("gateway")
    if source is click.core.ParameterSource.COMMANDLINE or stack is None or not stack.gateway:
        return given
    named = gateway_url(stack.gateway)
    return given if same_gateway(named, DEFAULT_GATEWAY) else named


def each(things: Iterable[Thing], step: Callable[[Thing], None]) -> Exit:
    """Do a step for each function; a failure of one is shown and does not keep the others from their turn.

    Gives the exit code of the first failure.
    """
    first = Exit.DONE
    for thing in things:
        try:
            step(thing)
        except _OF_ONE as error:
            code = report(error, program())
            first = first or code
    return first


def build(deployment: Deployment) -> Packed | None:
    """Pack a function's folder; None when there is nothing to pack."""
    if way(deployment) is Way.AS_IT_IS:
        return None
    name = deployment.ref.name
    assert deployment.handler is not None  # noqa: S101 - way() has looked
    packed = pack(deployment.handler, Manifest(name, deployment.language), archive_path(deployment.folder, name))
    say(
        f"{name}: packed {packed.files} file{'' if packed.files == 1 else 's'} into {packed.path} ({size(packed.size)})"
    )
    return packed


def built(deployment: Deployment) -> Packed | None:
    """What was packed before; None when there is nothing to pack. Raises DeploymentError when it was not."""
    if way(deployment) is Way.AS_IT_IS:
        return None
    name = deployment.ref.name
    packed = packed_before(name, archive_path(deployment.folder, name))
    if packed is None:
        raise DeploymentError(name, f"is not built yet: `{program()} up` builds, uploads and deploys it")
    return packed


def image_to_deploy(client: Gateway, deployment: Deployment) -> str:
    """The bundle that was packed before; empty when the description's own image is meant.

    That is so for a function without a folder, and at a gateway of images, where somebody has built and pushed one.
    Raises DeploymentError when the bundle was not packed.
    """
    if way(deployment) is Way.AS_IT_IS:
        return ""
    if not Administration(client).takes_bundles():
        if not deployment.image:
            raise NoBundlesTaken(client.url, deployment.ref.name)
        return ""
    packed = built(deployment)
    return str(packed.image) if packed is not None else ""


def push(client: Gateway, packed: Packed) -> None:
    """Upload a bundle, unless it is there already, and show what is done with it there."""
    name, administration = packed.image.name, Administration(client)
    if administration.has_bundle(packed.image):
        say(f"{name}: its content is there already")
        return
    with uploading(f"{name}: uploading", packed.size) as sent:
        steps = administration.push(packed.image, packed.path, sent)
        next(steps, None)  # the bar is full when the answer begins
    for step in steps:
        if step.status == "installing":
            detail(step.text)


def deploy(client: Gateway, deployment: Deployment, image: str, *, wait_s: float) -> Deployed:
    """Deploy a function and, unless `wait_s` is 0, wait until it serves."""
    ref, administration = deployment.ref, Administration(client)
    described = document(deployment, image)
    stays = left_behind(deployment)
    if stays is not None:
        warn(f"{ref.name}: {stays} lies here and is not sent: `handler` names the folder that is")
    updated = administration.deploy(described)
    if wait_s > 0:
        say(f"{ref.name}: {'updated' if updated else 'deployed'}, waiting until it is ready")
        for warning in administration.wait_updated(ref.name, ref.namespace, wait_s):
            warn(f"{ref.name}: {warning}")
    url = f"{client.url}/function/{ref}"
    return Deployed(ref.name, ref.namespace, described["image"], updated, url)


def show(deployed: Sequence[Deployed], output: str) -> None:
    """Print what was deployed: where each function is called, or all of it as JSON."""
    if output == "json":
        click.echo(json.dumps([one.as_json() for one in deployed], indent=2))
        return
    widest = max((len(one.name) for one in deployed), default=0)
    for one in deployed:
        click.echo(f"{one.name:<{widest}}  {one.url}")
