"""taskiq's broker and its one task. Run by `taskiq worker bench.taskiq_nats.tasks:broker`."""

from __future__ import annotations

import time

import aiohttp
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig
from taskiq import TaskiqEvents, TaskiqState
from taskiq_nats import PullBasedJetStreamBroker

from bench.calls import INFLIGHT, Call, callback_headers, functions, queue_url
from bench.taskiq_nats.words import CONSUMER, STREAM, SUBJECT

FUNCTIONS = functions()

broker = PullBasedJetStreamBroker(
    queue_url(),
    subject=SUBJECT,
    stream_name=STREAM,
    durable=CONSUMER,
    # The same kind of stream and consumer as Holdfast's.
    stream_config=StreamConfig(
        name=STREAM, subjects=[SUBJECT], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE
    ),
    consumer_config=ConsumerConfig(durable_name=CONSUMER, ack_wait=10, max_ack_pending=10_000, filter_subject=SUBJECT),
    pull_consume_batch=INFLIGHT,
    pull_consume_timeout=30,
)


async def open_client(state: TaskiqState) -> None:
    state.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)


async def close_client(state: TaskiqState) -> None:
    await state.http.close()


broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, open_client)
broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, close_client)


async def call_function(call: Call) -> None:
    """Run the call and send its result on."""
    http: aiohttp.ClientSession = broker.state.http
    begun = time.perf_counter()
    url = FUNCTIONS[call["function"]] + call["target"]
    request_headers = [*((name, value) for name, value in call["headers"]), ("X-Call-Id", call["call_id"])]
    async with http.post(url, data=call["body"].encode("latin-1"), headers=request_headers) as answer:
        body = await answer.read()
    if call["callback"]:
        headers = callback_headers(
            answer.headers.items(),
            call_id=call["call_id"],
            function=call["function"],
            started=call["started"],
            status=answer.status,
            duration_s=time.perf_counter() - begun,
        )
        async with http.post(call["callback"], data=body, headers=headers) as received:
            await received.read()


run = broker.register_task(call_function, task_name="call_function")
