"""External sources to measure with: a server on loopback whose answers are made beforehand.

Each source has a list of records of which a share differs from one answer to the next.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_ANSWERS = 8


@dataclass(slots=True)
class External:
    """The sources: how many, of how many records, and one in how many changes at each answer."""

    sources: int
    records: int
    one_in: int
    port: int = 0
    answered: int = 0
    _answers: list[list[bytes]] = field(default_factory=list)
    _given: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._answers = [self._made(number) for number in range(self.sources)]
        self._given = [0] * self.sources

    def url(self, number: int) -> str:
        """Where a source is."""
        return f"http://127.0.0.1:{self.port}/{number}"

    def _made(self, source: int) -> list[bytes]:
        made = []
        prices = [source + record for record in range(self.records)]
        for answer in range(_ANSWERS):
            for record in range(answer % self.one_in, self.records, self.one_in):
                prices[record] += 1
            items = [
                {
                    "id": f"item-{record}",
                    "name": f"Product {record} of source {source}",
                    "price": prices[record] / 100,
                    "stock": record % 17,
                    "tags": ["new", "sale"],
                }
                for record in range(self.records)
            ]
            body = json.dumps({"items": items}).encode()
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            )
            made.append(f"{head}\r\n\r\n".encode() + body)
        return made

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                number = int(head.split(b" ", 2)[1][1:])
                place = self._given[number] % _ANSWERS
                self._given[number] += 1
                self.answered += 1
                writer.write(self._answers[number][place])
                await writer.drain()
        writer.close()


@asynccontextmanager
async def serving_external(external: External) -> AsyncIterator[External]:
    """The sources, to be asked until the block is left."""
    server = await asyncio.start_server(external.serve, "127.0.0.1", 0)
    external.port = server.sockets[0].getsockname()[1]
    try:
        yield external
    finally:
        server.close()
