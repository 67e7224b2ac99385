"""What must hold where logs are trimmed, records expire and tombstones go: by rules, behind the back of nobody.

A record may be absent then, but only for a reason that clients were told of: the newest promise for it is a delete, or
its time has passed. And what was deleted stays so, whoever comes back with what.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from tests.simulation.history import Ledger, Promise, Version, is_value

State: TypeAlias = Mapping[tuple[str, Any], Version]


def broken_when_aged(
    ledger: Ledger, states: Mapping[str, State], *, now_us: int, retention_s: float, skew_s: float
) -> list[str]:
    """What is wrong with states that have agreed but are not at rest yet, in words."""
    now_ms = now_us // 1000
    latest_ms, earliest_ms = now_ms + int(skew_s * 1000), now_ms - int(skew_s * 1000)
    old_us = now_us - int((retention_s - skew_s) * 1e6)
    keys = sorted({key for state in states.values() for key in state}, key=repr)
    problems: list[str] = []
    for key in keys:
        versions = {name: state.get(key) for name, state in states.items()}
        newest = max((version for version in versions.values() if version), key=lambda version: version.stamp)
        may_differ = newest.is_dead(latest_ms) and (newest.expires_ms is not None or newest.stamp.ts < old_us)
        if not may_differ and any(version is None or version.stamp != newest.stamp for version in versions.values()):
            problems.append(f"{key} differs: {versions}")
        visible = {version.stamp for version in versions.values() if version and not version.is_dead(earliest_ms)}
        if may_differ and visible - {newest.stamp}:
            problems.append(f"{key} is back: {versions}")
    for name, state in states.items():
        problems += (f"{name}: {problem}" for problem in _broken(ledger, state, latest_ms))
    return problems


def broken_at_rest(ledger: Ledger, states: Mapping[str, State], *, now_us: int) -> list[str]:
    """What is wrong once everybody has been heard and all that may go is old enough to go."""
    first, *others = states
    problems = [
        f"{key} should be gone at {name}: {version}"
        for name, state in states.items()
        for key, version in state.items()
        if version.is_dead(now_us // 1000)
    ]
    for name in others:
        differing = {key for key in states[first].keys() | states[name].keys() if _differs(states, first, name, key)}
        problems += (
            f"{key} differs: {first} {states[first].get(key)}, {name} {states[name].get(key)}" for key in differing
        )
    return problems + list(_broken(ledger, states[first], now_us // 1000))


def _differs(states: Mapping[str, State], a: str, b: str, key: tuple[str, Any]) -> bool:
    return states[a].get(key) != states[b].get(key)


def _broken(ledger: Ledger, state: State, now_ms: int) -> Iterator[str]:
    """For each record only the newest promise counts: a version must be at least that."""
    newest: dict[tuple[str, Any], Promise] = {}
    for number, promise in enumerate(ledger.promises):
        if number in ledger.excused:
            continue
        key = (promise.table, promise.key)
        if key not in newest or promise.stamp > newest[key].stamp:
            newest[key] = promise
    for key, promise in newest.items():
        version = state.get(key)
        if version is None:
            is_dead = promise.value is None or (promise.expires_ms is not None and promise.expires_ms <= now_ms)
            if not is_dead and ledger.doubts.get(key, 0) < promise.ts:
                yield f"nothing is left of {promise}"
        elif version.stamp[:3] < promise.stamp:
            yield f"{promise} was lost: {version}"
        elif version.stamp[:3] == promise.stamp and not is_value(version, promise):
            yield f"{promise} was changed: {version}"
