"""HTTP/2 as Hypercorn speaks it, with three gaps closed.

- An answer may come before the end of the request, as a refusal does. Hypercorn forgets the stream then, and fails on the
  next piece of its body, with all other requests of that connection. Clients in turn may fail on being told to stop, and
  lose the answer they have: so what they send is thrown away for a while first.
- Hypercorn takes an answer for sent when its last piece is on the way, and closes a connection that has nothing else to
  do before the frame that ends the answer. Here an answer is over when that frame is out.
- An answer that breaks off leaves its client waiting. Here its stream is reset.

Uses names of Hypercorn that it does not document (``_handle_events``, ``_send_data``, ``streams``, ``stream_buffers``):
tests of the server fail when a new version moves them.
"""

from typing import Any, Final

import trio
from h2.errors import ErrorCodes
from h2.events import DataReceived
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import EndBody, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol

DISCARDED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a connection; a stream that goes on after it is reset."""


class PatientH2Protocol(H2Protocol):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._discarded_bytes = 0
        self._stream_ended = trio.Event()

    async def handle(self, event: Event) -> None:
        await super().handle(event)
        if isinstance(event, Closed):
            self._stream_ended.set()

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed) and event.stream_id in self.stream_buffers:
            await self._break_off(event.stream_id)
        await super().stream_send(event)
        if isinstance(event, EndBody):
            while event.stream_id in self.stream_buffers and not self.closed:
                await self._stream_ended.wait()

    async def _break_off(self, stream_id: int) -> None:
        try:
            self.connection.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
        except ProtocolError:
            return  # The client was faster.
        await self.stream_buffers[stream_id].close()
        self.priority.unblock(stream_id)
        await self.has_data.set()
        await self._flush()

    async def _send_data(self, stream_id: int) -> None:
        await super()._send_data(stream_id)
        if stream_id not in self.stream_buffers:
            self._stream_ended.set()
            self._stream_ended = trio.Event()

    async def _handle_events(self, events: list[H2Event]) -> None:
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
