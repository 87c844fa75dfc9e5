"""`deploy`, `up`, `build` and `push`: from a stack file or an image to functions that serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from holdfast.cli import work
from holdfast.cli.command import Command, gateway_option, namespace_option, output_option, stack_options
from holdfast.cli.exits import Exit
from holdfast.cli.plan import Overrides
from holdfast.cli.progress import say
from holdfast.cli.values import deployable_name, duration, pair, quantity
from holdfast.client import find_credentials
from holdfast.client.gateway import Gateway
from holdfast.function import DEFAULT_NAMESPACE, FunctionRef
from holdfast.stack import Deployment, Resources, Stack

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _pairs(*names: str, help: str) -> Callable[[Decorated], Decorated]:  # noqa: A002 - click's word
    return click.option(*names, type=pair, multiple=True, metavar="KEY=VALUE", help=help)


def _deployment_options(function: Decorated) -> Decorated:
    """What a deployment can be given on the command line; over all functions of a stack."""
    for option in reversed(
        (
            click.option("--fprocess", default="", metavar="COMMAND", help="The command to run."),
            _pairs("-e", "--env", help="An environment variable; may be given again."),
            _pairs("-l", "--label", "labels", help="A label; may be given again."),
            _pairs("--annotation", "annotations", help="An annotation; may be given again."),
            click.option(
                "--secret", "secrets", multiple=True, metavar="NAME", help="A secret it may read; may be given again."
            ),
            click.option("--memory-limit", type=quantity, default="", metavar="QUANTITY", help="Such as 128Mi."),
            click.option("--cpu-limit", type=quantity, default="", metavar="QUANTITY", help="Such as 500m."),
            click.option("--memory-request", type=quantity, default="", metavar="QUANTITY", help="Such as 32Mi."),
            click.option("--cpu-request", type=quantity, default="", metavar="QUANTITY", help="Such as 100m."),
            click.option(
                "--constraint", "constraints", multiple=True, metavar="TEXT", help="Kept and shown; may be given again."
            ),
            click.option("--readonly", is_flag=True, help="A root file system that cannot be written; kept and shown."),
            click.option(
                "--update",
                type=bool,
                is_flag=False,
                flag_value="true",
                default=True,
                metavar="BOOL",
                help="Accepted, as by faas-cli: what runs is always replaced without a failed call.",
            ),
            click.option(
                "--replace",
                type=bool,
                is_flag=False,
                flag_value="true",
                default=False,
                metavar="BOOL",
                help="Accepted, as by faas-cli, and the same as --update.",
            ),
            click.option(
                "--wait/--no-wait", default=True, show_default=True, help="Wait until the new version serves."
            ),
            click.option(
                "--timeout",
                type=duration,
                default="60s",
                show_default=True,
                metavar="DURATION",
                help="Longest time to wait for one function.",
            ),
            output_option,
        )
    ):
        function = option(function)
    return function


def _overrides(namespace: str, given: dict[str, Any]) -> Overrides:
    return Overrides(
        namespace=namespace,
        process=given["fprocess"],
        environment=dict(given["env"]),
        labels=dict(given["labels"]),
        annotations=dict(given["annotations"]),
        secrets=given["secrets"],
        constraints=given["constraints"],
        limits=Resources(given["memory_limit"], given["cpu_limit"]),
        requests=Resources(given["memory_request"], given["cpu_request"]),
        read_only=given["readonly"],
    )


@click.command(
    "deploy",
    cls=Command,
    examples=[
        ("the functions of the stack file in this folder", "holdfast deploy"),
        ("those whose names begin with order-", "holdfast deploy -f stack.yml --filter 'order-*'"),
        ("a command, without a file", "holdfast deploy --name sum --image functions/alpine --fprocess sha512sum"),
        (
            "with a secret and two replicas",
            "holdfast deploy --name count --image c --fprocess 'wc -c' --secret api-key -l com.openfaas.scale.min=2",
        ),
    ],
)
@stack_options
@click.option("--image", default="", metavar="IMAGE", help="Deploy this instead of a stack file's functions.")
@click.option(
    "--name", type=deployable_name, default="", metavar="NAME", help="The function's name; with a stack file, that one."
)
@gateway_option
@namespace_option
@_deployment_options
def deploy(
    *,
    yaml: str | None,
    filter_: str,
    regex: str,
    image: str,
    name: str,
    gateway: str,
    namespace: str,
    wait: bool,
    timeout: float,
    output: str,
    **given: Any,
) -> Exit:
    """Deploy functions, or replace what runs under their names.

    With --image one function, else those of the stack file, whose folders have been built and pushed before: `up` does
    all of it. The command waits until the new version serves. When it does not start, what it wrote is shown, the exit
    code is 9, and the version before goes on serving.
    """
    overrides = _overrides(namespace, given)
    wait_s = timeout if wait else 0.0
    stack: Stack | None = None
    if name and not image and work.is_without_stack(yaml):
        raise click.UsageError(f"what is {name}? Describe it with --image and --fprocess, or name a stack file with -f")
    if image:
        if not name:
            raise click.UsageError("--image needs --name, the function's name")
        if yaml or filter_ or regex:
            raise click.UsageError("--image is one function: leave out -f, --filter and --regex")
        deployments: tuple[Deployment, ...] = (
            Deployment(FunctionRef(name, DEFAULT_NAMESPACE), Path.cwd(), image=image, skip_build=True),
        )
    else:
        stack = work.Selection(yaml, name, filter_, regex).read()
        deployments = stack.deployments
    gateway = work.gateway_for(stack, gateway)
    deployed: list[work.Deployed] = []
    with Gateway(gateway, find_credentials(gateway)) as client:

        def one(deployment: Deployment) -> None:
            deployment = overrides.over(deployment)
            image = work.image_to_deploy(client, deployment)
            deployed.append(work.deploy(client, deployment, image, wait_s=wait_s))

        code = work.each(deployments, one)
    work.show(deployed, output)
    return code


@click.command(
    "up",
    cls=Command,
    examples=[
        ("the functions of the stack file in this folder", "holdfast up"),
        ("one of them, with a variable of its own", "holdfast up -f stack.yml --filter greet --env LEVEL=debug"),
        ("to a server elsewhere, after logging in there", "holdfast up -g https://functions.example.com"),
    ],
)
@stack_options
@gateway_option
@namespace_option
@click.option("--skip-push", is_flag=True, help="Build only.")
@click.option("--skip-deploy", is_flag=True, help="Build and push only.")
@_deployment_options
def up(
    *,
    yaml: str | None,
    filter_: str,
    regex: str,
    gateway: str,
    namespace: str,
    skip_push: bool,
    skip_deploy: bool,
    wait: bool,
    timeout: float,
    output: str,
    **given: Any,
) -> Exit:
    """Build, push and deploy the functions of a stack file.

    A function's folder is packed and sent, its requirements.txt is installed where it will run, and it is deployed. A
    requirement that cannot be had is shown as pip says it, a function that does not start with what it wrote (exit
    code 9); what ran before goes on.
    """
    overrides = _overrides(namespace, given)
    stack = work.Selection(yaml, "", filter_, regex).read()
    gateway = work.gateway_for(stack, gateway)
    deployed: list[work.Deployed] = []
    with Gateway(gateway, find_credentials(gateway)) as client:

        def one(deployment: Deployment) -> None:
            deployment = overrides.over(deployment)
            packed = work.build(deployment)
            if skip_push:
                return
            if packed is not None:
                work.push(client, packed)
            if skip_deploy:
                return
            image = str(packed.image) if packed is not None else ""
            deployed.append(work.deploy(client, deployment, image, wait_s=timeout if wait else 0.0))

        code = work.each(stack.deployments, one)
    if not (skip_push or skip_deploy):
        work.show(deployed, output)
    return code


@click.command(
    "build",
    cls=Command,
    examples=[
        ("pack the functions of the stack file in this folder", "holdfast build"),
        ("one of them", "holdfast build -f stack.yml --filter greet"),
    ],
)
@stack_options
def build(*, yaml: str | None, filter_: str, regex: str) -> Exit:
    """Pack the folders of functions into bundles.

    Each goes to build/NAME.tar.gz beside the stack file; the names of the bundles are printed. The same files give the
    same bundle. Left out are histories, caches and environments, such as .git, __pycache__ and .venv.
    """

    def one(deployment: Deployment) -> None:
        packed = work.build(deployment)
        if packed is None:
            say(f"{deployment.ref.name}: nothing to build")
        else:
            click.echo(str(packed.image))

    return work.each(work.Selection(yaml, "", filter_, regex).read().deployments, one)


@click.command(
    "push",
    cls=Command,
    examples=[
        ("what has been built", "holdfast push"),
        ("of one function", "holdfast push -f stack.yml --filter greet"),
    ],
)
@stack_options
@gateway_option
def push(*, yaml: str | None, filter_: str, regex: str, gateway: str) -> Exit:
    """Send bundles to where the functions will run.

    Their requirements are installed there. What is there already is not sent again.
    """
    stack = work.Selection(yaml, "", filter_, regex).read()
    gateway = work.gateway_for(stack, gateway)
    with Gateway(gateway, find_credentials(gateway)) as client:

        def one(deployment: Deployment) -> None:
            packed = work.built(deployment)
            if packed is None:
                say(f"{deployment.ref.name}: nothing to push")
                return
            work.push(client, packed)
            click.echo(str(packed.image))

        return work.each(stack.deployments, one)
