"""What the taskiq gateway, its worker and the bench agree on: names in NATS."""

STREAM = "TASKIQ"
SUBJECT = "taskiq.calls"
CONSUMER = "taskiq-worker"
