from typing import Any

import pytest

from replication.agreements import Unfit
from replication.start_time import read_start_time


@pytest.mark.parametrize(
    ("value", "epoch_ms"),
    [
        ("2025-01-02T03:04:05Z", 1735787045000),
        ("2025-01-02T03:04:05.678Z", 1735787045678),
        ("2025-01-02T04:04:05+01:00", 1735787045000),
        ("2025-01-02T04:04+01:00", 1735787040000),
        (1735787045678, 1735787045678),
        (1735787045678.4, 1735787045678),
        (0, 0),
    ],
    ids=str,
)
def test_an_instant_with_a_zone_or_a_number_of_milliseconds_is_read(value: Any, epoch_ms: int) -> None:
    assert read_start_time("start_time", value) == epoch_ms


@pytest.mark.parametrize(
    "value",
    [
        "2025-01-02T03:04:05",
        "2025-01-02",
        "2025-W01-1T00:00:00Z",
        "2025-13-02T03:04:05Z",
        "yesterday",
        "",
        "1735787045678",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        -1,
        float("nan"),
        float("inf"),
        1e300,
        True,
        None,
        [],
    ],
    ids=str,
)
def test_what_could_mean_another_instant_is_refused(value: Any) -> None:
    with pytest.raises(Unfit, match=r"^start_time must be an ISO 8601 UTC timestamp"):
        read_start_time("start_time", value)
