"""Heads and chunked bodies."""

from engine.wire import http1
from perf.micro.benchmark import Benchmark, Run

BARE = b"GET /128 HTTP/1.1\r\nHost: lab.example\r\n\r\n"
BROWSER = b"""\
GET /shop/items?page=2&sort=price HTTP/1.1\r
Host: shop.example\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0\r
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r
Accept-Language: en-GB,en;q=0.7,de;q=0.3\r
Accept-Encoding: gzip, deflate, br, zstd\r
Referer: https://shop.example/shop/items?page=1&sort=price\r
Cookie: session=3f2a6bd0c9e84f1e8d57; theme=dark; consent=necessary\r
Upgrade-Insecure-Requests: 1\r
Sec-Fetch-Dest: document\r
Sec-Fetch-Mode: navigate\r
Sec-Fetch-Site: same-origin\r
Priority: u=0, i\r
\r
"""
ANSWER = b"""\
HTTP/1.1 200 OK\r
Server: nginx/1.22.1\r
Date: Mon, 01 Jun 2026 12:00:00 GMT\r
Content-Type: text/plain\r
Content-Length: 128\r
Connection: keep-alive\r
\r
"""
CHUNK_BYTES = 1 << 14


def benchmarks() -> list[Benchmark]:
    chunks = b"".join(b"%x\r\n%b\r\n" % (CHUNK_BYTES, bytes(CHUNK_BYTES)) for _ in range(16))
    return [
        Benchmark("http1-bare", "a request with Host alone", lambda: lambda: http1.parse_request(BARE)),
        Benchmark("http1-browser", "a browser's request, 13 fields", lambda: lambda: http1.parse_request(BROWSER)),
        Benchmark("http1-answer", "an answer's head", lambda: lambda: http1.parse_response(ANSWER, b"GET")),
        Benchmark("http1-forward", "parse a browser's request and write it for the next hop", _forward),
        Benchmark("http1-chunks", "16 chunks of 16 KiB passed on", lambda: _chunks(chunks), len(chunks)),
    ]


def _forward() -> Run:
    def run() -> bytes:
        request = http1.parse_request(BROWSER)
        return http1.encode_lines(request.lines)

    return run


def _chunks(data: bytes) -> Run:
    body, view = http1.ChunkedBody(), memoryview(data)
    return lambda: body.receive(view)
