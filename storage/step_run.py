"""One step of a plan at work: a walk, its probes, and the tests on the rows it leads to."""

from collections.abc import Iterator, Mapping
from typing import Any

from storage.conditions import Node, Sort
from storage.keys import FALSE, NULL, STORED_BYTES_MAX, encode_elements, encode_scalar, is_shortened, stored
from storage.matching import ABSENT, Predicate, Record, all_predicates, encode_key_value, predicate, value_test
from storage.planner import Direction, Step
from storage.scan import Entry, Found, Reader, in_key_order, index_chunks, primary_chunks
from storage.sorting import sort_value


class StepRun:
    """``found()`` delivers what the step lets through, in the order of its walk, each record once.

    What a chunk delivers is true in the snapshot of its delivery, also where the walk began in an earlier one.
    """

    def __init__(self, reader: Reader, step: Step, sizes: Iterator[int]) -> None:
        self._reader = reader
        self._step = step
        self._sizes = sizes
        self._may_repeat = not (step.test.is_exact_set and len(step.test.ranges) == 1)
        self._holds = self._row_predicate()
        self._probes = [(probe.attribute, _stored_points(probe)) for probe in step.probes]

    def found(self) -> Iterator[list[Found]]:
        """Lists of at most a chunk, some empty."""
        step, reader = self._step, self._reader
        if step.without_value:
            for entries in self._entries_without_value():
                yield self._passed(self._probed(entries))
        elif step.attribute == reader.table.primary_key:
            for rows in primary_chunks(reader, step.test, step.direction, self._sizes):
                is_loaded = bool(rows[0][1])
                yield self._passed(self._probed([(b"", key) for key, _ in rows]), dict(rows) if is_loaded else None)
        else:
            for entries in index_chunks(reader, step.attribute, step.test, step.direction, self._sizes):
                yield self._passed(self._probed(self._accepted(entries)))

    # -- before a row is loaded ---------------------------------------------------------------------------------------

    def _accepted(self, entries: list[Entry]) -> list[Entry]:
        """Entries whose value satisfies the test; a shortened value is tested on the row."""
        accepts = self._step.test.accepts
        if accepts is None:
            return entries
        return [entry for entry in entries if len(entry[0]) == STORED_BYTES_MAX or accepts(entry[0])]

    def _probed(self, entries: list[Entry]) -> list[Entry]:
        """Entries whose key stands in the other indexes as well."""
        for attribute, points in self._probes:
            with self._reader.cursor(self._reader.index_handle(attribute)) as cursor:
                stands = cursor.set_key_dup
                entries = [entry for entry in entries if any(stands(value, entry[1]) for value in points)]
        return entries

    def _entries_without_value(self) -> Iterator[list[Entry]]:
        """Keys, in order, of the records that have no entry above null in the attribute's index."""
        reader = self._reader
        with reader.cursor(reader.index_handle(self._step.attribute)) as cursor:
            is_any = cursor.set_range(FALSE)
            valued = set(cursor.iternext(keys=False, values=True)) if is_any else set()
        with reader.cursor(reader.rows_handle()) as cursor:
            keys = [key for key in cursor.iternext(keys=True, values=False) if key not in valued]
        reader.examined += len(valued) + len(keys)
        del valued
        keys = in_key_order(reader, keys)
        for start in range(0, len(keys), reader.chunk_max):
            yield [(b"", key) for key in keys[start : start + reader.chunk_max]]

    # -- on the row ---------------------------------------------------------------------------------------------------

    def _row_predicate(self) -> Predicate | None:
        """What is left to test on a record; None where nothing is."""
        step, primary_key = self._step, self._reader.table.primary_key
        tests: list[Predicate] = []
        if step.test.needs_record:
            tests.extend(predicate(driver, primary_key) for driver in step.drivers)
        if step.without_value:
            value_of = sort_value(Sort(attribute=step.attribute), None, primary_key)
            tests.append(lambda record: value_of(record) == NULL)
        if step.filter is not None:
            tests.append(predicate(step.filter, primary_key))
        tests.extend(_negated(node, primary_key) for node in step.excluded)
        return all_predicates(tests) if tests else None

    def _passed(self, entries: list[Entry], rows: Mapping[bytes, bytes] | None = None) -> list[Found]:
        """What the entries lead to, as far as it passes. ``rows`` are loaded where they are not at hand."""
        if not entries:
            return []
        if rows is None:
            rows = self._reader.stored_rows([key for _, key in entries])
        is_run = is_shortened(entries[0][0]) or is_shortened(entries[0][1])
        checks_entry = is_run or (self._may_repeat and bool(entries[0][0]))
        record_of, holds = self._reader.record_of, self._holds
        found: list[Found] = []
        for entry in entries:
            data = rows.get(entry[1])
            record = None if data is None else record_of(data)
            if data is None or record is None or (checks_entry and not self._is_delivering(entry, record)):
                continue
            if holds is None or holds(record):
                found.append((entry[1], record, data))
        return found

    def _is_delivering(self, entry: Entry, record: dict[str, Any]) -> bool:
        """Whether the record still belongs to this entry, and this entry is the one of its entries that delivers it."""
        test = self._step.test
        if not entry[0]:
            encoded = encode_key_value(record.get(self._step.attribute))
            return self._step.without_value or (encoded is not None and test.holds(encoded))
        value = record.get(self._step.attribute, ABSENT)
        if type(value) is list:
            eligible = [element for element in encode_elements(value) if test.holds(element)]
            at = 0 if self._step.direction is Direction.FORWARD else -1
            return bool(eligible) and stored(eligible[at]) == entry[0]
        if is_shortened(entry[0]) or is_shortened(entry[1]):
            encoded = encode_scalar(value)
            return encoded is not None and stored(encoded) == entry[0] and test.holds(encoded)
        return True


def _negated(node: Node, primary_key: str) -> Predicate:
    holds = predicate(node, primary_key)

    def holds_not(record: Record) -> bool:
        return not holds(record)

    return holds_not


def _stored_points(condition: Any) -> list[bytes]:
    return [stored(wanted.low) for wanted in value_test(condition, is_key=False).ranges]
