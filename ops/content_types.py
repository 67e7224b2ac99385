"""Content types of requests and answers: the names that the dispatcher uses, in one place.

``decoding`` reads bodies, ``negotiation`` chooses the type of an answer, ``encoding`` writes it (with ``json_encoding``,
``csv_encoding`` and ``yaml_encoding``). What a value may be on the way between is said in ``storage/values.py``.
"""

from typing import Any, Final

from ops.decoding import decode_body
from ops.encoding import ListEncoder, encode, wrap_result
from ops.errors import InvalidParams
from ops.negotiation import MediaType, negotiate

__all__ = ["ListEncoder", "MediaType", "decode_body", "encode", "negotiate", "require_operation", "wrap_result"]

_NO_OPERATION: Final = "Request body must include an 'operation' property."


def require_operation(body: Any) -> dict[str, Any]:
    """The body as an object with an ``operation`` that is not null; whether it is a name is for the caller to say.

    Raises ``InvalidParams``. Clients know two shapes of it: what is no object or array, or an empty one, is refused
    in the words of an HTTP framework, with the text under ``message``.
    """
    if isinstance(body, dict) and body.get("operation") is not None:
        return body
    if isinstance(body, dict | list) and body:
        raise InvalidParams(_NO_OPERATION)
    raise InvalidParams(_NO_OPERATION, body={"statusCode": 400, "error": "Bad Request", "message": _NO_OPERATION})
