"""What a schema-defined table accepts: each value is checked, and for some types converted, when it is written.

The *whole resulting record* is checked, after merging, and all failures are told at once. There is no coercion of
scalars: the text ``"4"`` is no ``Int``. Dates, bytes and big integers are the exceptions, as JSON cannot write them.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from storage.clock import milliseconds
from storage.errors import InvalidValue
from storage.schema import Attribute, Table

_INTEGER_TEXT: Final = re.compile(r"-?[0-9]{1,400}", re.ASCII)
_TRUE_OR_FALSE: Final = (bool,)
LONG_MAX: Final = 1 << 53
INT_RANGE: Final = (-(1 << 31), (1 << 31) - 1)


class Unfit(Exception):
    """A converter's "no"; the caller words the message."""


def conform(table: Table, record: dict[str, Any]) -> None:
    """Check ``record`` against its table and convert values in place. Raises ``InvalidValue`` naming every failure."""
    problems: list[str] = []
    attributes = table.attributes
    for attribute in attributes.values():
        value = record.get(attribute.name)
        if value is None:
            if attribute.nullable is False and not attribute.is_primary_key:
                problems.append(_required(attribute.name))
        elif attribute.type is not None:
            record[attribute.name] = _conformed(attribute, value, attribute.name, problems)
    if table.definition.sealed:
        problems.extend(f"Property {name} is not allowed" for name in record if name not in attributes)
    if problems:
        raise InvalidValue(". ".join(problems))


def _required(path: str) -> str:
    return f"Property {path} is required (and not does not allow null values)"


def _conformed(attribute: Attribute, value: Any, path: str, problems: list[str]) -> Any:
    """The value to store; where it does not fit, the value as it is, with the reason in ``problems``."""
    if attribute.properties:
        return _conformed_object(attribute, value, path, problems)
    if attribute.type == "array":
        return _conformed_array(attribute, value, path, problems)
    rule = _RULES.get(attribute.type or "Any")
    if rule is None:
        return value
    convert, expectation = rule
    try:
        return convert(value)
    except Unfit:
        problems.append(_unfit(value, path, expectation))
        return value


def _unfit(value: Any, path: str, expectation: str) -> str:
    return f"Value {_as_json(value)} in property {path} must be {expectation}"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _conformed_array(attribute: Attribute, value: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(value, list):
        problems.append(_unfit(value, path, "an Array"))
        return value
    if attribute.elements is None:
        return value
    element = Attribute(name=attribute.name, type=attribute.elements)
    return [_conformed(element, item, f"{path}[*]", problems) if item is not None else None for item in value]


def _conformed_object(attribute: Attribute, value: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(_unfit(value, path, f"an object ({attribute.type})"))
        return value
    members = {member.name: member for member in attribute.properties}
    converted = dict(value)
    for name, member in members.items():
        item = value.get(name)
        if item is not None:
            converted[name] = _conformed(member, item, f"{path}.{name}", problems)
        elif member.nullable is False:
            problems.append(_required(f"{path}.{name}"))
    if attribute.sealed:
        problems.extend(
            f"Property {name} is not allowed within object in property {path}" for name in value if name not in members
        )
    return converted


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and low <= value <= high:
            return value
        raise Unfit

    return convert


def _number(value: Any) -> int | float:
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]
    raise Unfit


def _big_integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is str and _INTEGER_TEXT.fullmatch(value):
        return int(value)
    if type(value) is float and value.is_integer():
        return int(value)
    raise Unfit


def _exactly(*kinds: type) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if type(value) in kinds:
            return value
        raise Unfit

    return convert


def _identifier(value: Any) -> Any:
    if type(value) is str or (type(value) is list and all(type(part) is str for part in value)):
        return value
    raise Unfit


def parse_date(value: Any) -> datetime:
    """A date from a datetime, epoch milliseconds, or ISO-8601 text (UTC where it has no zone). Raises ``Unfit``."""
    try:
        if isinstance(value, datetime):
            parsed = value
        elif type(value) in (int, float) and math.isfinite(value):
            parsed = datetime.fromtimestamp(value / 1000, UTC)
        elif type(value) is str:
            parsed = datetime.fromisoformat(value.strip())
        else:
            raise Unfit
        zoned = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        zoned = zoned.astimezone(UTC)
        return zoned.replace(microsecond=zoned.microsecond // 1000 * 1000)
    except (ValueError, OverflowError, OSError):
        raise Unfit from None


def _bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode()
    raise Unfit


_RULES: Final[Mapping[str, tuple[Callable[[Any], Any], str]]] = {
    "Int": (_integer(*INT_RANGE), "an integer (from -2147483648 to 2147483647)"),
    "Long": (_integer(-LONG_MAX, LONG_MAX), "an integer (from -9007199254740992 to 9007199254740992)"),
    "Float": (_number, "a number"),
    "BigInt": (_big_integer, "a bigint"),
    "String": (_exactly(str), "a string"),
    "ID": (_identifier, "a string, or an array of strings"),
    "Boolean": (_exactly(bool), "a boolean"),
    "Date": (parse_date, "a Date"),
    "Bytes": (_bytes, "a Buffer or Uint8Array"),
    "Blob": (_bytes, "a Blob"),
}


def time_value(attribute: Attribute, ts: int) -> int | float | str | datetime:
    """The value of a time that the node maintains, in the form that the attribute's type asks for."""
    if attribute.type == "Date":
        return datetime.fromtimestamp(ts // 1000 / 1000, UTC)
    if attribute.type == "String":
        return datetime.fromtimestamp(ts // 1000 / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if attribute.type in ("Long", "Int", "BigInt"):
        return ts // 1000
    return milliseconds(ts)
