"""The Celery application and its one task. Run by `celery --app bench.celery_redis.tasks worker`."""

from __future__ import annotations

import time

import urllib3
from celery import Celery

from bench.calls import INFLIGHT, Call, callback_headers, functions, queue_url

FUNCTIONS = functions()

app = Celery("peer", broker=queue_url())
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    worker_disable_rate_limits=True,
    broker_pool_limit=INFLIGHT,
    # Each call that is run acknowledges on a connection of its own; with the usual ten, most of them would fail.
    broker_transport_options={"max_connections": 2 * INFLIGHT},
    broker_connection_retry_on_startup=True,
)

http = urllib3.PoolManager(maxsize=INFLIGHT, retries=False)


def call_function(call: Call) -> None:
    """Run the call and send its result on."""
    begun = time.perf_counter()
    answer = http.request(
        "POST",
        FUNCTIONS[call["function"]] + call["target"],
        body=call["body"].encode("latin-1"),
        headers={**dict(call["headers"]), "X-Call-Id": call["call_id"]},
        decode_content=False,
    )
    if call["callback"]:
        headers = callback_headers(
            answer.headers.items(),
            call_id=call["call_id"],
            function=call["function"],
            started=call["started"],
            status=answer.status,
            duration_s=time.perf_counter() - begun,
        )
        http.request("POST", call["callback"], body=answer.data, headers=headers)


run = app.task(name="call_function")(call_function)
