"""Greeting, liveness and farewell, without a connection."""

import pytest

from replication.errors import LinkLost, PeerRefused, RemoteProtocolError
from replication.messages import Ack, Bye, Error, Hello, Message, Ping, Pong
from replication.session import Session
from replication.settings import LinkSettings

SETTINGS = LinkSettings(ping_interval_s=10.0, ping_timeout_s=20.0)


def hello(name: str = "b", **fields: object) -> Hello:
    return Hello(**{"version_min": 1, "version_max": 1, "name": name, "kind": "control", **fields})


def new(expected: str | None = "b") -> Session:
    return Session("a", expected=expected, settings=SETTINGS, now_s=0.0)


def receive(session: Session, message: Message, now_s: float = 0.0) -> list[Message]:
    return session.receive(message, now_s=now_s, now_ms=now_s * 1000, clock_us=0, head=7)


def tick(session: Session, now_s: float, last_byte_at: float = 0.0) -> list[Message]:
    return session.tick(now_s=now_s, last_byte_at=last_byte_at, now_ms=0, clock_us=0)


def greeted() -> Session:
    session = new()
    receive(session, hello())
    return session


def test_the_peer_is_who_its_hello_says():
    assert greeted().peer == hello()


@pytest.mark.parametrize("message", [Ping(token=1), Ack(id=1, positions={})])
def test_nothing_counts_before_the_hello(message):
    with pytest.raises(RemoteProtocolError, match="hello first"):
        receive(new(), message)


def test_an_error_in_the_place_of_a_hello_is_a_refusal_that_says_why():
    with pytest.raises(PeerRefused, match="no entry") as caught:
        receive(new(), Error(code="unknown-node", message="no entry"))
    assert (caught.value.code, caught.value.after_s) == ("unknown-node", None)


def test_a_second_hello_breaks_the_protocol():
    with pytest.raises(RemoteProtocolError, match="twice"):
        receive(greeted(), hello())


def test_another_name_than_the_proven_one_is_refused():
    with pytest.raises(RemoteProtocolError) as caught:
        receive(new(), hello("c"))
    assert caught.value.code == "name-mismatch"


def test_names_are_the_same_in_any_case():
    session = new("B")
    receive(session, hello("b"))
    assert session.peer is not None


def test_whoever_proved_nothing_may_have_any_name_but_ours():
    session = new(None)
    receive(session, hello("whoever"))
    assert session.peer is not None


def test_the_node_itself_is_not_dialled_again():
    with pytest.raises(PeerRefused) as caught:
        receive(new(None), hello("a"))
    assert (caught.value.code, caught.value.after_s) == ("self", -1)


@pytest.mark.parametrize(("lowest", "highest"), [(2, 5), (0, 0)])
def test_versions_that_do_not_overlap_are_refused(lowest, highest):
    with pytest.raises(RemoteProtocolError) as caught:
        receive(new(), hello(version_min=lowest, version_max=highest))
    assert caught.value.code == "version"


def test_a_newer_peer_that_still_speaks_our_version_is_welcome():
    session = new()
    receive(session, hello(version_min=1, version_max=9))
    assert session.peer is not None


def test_a_ping_is_answered_with_its_token_and_our_head():
    (pong,) = receive(greeted(), Ping(token=41))
    assert (pong.token, pong.head) == (41, 7)  # type: ignore[union-attr]


def test_a_ping_is_due_after_each_interval():
    session = greeted()
    assert tick(session, 9.9, 9.9) == []
    assert [type(message) for message in tick(session, 10.0, 10.0)] == [Ping]
    assert tick(session, 10.1, 10.1) == []
    assert len(tick(session, 20.0, 20.0)) == 1


def test_silence_for_the_timeout_ends_the_connection():
    session = greeted()
    tick(session, 19.9)
    with pytest.raises(LinkLost, match="no byte"):
        tick(session, 20.0)


def test_who_never_says_hello_is_dropped_like_who_falls_silent():
    with pytest.raises(LinkLost, match="no byte"):
        tick(new(), 20.0)


def test_bytes_of_a_large_frame_are_a_sign_of_life():
    tick(greeted(), 60.0, last_byte_at=59.0)


def test_the_next_tick_is_when_a_ping_or_the_end_is_due():
    session = greeted()
    assert session.next_tick_at(last_byte_at=0.0) == 10.0
    assert session.next_tick_at(last_byte_at=-15.0) == 5.0


def test_a_pong_tells_round_trip_and_skew():
    session = greeted()
    (ping,) = tick(session, 10.0, 10.0)
    receive(session, Pong(token=ping.token, now_ms=15_000.0), now_s=10.5)  # type: ignore[union-attr]
    assert session.liveness.latency_s == 0.5
    assert session.liveness.clock_skew_s == pytest.approx(4.75)


def test_a_pong_that_nobody_asked_for_proves_nothing():
    session = greeted()
    receive(session, Pong(token=99), now_s=15.0)
    assert session.liveness.latency_s is None
    assert session.liveness.last_proof_at == 0.0


@pytest.mark.parametrize(
    ("bye", "after_s"),
    [
        (Bye(code="removed"), -1),
        (Bye(code="self"), -1),
        (Bye(code="unknown-node", after_ms=-1), -1),
        (Bye(code="revoked", after_ms=3000), 3.0),
        (Bye(code="revoked"), None),
    ],
)
def test_a_goodbye_says_when_to_come_back(bye, after_s):
    with pytest.raises(PeerRefused) as caught:
        receive(greeted(), bye)
    assert (caught.value.code, caught.value.after_s) == (bye.code, after_s)


@pytest.mark.parametrize("code", ["shutting-down", "superseded"])
def test_a_goodbye_that_refuses_nothing_is_a_lost_connection(code):
    with pytest.raises(LinkLost, match=code):
        receive(greeted(), Bye(code=code))
