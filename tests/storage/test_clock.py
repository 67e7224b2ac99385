import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.clock import RELEASED_AT_US, milliseconds, tick, wall_clock

instants = st.integers(0, 1 << 60)
skews = st.integers(0, 1 << 30)


@given(instants, instants, instants, skews)
def test_a_tick_is_after_everything_it_has_seen(now_us: int, last_us: int, touched_us: int, skew_us_max: int) -> None:
    ts, last = tick(now_us=now_us, last_us=last_us, touched_us=touched_us, skew_us_max=skew_us_max)
    assert ts > last_us
    assert ts > touched_us
    assert ts >= now_us
    assert last >= last_us


@given(instants, instants, instants, skews)
def test_a_foreign_stamp_pushes_the_clock_by_no_more_than_the_skew(
    now_us: int, last_us: int, touched_us: int, skew_us_max: int
) -> None:
    _, last = tick(now_us=now_us, last_us=last_us, touched_us=touched_us, skew_us_max=skew_us_max)
    assert last <= max(now_us, last_us + 1) + skew_us_max


@given(instants, instants, skews)
def test_without_foreign_stamps_every_time_is_given_out_once(now_us: int, last_us: int, skew_us_max: int) -> None:
    ts, last = tick(now_us=now_us, last_us=last_us, touched_us=0, skew_us_max=skew_us_max)
    assert last == ts


def test_a_wall_clock_that_goes_backwards_does_not() -> None:
    ts, last = tick(now_us=500, last_us=1000, touched_us=0, skew_us_max=10)
    assert (ts, last) == (1001, 1001)


@pytest.mark.parametrize(
    ("ts", "shown"), [(1_000, 1), (1_500, 1.5), (0, 0), (1_795_422_779_404_691, 1795422779404.691)]
)
def test_clients_see_milliseconds_with_a_fraction_only_where_there_is_one(ts: int, shown: float) -> None:
    assert milliseconds(ts) == shown
    assert type(milliseconds(ts)) is type(shown)


def test_the_clock_of_this_machine_is_set() -> None:
    assert wall_clock() > RELEASED_AT_US
