"""Credit: what is given out stays within the budget, whatever the peers do with it."""

from hypothesis import given
from hypothesis import strategies as st

from replication.credit import CreditBudget, CreditWindow
from replication.settings import LinkSettings

SETTINGS = LinkSettings(credit_bytes_min=100, credit_bytes_max=800)


def new(size_bytes: int = 10_000) -> tuple[CreditBudget, CreditWindow]:
    budget = CreditBudget(size_bytes)
    return budget, CreditWindow(budget, SETTINGS)


def test_a_subscription_begins_with_the_smallest_window():
    budget, window = new()
    assert window.begin() == 100
    assert budget.free_bytes == 9_900


def test_what_was_applied_is_granted_anew():
    _, window = new()
    window.begin()
    window.arrived(60)
    assert window.applied(60) == 60


def test_nothing_is_granted_for_what_waits_to_be_applied():
    _, window = new()
    window.begin()
    window.arrived(60)
    window.arrived(30)
    assert window.applied(30) == 30


def test_the_window_doubles_while_the_peer_uses_it_up():
    _, window = new()
    window.begin()
    sizes = []
    for _ in range(5):
        window.arrived(window.open_bytes)
        window.applied(window.held_bytes)
        sizes.append(window.size_bytes)
    assert sizes == [200, 400, 800, 800, 800]


def test_a_peer_that_does_not_use_its_window_up_gets_no_larger_one():
    _, window = new()
    window.begin()
    window.arrived(50)
    window.applied(50)
    assert window.size_bytes == 100


def test_an_empty_budget_still_lets_an_entry_at_a_time_come():
    _, window = new(0)
    assert window.begin() == 1
    window.arrived(500)
    assert window.open_bytes < 0
    window.applied(500)
    assert window.open_bytes == 1


def test_closing_gives_back_what_was_taken():
    budget, window = new()
    window.begin()
    window.arrived(100)
    window.applied(100)
    window.close()
    window.close()
    assert budget.free_bytes == 10_000


def test_beginning_anew_forgets_what_was_on_its_way():
    budget, window = new()
    window.begin()
    window.arrived(70)
    assert window.begin() == 100
    assert (window.held_bytes, budget.free_bytes) == (0, 9_900)


steps = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["begin", "arrive", "apply", "close"])), max_size=60)


@given(st.integers(0, 2_000), steps)
def test_windows_never_hold_more_than_the_budget(size_bytes, steps):
    budget = CreditBudget(size_bytes)
    windows = [CreditWindow(budget, SETTINGS) for _ in range(3)]
    for number, step in steps:
        window = windows[number]
        match step:
            case "begin":
                window.begin()
            case "arrive" if window.open_bytes > 0:
                window.arrived(window.open_bytes)
            case "apply" if window.held_bytes:
                window.applied(window.held_bytes)
            case "close":
                window.close()
        assert budget.free_bytes >= 0
        assert budget.free_bytes + sum(window.size_bytes for window in windows) == size_bytes
        assert all(window.size_bytes <= SETTINGS.credit_bytes_max for window in windows)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_a_peer_that_is_applied_can_always_go_on(sizes):
    _, window = new(50)
    window.begin()
    for size_bytes in sizes:
        assert window.open_bytes > 0
        window.arrived(size_bytes)
        window.applied(size_bytes)
