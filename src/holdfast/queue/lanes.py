"""Lanes: where the calls of one function stand apart from the one line of all, in the same stream.

A lane is a consumer of its own for the subjects `<queue>.lane.<namespace>.<function>.*`. Workers open one for a
function whose calls would hold up everybody else's, or that may run only so many at once, and say so when they announce
themselves (presence.py); gateways then put that function's calls there at once. Why and when is worker/lanes.py's.

A queue that workers of two providers take from has a lane for each provider as well, for the calls that are meant for
it: `<queue>.lane.@<provider>.<namespace>.<function>.*`. Its words are `@<provider>`. When there is one is
worker/providers.py's.

A call must not get into a lane that has no consumer. So gateways use only lanes that were announced lately, and a lane
is taken down only a while after its last announcement, when it is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, NamedTuple

import nats.js.errors
from nats.js.api import ConsumerConfig

from holdfast.errors import QueueRefused
from holdfast.queue.api import ask
from holdfast.queue.connection import Connection
from holdfast.queue.topology import (
    DURABLE,
    MOST_PENDING,
    consumer_config,
    ensure_consumer_of,
    manage,
    stream_of,
)
from holdfast.settings import NatsSettings

AS_IT_IS = 0
# For a limit: that of a lane which exists already stays.

_WORD = re.compile(r"[-a-zA-Z_0-9]+")
_DURABLE_PREFIX = "lane~"
# `~` stands in no name, so the words of a consumer's name are told apart.
_DURABLE_OF_PROVIDER = "provider~"
# Not a lane's: workers before 0.2 would serve it.


class Announced(NamedTuple):
    """What a worker says of lanes when it announces itself. Functions are `<namespace>.<function>`, as in subjects."""

    lanes: tuple[str, ...] = ()
    limits: Mapping[str, int] = {}
    """How many calls of a function this worker runs at once at most, as far as it has learned that."""
    held: Mapping[str, float] = {}
    """Until when (Unix seconds) a function asked to be left alone."""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Announced:
        """Out of what a worker announced; what cannot be read, or names no function, counts as not said."""
        try:
            return cls(
                tuple(filter(are_words, map(str, fields.get("lanes", ())))),
                {str(words): int(limit) for words, limit in fields.get("limits", {}).items()},
                {str(words): until for words, said in fields.get("held", {}).items() if isfinite(until := float(said))},
            )
        except (ValueError, TypeError, AttributeError, OverflowError):
            return cls()


def words_of_provider(provider: str) -> str:
    """The words of the lane of a provider's calls."""
    return f"@{provider}"


def provider_of(words: str) -> str:
    """The provider whose calls a lane is for; empty: it is a function's."""
    return words[1:] if words.startswith("@") else ""


def are_words(words: str) -> bool:
    """Whether words name a function or a provider: others would become consumers that match nothing, or everything."""
    if words.startswith("@"):
        return _WORD.fullmatch(words[1:]) is not None
    namespace, _, name = words.partition(".")
    return _WORD.fullmatch(namespace) is not None and _WORD.fullmatch(name) is not None


def durable_of(words: str) -> str:
    """The name of a lane's consumer."""
    if provider := provider_of(words):
        return _DURABLE_OF_PROVIDER + provider
    return _DURABLE_PREFIX + words.replace(".", "~")


def consumer_of(subject: bytes) -> str:
    """The name of the consumer that hands out what stands under a subject of a queue."""
    words = subject.decode("utf-8", "replace").split(".")
    if words[1] != "lane":
        return DURABLE
    return durable_of(words[2] if provider_of(words[2]) else ".".join(words[2:4]))


def _pattern_of(words: str) -> str:
    """What follows `<queue>.lane.` in the subjects of a lane."""
    return f"{words}.*.*.*" if provider_of(words) else f"{words}.*"


def lane_config(queue: str, words: str, ack_wait_s: float, limit: int | None) -> ConsumerConfig:
    """How a lane's consumer is made. `limit`: how many of its calls all workers together may have."""
    return consumer_config(
        f"{queue}.lane.{_pattern_of(words)}", ack_wait_s, durable=durable_of(words), most_pending=limit or MOST_PENDING
    )


async def ensure_lane(settings: NatsSettings, queue: str, words: str, *, ack_wait_s: float, limit: int | None) -> None:
    """Make sure of a lane and its limit, None for none; the queue's stream exists. A pause of the queue holds it too.

    Raises QueueError.
    """
    stream = stream_of(queue)
    wanted = lane_config(queue, words, ack_wait_s, limit)
    async with manage(settings) as jetstream:
        try:
            line = (await jetstream.consumer_info(stream, DURABLE)).config
        except nats.js.errors.NotFoundError:
            line = None
        if line is not None and line.pause_until is not None:
            wanted = replace(wanted, pause_until=line.pause_until)
        await ensure_consumer_of(jetstream, stream, wanted, keep_pending=limit == AS_IT_IS)


async def lanes_of(connection: Connection, queue: str) -> list[str]:
    """The lanes of a queue; none when it does not exist. Raises QueueError."""
    found: list[str] = []
    while True:
        try:
            page = await ask(connection, f"CONSUMER.NAMES.{stream_of(queue)}", offset=len(found))
        except QueueRefused as error:
            if error.code == 404:
                return []
            raise
        names = page.get("consumers") or []
        found += names
        if not names or len(found) >= page.get("total", 0):
            return [words for name in found if are_words(words := _words_of(name))]


def _words_of(durable: str) -> str:
    """The words of the lane that a consumer serves; empty: it serves none."""
    if durable.startswith(_DURABLE_OF_PROVIDER):
        return words_of_provider(durable.removeprefix(_DURABLE_OF_PROVIDER))
    if durable.startswith(_DURABLE_PREFIX):
        return durable.removeprefix(_DURABLE_PREFIX).replace("~", ".")
    return ""


class Depth(NamedTuple):
    """How many messages a consumer has to do with."""

    waiting: int
    """Not handed out yet."""
    pending: int
    """Handed out and not acknowledged, by all workers."""


async def depth_of(connection: Connection, queue: str, durable: str = DURABLE) -> Depth:
    """The depth of a lane, or of the line. Raises QueueRefused (404) when it does not exist, QueueUnavailable."""
    info = await ask(connection, f"CONSUMER.INFO.{stream_of(queue)}.{durable}")
    return Depth(int(info["num_pending"]), int(info["num_ack_pending"]))


async def take_down(connection: Connection, queue: str, words: str) -> bool:
    """Delete a lane; gives whether nothing was left in it. When something was, it must be made again.

    Raises QueueError.
    """
    await ask(connection, f"CONSUMER.DELETE.{stream_of(queue)}.{durable_of(words)}")
    return await last_in_lanes(connection, queue, _pattern_of(words)) is None


async def last_in_lanes(connection: Connection, queue: str, pattern: str = "*.*.*") -> str | None:
    """The words of the function whose call stands last in the lanes that a pattern names; None: there is none.

    Without a pattern, in the lanes of functions.
    """
    try:
        found = await ask(connection, f"STREAM.MSG.GET.{stream_of(queue)}", last_by_subj=f"{queue}.lane.{pattern}")
    except QueueRefused as error:
        if error.code == 404:
            return None
        raise
    return ".".join(found["message"]["subject"].split(".")[2:4])
