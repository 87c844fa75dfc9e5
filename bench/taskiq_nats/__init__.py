"""A peer on a task queue: FastAPI, taskiq, NATS JetStream.

    caller ── FastAPI on uvicorn (uvloop, httptools) ── taskiq ──▶ JetStream ──▶ taskiq's worker, aiohttp ──▶ function
                                                                                    └── aiohttp ──▶ callback

A call is acknowledged when it has been run; one that was not is delivered again after ten seconds.
"""
