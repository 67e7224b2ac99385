"""What is watched is acted upon once per change, and again where acting failed."""

import pytest

from node.change_watch import ChangeWatch


class Watched:
    """Something that changes, and how often that was acted upon."""

    def __init__(self) -> None:
        self.version = 1
        self.acted = 0
        self.failure: Exception | None = None

    def look(self) -> int:
        return self.version

    def act(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.acted += 1


def test_each_change_is_acted_upon_once() -> None:
    watched = Watched()
    watch = ChangeWatch(watched.look, watched.act)
    watch.check()
    assert watched.acted == 0
    for _ in range(2):
        watched.version += 1
        watch.check()
        watch.check()
    assert watched.acted == 2


def test_a_change_before_the_first_check_is_not_missed() -> None:
    watched = Watched()
    watch = ChangeWatch(watched.look, watched.act)
    watched.version = 2
    watch.check()
    assert watched.acted == 1


def test_where_acting_fails_it_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    watch = ChangeWatch(watched.look, watched.act)
    watched.version, watched.failure = 2, OSError("no descriptors left")
    watch.check()
    assert "no descriptors left" in caplog.text
    watched.failure = None
    watch.check()
    assert watched.acted == 1


def test_a_mistake_of_our_own_is_not_hidden() -> None:
    watched = Watched()
    watch = ChangeWatch(watched.look, watched.act)
    watched.version, watched.failure = 2, KeyError("ours")
    with pytest.raises(KeyError):
        watch.check()
