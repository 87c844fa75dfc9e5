"""Where a body ends, said twice, wrongly or in an unusual way: the ground of request smuggling."""

from __future__ import annotations

from tests.hostile.case import CHUNKED, HI, POST, Case, chunked, post, refused

TWO_FRAMINGS = [
    refused("length, then chunked", POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n"),
    refused("chunked, then length", POST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n"),
    refused("length zero and chunked", POST + b"Content-Length: 0\r\n" + CHUNKED + b"\r\n" + HI),
    refused(
        "length and coding in odd spelling", POST + b"content-LENGTH: 2\r\ntransfer-ENCODING: CHUNKED\r\n\r\n" + HI
    ),
    refused("length and an unknown coding", POST + b"Content-Length: 2\r\nTransfer-Encoding: x\r\n\r\nhi"),
    refused("length and identity", POST + b"Content-Length: 2\r\nTransfer-Encoding: identity\r\n\r\nhi"),
    refused("length and an empty coding", POST + b"Content-Length: 2\r\nTransfer-Encoding:\r\n\r\nhi"),
    refused("two different lengths", POST + b"Content-Length: 2\r\nContent-Length: 7\r\n\r\nhi"),
    refused("two different lengths, the second shorter", POST + b"Content-Length: 7\r\nContent-Length: 2\r\n\r\nhi"),
    refused("the same length twice", POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"),
    refused("the same length written in two ways", POST + b"Content-Length: 2\r\nContent-Length: 02\r\n\r\nhi"),
    refused("a list of equal lengths", POST + b"Content-Length: 2, 2\r\n\r\nhi"),
    refused("a list of different lengths", POST + b"Content-Length: 2, 7\r\n\r\nhi"),
    refused("a list of one", POST + b"Content-Length: 2,\r\n\r\nhi"),
    refused("length with a folded coding", POST + b"Content-Length: 2\r\n Transfer-Encoding: chunked\r\n\r\nhi"),
    refused("coding hidden by a space", POST + b"Content-Length: 2\r\nTransfer-Encoding : chunked\r\n\r\nhi"),
    refused("coding hidden by a tab", POST + b"Content-Length: 2\r\nTransfer-Encoding\t: chunked\r\n\r\nhi"),
    refused("coding hidden by NUL", POST + b"Content-Length: 2\r\nTransfer-Encoding\0: chunked\r\n\r\nhi"),
    refused("coding behind a bare LF", POST + b"Content-Length: 2\r\nX: a\nTransfer-Encoding: chunked\r\n\r\nhi"),
    refused("coding behind a bare CR", POST + b"Content-Length: 2\r\nX: a\rTransfer-Encoding: chunked\r\n\r\nhi"),
    refused("length behind a bare LF", POST + b"X: a\nContent-Length: 2\r\n" + CHUNKED + b"\r\n" + HI),
    refused(
        "coding with a letter outside ASCII", POST + b"Tr\xe4nsfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi"
    ),
    Case("a coding's name with an underscore", post(b"Transfer_Encoding: chunked", body=b"hi"), (200,)),
    Case("a length's name with an underscore", post(b"Content_Length: 9", body=b"hi"), (200,)),
    Case("a longer name that begins as length", post(b"Content-Length-X: 9", body=b"hi"), (200,)),
    Case("a name that ends as length", post(b"X-Content-Length: 9", body=b"hi"), (200,)),
    Case("a length within a value", post(b"X: Content-Length: 9", body=b"hi"), (200,)),
    Case("a second request within a body", post(body=post(body=b"inner", target=b"/x")), (200,)),
    Case(
        "a second request within a chunk",
        chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(post(target=b"/x")), post(target=b"/x"))),
        (200,),
    ),
    Case("a body that begins like chunks", post(body=HI), (200,)),
]

LENGTHS = [
    *(
        refused(f"length {value!r}", POST + b"Content-Length: %b\r\n\r\nhi" % value)
        for value in (
            b"+2",
            b"-2",
            b"-0",
            b"2.0",
            b"2e0",
            b"0x2",
            b"2 2",
            b"2;",
            b"2_",
            b"1_0",
            b"two",
            b'"2"',
            b"\xb2",
            b"\xef\xbc\x92",
            b"2\x0b",
            b"2\x00",
            b"9223372036854775808" * 2,
            b"18446744073709551616",
            b"18446744073709551618",
            b"99999999999999999999999999",
        )
    ),
    refused("empty length", POST + b"Content-Length:\r\n\r\nhi"),
    refused("length of blanks", POST + b"Content-Length:   \r\n\r\nhi"),
    refused("length folded", POST + b"Content-Length:\r\n 2\r\n\r\nhi"),
    refused("length of five thousand digits", POST + b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\nhi"),
    *(
        Case(
            f"length {length}: never comes",
            POST + b"Content-Length: %d\r\n\r\nhi" % length,
            (),
            stored=(413,),
            ends=True,
        )
        for length in (100_000_000, 2**63 - 1, 2**64 - 1)
    ),
    Case("length with leading zeros", POST + b"Content-Length: 0002\r\n\r\nhi", (200,)),
    Case("length with blanks around", POST + b"Content-Length: \t 2 \t\r\n\r\nhi", (200,)),
    Case("length without a blank", POST + b"Content-Length:2\r\n\r\nhi", (200,)),
    Case("length in capitals", POST + b"CONTENT-LENGTH: 2\r\n\r\nhi", (200,)),
    Case("no length, no body", POST + b"\r\n", (200,)),
    Case("length zero", POST + b"Content-Length: 0\r\n\r\n", (200,)),
    Case("length minus nothing: many zeros", POST + b"Content-Length: 000000000000\r\n\r\n", (200,)),
]

CODINGS = [
    Case("chunked in capitals", POST + b"Transfer-Encoding: CHUNKED\r\n\r\n" + HI, (200,)),
    refused("chunked with a tab behind", POST + b"Transfer-Encoding: chunked\t\r\n\r\n" + HI),
    Case("chunked with blanks before", POST + b"Transfer-Encoding: \t chunked\r\n\r\n" + HI, (200,)),
    *(
        refused(f"coding {value!r}", POST + b"Transfer-Encoding: %b\r\n\r\n" % value + HI, status)
        for value, status in (
            (b"xchunked", 501),
            (b"chunkedx", 501),
            (b"chunke", 501),
            (b"identity", 501),
            (b"identity, chunked", 501),
            (b"gzip", 501),
            (b"gzip, chunked", 501),
            (b"chunked, gzip", 400),
            (b"chunked, chunked", 400),
            (b"chunked, identity", 400),
            (b"chunked,", 400),
            (b",chunked", 501),
            (b"chunked;q=1", 501),
            (b"chunked; x", 501),
            (b'"chunked"', 501),
            (b"'chunked'", 501),
            (b"chunked\x0b", 400),
            (b"\x0bchunked", 400),
            (b"chunked\x00", 400),
            (b"chun\x00ked", 400),
            (b"chunked\xa0", 501),
            (b"\xe3\x83\x81unked", 501),
            (b"chunKed x", 501),
        )
    ),
    refused("empty coding", POST + b"Transfer-Encoding:\r\n\r\n" + HI),
    refused("chunked folded", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + HI),
    refused("chunked twice", POST + CHUNKED + CHUNKED + b"\r\n" + HI),
    refused(
        "identity, then chunked, in two lines", POST + b"Transfer-Encoding: identity\r\n" + CHUNKED + b"\r\n" + HI, 501
    ),
    refused("chunked, then gzip, in two lines", POST + CHUNKED + b"Transfer-Encoding: gzip\r\n\r\n" + HI),
    refused("chunked with HTTP/1.0", b"POST /function/mirror HTTP/1.0\r\n" + CHUNKED + b"\r\n" + HI),
    Case(
        "chunked on GET",
        b"GET /function/mirror HTTP/1.1\r\nHost: h\r\n" + CHUNKED + b"\r\n" + HI,
        (200,),
        stored=(405,),
    ),
    Case("Content-Encoding is the function's affair", post(b"Content-Encoding: chunked", body=b"hi"), (200,)),
    Case("TE asks for trailers", post(b"TE: trailers, chunked", body=b"hi"), (200,)),
]
