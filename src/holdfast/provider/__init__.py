"""The local function runtime: runs deployed functions as processes on this machine and tells others where they are.

It speaks OpenFaaS's provider API as far as it goes. Calling functions is left to gateways and workers, which ask for
a function's endpoints; serving calls to each function's watchdog.
"""

LISTEN_FD = "HOLDFAST_PROVIDER_FD"
"""Names the environment variable with the descriptor of the API's listening socket, under `holdfast serve`."""
