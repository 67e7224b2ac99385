"""When a node asks to join, whom, how often, and when never again. Other nodes are played by a script."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from node.joining import MARK_NAME, JoinService
from node.settings import FirstAdministrator
from ops.add_node_params import AddNode, resolved
from ops.errors import OperationError
from ops.joining import Joining
from replication.cluster import Cluster
from replication.join_order import JoinOrder
from replication.membership import Facts, Member, Membership
from tests.node.certificate_nodes import open_certificate_node


class FakeWatch:
    def __init__(self) -> None:
        self.now = Membership(node="n1")
        self.renamed_from: str | None = None
        self._changed = trio.Event()

    def read_now(self) -> Membership:
        return self.now

    async def wait_for_change(self) -> None:
        await self._changed.wait()

    def change(self, now: Membership) -> None:
        self.now = now
        self._changed.set()
        self._changed = trio.Event()


@dataclass
class FakeCluster:
    name: str = "n1"
    watch: FakeWatch = field(default_factory=FakeWatch)
    join_order: JoinOrder = field(default_factory=JoinOrder)


@dataclass
class FakeJoining:
    """Answers a request where its script says so, at the time that it comes."""

    answers: Callable[[str], bool] = lambda _: True
    asked: list[tuple[float, AddNode]] = field(default_factory=list)
    authorities: list[str | None] = field(default_factory=list)

    def resolved(self, params: AddNode) -> AddNode:
        return resolved(params, own_name="n1", own_url="wss://n1:9933", secure_port=9933, port=None)

    async def add(self, params: AddNode, *, needs_answer: bool, authorities_pem: str | None) -> str:
        assert needs_answer, "a node that does not answer is no reason to stop asking the others"
        await trio.lowlevel.checkpoint()
        self.asked.append((trio.current_time(), params))
        self.authorities.append(authorities_pem)
        if not self.answers(params.name):
            raise OperationError("nobody is there", status=500)
        return ""

    @property
    def names(self) -> list[str]:
        return [request.name for _, request in self.asked]


@dataclass
class Scene:
    root: Path
    cluster: FakeCluster = field(default_factory=FakeCluster)
    joining: FakeJoining = field(default_factory=FakeJoining)

    def service(self, *hosts: str, password: str | None = "Otter-1", authorities: Path | None = None) -> JoinService:
        return JoinService(
            cast(Cluster, self.cluster),
            cast(Joining, self.joining),
            hosts,
            credentials=FirstAdministrator(username="admin", password=password),
            authorities=authorities,
            root=self.root,
            rng=random.Random(1),
        )

    @property
    def has_joined(self) -> bool:
        return (self.root / MARK_NAME).exists()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def knows(name: str) -> Membership:
    return Membership(node="n1", peers={name: cast(Member, object())})


async def test_hosts_are_asked_in_turn_until_one_answers(scene: Scene) -> None:
    scene.joining.answers = lambda name: name == "n3"
    await scene.service("n2", "n3", "n4").run()
    assert scene.joining.names == ["n2", "n3"]
    assert scene.has_joined


async def test_a_node_that_has_joined_once_never_asks_again(scene: Scene) -> None:
    await scene.service("n2").run()
    await scene.service("n2").run()
    assert scene.joining.names == ["n2"]


async def test_the_node_itself_and_what_is_no_host_are_skipped(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    await scene.service("n1", "N1:9933", "wss://n1:9933", "not a host", "n2:9944").run()
    (_, request), *others = scene.joining.asked
    assert (request.name, request.port, others) == ("n2", 9944, [])
    assert [record.message.split(" is left out")[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "'not a host' of 'replication.join'"
    ]


async def test_it_asks_as_the_administrator_and_takes_any_certificate_saying_so(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.service("n2").run()
    ((_, request),) = scene.joining.asked
    assert (request.authorization, request.verify_tls, request.retain_authorization) == (
        "Basic YWRtaW46T3R0ZXItMQ==",
        False,
        False,
    )
    assert "the certificate of the first member is not verified" in caplog.text
    assert "Otter-1" not in caplog.text


async def test_without_a_password_its_certificate_has_to_do(scene: Scene) -> None:
    await scene.service("n2", password=None).run()
    assert scene.joining.asked[0][1].authorization is None


async def test_a_named_authority_verifies_the_member(scene: Scene, tmp_path: Path) -> None:
    async with open_certificate_node(tmp_path / "n2", "n2") as other:
        file = tmp_path / "authority.pem"
        file.write_text(other.own_authority_pem)
        await scene.service("n2", authorities=file).run()
        assert scene.joining.asked[0][1].verify_tls
        assert scene.joining.authorities == [other.own_authority_pem]


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
async def test_without_the_named_authority_nobody_is_asked(
    scene: Scene, autojump_clock: trio.testing.MockClock, content: bytes | None
) -> None:
    file = scene.root / "authority.pem"
    if content is not None:
        file.write_bytes(content)
    with trio.move_on_after(60):
        await scene.service("n2", authorities=file).run()
    assert scene.joining.asked == []
    assert not scene.has_joined


async def test_it_asks_less_and_less_often(scene: Scene, autojump_clock: trio.testing.MockClock) -> None:
    scene.joining.answers = lambda _: False
    with trio.move_on_after(3600):
        await scene.service("n2").run()
    times = [at for at, _ in scene.joining.asked]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 0.25 <= pauses[0] <= 0.75
    assert all(15 <= pause <= 45 for pause in pauses[7:])
    assert 80 <= len(times) <= 240
    assert not scene.has_joined


async def test_a_node_that_another_one_joined_has_nothing_left_to_ask(
    scene: Scene, autojump_clock: trio.testing.MockClock
) -> None:
    scene.joining.answers = lambda _: False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.service("n2").run)
        await trio.sleep(100)
        before = len(scene.joining.asked)
        scene.cluster.watch.change(knows("n7"))
        before_s = trio.current_time()
    assert trio.current_time() == before_s
    assert len(scene.joining.asked) == before
    assert scene.has_joined


async def test_a_change_that_brings_no_member_does_not_make_it_ask_sooner(
    scene: Scene, autojump_clock: trio.testing.MockClock
) -> None:
    scene.joining.answers = lambda _: False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.service("n2").run)
        await trio.sleep(100)
        before = len(scene.joining.asked)
        for _ in range(10):
            scene.cluster.watch.change(Membership(node="n1"))
            await trio.sleep(0.01)
        assert len(scene.joining.asked) <= before + 1
        nursery.cancel_scope.cancel()


async def test_a_node_with_members_asks_nobody(scene: Scene) -> None:
    scene.cluster.watch.now = knows("n7")
    await scene.service("n2").run()
    assert scene.joining.asked == []
    assert scene.has_joined


async def test_a_removed_node_asks_nobody(scene: Scene) -> None:
    scene.cluster.watch.now = Membership(node="n1", facts=Facts(removed={"n1": 3}))
    await scene.service("n2").run()
    assert scene.joining.asked == []


async def test_a_node_under_a_new_name_asks_nobody(scene: Scene) -> None:
    scene.cluster.watch.renamed_from = "n0"
    await scene.service("n2").run()
    assert scene.joining.asked == []
    assert not scene.has_joined


async def test_while_it_answers_another_node_it_does_not_ask(
    scene: Scene, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        with scene.cluster.join_order.answering() as may_answer:
            assert may_answer
            nursery.start_soon(scene.service("n2").run)
            await trio.sleep(100)
            assert scene.joining.asked == []
    assert scene.joining.names == ["n2"]


async def test_a_failure_is_told_once_as_long_as_it_is_the_same(
    scene: Scene, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    scene.joining.answers = lambda _: False
    with trio.move_on_after(600):
        await scene.service("n2").run()
    told: list[Any] = [record.levelname for record in caplog.records if "failed" in record.message]
    assert told[0] == "WARNING"
    assert set(told[1:]) == {"DEBUG"}
