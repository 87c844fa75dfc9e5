"""What the naive gateway and worker agree on: names in NATS."""

STREAM = "NAIVE"
SUBJECT = "naive.calls"
CONSUMER = "naive-worker"
