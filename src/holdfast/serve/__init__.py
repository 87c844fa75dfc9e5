"""Everything on this machine: an embedded nats-server, gateways, workers and the function runtime, supervised."""

from holdfast.serve.options import QueueWorker, ServeOptions
from holdfast.serve.run import run

__all__ = ["QueueWorker", "ServeOptions", "run"]
