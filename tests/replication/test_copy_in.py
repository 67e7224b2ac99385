"""A copy that comes in: gone on with after any break, refused where it does not fit, merged whole or not at all."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from replication import copy_in
from replication.messages import Error, Subscribe
from storage import copy_file
from tests.replication.hand_peer import WITH_COPIES, HandPeer, Node, SentCopy, Source, batch, node_a
from tests.simulation.history import state_of
from tests.simulation.node import run_inline

IDS = list(range(20))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    made = Source(tmp_path)
    made.put(*IDS)
    made.opened.delete("dog", 5)
    made.put(5)
    yield made
    made.opened.close()


@pytest.fixture
def virtual(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


async def asked(node: Node, source: Source) -> tuple[HandPeer, Subscribe]:
    """The next stream, with its subscription; the answer is given."""
    stream = await node.dialled(source)
    return stream, await stream.publish()


def is_equal(node: Node, source: Source) -> bool:
    return state_of(node.catalog.database("data")) == state_of(source.opened.database)


def unfinished(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "node-a" / "data" / "copies-in").glob("*"))


async def test_who_has_nothing_takes_a_copy_and_streams_behind_it(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    copy = SentCopy(source)
    source.put("later")
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        assert (first.copy, first.copy_resume, first.copy_at) == (True, None, 0)
        await stream.say(*copy.rest(first.id))
        behind = await stream.publish()
        assert (behind.copy, behind.want) == (False, {source.origin: copy.description.v0[source.origin][0]})
        await stream.say(batch(behind.id, source.entries()[-1]))
        await node.until(lambda: node.ids() == [*IDS, "later"])
        assert is_equal(node, source)
        assert unfinished(tmp_path) == []


@pytest.mark.parametrize("percent", [0, 1, 37, 99, 100])
@pytest.mark.parametrize("has_restarted", [False, True], ids=["same life", "next life"])
async def test_a_copy_goes_on_at_its_byte_after_a_break(
    percent: int, has_restarted: bool, tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    copy = SentCopy(source)
    at = len(copy.data) * percent // 100

    async def break_off(node: Node) -> None:
        stream, first = await asked(node, source)
        await stream.say(copy.start(first.id))
        for place in range(0, at, 100):
            await stream.say(copy.piece(first.id, place, min(place + 100, at)))
        await node.until(
            lambda: bool(at == 0 or (unfinished(tmp_path) and unfinished(tmp_path)[0].stat().st_size == at))
        )
        await stream.close()

    async def go_on(node: Node) -> None:
        stream, second = await asked(node, source)
        assert (second.copy_resume, second.copy_at) == (("c1", at) if at else (None, 0))
        await stream.say(*copy.rest(second.id, at))
        await stream.publish()
        assert is_equal(node, source)

    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        await break_off(node)
        if not has_restarted:
            await go_on(node)
    if has_restarted:
        async with node_a(tmp_path, settings=WITH_COPIES) as node:
            await go_on(node)


async def test_a_publisher_without_the_file_begins_anew(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    lost = SentCopy(source, "lost")
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        await stream.say(lost.start(first.id), lost.piece(first.id, 0, 200))
        await node.until(lambda: bool(unfinished(tmp_path)))
        await stream.close()
        source.opened.create_table("cat")
        source.put("later")
        stream, second = await asked(node, source)
        assert second.copy_resume == "lost"
        await stream.say(*SentCopy(source, "new").rest(second.id))
        await stream.publish()
        assert is_equal(node, source)
        assert node.tables() == ["dog", "cat"]


@pytest.mark.parametrize("settled", range(11))
async def test_a_merge_goes_on_after_a_stop_at_any_step_without_the_publisher(
    settled: int, tmp_path: Path, source: Source, virtual: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_in, "STEP_ROWS", 2)
    monkeypatch.setattr(copy_file, "CHUNK_ROWS", 2)
    commits = 0

    async def hook(moment: str) -> None:
        nonlocal commits
        if moment == "before commit":
            commits += 1
            if commits > settled:
                await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    copy = SentCopy(source)
    async with node_a(tmp_path, settings=WITH_COPIES, hook=hook) as node:
        stream, first = await asked(node, source)
        await stream.say(*copy.rest(first.id))
        await trio.sleep(1)
        assert commits == settled + 1 and not is_equal(node, source)
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        if settled:
            await node.until(lambda: is_equal(node, source))
        stream, second = await asked(node, source)
        if not settled:
            assert second.copy_resume == "c1"
            await stream.say(*copy.rest(second.id, second.copy_at))
            await stream.publish()
        assert is_equal(node, source)


async def refused(node: Node, stream: HandPeer, text: str) -> None:
    """The link has ended with this reason, and nothing of the copy is in the tables."""
    farewell = await stream.farewell()
    assert isinstance(farewell, Error)
    assert text in node.last_error()[1]
    assert node.ids() == []
    assert node.vector() == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.clear(),
        lambda plain: plain.update(copy="../../x"),
        lambda plain: plain.update(copy=""),
        lambda plain: plain.update(bytes=-1),
        lambda plain: plain.update(v0=[["b", "s", 1]]),
        lambda plain: plain.update(tables=[[{}, True]]),
        lambda plain: plain.update(publisher=[]),
        lambda plain: plain.update(publisher=[1, 2]),
        lambda plain: plain.update(sum=b""),
        lambda plain: plain.update(marks={"b": b"\xff"}),
        lambda plain: plain.update(rows="many"),
        lambda plain: plain.update(not_kept=5),
    ],
)
async def test_a_damaged_description_is_refused(
    change: Callable[[dict[str, Any]], None], tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    copy = SentCopy(source)
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        start = copy.start(first.id)
        change(start.description)  # type: ignore[arg-type]  # the mapping is a dict of this test's own
        await stream.say(start)
        await stream.farewell()
        assert node.last_error()[0] == "corrupt"
        assert (node.ids(), node.vector(), unfinished(tmp_path)) == ([], {}, [])


async def test_a_copy_that_goes_on_where_nothing_was_asked_for_is_refused(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        await stream.say(SentCopy(source).start(first.id, at=10))
        await refused(node, stream, "at a byte that was not asked for")


@pytest.mark.parametrize("at", [0, 99, 101, 1 << 40])
async def test_a_piece_that_does_not_follow_is_refused(
    at: int, tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    copy = SentCopy(source)
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        await stream.say(copy.start(first.id), copy.piece(first.id, 0, 100))
        piece = copy.piece(first.id, 100, 200)
        await stream.say(type(piece)(id=first.id, copy="c1", at=at, data=piece.data))
        await refused(node, stream, "does not follow the one before")


async def test_a_file_that_grows_beyond_its_size_is_refused(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    copy = SentCopy(source)
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        start, piece, _ = copy.rest(first.id)
        await stream.say(start, piece, type(piece)(id=first.id, copy="c1", at=len(copy.data), data=b"more"))  # type: ignore[call-arg]
        await refused(node, stream, "does not follow the one before")


async def test_an_end_before_the_last_byte_is_refused_and_the_file_is_gone(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    copy = SentCopy(source)
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        await stream.say(copy.start(first.id), copy.piece(first.id, 0, 100), copy.end(first.id))
        await refused(node, stream, "a copy arrived damaged")
        assert unfinished(tmp_path) == []


@pytest.mark.parametrize("kind", ["piece", "end"])
async def test_what_comes_before_the_start_is_refused(
    kind: str, tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    copy = SentCopy(source)
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        await stream.say(copy.piece(first.id, 0, 100) if kind == "piece" else copy.end(first.id))
        await refused(node, stream, "that it did not announce")


async def test_a_file_that_was_damaged_on_our_disk_is_found_at_its_end_and_comes_anew(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    copy = SentCopy(source)
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        await stream.say(copy.start(first.id), copy.piece(first.id, 0, 200))
        await node.until(lambda: bool(unfinished(tmp_path)))
        await stream.close()
        (file,) = unfinished(tmp_path)
        data = file.read_bytes()
        file.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
        stream, second = await asked(node, source)
        await stream.say(*copy.rest(second.id, second.copy_at))
        await refused(node, stream, "a copy arrived damaged")
        stream, third = await asked(node, source)
        assert third.copy_resume is None
        await stream.say(*copy.rest(third.id))
        await stream.publish()
        assert is_equal(node, source)


async def test_a_copy_of_another_database_life_than_the_greeting_told_of_is_refused(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    other = Source(tmp_path, "c")
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        await stream.say(*SentCopy(other).rest(first.id))
        await refused(node, stream, "the peer sends a copy of somebody else")
    other.opened.close()


async def test_a_publisher_that_stalls_in_a_copy_is_given_up_though_it_answers_pings(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    copy = SentCopy(source)
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        stream, first = await asked(node, source)
        await stream.say(copy.start(first.id), copy.piece(first.id, 0, 100))
        stalled_at = trio.current_time()
        await stream.farewell()
        assert 20 <= trio.current_time() - stalled_at < 30
        assert node.last_error() == ("lost", "no part of the copy came for 20 s")
        stream, second = await asked(node, source)
        await stream.say(*copy.rest(second.id, second.copy_at))
        await stream.publish()
        assert is_equal(node, source)


async def test_a_slow_merge_is_not_given_up_and_is_told_of(
    tmp_path: Path, source: Source, virtual: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_in, "STEP_ROWS", 2)
    monkeypatch.setattr(copy_file, "CHUNK_ROWS", 2)

    async def slow(moment: str) -> None:
        await trio.sleep(30 if moment == "before commit" else 0)

    async with node_a(tmp_path, settings=WITH_COPIES, hook=slow) as node:
        stream, first = await asked(node, source)
        await stream.say(*SentCopy(source).rest(first.id))
        await trio.sleep(60)
        record = node.record()
        assert record.stream is not None and record.stream.mode == "copy"
        assert (await stream.publish()).id == first.id + 1
        assert record.last_error is None
        assert is_equal(node, source)


async def test_a_copy_that_cannot_be_merged_is_asked_for_less_and_less_often(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    """A publisher that sends it whole and well, each time, with contents that nobody can read."""
    copy = SentCopy(source).with_data(b"no rows at all" * 100)
    copies = 0

    async def publish(node: Node) -> None:
        nonlocal copies
        while True:
            stream = await node.dialled(source)
            while not stream.ended.is_set():
                try:
                    asked = await stream.publish()
                    if asked.copy:
                        copies += 1
                        await stream.say(*copy.rest(asked.id))
                except Exception:
                    break

    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        node.nursery.start_soon(publish, node)
        await trio.sleep(600)
        assert 5 < copies < 40
        assert node.last_error()[0] == "corrupt"
        assert (node.ids(), node.vector()) == ([], {})


async def test_a_copy_that_does_not_bring_what_is_missing_is_not_taken_again_and_again(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    """The publisher says that it has trimmed an origin, and its copies do not cover it either."""
    copies = 0
    ghost = source.origin._replace(store="ghost")

    async def publish(node: Node) -> None:
        nonlocal copies
        while True:
            stream = await node.dialled(source)
            while not stream.ended.is_set():
                try:
                    asked = await stream.publish(unavailable={ghost: 100})
                    if asked.copy:
                        copies += 1
                        await stream.say(*SentCopy(source).rest(asked.id))
                except Exception:
                    break

    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        node.nursery.start_soon(publish, node)
        await trio.sleep(600)
        assert copies < 40
        assert is_equal(node, source)


async def test_a_disk_without_room_for_the_file_ends_the_link_with_that_reason(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    is_full = True

    async def offload(function: Callable[..., Any], /, *args: Any) -> Any:
        if is_full and getattr(function, "__name__", "") == "_append":
            raise OSError(errno.ENOSPC, "No space left on device")
        return await run_inline(function, *args)

    copy = SentCopy(source)
    async with node_a(tmp_path, settings=WITH_COPIES, offload=offload) as node:
        stream, first = await asked(node, source)
        await stream.say(*copy.rest(first.id))
        await stream.farewell()
        assert node.last_error()[0] == "disk-full"
        assert (node.ids(), node.vector()) == ([], {})
        is_full = False
        stream, second = await asked(node, source)
        await stream.say(*copy.rest(second.id, second.copy_at))
        await stream.publish()
        assert is_equal(node, source)
