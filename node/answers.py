"""Answers of operations as people read them: YAML, or indented JSON."""

import io
import json
from typing import Any

from ruamel.yaml import YAML

_LINE_WIDTH = 1 << 20
"""Values stay on their line, so that answers can be searched line by line."""


def printed_answer(answer: Any, *, as_json: bool) -> str:
    """``answer`` as text that ends with a line break."""
    if as_json or not isinstance(answer, dict | list):
        return json.dumps(answer, indent=2, ensure_ascii=False) + "\n"
    yaml = YAML()
    yaml.width = _LINE_WIDTH
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    stream = io.StringIO()
    yaml.dump(answer, stream)
    return stream.getvalue()
