"""Chunks, trailers, and bodies that end early."""

from __future__ import annotations

from tests.hostile.case import AFTER, CHUNKED, HI, POST, Case, Seen, chunked, post, refused

_HI = (Seen(b"POST", b"/", b"hi"),)
_H11_BOUNDS_SIZES = "h11 takes 20 digits of a chunk's size; leading zeros change nothing, and their number is limited"

CHUNKS = [
    Case("one chunk", chunked(HI), (200,)),
    Case("no chunk", chunked(b"0\r\n\r\n"), (200,)),
    Case("many chunks of one byte", chunked(b"1\r\na\r\n" * 3000 + b"0\r\n\r\n"), (200,)),
    Case("size in capitals", chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), (200,)),
    Case("size with leading zeros", chunked(b"0002\r\nhi\r\n0000\r\n\r\n"), (200,)),
    Case(
        "size with a hundred leading zeros",
        chunked(b"0" * 100 + b"2\r\nhi\r\n0\r\n\r\n"),
        (200,),
        seen=_HI,
        why=_H11_BOUNDS_SIZES,
    ),
    Case("an extension", chunked(b"2;a=b\r\nhi\r\n0;c\r\n\r\n"), (200,)),
    Case("an extension with quotes", chunked(b'2;a="b;c d"\r\nhi\r\n0\r\n\r\n'), (200,)),
    Case("line ends within a chunk", chunked(b"4\r\n\r\n\r\n\r\n0\r\n\r\n"), (200,)),
    Case("a last chunk within a chunk", chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), (200,)),
    refused("line end within quotes of an extension", chunked(b'2;a="b\r\nc"\r\nhi\r\n0\r\n\r\n')),
    refused("an extension without a name", chunked(b"2;\r\nhi\r\n0\r\n\r\n")),
    refused("a control character in an extension", chunked(b"2;a\x01\r\nhi\r\n0\r\n\r\n")),
    refused("NUL in an extension", chunked(b"2;a\x00\r\nhi\r\n0\r\n\r\n")),
    refused("bare CR in an extension", chunked(b"2;a\rb\r\nhi\r\n0\r\n\r\n")),
    refused("bare LF after an extension", chunked(b"2;a\nhi\r\n0\r\n\r\n")),
    *(
        refused(f"size {size!r}", chunked(size + b"\r\nhi\r\n0\r\n\r\n"))
        for size in (
            b"0x2",
            b"+2",
            b"-2",
            b"2 ",
            b" 2",
            b"2\t",
            b"\t2",
            b"2h",
            b"g",
            b"",
            b"2.",
            b"2,2",
            b"2\x00",
            b"\xb2",
            b"fffffffffffffffff",
            b"10000000000000002",
        )
    ),
    Case("a size of 64 bits never comes", chunked(b"ffffffffffffffff\r\nhi"), (), ends=True),
    refused("bare LF after a size", chunked(b"2\nhi\r\n0\r\n\r\n")),
    refused("bare CR after a size", chunked(b"2\rhi\r\n0\r\n\r\n")),
    refused("CR CR LF after a size", chunked(b"2\r\r\nhi\r\n0\r\n\r\n")),
    refused("bare LF after the data", chunked(b"2\r\nhi\n0\r\n\r\n")),
    refused("no line end after the data", chunked(b"2\r\nhi0\r\n\r\n")),
    refused("more data than its size", chunked(b"2\r\nhix\r\n0\r\n\r\n")),
    refused("less data than its size", chunked(b"3\r\nhi\r\n0\r\n\r\n")),
    refused("a blank line between chunks", chunked(b"2\r\nhi\r\n\r\n0\r\n\r\n")),
    refused("a last chunk with a blank", chunked(b"2\r\nhi\r\n0 \r\n\r\n")),
    refused("a last chunk ended by bare LF", chunked(b"2\r\nhi\r\n0\n\n")),
    refused("an endless extension", chunked(b"2;" + b"a" * 1_200_000 + b"\r\nhi\r\n0\r\n\r\n"), 431),
    refused("endless zeros", chunked(b"0" * 1_200_000 + b"2\r\nhi\r\n0\r\n\r\n"), 431),
]

TRAILERS = [
    Case("a trailer", chunked(b"2\r\nhi\r\n0\r\nX-Trailer: 1\r\n\r\n"), (200,)),
    Case("a trailer that would be a header of ours", chunked(b"2\r\nhi\r\n0\r\nX-Call-Id: a/b\r\n\r\n"), (200,)),
    Case("a trailer that would be a host", chunked(b"2\r\nhi\r\n0\r\nHost: evil\r\n\r\n"), (200,)),
    Case("a trailer and a request behind", chunked(b"0\r\nX-Trailer: 1\r\n\r\n") + AFTER, (200, 200)),
    Case(
        "a coding in a trailer and a request behind",
        chunked(b"0\r\nX: chunked\r\nTE: chunked\r\n\r\n") + AFTER,
        (200, 200),
    ),
    refused("a length in a trailer", chunked(b"2\r\nhi\r\n0\r\nContent-Length: 5\r\n\r\n")),
    refused("a trailer without a colon", chunked(b"2\r\nhi\r\n0\r\nX\r\n\r\n")),
    refused("a trailer with a space in its name", chunked(b"2\r\nhi\r\n0\r\nX : 1\r\n\r\n")),
    refused("a folded trailer", chunked(b"2\r\nhi\r\n0\r\nX: 1\r\n 2\r\n\r\n")),
    refused("a trailer with NUL", chunked(b"2\r\nhi\r\n0\r\nX: \0\r\n\r\n")),
    refused("a trailer ended by bare LF", chunked(b"2\r\nhi\r\n0\r\nX: 1\n\r\n")),
    refused("endless trailers", chunked(b"2\r\nhi\r\n0\r\n" + b"X: 1\r\n" * 200_000 + b"\r\n"), 431),
]

CUT_SHORT = [
    Case("nothing at all", b"", (), ends=True),
    Case("half a request line", b"POST /function/mir", (), ends=True),
    Case("half a head", POST, (), ends=True),
    Case("a head without its body", POST + b"Content-Length: 5\r\n\r\n", (), ends=True),
    Case("half a body", POST + b"Content-Length: 5\r\n\r\nhi", (), ends=True),
    Case("half a chunk size", chunked(b"2"), (), ends=True),
    Case("half a chunk", chunked(b"5\r\nhi"), (), ends=True),
    Case("no last chunk", chunked(b"2\r\nhi\r\n"), (), ends=True),
    Case("a last chunk without its line end", chunked(b"2\r\nhi\r\n0\r\n"), (), ends=True),
    Case("half a trailer", chunked(b"2\r\nhi\r\n0\r\nX: 1\r\n"), (), ends=True),
    Case("a body one byte short", post(body=b"hello")[:-1], (), ends=True),
    Case("blank lines only", b"\r\n" * 50, (), ends=True),
    Case("a whole request and half of another", post(b"Connection: x") + POST + CHUNKED, (200,), ends=True),
]
