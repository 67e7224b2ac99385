"""The links of a node: which there are, when they are dialled again, and who is turned away."""

import errno
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from replication.errors import LinkLost
from replication.messages import Ack, Bye, Databases, Error, Hello, Subscribe, Subscribed
from replication.policy import Refusal
from replication.subscription import TableSelection
from tests.replication.hand_peer import (
    Node,
    SettablePolicy,
    Source,
    batch,
    node_a,
)
from tests.simulation.node import run_inline

REVOKED = Refusal(code="revoked", reason="certificate 5 of b is revoked")
REMOVED = Refusal(code="removed", reason="'b' was removed from this cluster", is_final=True)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    made = Source(tmp_path)
    made.put(1, 2)
    yield made
    made.opened.close()


@pytest.fixture
def virtual(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


def intervals(node: Node, database: str) -> list[float]:
    """Seconds between the dials of a link."""
    return [later - earlier for earlier, later in pairwise(at for at, what in node.dials if what == database)]


# -- which links there are ------------------------------------------------------------------------------------------


async def test_there_is_one_control_and_one_stream_for_each_database_of_a_peer(
    tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path, databases=("data", "more")) as node:
        node.databases = {"data": 1, "more": 1}
        await trio.sleep(5)
        assert sorted(database for _, database in node.dials) == ["", "data", "more"]
        assert sorted(node.supervisor.dialled) == [("b", ""), ("b", "data"), ("b", "more")]


async def test_links_come_and_go_with_the_policy(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    policy = SettablePolicy()
    async with node_a(tmp_path, policy=policy) as node:
        await trio.sleep(5)
        assert node.dials == []
        policy.peers = ("b",)
        policy.change()
        stream = await node.dialled(source)
        await stream.publish()
        policy.peers = ()
        policy.change()
        farewell = await stream.farewell()
        assert isinstance(farewell, Bye) and farewell.code == "shutting-down"
        dials = len(node.dials)
        await trio.sleep(100)
        assert (len(node.dials), node.supervisor.dialled) == (dials, {})


async def test_a_link_that_is_wanted_otherwise_is_made_anew(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    policy = SettablePolicy("b")
    async with node_a(tmp_path, policy=policy) as node:
        stream = await node.dialled(source)
        await stream.publish()
        policy.tables = TableSelection("only", frozenset(("dog",)))
        policy.change()
        await stream.farewell()
        again = await node.dialled(source)
        assert (await again.publish()).tables == policy.tables


async def test_the_end_of_an_old_stream_does_not_disturb_the_new_one(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    """The old socket is stuck, so that its farewell takes time; the new session is up by then."""
    policy = SettablePolicy("b")
    async with node_a(tmp_path, policy=policy) as node:
        old = await node.dialled(source)
        await old.publish()
        node.network.slow("a", "b", 100.0)
        policy.tables = TableSelection("only", frozenset(("dog",)))
        policy.change()
        new = await node.dialled(source)
        number = (await new.publish()).id
        await trio.sleep(60)
        assert old.ended.is_set()
        node.network.heal()
        await new.say(source.schema(number), batch(number, *source.entries()))
        assert (await new.hear(Ack)).positions == {source.origin: 3}
        assert node.record().stream is not None
        assert list(node.supervisor.replica("data").intake.providers) == ["b"]


# -- databases that peers have --------------------------------------------------------------------------------------


async def test_a_database_that_a_peer_has_is_created_and_filled_before_it_takes_writes(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path, databases=()) as node:
        stream = await node.dialled(source)
        environment = node.catalog.database("data").environment
        assert (environment.is_filling, environment.created_us) == (True, 1)
        number = (await stream.publish()).id
        await stream.say(source.schema(number), batch(number, *source.entries()))
        await node.until(lambda: not environment.is_filling)
        assert node.ids() == [1, 2]


async def test_a_database_that_was_dropped_here_later_is_not_created(tmp_path: Path, virtual: MockClock) -> None:
    policy = SettablePolicy("b")
    policy.dropped_us = 5
    async with node_a(tmp_path, databases=(), policy=policy) as node:
        node.databases = {"data": 5}
        await trio.sleep(5)
        assert node.catalog.names == ()


async def test_a_database_of_which_only_some_tables_are_taken_takes_writes_at_once(
    tmp_path: Path, virtual: MockClock
) -> None:
    policy = SettablePolicy("b")
    policy.tables = TableSelection("only", frozenset(("dog",)))
    async with node_a(tmp_path, databases=(), policy=policy) as node:
        await node.until(lambda: node.catalog.names == ("data",))
        assert not node.catalog.database("data").environment.is_filling


async def test_a_database_that_is_announced_later_is_created_too(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path, databases=()) as node:
        node.databases = {}
        _, control = await node.arrival("")
        await control.say(Databases(databases={"late": 7}))
        await node.until(lambda: node.catalog.names == ("late",))
        assert (await control.hear(Databases)).databases == {"late": 7}


@pytest.mark.parametrize("name", ["", "x" * 251, "a/b", "`a`"], ids=lambda name: name[:9])
async def test_a_name_that_no_client_could_give_a_database_makes_none(
    name: str, tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        _, control = await node.arrival("")
        await control.say(Databases(databases={"data": 1, name: 1}))
        await trio.sleep(5)
        assert node.catalog.names == ("data",)
        assert not control.ended.is_set()


@pytest.mark.parametrize("name", ["..", "\0", "x" * 250, "Ä\n"], ids=lambda name: repr(name[:9]))
async def test_a_name_that_is_no_file_name_is_one_of_a_database(name: str, tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        _, control = await node.arrival("")
        await control.say(Databases(databases={"data": 1, name: 1}))
        await node.until(lambda: node.catalog.names == ("data", name))


async def test_a_time_of_creation_beyond_all_dates_is_refused(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        _, control = await node.arrival("")
        await control.say(Databases(databases={"data": 1, "late": (1 << 64) - 1}))
        await control.farewell()
        assert node.catalog.names == ("data",)


async def test_a_database_that_cannot_be_created_keeps_no_other_from_coming(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async def offload(function: Callable[..., Any], /, *args: Any) -> Any:
        if "bad" in args:
            raise OSError(errno.ENOSPC, "No space left on device")
        return await run_inline(function, *args)

    async with node_a(tmp_path, databases=(), offload=offload) as node:
        node.databases = {"bad": 1, "data": 1}
        await (await node.dialled(source)).publish()
        assert node.catalog.names == ("data",)


# -- dialling again -------------------------------------------------------------------------------------------------


async def test_the_delays_double_up_to_a_limit_while_nothing_comes_of_it(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        node.hello = {"version_min": 2, "version_max": 3}
        await refuse_all(node)
        await trio.sleep(600)
        seen = intervals(node, "")
        assert 0.25 <= seen[0] < 0.9
        assert seen[3] > 1.9 and seen[5] > 7.9
        assert all(14.9 < seconds < 45.5 for seconds in seen[7:])
        assert len({round(seconds, 3) for seconds in seen[7:]}) > 3, "delays that are all alike"


async def refuse_all(node: Node) -> None:
    """Greet each control connection as ``node.hello`` says."""

    async def greet() -> None:
        while True:
            _, peer = await node.arrival("")
            try:
                await peer.say(node.greeting())
            except LinkLost:
                pass

    node.nursery.start_soon(greet)


async def test_a_peer_of_another_protocol_version_is_refused_with_that_reason(
    tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        node.hello = {"version_min": 2, "version_max": 3}
        _, peer = await node.arrival("")
        await peer.say(node.greeting())
        farewell = await peer.farewell()
        assert isinstance(farewell, Error) and farewell.code == "version"
        assert node.last_error("") == ("version", "the peer speaks versions 2 to 3, this node 1")


async def test_a_peer_whose_versions_overlap_is_welcome(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        peer = await node.dial(None, version_min=0, version_max=9)
        assert (await peer.hear(Hello)).version_max == 1
        await trio.sleep(5)
        assert not peer.ended.is_set()


async def test_delays_begin_anew_once_a_connection_came_to_something(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        node.network.cut("a", "b")
        await trio.sleep(200)
        node.network.mend("a", "b")
        _, control = await node.arrival("")
        await node.until(lambda: node.record("").connected_at_us is not None)
        ended_at = trio.current_time()
        await control.close()
        await node.arrival("")
        assert trio.current_time() - ended_at < 1.0


async def test_a_greeting_alone_is_no_progress(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    """The peer greets and goes, again and again."""

    async def greet() -> None:
        while True:
            stream = await node.dialled(source)
            await stream.close()

    async with node_a(tmp_path) as node:
        node.nursery.start_soon(greet)
        await trio.sleep(300)
        assert len(intervals(node, "data")) < 25


async def test_what_ends_each_connection_by_what_came_over_it_is_met_less_and_less_often(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    """A publisher that subscribes well and then sends what cannot be taken."""

    async def publish() -> None:
        while True:
            stream = await node.dialled(source)
            try:
                number = (await stream.publish()).id
                await stream.say(batch(number, *source.entries()[1:]))
                while True:
                    number = (await stream.publish()).id
                    await stream.say(batch(number, *source.entries()[1:]))
            except LinkLost:
                pass

    async with node_a(tmp_path) as node:
        node.nursery.start_soon(publish)
        await trio.sleep(300)
        assert 5 < len(intervals(node, "data")) < 25
        assert node.last_error()[0] == "gap"


@pytest.mark.parametrize("code", ["removed", "self", "not-permitted"])
async def test_a_final_goodbye_is_the_last_word_until_members_change(
    code: str, tmp_path: Path, virtual: MockClock
) -> None:
    policy = SettablePolicy("b")
    async with node_a(tmp_path, policy=policy) as node:
        node.databases = {}
        _, control = await node.arrival("")
        await node.until(lambda: node.record("").connected_at_us is not None)
        await control.say(Bye(code=code, reason="no more", after_ms=-1))
        await control.farewell()
        await trio.sleep(1000)
        assert len(node.dials) == 1
        record = node.record("")
        assert node.last_error("") == (code, "no more")
        assert (record.link, record.caller, record.connected_at_us) == (None, None, None), "a link that is down"
        policy.change()
        await node.arrival("")


async def test_a_goodbye_may_say_when_to_come_back(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        node.databases = {}
        _, control = await node.arrival("")
        await trio.sleep(5)
        at_s = trio.current_time()
        await control.say(Bye(code="not-permitted", after_ms=20_000))
        await node.arrival("")
        assert 10 <= trio.current_time() - at_s < 31


async def test_a_peer_that_dials_in_is_dialled_at_once(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        node.network.cut("a", "b")
        await trio.sleep(300)
        node.network.mend("a", "b")
        await node.dial(None)
        at_s = trio.current_time()
        await node.arrival("")
        assert trio.current_time() - at_s < 1.0


# -- a peer that lives and does nothing -----------------------------------------------------------------------------


async def test_a_publisher_that_never_answers_a_subscription_is_given_up_and_dialled_again(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream = await node.dialled(source)
        await stream.hear(Subscribe)
        asked_at = trio.current_time()
        await stream.farewell()
        assert 9.9 < trio.current_time() - asked_at < 12
        assert node.last_error() == ("lost", "the peer did not answer the subscription")
        again = await node.dialled(source)
        number = (await again.publish()).id
        await again.say(source.schema(number), batch(number, *source.entries()))
        assert (await again.hear(Ack)).positions == {source.origin: 3}


async def test_a_publisher_that_has_more_and_sends_nothing_is_given_up(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream = await node.dialled(source)
        await stream.publish(head=source.head)
        await stream.farewell()
        assert node.last_error() == ("lost", "the peer has more, and nothing came for 20 s")


async def test_a_publisher_that_has_no_more_may_be_silent(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        stream = await node.dialled(source)
        number = (await stream.publish(head=source.head)).id
        entries = source.entries()
        await stream.say(source.schema(number), batch(number, *entries, head=source.head, place=source.head))
        await trio.sleep(1000)
        assert not stream.ended.is_set()


async def test_slow_commits_are_no_reason_to_give_up_a_publisher(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async def slow(moment: str) -> None:
        await trio.sleep(100 if moment == "before commit" else 0)

    async with node_a(tmp_path, hook=slow) as node:
        stream = await node.dialled(source)
        number = (await stream.publish(head=source.head + 1)).id
        for entry in source.entries():
            await stream.say(batch(number, entry, head=source.head + 1, place=1))
        await node.until(lambda: node.ids() == [1, 2])
        assert not stream.ended.is_set()


# -- who dials in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", [None, "data"])
async def test_of_two_connections_for_one_thing_the_newer_stays(
    database: str | None, tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        older = await node.dial(database)
        await older.hear(Hello)
        await trio.sleep(1)
        newer = await node.dial(database)
        await newer.hear(Hello)
        farewell = await older.farewell()
        assert farewell is not None and farewell.code in ("superseded", "shutting-down")
        assert any(isinstance(one, Bye) and one.code == "superseded" for one in older.heard)
        await trio.sleep(30)
        assert not newer.ended.is_set()
        assert list(node.supervisor.served) == [("b", database or "")]


async def test_a_stream_of_one_database_does_not_supersede_that_of_another(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path, databases=("data", "more")) as node:
        for database in ("data", "more", None):
            await (await node.dial(database)).hear(Hello)
        await trio.sleep(5)
        assert sorted(node.supervisor.served) == [("b", ""), ("b", "data"), ("b", "more")]


async def test_an_older_connection_that_takes_nothing_does_not_keep_the_newer_out(
    tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        older = await node.dial(None)
        await older.hear(Hello)
        await trio.sleep(1)
        (served,) = node.supervisor.served.values()
        node.network.blackhole("a", "b")
        with pytest.raises(LinkLost):
            while True:
                served.link.post(Databases(databases={"x" * 1000: 1}))
        node.network.heal()
        newer = await node.dial(None)
        await newer.hear(Hello)
        await trio.sleep(5)
        assert not newer.ended.is_set()


@pytest.mark.parametrize("database", [None, "data"])
async def test_a_peer_that_is_no_longer_allowed_is_turned_away_within_seconds(
    database: str | None, tmp_path: Path, virtual: MockClock
) -> None:
    policy = SettablePolicy("b")
    async with node_a(tmp_path, policy=policy) as node:
        peer = await node.dial(database)
        await peer.hear(Hello)
        await trio.sleep(5)
        policy.refusals["b"] = REMOVED
        policy.change()
        changed_at = trio.current_time()
        farewell = await peer.farewell()
        assert trio.current_time() - changed_at < 2
        assert isinstance(farewell, Bye)
        assert (farewell.code, farewell.reason, farewell.after_ms) == ("removed", REMOVED.reason, -1)


@pytest.mark.parametrize("database", ["", "data"])
async def test_a_connection_that_this_node_dialled_ends_too_when_the_certificate_there_is_revoked(
    database: str, tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    policy = SettablePolicy("b")
    async with node_a(tmp_path, policy=policy) as node:
        stream = await node.dialled(source)
        await stream.publish()
        _, control = await node.arrival("")
        await trio.sleep(5)
        policy.refusals["b"] = REVOKED
        policy.change()
        await (stream if database else control).farewell()
        assert node.last_error(database) == ("revoked", REVOKED.reason)


async def test_a_certificate_that_ends_ends_its_connections_though_no_member_changes(
    tmp_path: Path, virtual: MockClock
) -> None:
    policy = SettablePolicy("b")
    async with node_a(tmp_path, policy=policy) as node:
        peer = await node.dial(None)
        await peer.hear(Hello)
        policy.refusals["b"] = Refusal(code="auth", reason="the certificate of 'b' has expired")
        ended_at = trio.current_time()
        farewell = await peer.farewell()
        assert isinstance(farewell, Bye) and farewell.code == "auth"
        assert trio.current_time() - ended_at < 65


async def test_nothing_is_taken_from_a_peer_that_is_refused_when_it_is_dialled(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    policy = SettablePolicy("b")
    policy.refusals["b"] = REVOKED
    async with node_a(tmp_path, policy=policy) as node:
        await trio.sleep(60)
        assert node.network.dials > 1
        assert (node.dials, node.supervisor.announced) == ([], {}), "not even a greeting"
        assert node.last_error("") == ("revoked", REVOKED.reason)


async def test_who_is_refused_is_told_why_and_announces_nothing(tmp_path: Path, virtual: MockClock) -> None:
    policy = SettablePolicy("b")
    policy.refusals["b"] = Refusal(code="unknown-node", reason="no entry")
    async with node_a(tmp_path, policy=policy) as node:
        peer = await node.dial(None, databases={"theirs": 1})
        farewell = await peer.farewell()
        assert any(isinstance(one, Bye) and one.code == "unknown-node" for one in peer.heard), farewell
        assert node.catalog.names == ("data",)
        assert node.supervisor.served == {}


async def test_a_stream_that_is_no_longer_permitted_ends(tmp_path: Path, virtual: MockClock) -> None:
    policy = SettablePolicy("b")
    async with node_a(tmp_path, policy=policy) as node:
        peer = await node.dial()
        await peer.say(Subscribe(id=1, want={}, credit_bytes=1000))
        await peer.hear(Subscribed)
        policy.not_permitted = "Unauthorized database subscription to data"
        policy.change()
        farewell = await peer.farewell()
        assert isinstance(farewell, Bye)
        assert (farewell.code, farewell.reason) == ("not-permitted", policy.not_permitted)


@pytest.mark.parametrize(
    "hello",
    [
        {"kind": "stream", "database": "nowhere"},
        {"kind": "stream", "database": None},
        {"kind": "stream", "database": ""},
        {"kind": "other"},
        {"name": "c"},
    ],
    ids=repr,
)
async def test_a_greeting_that_makes_no_sense_ends_its_connection(
    hello: dict[str, Any], tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        connection = await node.dial_silently("b")
        await connection.say(node.greeting(**hello))
        farewell = await connection.farewell()
        assert isinstance(farewell, Error)
        assert node.supervisor.served == {}


async def test_the_name_in_a_greeting_is_the_one_that_was_proven(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path, policy=SettablePolicy("b", "c")) as node:
        intruder = await node.dial_silently("c")
        await intruder.say(node.greeting(name="b"))
        farewell = await intruder.farewell()
        assert isinstance(farewell, Error) and farewell.code == "name-mismatch"


async def test_garbage_ends_its_connection_and_nothing_else(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        stream = await node.dialled(source)
        await stream.publish()
        for frame in (b"", b"\xff", b"\x9f" * 100_000, b"\x81" * 100_000, b"\x5b" + b"\xff" * 8, bytes(1000)):
            garbage = await node.dial_silently("b")
            await garbage.connection.send(frame)
            await garbage.farewell()
        assert not stream.ended.is_set()
