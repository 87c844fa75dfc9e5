"""The naive peer: the same work, built the usual way with the usual libraries, in their fast settings.

    caller ── Starlette on uvicorn (uvloop, httptools) ── nats-py ──▶ JetStream ──▶ nats-py, aiohttp ──▶ function
                                                                                       └── aiohttp ──▶ callback

It keeps the promise that is measured (202 after JetStream's confirmation, run at least once, callback with the answer)
and nothing beyond: no limits, no retries, no streaming, no heartbeats, no records.
"""
