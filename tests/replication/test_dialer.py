import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trustme

from replication.connection import Connection
from replication.errors import LinkLost, PeerRefused
from replication.transport import TransportSettings
from tests.replication.peers import (
    EXPIRED,
    HOST,
    NODE_B,
    STRANGER,
    TEST_S_MAX,
    Door,
    dialer,
    listening,
    node_b,
    parsed,
    serve_echo,
    serve_nothing,
    server_context,
)

HASTY = TransportSettings(connect_s=0.1, handshake_s=0.1, upgrade_s=0.1)


@asynccontextmanager
async def answering(answer: bytes, *, is_held_open: bool = False) -> AsyncIterator[str]:
    """URL of a plain server that answers the first bytes of anybody with ``answer``, and closes."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        if is_held_open:
            await trio.sleep_forever()

    with trio.fail_after(TEST_S_MAX):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host=HOST))
            yield f"ws://{HOST}:{listener.socket.getsockname()[1]}"
            nursery.cancel_scope.cancel()


async def test_the_one_who_was_expected_is_there() -> None:
    async with listening(serve_echo) as url:
        connection = await dialer()(node_b(url))
        await connection.send(b"hello")
        assert await connection.receive(100) == b"hello"
        certificate = parsed(NODE_B)
        assert connection.peer.name == "node-b"
        assert connection.peer.address == HOST
        assert connection.peer.serial == certificate.serial_number
        assert connection.peer.not_after_s == certificate.not_valid_after_utc.timestamp()
        await connection.close()


async def test_somebody_else_is_told_nothing() -> None:
    door = Door()
    async with listening(serve_nothing, admit=door) as url:
        with pytest.raises(LinkLost, match=rf"^{url}: its certificate is for node-b, not for node-c$"):
            await dialer()(node_b(url, name="node-c"))
    assert door.incoming == []


async def test_without_an_expected_name_whoever_is_trusted_will_do_and_has_no_proven_name() -> None:
    async with listening(serve_nothing) as url:
        connection = await dialer()(node_b(url, name=None))
        assert connection.peer.name is None
        await connection.close()


async def test_a_certificate_of_an_unknown_authority_is_refused_with_that_reason() -> None:
    async with listening(serve_nothing, context=server_context(STRANGER)) as url:
        with pytest.raises(LinkLost, match=rf"{url}: its certificate is refused here: .*issuer"):
            await dialer()(node_b(url))


async def test_an_expired_certificate_is_refused_with_that_reason() -> None:
    async with listening(serve_nothing, context=server_context(EXPIRED)) as url:
        with pytest.raises(LinkLost, match=rf"{url}: its certificate is refused here: certificate has expired"):
            await dialer()(node_b(url, name="node-a"))


async def test_where_nothing_is_verified_a_stranger_is_accepted_without_a_name() -> None:
    async with listening(serve_nothing, context=server_context(STRANGER)) as url:
        connection = await dialer()(node_b(url, verifies=False))
        assert connection.peer.name is None
        await connection.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (STRANGER, "refused there by TLS: unknown ca"),
        (EXPIRED, "refused there by TLS: certificate expired"),
        (None, "refused there by TLS: .*(certificate required|handshake failure)"),
    ],
    ids=["stranger", "expired", "none"],
)
async def test_a_refusal_of_the_own_certificate_comes_with_its_reason(
    version: ssl.TLSVersion, own: trustme.LeafCert | None, reason: str
) -> None:
    context = server_context(NODE_B, verify_mode=ssl.CERT_REQUIRED)
    context.maximum_version = version
    async with listening(serve_nothing, context=context) as url:
        with pytest.raises(LinkLost, match=rf"{url}: {reason}"):
            await dialer(own)(node_b(url))


async def test_a_target_that_shows_no_certificate_shows_none() -> None:
    door = Door()
    async with listening(serve_nothing, admit=door) as url:
        connection = await dialer()(node_b(url, shows_certificate=False, authorization="Basic eDp5"))
        await connection.close()
    (incoming,) = door.incoming
    assert (incoming.certificate, incoming.authorization) == (None, "Basic eDp5")


async def test_a_server_name_is_sent_for_names_and_not_for_addresses() -> None:
    asked: list[str | None] = []
    context = server_context(NODE_B)
    context.sni_callback = lambda _, name, __: asked.append(name)
    async with listening(serve_nothing, context=context) as url:
        for host in (HOST, "localhost"):
            connection = await dialer()(node_b(url.replace(HOST, host)))
            await connection.close()
    assert asked == [None, "localhost"]


async def test_a_refused_upgrade_tells_its_reason() -> None:
    async with listening(serve_nothing, admit=Door(refusal="not you")) as url:
        with pytest.raises(PeerRefused, match=r"^not you$"):
            await dialer()(node_b(url))


async def test_nobody_there_is_said_so() -> None:
    async with listening(serve_nothing) as url:
        pass
    with pytest.raises(LinkLost, match=rf"{url}: .*Connection refused"):
        await dialer()(node_b(url))


async def test_an_unknown_host_is_said_to_be_one() -> None:
    with pytest.raises(LinkLost, match=r"wss://nowhere\.invalid:1: .*[Nn]ame"):
        await dialer()(node_b("wss://nowhere.invalid:1"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "node-b",
        "http://node-b:9933",
        "wss://node-b",
        "wss://node-b:0",
        "wss://node-b:99999",
        "wss://node-b:x",
        "wss://:9933",
        "wss://node-b:9933/path",
        "wss://node-b:9933?query",
        "wss://[::1:9933",
        "wss://no\0de:9933",
        "wss://.node:9933",
        f"wss://{'n' * 64}:9933",
        "wss://a b:9933",
    ],
)
async def test_what_is_not_the_url_of_a_peer_is_a_link_lost(url: str) -> None:
    with pytest.raises(LinkLost):
        await dialer()(node_b(url))


async def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(LinkLost) as refused:
        await dialer()(node_b("wss://admin:secret@node-b:9933"))
    assert "secret" not in str(refused.value)


async def test_credentials_that_no_header_can_carry_are_refused_and_not_repeated() -> None:
    async with listening(serve_nothing) as url:
        with pytest.raises(LinkLost) as refused:
            await dialer()(node_b(url, authorization="Basic secret\r\nx-more: 1"))
        assert "secret" not in str(refused.value)


async def test_a_server_that_is_silent_is_given_up() -> None:
    async with answering(b"", is_held_open=True) as url:
        with pytest.raises(LinkLost, match=r"the answer to the upgrade took longer than 0\.1 s"):
            await dialer(settings=HASTY)(node_b(url))
        with pytest.raises(LinkLost, match=r"the TLS handshake took longer than 0\.1 s"):
            await dialer(settings=HASTY)(node_b(url.replace("ws:", "wss:")))


async def test_a_server_that_does_not_speak_tls_is_said_so() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        with pytest.raises(LinkLost, match=r"TLS failed: wrong version number"):
            await dialer()(node_b(url.replace("ws:", "wss:")))


ANSWERS = {
    "nothing": (b"", LinkLost, "closed the connection instead of answering"),
    "garbage": (b"\x00\xff" * 100, LinkLost, "not one of a websocket server"),
    "an endless head": (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, LinkLost, "not one of|longer than"),
    "an endless body": (b"HTTP/1.1 403 No\r\ncontent-length: 100000\r\n\r\n" + b"y" * 100_000, LinkLost, "longer than"),
    "a page": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", PeerRefused, "^hi$"),
    "a status alone": (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", PeerRefused, "HTTP status 404"),
    "a reason up to the end": (b"HTTP/1.1 403 No\r\n\r\nbecause", PeerRefused, "^because$"),
    "another information": (b"HTTP/1.1 100 Continue\r\n\r\n", PeerRefused, "HTTP status 100"),
    "an upgrade to nothing": (b"HTTP/1.1 101 Yes\r\nupgrade: \xff\r\n\r\n", LinkLost, "not one of"),
}


@pytest.mark.parametrize(("answer", "error", "reason"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_is_no_upgrade_is_an_error_of_the_link(
    answer: bytes, error: type[Exception], reason: str
) -> None:
    async with answering(answer) as url:
        with pytest.raises(error, match=reason):
            await dialer()(node_b(url))


async def test_a_plain_connection_to_a_loopback_address_comes_from_the_own_one() -> None:
    door = Door()
    async with listening(serve_nothing, admit=door, is_secure=False) as url:
        own = dialer(local_address="127.0.0.7")
        for target in (url, url.replace(HOST, "localhost")):
            connection = await own(node_b(target))
            await connection.close()
    assert [one.address for one in door.incoming] == ["127.0.0.7", HOST]
    assert [one.is_secure for one in door.incoming] == [False, False]


async def test_a_secure_connection_comes_from_wherever_the_system_likes() -> None:
    door = Door()
    async with listening(serve_nothing, admit=door) as url:
        connection: Connection = await dialer(local_address="127.0.0.7")(node_b(url))
        await connection.close()
    assert [one.address for one in door.incoming] == [HOST]
