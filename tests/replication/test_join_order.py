"""A node asks or answers, never both at once."""

from replication.join_order import JoinOrder


def test_a_node_that_asks_answers_nobody() -> None:
    order = JoinOrder()
    with order.asking() as may_ask:
        assert may_ask
        with order.answering() as may_answer:
            assert not may_answer
    with order.answering() as may_answer:
        assert may_answer


def test_a_node_that_answers_asks_nobody_until_the_last_answer_is_out() -> None:
    order = JoinOrder()
    with order.answering() as first:
        with order.answering() as second:
            assert first
            assert second
        with order.asking() as may_ask:
            assert not may_ask
    with order.asking() as may_ask:
        assert may_ask


def test_a_refused_answer_does_not_end_the_asking() -> None:
    order = JoinOrder()
    with order.asking():
        with order.answering():
            pass
        with order.answering() as may_answer:
            assert not may_answer
