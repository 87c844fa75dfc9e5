"""OpenFaaS's labels for scaling and what they mean where they are absent (docs.openfaas.com, "Auto-scaling"). No I/O.

The provider reads them when it deploys, the gateway when an alert comes and when its metrics are read.
"""

from __future__ import annotations

SCALE_MIN = "com.openfaas.scale.min"
SCALE_MAX = "com.openfaas.scale.max"
SCALE_FACTOR = "com.openfaas.scale.factor"
SCALE_TYPE = "com.openfaas.scale.type"
SCALE_TARGET = "com.openfaas.scale.target"
SCALE_PROPORTION = "com.openfaas.scale.target-proportion"
SCALE_ZERO = "com.openfaas.scale.zero"
SCALE_ZERO_DURATION = "com.openfaas.scale.zero-duration"

DEFAULT_MIN = 1
DEFAULT_MAX = 20
DEFAULT_FACTOR = 20
"""Percent of the maximum."""
DEFAULT_TYPE = "rps"
DEFAULT_TARGET = 50.0
DEFAULT_PROPORTION = 0.9
DEFAULT_ZERO_DURATION_S = 900.0
