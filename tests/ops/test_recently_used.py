"""The bounded mapping."""

from ops.recently_used import RecentlyUsed


def test_what_was_put_is_found() -> None:
    items: RecentlyUsed[str, int] = RecentlyUsed(2)
    items.put("a", 1)
    assert (items.get("a"), items.get("b")) == (1, None)


def test_what_was_used_least_recently_is_dropped() -> None:
    items: RecentlyUsed[str, int] = RecentlyUsed(2)
    items.put("a", 1)
    items.put("b", 2)
    items.get("a")
    items.put("c", 3)
    assert [items.get(key) for key in "abc"] == [1, None, 3]
    assert len(items) == 2


def test_putting_again_replaces_and_counts_as_use() -> None:
    items: RecentlyUsed[str, int] = RecentlyUsed(2)
    items.put("a", 1)
    items.put("b", 2)
    items.put("a", 3)
    items.put("c", 4)
    assert [items.get(key) for key in "abc"] == [3, None, 4]


def test_what_is_discarded_is_gone() -> None:
    items: RecentlyUsed[str, int] = RecentlyUsed(2)
    items.put("a", 1)
    items.discard("a")
    items.discard("never there")
    assert items.get("a") is None
