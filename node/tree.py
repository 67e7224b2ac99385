"""Reading and writing values at a path in nested mappings: the shape of the configuration file.

Works on plain dicts and on the comment-keeping maps of the YAML library alike, as both are mutable mappings.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from node.parameter import Json, Path

_ABSENT: Json = object()


def get_value(tree: Mapping[str, Json], path: Path, default: Json = None) -> Json:
    """The value at ``path``, ``default`` when a key on the way is missing or holds no mapping."""
    value: Json = tree
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def has_value(tree: Mapping[str, Json], path: Path) -> bool:
    return get_value(tree, path, _ABSENT) is not _ABSENT


def set_value(tree: MutableMapping[str, Any], path: Path, value: Json) -> None:
    """Put ``value`` at ``path``; what stands on the way and is no mapping gives way to one."""
    for key in path[:-1]:
        below = tree.get(key)
        if not isinstance(below, MutableMapping):
            below = tree[key] = type(tree)()
        tree = below
    tree[path[-1]] = value


def remove_value(tree: MutableMapping[str, Any], path: Path) -> None:
    """Take the key at ``path`` out, and mappings that are left empty by it."""
    below = get_value(tree, path[:-1]) if len(path) > 1 else tree
    if not isinstance(below, MutableMapping) or path[-1] not in below:
        return
    del below[path[-1]]
    if not below and len(path) > 1:
        remove_value(tree, path[:-1])


def leaves(tree: Mapping[str, Json], prefix: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Each path that holds no mapping, or an empty one, with its value."""
    for key, value in tree.items():
        path = (*prefix, key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, path)
        else:
            yield path, value
