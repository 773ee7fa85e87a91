"""The lane: plain requests for the hot endpoints, answered in the server's own parser, without ASGI and without Falcon.

It holds no rules. It calls the same `Pipeline` and the same `Edge` as the framework does, and leaves to the framework every
request that is not plain: one that does not come in a single read, offers or expects anything, ends its connection, or
follows another that is not answered yet. What an answer says of its own validity is taken at its word: until then the same
bytes get the same answer (`recall.py`). `NOZLE_LANE=0` leaves it all to the framework; a test compares the two, byte by byte.

To uvicorn, whose protocol this refines, an answer under way looks like one of its own (`_Exchange`): it queues behind it what
else arrives, lets it finish when the server stops, and starts the keep-alive timer after it.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from nozle_server.api.heads import Heads
from nozle_server.api.http_protocol import BoundedHttpProtocol
from nozle_server.api.incoming import Incoming
from nozle_server.api.recall import MAX_REQUEST_BYTES, Recall

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from nozle_server.api.answer import Answer
    from nozle_server.api.edge import Edge
    from nozle_server.api.pipeline import Pipeline
    from nozle_server.core.clock import Clock

_NO_PARAMETERS: Mapping[str, str] = {}
_WITHOUT_BODY = (204, 304)


class Lane:
    """Which endpoints may be answered by it, the edge around them, the answers that may be given again, and the heads that
    were read before."""

    def __init__(self, edge: Edge, clock: Clock, remembered_bytes: int) -> None:
        self.edge = edge
        self.recall = Recall(edge, clock, remembered_bytes)
        self.heads = Heads()
        self._pipelines: dict[tuple[bytes, bytes], Pipeline] = {}

    def add(self, method: str, path: str, pipeline: Pipeline) -> None:
        self._pipelines[method.encode(), path.encode()] = pipeline

    def find(self, method: bytes, url: bytes) -> Pipeline | None:
        return self._pipelines.get((method, url.partition(b"?")[0]))


class _Nothing:
    """Stands in for the event by which uvicorn wakes an application that waits for more of a body."""

    def set(self) -> None:
        pass


class _Exchange:
    """One request being answered, with what uvicorn's protocol asks of its `RequestResponseCycle`."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")

    message_event = _Nothing()

    def __init__(self) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False


class LaneProtocol(BoundedHttpProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lane: Lane | None = getattr(self.app, "lane", None)
        # A plain request whose body is being read, and where it goes then; None while all is the framework's.
        self._reading: tuple[Pipeline, Incoming] | None = None
        self._body = b""
        # Nothing has been read that is not answered, so what is read next begins with a request.
        self._at_rest = self._lane is not None
        # What was read at once, if it began at rest.
        self._read = b""
        self._recalled_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Of the transport itself: at rest, none before it holds anything back.
        self._write = transport.write

    def start_request(self) -> None:
        self._reading = self._take()
        self._body = b""
        if self._reading is None:
            super().start_request()

    def on_body(self, body: bytes) -> None:
        if self._reading is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        reading, self._reading = self._reading, None
        if reading is None:
            super().on_message_complete()
            return
        self._unfinished = False
        pipeline, incoming = reading
        incoming.body = self._body
        if self._read and self._lane is not None:
            self._lane.heads.remember(self._read, pipeline, incoming)
        self._begin(pipeline, incoming)

    def _begin(self, pipeline: Pipeline, incoming: Incoming) -> None:
        """Answer a plain request, all of which is there."""
        self.cycle = exchange = _Exchange()  # type: ignore[assignment]
        task = self.loop.create_task(self._answer(pipeline, incoming, exchange, self._read))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def data_received(self, data: bytes) -> None:
        if self._at_rest and not self.flow.write_paused:
            lane, state = self._lane, self.server_state
            assert lane is not None, "only it leaves a connection at rest"
            recall = lane.recall
            answer = recall.answer(data, state.default_headers)
            if answer is not None:
                self._recalled_at = recall.answered_at
                if self._deadline is not None:
                    self._end_beginning()
                    self._start_keep_alive(self.timeout_keep_alive)
                state.total_requests += 1
                self._write(answer)
                return
            known = lane.heads.find(data, self.client[0] if self.client else None)
            if known is not None:
                self._read, self._at_rest = data, False
                self._end_beginning()
                self._unset_keepalive_if_required()
                self._begin(*known)
                return
        self._read = data if self._at_rest else b""
        self._at_rest = False
        super().data_received(data)
        if self._reading is not None:
            # The rest of the body may take its time, or never come: the framework knows what to say then.
            self._reading = None
            super().start_request()
            if self._body:
                super().on_body(self._body)

    def _end_beginning(self) -> None:
        """The first request of a connection is there, all of it, if it was still to come."""
        self._stop_deadline()
        self._unfinished = False

    def _take(self) -> tuple[Pipeline, Incoming] | None:
        """A request that is plain by its head, with the pipeline for it; None for all others."""
        lane, parser = self._lane, self.parser
        if lane is None or self._leaving or self.expect_100_continue or not self._is_idle():
            return None
        method = parser.get_method()
        pipeline = lane.find(method, self.url)
        if pipeline is None or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return None
        url = httptools.parse_url(self.url)
        incoming = Incoming(
            method.decode(),
            url.path.decode(),
            url.query or b"",
            self.headers,
            client=self.client[0] if self.client else None,
        )
        return None if "transfer-encoding" in incoming.headers else (pipeline, incoming)

    def shutdown(self) -> None:
        self._at_rest = False
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """The timer knows nothing of answers given again."""
        idle = monotonic() - self._recalled_at
        if idle >= self.timeout_keep_alive:
            super().timeout_keep_alive_handler()
        else:
            self._start_keep_alive(self.timeout_keep_alive - idle)

    async def _answer(
        self, pipeline: Pipeline, incoming: Incoming, exchange: _Exchange, request: bytes
    ) -> None:
        assert self._lane is not None, "it took the request"
        edge = self._lane.edge
        try:
            edge.begin(incoming)
            answer = await pipeline.answer(incoming, _NO_PARAMETERS)
            headers = edge.finish(incoming, answer)
            if self.flow.write_paused:
                await self.flow.drain()
            if exchange.disconnected:
                return
            response = self._response(answer, headers, exchange)
            self.transport.write_at_once(response)  # type: ignore[attr-defined]
        except BaseException:
            self.transport.close()
            raise
        exchange.response_complete = True
        if not exchange.keep_alive:
            self.transport.close()
        elif not self.pipeline and not self._unfinished and not self._leaving:
            self._at_rest = True
            if answer.validity is not None and _is_one_request(request):
                self._remember(request, incoming, answer, response)
        self.on_response_complete()

    def _remember(self, request: bytes, incoming: Incoming, answer: Answer, response: bytes) -> None:
        if "x-request-id" in incoming.headers:  # it would be another's the next time
            return
        assert self._lane is not None
        assert answer.validity is not None
        start = STATUS_LINE[answer.status]
        default_bytes = sum(len(b"%s: %s\r\n" % header) for header in self.server_state.default_headers)
        before, found, after = response[len(start) + default_bytes :].partition(incoming.request_id.encode())
        if found:
            kind = f"{incoming.method} {incoming.route}", answer.status, incoming.org_id
            self._lane.recall.remember(request, start, before, after, answer.validity, kind)

    def _response(self, answer: Answer, headers: dict[str, str], exchange: _Exchange) -> bytes:
        """All bytes of an answer, as Falcon and uvicorn would have written them."""
        body = answer.body
        if answer.status in _WITHOUT_BODY:
            body = b""
        else:
            headers["content-length"] = str(len(body))
        if headers.get("connection") == "close":
            exchange.keep_alive = False
        elif not exchange.keep_alive:
            headers["connection"] = "close"
        head = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        assert head.count("\n") == len(headers), "no value ends the head before its time"
        parts = [STATUS_LINE[answer.status]]
        parts += [b"%s: %s\r\n" % header for header in self.server_state.default_headers]
        parts += (head.encode("latin-1"), b"\r\n", body)
        return b"".join(parts)


def _is_one_request(read: bytes) -> bool:
    """Whether these bytes are the head of one request, and nothing else."""
    return 0 < len(read) <= MAX_REQUEST_BYTES and read.find(b"\r\n\r\n") == len(read) - 4
