"""What may be written on the command line, read into values. No I/O; click names the option in front of the message."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

from holdfast.duration import parse_duration
from holdfast.errors import SettingError
from holdfast.function import DEPLOYABLE, ROUTE_NAME
from holdfast.invocation import is_call_id
from holdfast.nats_address import read_servers, without_credentials
from holdfast.quantity import is_quantity
from holdfast.queue_name import problem_with
from holdfast.web_address import check_url, is_host

DEFAULT_GATEWAY = "http://127.0.0.1:8080"
MOST_SLOTS = 10_000

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_A_HEADER = re.compile("[\r\n\0]")


def gateway_url(text: str) -> str:
    """A gateway's URL; `127.0.0.1:8080` is read as `http://127.0.0.1:8080`, as OpenFaaS's client does."""
    url = text.strip()
    url = url if "://" in url else f"http://{url}"
    try:
        check_url(url)
    except ValueError as error:
        shown = without_credentials(text)
        raise click.BadParameter(f"{shown!r} is not a URL such as {DEFAULT_GATEWAY}: {error}") from None
    return url.rstrip("/")


def host(text: str) -> str:
    """A name or address to listen on."""
    if not is_host(text):
        raise click.BadParameter(f"{text!r} is neither a host's name nor an address; a port is given by itself")
    return text


def nats_servers(text: str) -> str:
    """The URLs of NATS servers, separated by commas."""
    try:
        return ",".join(read_servers(text))
    except SettingError as error:
        raise click.BadParameter(f"{error.value!r} cannot be used: expected {error.expected}") from None


def function_name(text: str) -> str:
    """`name` or `name.namespace`."""
    if not re.fullmatch(ROUTE_NAME, text):
        raise click.BadParameter(f"{text!r} cannot be a function's name: letters, digits, '-', '_' and '.' can")
    return text


def optional_function_name(text: str) -> str:
    """A function's name, or nothing."""
    return function_name(text) if text else ""


def split_name(name: str, namespace: str) -> tuple[str, str]:
    """A name as it was written and the namespace given beside it; `name.namespace` says both."""
    first, dot, last = name.rpartition(".")
    return (first, last) if dot and first and last and not namespace else (name, namespace)


def call_id(text: str) -> str:
    """An asynchronous call's id."""
    if not is_call_id(text.encode()):
        raise click.BadParameter(f"{text!r} cannot be a call's id: 1 to 128 letters, digits, '-' and '_'")
    return text


def queue_and_slots(text: str) -> tuple[str, int | None]:
    """`slow=4`: a queue and how many of its calls run at once; None when only the queue is named."""
    name, equals, number = text.partition("=")
    problem = problem_with(name)
    if problem is not None:
        raise click.BadParameter(problem)
    if not equals:
        return name, None
    if not (number.isascii() and number.isdecimal() and 1 <= int(number) <= MOST_SLOTS):
        raise click.BadParameter(f"{text!r} does not end in a number of calls from 1 to {MOST_SLOTS}, such as slow=4")
    return name, int(number)


def duration(text: str) -> float:
    """A duration as OpenFaaS writes it, in seconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def since(text: str) -> str:
    """An instant, given as such (RFC 3339) or as a duration before now; RFC 3339 in UTC."""
    try:
        instant = datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        try:
            instant = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            example = "2026-01-31T08:00:00Z"
            raise click.BadParameter(
                f"{text!r} is neither a duration such as 10m nor a time such as {example}"
            ) from None
    return instant.isoformat().replace("+00:00", "Z")


def header(text: str) -> tuple[str, str]:
    """`Name: value` or `Name=value`: whichever sign comes first divides, for no name contains either."""
    sign = re.search("[:=]", text)
    name = text[: sign.start()].strip() if sign else ""
    if sign is None or not _HEADER_NAME.fullmatch(name):
        raise click.BadParameter(f"{text!r} is not a header: write 'Name: value' or Name=value")
    value = text[sign.end() :].strip(" \t")
    if _NOT_IN_A_HEADER.search(value):
        raise click.BadParameter(f"the value of {name} has a line break or a NUL in it")
    return name, value


def pair(text: str) -> tuple[str, str]:
    """`KEY=VALUE`, of an environment, labels or annotations; the first `=` divides, and the value may be empty."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value


def deployable_name(text: str) -> str:
    """The name of a function that is deployed, or of a namespace."""
    if text and DEPLOYABLE.fullmatch(text) is None:
        raise click.BadParameter(
            f"{text!r} cannot be deployed as a name: 1 to 63 of a-z, 0-9 and -, a letter or digit first and last"
        )
    return text


def quantity(text: str) -> str:
    """A Kubernetes quantity, as written."""
    if text and not is_quantity(text):
        raise click.BadParameter(f"{text!r} is no quantity such as 128Mi or 500m")
    return text


def regular_expression(text: str) -> str:
    """A regular expression, as written."""
    try:
        re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r} is no regular expression: {error}") from None
    return text


def query_pair(text: str) -> tuple[str, str]:
    """A piece of a query, `key=value`, still to be percent-encoded; the first `=` divides."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise click.BadParameter(f"{text!r} is not key=value")
    return key, value
