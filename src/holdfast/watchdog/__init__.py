"""The watchdog: the HTTP server in front of one replica of one function.

One process per replica, so it is kept light: what it imports every function pays for in memory and in start-up time.
It knows nothing of queues, gateways or other replicas.
"""
