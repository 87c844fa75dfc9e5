"""Prints the environment, sorted: what the request brought (Http_…) and what the function was deployed with.

What only describes the machine is left out, and credentials are shown as three dots: an answer may be logged.
"""

import os

OF_THE_MACHINE = {
    "HOME",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "PATH",
    "PWD",
    "SHELL",
    "SHLVL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
}
PREFIXES_OF_THE_MACHINE = ("LC_", "LD_", "PYTHON", "SSL_", "VIRTUAL_ENV", "_")
CREDENTIALS = {"Http_Authorization", "Http_Cookie", "Http_Proxy_Authorization"}

for name, value in sorted(os.environ.items()):
    if name in OF_THE_MACHINE or name.startswith(PREFIXES_OF_THE_MACHINE):
        continue
    print(f"{name}={'...' if name in CREDENTIALS else value}")
