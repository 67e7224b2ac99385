"""Who brings what: each origin comes from somebody, or it is known that only a copy helps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.intake import COPY_HELPS_WITH, Intake, Provider, choose_source, is_fresh
from storage.entry import Origin

OWN, A, B, C = (Origin(name, "s") for name in ("own", "a", "b", "c"))


def new(*, fail_over: bool = True) -> Intake:
    intake = Intake(fail_over=fail_over)
    intake.own = OWN
    return intake


def provider(origin: Origin, vector: dict[Origin, int] | None = None, **fields: object) -> Provider:
    return Provider(**{"peer": origin.node, "origin": origin, "vector": vector or {}, **fields})


def opened(*providers: Provider, fail_over: bool = True) -> Intake:
    intake = new(fail_over=fail_over)
    for each in providers:
        intake.open(each)
    return intake


def test_our_own_entries_are_never_taken():
    assert new().left_out("a") == {OWN}


def test_an_origin_that_comes_directly_is_left_out_elsewhere():
    intake = opened(provider(A), provider(B))
    assert (intake.left_out("a"), intake.left_out("b"), intake.left_out("c")) == ({OWN, B}, {OWN, A}, {OWN, A, B})


def test_the_others_take_over_when_a_stream_ends():
    a = provider(A)
    intake = opened(a, provider(B))
    intake.close(a)
    assert intake.left_out("b") == {OWN}


def test_an_older_stream_that_ends_late_does_not_end_the_newer_one():
    older, newer = provider(A), provider(A)
    intake = opened(older, newer)
    intake.close(older)
    assert intake.providers["a"] is newer


def test_what_a_node_cannot_serve_of_itself_is_taken_from_others():
    a = provider(A)
    intake = opened(a, provider(B))
    a.unserved[A] = "trimmed"
    assert intake.left_out("b") == {OWN}


def test_a_stream_of_some_tables_leaves_its_origin_to_the_others():
    intake = opened(provider(A, takes_all=False), provider(B))
    assert intake.left_out("b") == {OWN}


def test_without_fail_over_the_others_do_not_take_over_from_who_is_away():
    a = provider(A)
    intake = opened(a, provider(B), fail_over=False)
    intake.close(a)
    assert intake.left_out("b") == {OWN, A}


def test_without_fail_over_a_connected_node_that_cannot_serve_itself_is_replaced_all_the_same():
    a = provider(A, {A: 9})
    intake = opened(a, provider(B, {A: 9}), fail_over=False)
    a.unserved[A] = "trimmed"
    assert intake.left_out("b") == {OWN}


def test_nothing_is_stuck_while_somebody_serves_it():
    intake = opened(provider(A, {A: 5}, unserved={A: "trimmed"}), provider(B, {A: 5}))
    assert intake.stuck({A: 3}) == {}


@pytest.mark.parametrize("reason", sorted(COPY_HELPS_WITH))
def test_what_nobody_can_serve_is_stuck_and_who_has_it_can_help(reason):
    intake = opened(provider(A, {A: 5}, unserved={A: reason}), provider(B, {B: 1}))
    assert intake.stuck({A: 3}) == {A: ["a"]}


def test_a_copy_from_who_was_told_to_pass_something_does_not_help():
    intake = opened(provider(A, {B: 5}, unserved={B: "filtered"}))
    assert intake.stuck({}) == {B: []}


def test_what_we_have_is_not_stuck():
    intake = opened(provider(A, {A: 5, OWN: 9}, unserved={A: "trimmed", OWN: "trimmed"}))
    assert intake.stuck({A: 5}) == {}


@given(
    st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 3)),
    st.dictionaries(st.sampled_from([A, B, C]), st.dictionaries(st.sampled_from([A, B, C]), st.integers(1, 3))),
    st.sets(st.tuples(st.sampled_from([A, B, C]), st.sampled_from([A, B, C]))),
    st.booleans(),
)
def test_what_some_open_stream_has_is_on_its_way_or_stuck(positions, vectors, unserved, fail_over):
    intake = new(fail_over=fail_over)
    for origin, vector in vectors.items():
        reasons = {about: "trimmed" for at, about in unserved if at == origin}
        intake.open(provider(origin, vector, unserved=reasons))
    stuck = intake.stuck(positions)
    for wanted in (A, B, C):
        behind = [p for p in intake.providers.values() if p.vector.get(wanted, 0) > positions.get(wanted, 0)]
        coming = any(p.serves(wanted, positions.get(wanted, 0)) for p in behind)
        assert (wanted in stuck) == (bool(behind) and not coming)


def test_a_subscriber_that_has_nothing_of_what_there_is_is_fresh():
    assert is_fresh({}, {A: 3})
    assert is_fresh({B: 7}, {A: 3, B: 0})


def test_who_has_a_position_for_any_of_the_origins_is_not_fresh():
    assert not is_fresh({A: 1}, {A: 3, B: 9})


def test_there_is_nothing_to_copy_from_an_empty_publisher():
    assert not is_fresh({}, {A: 0})
    assert not is_fresh({}, {})


def test_a_leader_comes_before_a_route_and_a_route_before_the_nearest():
    latency = {"a": 0.3, "b": 0.1, "c": 0.2}
    assert choose_source("abc", leaders=["c"], routes=["a"], latency=latency) == "c"
    assert choose_source("abc", routes=["x", "a"], latency=latency) == "a"
    assert choose_source("abc", latency=latency) == "b"


def test_nobody_is_chosen_from_nobody():
    assert choose_source([], leaders=["a"], latency={}) is None
