"""The naive worker: a nats-py pull consumer, a task per call, aiohttp for function and callback, then the ack."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import nats
import nats.errors
import uvloop
from nats.aio.msg import Msg

from bench.calls import INFLIGHT, callback_headers, functions, queue_url
from bench.naive.words import CONSUMER, STREAM

FETCH_TIMEOUT_S = 30


class Worker:
    """Runs up to INFLIGHT calls at once."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._functions = functions()
        self._running = 0
        self._room = asyncio.Event()

    async def work(self) -> None:
        connection = await nats.connect(queue_url())
        calls = await connection.jetstream().pull_subscribe_bind(CONSUMER, stream=STREAM)
        async with asyncio.TaskGroup() as group:
            while True:
                # A fetch costs about 150 µs whatever it brings, so one is made when a quarter of the slots is free.
                while INFLIGHT - self._running < INFLIGHT // 4:
                    self._room.clear()
                    await self._room.wait()
                try:
                    messages = await calls.fetch(INFLIGHT - self._running, timeout=FETCH_TIMEOUT_S)
                except nats.errors.TimeoutError:
                    continue
                self._running += len(messages)
                for message in messages:
                    group.create_task(self._run(message))

    async def _run(self, message: Msg) -> None:
        try:
            await self._call(message)
        finally:
            self._running -= 1
            self._room.set()

    async def _call(self, message: Msg) -> None:
        call = message.headers or {}
        url = self._functions[call["Function"]] + call["Target"]
        request_headers = [(name, value) for name, value in json.loads(call["Request-Headers"])]
        request_headers.append(("X-Call-Id", call["Nats-Msg-Id"]))
        begun = time.perf_counter()
        async with self._http.post(url, data=message.data, headers=request_headers) as answer:
            body = await answer.read()
        if callback := call.get("Callback"):
            headers = callback_headers(
                answer.headers.items(),
                call_id=call["Nats-Msg-Id"],
                function=call["Function"],
                started=call["Started"],
                status=answer.status,
                duration_s=time.perf_counter() - begun,
            )
            async with self._http.post(callback, data=body, headers=headers) as received:
                await received.read()
        await message.ack()


async def main() -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as http:
        await Worker(http).work()


if __name__ == "__main__":
    uvloop.run(main())
