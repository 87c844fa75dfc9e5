"""The environment of a forked command: what its request looked like, in variables. No I/O.

The names are OpenFaaS's: `Http_Method`, `Http_Path`, `Http_Query`, `Http_Content_Length`, `Http_Host` and one
`Http_<Header_Name>` per header. Path and query are those of the request line, percent-encoding untouched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from holdfast.headers import INSTANCE, RawHeaders

PREFIX = "Http_"

# `Http_Proxy`, read regardless of case, is how programs find their proxy: a caller must not choose it (CVE-2016-5385).
# The other is between our own parts.
_NEVER = frozenset({b"proxy", INSTANCE.lower()})
_PLAIN = re.compile(rb"[A-Za-z0-9-]+")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9]")


def request_environment(
    base: Mapping[str, str], *, method: bytes, target: bytes, headers: RawHeaders, body_length: int
) -> dict[str, str]:
    """`base` and the request's variables.

    Header names are spelled one way whatever the caller's spelling: `x-call-id` is `Http_X_Call_Id`. The values of a
    header that stands more than once are joined as RFC 9110, section 5.3, allows (cookies by `; `). Of two headers
    that lead to one name, such as `X-User` and `X_User`, the one spelled with dashes counts: the other is how
    callers try to forge it.
    """
    result = dict(base)
    for plain in (False, True):
        # The plain names last, so that they win over the odd ones.
        found: dict[str, str] = {}
        for name, value in headers:
            if (_PLAIN.fullmatch(name) is not None) is plain and name.lower() not in _NEVER:
                variable = variable_name(name)
                separator = "; " if variable == "Http_Cookie" else ", "
                text = os.fsdecode(value)
                found[variable] = f"{found[variable]}{separator}{text}" if variable in found else text
        result.update(found)
    path, _, query = target.partition(b"?")
    # After the headers: a header named `Path` does not become the path.
    result["Http_Method"] = os.fsdecode(method)
    result["Http_Path"] = os.fsdecode(path)
    result["Http_Query"] = os.fsdecode(query)
    result["Http_Content_Length"] = str(body_length)
    return result


def variable_name(header: bytes) -> str:
    """`X-Call-Id` and `x-call-id` give `Http_X_Call_Id`; what a shell cannot name becomes `_`."""
    words = _NOT_IN_A_NAME.split(header.decode("latin-1"))
    return PREFIX + "_".join(word[:1].upper() + word[1:].lower() for word in words)
