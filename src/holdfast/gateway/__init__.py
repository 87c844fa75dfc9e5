"""The gateway: HTTP in, calls into the queue or straight to functions. Any number may run; it keeps no state."""

LISTEN_FD = "HOLDFAST_GATEWAY_FD"
METRICS_FD = "HOLDFAST_GATEWAY_METRICS_FD"
# Variables that hold the numbers of listening sockets which a supervisor hands to a gateway.
