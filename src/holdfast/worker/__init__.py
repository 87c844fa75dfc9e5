"""The queue-worker: takes calls from a queue, runs them, calls back. Any number may share a queue."""

LISTEN_FD = "HOLDFAST_WORKER_FD"
# Variable that holds the number of the listening socket for /metrics and /healthz which a supervisor hands to a worker.
