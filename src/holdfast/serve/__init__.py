"""Everything on this machine: an embedded nats-server, gateways, workers and the function runtime, supervised."""

from holdfast.serve.options import ServeOptions
from holdfast.serve.run import run

__all__ = ["ServeOptions", "run"]
