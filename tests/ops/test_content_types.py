from datetime import UTC, datetime
from typing import Any

import pytest

from ops.content_types import require_operation
from ops.errors import OperationError

TEXT = "Request body must include an 'operation' property."
PLAIN = {"error": TEXT}
FRAMEWORK = {"statusCode": 400, "error": "Bad Request", "message": TEXT}


@pytest.mark.parametrize("operation", ["describe_all", "", 5, False, ["x"], {}])
def test_an_object_with_any_operation_but_null_passes(operation: Any) -> None:
    body = {"operation": operation}
    assert require_operation(body) is body


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"database": "data"}, PLAIN),
        ({"operation": None}, PLAIN),
        ([1], PLAIN),
        ([{"operation": "describe_all"}], PLAIN),
        ({}, FRAMEWORK),
        ([], FRAMEWORK),
        (5, FRAMEWORK),
        (0.5, FRAMEWORK),
        (True, FRAMEWORK),
        ("describe_all", FRAMEWORK),
        ("", FRAMEWORK),
        (None, FRAMEWORK),
        (b"describe_all", FRAMEWORK),
        (datetime(2026, 1, 1, tzinfo=UTC), FRAMEWORK),
    ],
)
def test_a_body_without_an_operation_is_refused(body: Any, answer: dict[str, Any]) -> None:
    with pytest.raises(OperationError) as caught:
        require_operation(body)
    assert (caught.value.status, caught.value.body) == (400, answer)
