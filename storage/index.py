"""Secondary index entries, derived from a record's value: one per scalar, one per distinct element of an array.

An explicit null is indexed, an absent attribute is not; objects and binary values have no place in the order.
"""

from typing import Any

from storage import keys


def entries_of(value: Any) -> tuple[bytes, ...]:
    """Stored index keys of one attribute value, ascending and distinct."""
    encode = keys.scalar_encoder(type(value))
    if encode is not None:
        encoded: bytes = encode(value)
        return (encoded,) if len(encoded) < keys.PREFIX_BYTES else (keys.stored(encoded),)
    if type(value) is list:
        return tuple(sorted({keys.stored(encoded) for encoded in keys.encode_elements(value)}))
    return ()


def is_same(old: Any, new: Any) -> bool:
    """Whether two values surely have equal entries; False only costs an encoding. Python's ``1 == True`` is no equality
    here, hence the types, and arrays are always encoded."""
    return old is new or (type(old) is type(new) and type(old) is not list and old == new)
