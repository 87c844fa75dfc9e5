"""A peer on a task queue: FastAPI, Celery, Redis.

    caller ── FastAPI on uvicorn (uvloop, httptools) ── Celery ──▶ Redis ──▶ Celery's worker, urllib3 ──▶ function
                                                                                └── urllib3 ──▶ callback

Acknowledged late: a worker that is killed has its calls run again, after Celery's visibility timeout of an hour.
"""
