import pytest

from node.durations import duration_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1d", 86400),
        ("30d", 30 * 86400),
        ("45s", 45),
        ("1.5 h", 5400),
        ("2w", 14 * 86400),
        ("1M", 30 * 86400),
        ("500", 0.5),
    ],
)
def test_text_counts_in_its_unit_and_in_milliseconds_without_one(value: str, seconds: float) -> None:
    assert duration_s(value, number_unit_s=1.0) == pytest.approx(seconds)


def test_a_number_counts_in_the_unit_of_its_setting() -> None:
    assert duration_s(90, number_unit_s=1.0) == 90.0
    assert duration_s(90, number_unit_s=0.001) == pytest.approx(0.09)


@pytest.mark.parametrize("value", ["soon", "", "-1d", "1d2h", "1" * 50, -1, float("inf"), True])
def test_what_is_no_duration_is_refused(value: str | float) -> None:
    with pytest.raises(ValueError):
        duration_s(value, number_unit_s=1.0)
