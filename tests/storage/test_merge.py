"""The laws that make replicas converge: the order in which writes arrive, and how often, does not matter."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from storage.entry import Stamp
from storage.merge import RecordState, judge, merge

stamps = st.builds(Stamp, st.integers(1, 3), st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 2))
restaters = st.one_of(st.none(), st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(1, 3)))


def state(stamp: Stamp, by: tuple[str, str, int] | None) -> RecordState:
    """A write's content is decided by its stamp, as an origin uses a position once."""
    value = None if stamp.oseq == 0 else repr(stamp).encode()
    return RecordState(stamp=stamp, value=value, expires_at_ms=stamp.ts if stamp.oseq == 2 else None, by=by)


states = st.builds(state, stamps, restaters)


def fold(writes: list[RecordState]) -> RecordState | None:
    return reduce(merge, writes, None)


@given(st.lists(states, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(writes: list[RecordState], random: object) -> None:
    shuffled = list(writes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold(writes) == fold(shuffled)


@given(st.lists(states, min_size=1, max_size=4), st.lists(states, min_size=1, max_size=4))
def test_merging_two_replicas_is_merging_all_their_writes(left: list[RecordState], right: list[RecordState]) -> None:
    of_right = fold(right)
    assert of_right is not None
    assert merge(fold(left), of_right) == fold(left + right)


@given(st.lists(states, min_size=1, max_size=6))
def test_what_arrives_twice_changes_nothing(writes: list[RecordState]) -> None:
    assert fold(writes + writes) == fold(writes)


@given(st.lists(states, min_size=1, max_size=6))
def test_the_greatest_stamp_wins(writes: list[RecordState]) -> None:
    folded = fold(writes)
    assert folded is not None
    assert folded.stamp == max(write.stamp for write in writes)


@given(stamps)
def test_a_restatement_of_the_same_write_changes_only_who_brought_it(stamp: Stamp) -> None:
    first, again = state(stamp, None), state(stamp, ("b", "y", 9))
    merged = merge(first, again)
    assert (merged.value, merged.stamp, merged.by) == (first.value, first.stamp, ("b", "y", 9))


def test_equal_times_are_decided_by_node_then_incarnation_then_position() -> None:
    assert judge(Stamp(5, "a", "z", 9), Stamp(5, "b", "a", 1)) == "applied"
    assert judge(Stamp(5, "a", "x", 9), Stamp(5, "a", "y", 1)) == "applied"
    assert judge(Stamp(5, "a", "x", 1), Stamp(5, "a", "x", 2)) == "applied"
    assert judge(Stamp(5, "b", "x", 1), Stamp(5, "a", "x", 2)) == "lost"


def test_the_same_write_again_is_lost_and_a_restatement_of_it_is_not() -> None:
    stamp = Stamp(5, "a", "x", 1)
    assert judge(stamp, stamp) == "lost"
    assert judge(stamp, stamp, is_restatement=True) == "restated"
    assert judge(None, stamp) == "applied"
