"""HTTP/2 as Hypercorn speaks it, but with clients that go on sending a body after its answer.

An answer may come before the end of the request, as a refusal does. Hypercorn forgets the stream then, and fails on
the next piece of its body, with all other requests of that connection. Clients in turn may fail on being told to
stop, and lose the answer they have: so what they send is thrown away for a while first.

Uses names of Hypercorn that it does not document (``_handle_events``, ``streams``): the conformance suite fails when
a new version moves them.
"""

from typing import Any, Final

from h2.errors import ErrorCodes
from h2.events import DataReceived, Event
from hypercorn.protocol.h2 import H2Protocol

DISCARDED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a connection; a stream that goes on after it is reset."""


class PatientH2Protocol(H2Protocol):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._discarded_bytes = 0

    async def _handle_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                await self._discard(event)
            else:
                await super()._handle_events([event])

    async def _discard(self, event: DataReceived) -> None:
        self._discarded_bytes += event.flow_controlled_length
        self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if self._discarded_bytes > DISCARDED_BYTES_MAX:
            self.connection.reset_stream(event.stream_id, ErrorCodes.NO_ERROR)
        await self._flush()
