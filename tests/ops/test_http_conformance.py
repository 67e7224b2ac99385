"""One behaviour whatever way a request takes: fast lane and general server pass the same suite, plain and over TLS.

Answers are compared in ``test_both_ways_answer_alike``; what bytes alone cannot show (time, departure, stopping) is in
``test_http_limits``. They differ in nothing but the pieces in which bytes travel, where the lane sends a small answer as
one and the general server its head and its body, and in the phrase after the status, which the general server leaves out.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import h11
import httpx
import pytest
import trio
from h2.events import StreamEnded, StreamReset
from quart import websocket
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Message, TextMessage
from wsproto.events import Request as Upgrade

from ops.cors import cors_policy
from ops.http import Peer
from ops.serving_settings import ServingSettings
from ops.web import create_web_app
from tests.ops.serving_harness import (
    CHUNKED_HEAD,
    HOST,
    LARGE,
    PLAIN_WAYS,
    WAYS,
    Answer,
    Ended,
    Serving,
    Way,
    chunked,
    get,
    in_each_plain_way,
    in_each_way,
    post,
    serving,
    trusting,
)

HEADER_BYTES_MAX = 1024
BODY_BYTES_MAX = 100_000


@pytest.fixture(params=WAYS, ids=str)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Serving]:
    async with serving(request.param, body_bytes_max=BODY_BYTES_MAX) as running:
        yield running


# What comes back


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Bytes on one connection, after which the client ends its direction, and the statuses they are answered with."""

    name: str
    sent: bytes
    statuses: tuple[int, ...]


def _of(*lines: str, body: bytes = b"abc", end: str = "\r\n") -> bytes:
    return "".join(f"{line}{end}" for line in ("POST / HTTP/1.1", "Host: x", *lines, "")).encode("latin-1") + body


def _head_of_size(size: int) -> bytes:
    whole = _of("Content-Length: 3", "A: ", body=b"")
    return whole.replace(b"A: ", b"A: " + b"a" * (size - len(whole)))


def _cases() -> Iterator[Case]:
    def case(name: str, sent: bytes, *statuses: int) -> Case:
        return Case(name=name, sent=sent, statuses=statuses)

    # Ordinary ones
    yield case("post", post(b'"x"'), 200)
    yield case("another status", post(b'"created"'), 201)
    yield case("no body", _of(body=b""), 200)
    yield case("body of 70 kB", post(b"y" * 70_000), 200)
    yield case("headers are joined and trimmed", _of("Content-Length: 3", "A: 1 \t ", "a:2", "B:", "B: é"), 200)
    yield case("cookies are joined as cookies", _of("Content-Length: 3", "Cookie: a=1", "Cookie: b=2"), 200)
    yield case("from a page", post(b'"x"', "Origin: https://page.example"), 200)
    yield case("query", _of("Content-Length: 3").replace(b"/ ", b"/?a=1 "), 200)
    yield case("whole url", _of("Content-Length: 3").replace(b"/ ", b"http://x/ "), 200)
    yield case("whole url without path", _of("Content-Length: 3").replace(b"/ ", b"http://x "), 200)
    yield case("HTTP/1.0", b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", 200)
    yield case("list", post(b'"list"'), 200)
    yield case("list in HTTP/1.0", b'POST / HTTP/1.0\r\nContent-Length: 6\r\n\r\n"list"', 200)
    yield case("stream", post(b'"stream"'), 200)
    yield case("stream in HTTP/1.0", b'POST / HTTP/1.0\r\nContent-Length: 8\r\n\r\n"stream"', 200)
    yield case("large answer", post(b'"large"'), 200)
    yield case("answer without body", post(b'"nothing"'), 204)
    yield case("client ends the connection", post(b'"x"', "Connection: close") + post(b'"hidden"'), 200)
    yield case("client ends the connection, listed", post(b'"x"', "Connection: te, Close") + post(b'"hidden"'), 200)
    yield case("answer ends the connection", post(b'"close"') + post(b'"hidden"'), 200)
    yield case("chunks", chunked(b"ab", b"cde") + post(b'"next"'), 200, 200)
    yield case("chunk extension and trailer", CHUNKED_HEAD + b"3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n", 200)
    yield case("upgrade is not wanted", post(b'"x"', "Connection: upgrade", "Upgrade: h2c") + post(b'"y"'), 200, 200)
    yield case("pipelined", b"".join(post(b"z" * length) for length in range(1, 12)), *([200] * 11))
    yield case("health between operations", post(b'"x"') + get("/health") + post(b'"y"'), 200, 200, 200)
    yield case("failure of ours", post(b'"raise"') + post(b'"x"'), 500, 200)
    yield case("header of ours that would be two", post(b'"split"'), 500)
    yield case("header of ours that would lie", post(b'"frame"'), 500)

    # Other routes
    yield case("health", get("/health"), 200)
    yield case("front page", get("/"), 200)
    yield case("no route", get("/nothing"), 404)
    yield case("no such method", get("/", method="DELETE"), 404)
    yield case("post elsewhere", _of("Content-Length: 3").replace(b"/ ", b"/health "), 404)
    yield case("json for no route", _of("Content-Type: application/json", body=b"").replace(b"/ ", b"/a "), 400)
    yield case("preflight", get("/", "Origin: https://page.example", method="OPTIONS"), 200)
    yield case("preflight without origin", get("/", method="OPTIONS"), 400)
    yield case(
        "h2c is not offered", get("/health", "Upgrade: h2c", "Connection: upgrade", "HTTP2-Settings: AAMAAABk"), 200
    )

    # Two readers of these could disagree where one request ends and the next begins
    hidden = post(b'"hidden"')
    yield case("both lengths", _of("Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n") + hidden, 400)
    yield case("both lengths, chunks first", _of("Transfer-Encoding: chunked", "Content-Length: 3") + hidden, 400)
    yield case("two lengths", _of("Content-Length: 3", "Content-Length: 4") + hidden, 400)
    yield case("one length twice", _of("Content-Length: 3", "Content-Length: 3"), 200)
    yield case("list of lengths", _of("Content-Length: 3, 4") + hidden, 400)
    yield case("signed length", _of("Content-Length: +3") + hidden, 400)
    yield case("negative length", _of("Content-Length: -3") + hidden, 400)
    yield case("hexadecimal length", _of("Content-Length: 0x3") + hidden, 400)
    yield case("empty length", _of("Content-Length: ") + hidden, 400)
    yield case("endless length", _of("Content-Length: " + "9" * 30) + hidden, 400)
    yield case("length with a space", _of("Content-Length: 3 3") + hidden, 400)
    yield case("unknown coding", _of("Transfer-Encoding: gzip, chunked") + hidden, 501)
    yield case("chunked twice", _of("Transfer-Encoding: chunked, chunked") + hidden, 501)
    yield case("coding in disguise", _of("Transfer-Encoding: xchunked") + hidden, 501)
    yield case("chunks in HTTP/1.0", chunked(b"abc").replace(b"1.1", b"1.0") + hidden, 400)
    yield case("chunk size of other letters", CHUNKED_HEAD + b"zz\r\nabc\r\n0\r\n\r\n" + hidden, 400)
    yield case("negative chunk size", CHUNKED_HEAD + b"-3\r\nabc\r\n0\r\n\r\n" + hidden, 400)
    yield case("prefixed chunk size", CHUNKED_HEAD + b"0x3\r\nabc\r\n0\r\n\r\n" + hidden, 400)
    yield case("chunk longer than its size", CHUNKED_HEAD + b"3\r\nabcd\r\n0\r\n\r\n" + hidden, 400)
    yield case("chunk size ended by a line feed", CHUNKED_HEAD + b"3\nabc\r\n0\r\n\r\n" + hidden, 400)
    yield case("folded header", _of("A: b", " c", "Content-Length: 3") + hidden, 400)
    yield case("folded length", _of("Content-Length:", "\t3") + hidden, 400)
    yield case("line feeds alone", _of("Content-Length: 3", end="\n") + hidden, 400)
    yield case("one line feed alone", _of("A: b\nContent-Length: 3") + hidden, 400)
    yield case("carriage return alone", _of("A: b\rContent-Length: 3") + hidden, 400)
    yield case("zero in a header", _of("A: b\0c", "Content-Length: 3") + hidden, 400)
    yield case("control character in a header", _of("A: b\x01c", "Content-Length: 3") + hidden, 400)
    yield case("deletion in a header", _of("A: b\x7fc", "Content-Length: 3") + hidden, 400)
    yield case("space before the colon", _of("Content-Length : 3") + hidden, 400)
    yield case("space in a name", _of("Content Length: 3") + hidden, 400)
    yield case("space before a name", _of().replace(b"Host", b" Host") + hidden, 400)
    yield case("no colon", _of("Content-Length") + hidden, 400)
    yield case("no name", _of(": b") + hidden, 400)
    yield case("no host", b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + hidden, 400)
    yield case("two hosts", _of("Host: y", "Content-Length: 3") + hidden, 400)
    yield case("after a good request", post(b'"x"') + _of("A: b\rc") + hidden, 200, 400)
    yield case("rubbish", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400)
    yield case("empty line before the request", b"\r\n" + hidden, 400)
    yield case("no version", b"POST /\r\nHost: x\r\n\r\n" + hidden, 400)
    yield case("unknown version", _of().replace(b"1.1", b"1.2") + hidden, 505)
    yield case("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)
    yield case("method in small letters", _of("Content-Length: 3").replace(b"POST", b"post") + hidden, 501)
    yield case("target that is none", _of("Content-Length: 3").replace(b"/ ", b"a ") + hidden, 400)
    yield case("two spaces", _of("Content-Length: 3").replace(b"/ ", b"/  ") + hidden, 400)

    # Sizes
    yield case("largest head", _head_of_size(HEADER_BYTES_MAX) + b"abc", 200)
    yield case("head one byte larger", _head_of_size(HEADER_BYTES_MAX + 1) + b"abc", 431)
    yield case("head of many headers", _of(*(f"A{number}: b" for number in range(500))), 431)
    yield case("largest head of another route", get("/health", "A: " + "a" * (HEADER_BYTES_MAX - 38)), 200)
    yield case("larger head of another route", get("/health", "A: " + "a" * (HEADER_BYTES_MAX - 37)), 431)
    yield case("endless head", _of("A: " + "a" * 70_000, body=b"")[:-4], 431)
    yield case("endless request line", b"GET /" + b"a" * 70_000, 431)
    yield case("largest body", post(b"y" * BODY_BYTES_MAX), 200)
    yield case("larger body", post(b"y" * (BODY_BYTES_MAX + 1)) + hidden, 413)
    yield case("body that would be larger", _of(f"Content-Length: {BODY_BYTES_MAX + 1}"), 413)
    yield case("largest body in chunks", chunked(b"y" * 60_000, b"y" * 40_000), 200)
    yield case("larger body in chunks", chunked(b"y" * 60_000, b"y" * 40_001) + hidden, 413)
    yield case("larger body for no route", post(b"1" * (BODY_BYTES_MAX + 1)).replace(b"/ ", b"/a ", 1), 413)

    # Ends before it is whole
    yield case("nothing", b"")
    yield case("part of a request line", b"POST /", 400)
    yield case("part of a head", b"POST / HTTP/1.1\r\nHost: x\r\n", 400)
    yield case("part of a body", post(b'"hidden"')[:-1], 400)
    yield case("part of a chunk", chunked(b'"hidden"')[:-8], 400)


CASES = list(_cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_both_ways_answer_alike(case: Case) -> None:
    lane, general = [await _exchange(way, case.sent) for way in PLAIN_WAYS]
    assert tuple(answer.status for answer in lane) == case.statuses
    assert lane == general


async def _exchange(way: Way, sent: bytes) -> list[Answer]:
    """All answers to ``sent`` until the server closes, with their headers in one order and without the time."""
    answers = []
    async with serving(way, header_bytes_max=HEADER_BYTES_MAX, body_bytes_max=BODY_BYTES_MAX) as served:
        client = await served.connect()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await client.send_what_is_taken(sent)
                await client.end()

            nursery.start_soon(send)
            while True:
                try:
                    answers.append(_comparable(await client.answer()))
                except Ended:
                    break
        assert await client.wait_closed() == b""
        assert all(request.body != b'"hidden"' for request in served.echo.requests)
    return answers


def _comparable(answer: Answer) -> Answer:
    assert answer["server"] == "logmesh"
    assert answer["date"] is not None
    headers = sorted((name, value) for name, value in answer.headers if name != "date")
    return Answer(status=answer.status, headers=tuple(headers), body=answer.body)


async def test_a_request_reaches_the_dispatcher_as_it_was_sent(served: Serving) -> None:
    client = await served.connect()
    answer = await client.ask(post(b"\x00\xff", "Accept: a", "ACCEPT: b", "X-Name: é"))
    assert answer.status == 200
    (request,) = served.echo.requests
    assert (request.method, request.target, request.body) == ("POST", "/", b"\x00\xff")
    assert request.headers == {
        "host": "x",
        "content-type": "application/json",
        "content-length": "2",
        "accept": "a, b",
        "x-name": "é",
    }
    assert request.peer == Peer(address=HOST, is_tls=served.way.is_tls)


async def test_an_answer_has_the_headers_of_every_answer(served: Serving) -> None:
    client = await served.connect()
    for sent in (post(b'"x"'), post(b'"raise"'), get("/health"), get("/nothing")):
        answer = await client.ask(sent)
        assert (answer["server"], answer["vary"]) == ("logmesh", "Origin")
        assert answer["content-length"] == str(len(answer.body))


async def test_health_is_told_in_these_words(served: Serving) -> None:
    client = await served.connect()
    answer = await client.ask(get("/health"))
    assert (answer.status, answer.body) == (200, b"HarperDB is running.")
    assert answer["content-type"] == "text/plain; charset=utf-8"


async def test_what_is_no_route_is_not_found_in_plain_text(served: Serving) -> None:
    client = await served.connect()
    answer = await client.ask(get("/nothing"))
    assert (answer.status, answer.body) == (404, b"Not found\n")


async def test_a_head_request_is_not_found_and_its_answer_has_no_body(served: Serving) -> None:
    client = await served.connect()
    await client.send(get("/", method="HEAD") + get("/health"))
    answer = await client.answer(method="HEAD")
    assert (answer.status, answer.body) == (404, b"")
    assert (await client.answer()).status == 200


async def test_a_json_body_is_read_before_its_route_is_looked_for(served: Serving) -> None:
    client = await served.connect()
    answer = await client.ask(_of("Content-Type: application/json", body=b"").replace(b"/ ", b"/nothing "))
    assert answer.status == 400
    assert answer.content == {"error": "Body cannot be empty when content-type is set to 'application/json'"}


async def test_a_preflight_tells_what_a_page_may_send(served: Serving) -> None:
    client = await served.connect()
    answer = await client.ask(get("/", "Origin: https://page.example", method="OPTIONS"))
    assert (answer.status, answer.body, answer["content-length"]) == (200, b"", "0")
    assert answer["access-control-allow-methods"] == "POST, GET, PUT, DELETE, PATCH, OPTIONS"
    assert answer["access-control-allow-headers"] == "Accept, Content-Type, Authorization"
    assert answer["access-control-allow-origin"] == "https://page.example"
    assert answer["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("sent", [post(b'"x"'), post(b'"raise"'), get("/nothing")], ids=["ok", "error", "not found"])
async def test_an_answer_may_be_read_by_the_page_that_asked(served: Serving, sent: bytes) -> None:
    client = await served.connect()
    answer = await client.ask(sent.replace(b"Host: x", b"Host: x\r\nOrigin: https://page.example"))
    assert answer["access-control-allow-origin"] == "https://page.example"


@in_each_way
async def test_with_cors_off_no_answer_speaks_of_origins(way: Way) -> None:
    async with serving(way, cors=False) as served:
        client = await served.connect()
        for sent in (post(b'"x"', "Origin: https://page.example"), get("/health", "Origin: https://page.example")):
            answer = await client.ask(sent)
            assert answer["vary"] is None
            assert answer["access-control-allow-origin"] is None
        assert (await client.ask(get("/", "Origin: https://page.example", method="OPTIONS"))).status == 404


async def test_what_fails_in_the_dispatcher_is_logged_and_not_told(
    served: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    client = await served.connect()
    answer = await client.ask(post(b'"raise"'))
    assert answer.content == {"error": "There was an error processing your request. Check logs and try again."}
    assert "a handler's own mistake" in caplog.text


@in_each_way
async def test_a_page_that_fails_is_logged_and_not_told(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    pages = create_web_app(cors_policy(ServingSettings()), ServingSettings())

    @pages.get("/broken")
    async def broken() -> str:
        raise RuntimeError("a page's own mistake")

    async with serving(way, pages=pages) as served:
        answer = await (await served.connect()).ask(get("/broken"))
    assert answer.status == 500
    assert answer.content == {"error": "There was an error processing your request. Check logs and try again."}
    assert "a page's own mistake" in caplog.text


# One connection


async def test_a_connection_serves_request_after_request(served: Serving) -> None:
    client = await served.connect()
    for length in (0, 1, 70_000, 5, 99_999):
        assert (await client.ask(post(b"y" * length))).content["length"] == length


async def test_pipelined_requests_are_answered_one_after_the_other(served: Serving) -> None:
    client = await served.connect()
    await client.send(post(b'"x"') + post(b'"wait"') + post(b'"yy"'))
    assert (await client.answer()).content["length"] == 3
    await served.echo.waiting.wait()
    assert len(served.echo.requests) == 2
    served.echo.go_on.set()
    assert [(await client.answer()).content["length"] for _ in range(2)] == [6, 4]


async def test_a_request_in_single_bytes_is_a_request(served: Serving) -> None:
    client = await served.connect()
    for byte in post(b'"x"'):
        await client.send(bytes((byte,)))
    assert (await client.answer()).content["length"] == 3


async def test_a_connection_goes_on_after_other_paths(served: Serving) -> None:
    client = await served.connect()
    assert (await client.ask(post(b'"x"'))).status == 200
    assert (await client.ask(get("/health"))).body == b"HarperDB is running."
    assert (await client.ask(post(b'"yy"'))).content["length"] == 4


async def test_expect_is_answered_before_the_body(served: Serving) -> None:
    client = await served.connect()
    head, _, body = post(b'"x"', "Expect: 100-continue").partition(b"\r\n\r\n")
    await client.send(head + b"\r\n\r\n")
    assert (await client.stream.receive_some(1 << 16)).startswith(b"HTTP/1.1 100 ")
    assert (await client.ask(body)).content["length"] == 3


async def test_nobody_is_asked_to_go_on_with_a_body_that_is_too_large(served: Serving) -> None:
    client = await served.connect()
    await client.send(_of(f"Content-Length: {BODY_BYTES_MAX + 1}", "Expect: 100-continue", body=b""))
    assert (await client.stream.receive_some(1 << 16)).startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_is_too_large_is_refused_unread_and_ends_the_connection(served: Serving) -> None:
    client = await served.connect()
    answer = await client.ask(_of(f"Content-Length: {BODY_BYTES_MAX + 1}", body=b""))
    assert (answer.status, answer.content) == (413, {"error": "Request body is too large"})
    assert answer["connection"] == "close"
    await client.leave()
    assert not served.echo.requests


async def test_the_refusal_reaches_a_client_that_goes_on_sending(served: Serving) -> None:
    client = await served.connect()
    await client.send(_of(f"Content-Length: {20 * BODY_BYTES_MAX}", body=b""))
    for _ in range(20):
        await client.send(b"y" * BODY_BYTES_MAX)
    assert (await client.answer()).status == 413


async def test_a_large_answer_comes_whole_to_a_client_that_reads_late(served: Serving) -> None:
    client = await served.connect()
    await client.send(post(b'"large"'))
    assert (await client.answer()).body == LARGE


async def test_an_answer_that_breaks_off_has_no_end(served: Serving, caplog: pytest.LogCaptureFixture) -> None:
    client = await served.connect()
    await client.send(post(b'"breaks"'))
    with pytest.raises(h11.RemoteProtocolError):
        await client.answer()
    assert "a stream's own mistake" in caplog.text


@in_each_plain_way
async def test_a_websocket_takes_over_a_connection_that_served_operations(way: Way) -> None:
    pages = create_web_app(cors_policy(ServingSettings()), ServingSettings())

    @pages.websocket("/echo")
    async def echo() -> None:
        while True:
            await websocket.send(await websocket.receive())

    async with serving(way, pages=pages) as served:
        client = await served.connect()
        assert (await client.ask(post(b'"x"'))).status == 200
        peer = WSConnection(ConnectionType.CLIENT)
        await client.send(peer.send(Upgrade(host="x", target="/echo")))
        events: list[object] = []
        while not any(isinstance(event, TextMessage) for event in events):
            peer.receive_data(bytes(await client.stream.receive_some(1 << 16)))
            for event in peer.events():
                events.append(event)
                if isinstance(event, AcceptConnection):
                    await client.send(peer.send(Message(data="hello")))
        assert isinstance(events[-1], TextMessage)
        assert events[-1].data == "hello"


# HTTP/2


@pytest.fixture(params=[True, False], ids=["lane", "general"])
async def served_http2(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Serving, httpx.AsyncClient]]:
    way = Way(fast_lane=request.param, is_tls=True)
    async with serving(way, http2=True, body_bytes_max=BODY_BYTES_MAX) as served:
        base_url = f"https://{HOST}:{served.port}"
        async with httpx.AsyncClient(http2=True, verify=trusting(), base_url=base_url) as client:
            yield served, client


async def test_http_2_is_chosen_in_the_handshake(served_http2: tuple[Serving, httpx.AsyncClient]) -> None:
    served, client = served_http2
    answer = await client.post("/", content=b'"x"', headers={"origin": "https://page.example"})
    assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
    assert answer.json()["length"] == 3
    assert (answer.headers["server"], answer.headers["vary"]) == ("logmesh", "Origin")
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert served.echo.requests[0].peer == Peer(address=HOST, is_tls=True)
    assert served.echo.requests[0].headers["host"] == f"{HOST}:{served.port}"


@pytest.mark.parametrize(
    ("body", "answered"), [(b'"stream"', b"[1,2]"), (b'"large"', LARGE), (b'"nothing"', b"")], ids=lambda _: ""
)
async def test_http_2_brings_whole_answers(
    served_http2: tuple[Serving, httpx.AsyncClient], body: bytes, answered: bytes
) -> None:
    _, client = served_http2
    assert (await client.post("/", content=body)).content == answered


async def test_an_http_2_answer_that_breaks_off_is_reset(
    served_http2: tuple[Serving, httpx.AsyncClient],
) -> None:
    served, _ = served_http2
    client = await served.connect_http2()
    await client.post(1, b'"breaks"')
    await client.wait_for(StreamReset, 1)
    await client.post(3, b'"x"')
    await client.wait_for(StreamEnded, 3)


async def test_http_2_requests_run_beside_each_other(served_http2: tuple[Serving, httpx.AsyncClient]) -> None:
    served, client = served_http2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: client.post("/", content=b'"wait"'))
        await served.echo.waiting.wait()
        assert (await client.post("/", content=b'"x"')).status_code == 200
        assert (await client.get("/health")).text == "HarperDB is running."
        served.echo.go_on.set()


async def test_http_2_refuses_a_body_that_is_too_large(served_http2: tuple[Serving, httpx.AsyncClient]) -> None:
    served, _ = served_http2

    def ask() -> httpx.Response:
        with httpx.Client(http2=True, verify=trusting()) as client:
            return client.post(served.urls[0], content=b"y" * (BODY_BYTES_MAX + 1))

    answer = await trio.to_thread.run_sync(ask)
    assert (answer.status_code, answer.json()) == (413, {"error": "Request body is too large"})


async def test_an_answer_that_ends_the_connection_is_an_ordinary_one_in_http_2(
    served_http2: tuple[Serving, httpx.AsyncClient],
) -> None:
    _, client = served_http2
    assert (await client.post("/", content=b'"close"')).status_code == 200
