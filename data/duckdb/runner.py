"""Statements in worker threads: one transaction each, interrupted when nobody waits any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal, TypeVar

import duckdb
from duckdb import DuckDBPyConnection as Cursor

from data.duckdb.copy_file import CopyFile, CopyInUse, CopyUnusable, is_damage
from data.event_store import StoreUnavailable

Result = TypeVar("Result")
QueryOutcome = Literal["answered", "failed", "interrupted"]
OnQuery = Callable[[str, float, QueryOutcome], None]
Mode = Literal["read", "write"]

_INTERRUPT_EVERY_SECONDS = 0.02
_BEGIN = {"read": "begin transaction read only", "write": "begin transaction"}


@dataclass(slots=True)
class _Call:
    """One unit of work on its way through a thread."""

    name: str
    mode: Mode
    cursor: Cursor | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        self.stopped.set()
        if self.cursor is not None:
            # Closed in this very moment: then there is nothing to interrupt.
            with suppress(duckdb.Error):
                self.cursor.interrupt()

    def require_wanted(self) -> None:
        """Raise `StoreUnavailable` if nobody waits any more."""
        if self.stopped.is_set():
            raise StoreUnavailable(f"{self.name} was interrupted")


class Runner:
    """Runs functions over a cursor of the copy in threads of its own; one writes at a time.

    `on_query` hears the name of each, the seconds it took, and what became of it.
    """

    def __init__(self, file: CopyFile, connection: Cursor, on_query: OnQuery | None) -> None:
        self._file = file
        self._connection = connection
        self._on_query = on_query
        self._opening = threading.Lock()
        self._is_invalid = False
        self._is_closed = False
        self._threads = {
            "read": ThreadPoolExecutor(max_workers=4, thread_name_prefix="columnar-read"),
            "write": ThreadPoolExecutor(max_workers=1, thread_name_prefix="columnar-write"),
        }

    async def run(self, name: str, mode: Mode, work: Callable[[Cursor], Result]) -> Result:
        """What `work` returns, from one transaction; raises `StoreUnavailable`.

        When the waiting task is cancelled, the statement is interrupted; what was not committed by
        then changes nothing.
        """
        if self._is_closed:
            raise StoreUnavailable("the columnar copy is closed")
        call = _Call(name, mode)
        future = self._threads[mode].submit(self._carry_out, call, work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            while not future.done():
                # Again and again, as DuckDB forgets an interruption between two statements.
                call.stop()
                await asyncio.sleep(_INTERRUPT_EVERY_SECONDS)
            raise

    async def close(self) -> None:
        """Wait for what is running and close the file, which brings its log into it.

        What is asked from now on is refused with `StoreUnavailable`.
        """
        self._is_closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for threads in self._threads.values():
            threads.shutdown()
        self._connection.close()

    def _carry_out(self, call: _Call, work: Callable[[Cursor], Result]) -> Result:
        started = perf_counter()
        outcome: QueryOutcome = "answered"
        try:
            with self._driver_errors(), closing(self._cursor()) as cursor:
                call.cursor = cursor
                with _transaction(cursor, call.mode):
                    call.require_wanted()
                    result = work(cursor)
                    call.require_wanted()
                return result
        except StoreUnavailable:
            outcome = "interrupted" if call.stopped.is_set() else "failed"
            raise
        finally:
            if self._on_query is not None:
                self._on_query(call.name, perf_counter() - started, outcome)

    def _cursor(self) -> Cursor:
        with self._opening:
            if self._is_invalid:
                self._connection.close()
                self._connection = self._file.connect()
                self._is_invalid = False
            return self._connection.cursor()

    @contextmanager
    def _driver_errors(self) -> Iterator[None]:
        try:
            yield
        except duckdb.FatalException as error:
            # A disk that was full at the wrong moment, say. Nothing committed is lost, but DuckDB
            # answers no more until the file is opened anew; the next call does that.
            self._is_invalid = True
            raise StoreUnavailable(f"the columnar copy must be opened anew: {error}") from error
        except duckdb.Error as error:
            raise StoreUnavailable(str(error), damaged=is_damage(error)) from error
        except CopyUnusable as error:
            raise StoreUnavailable(str(error), damaged=True) from error
        except CopyInUse as error:
            raise StoreUnavailable(str(error)) from error


@contextmanager
def _transaction(cursor: Cursor, mode: Mode) -> Iterator[None]:
    cursor.execute(_BEGIN[mode])
    try:
        yield
    except BaseException:
        # DuckDB has rolled back by itself after some errors.
        with suppress(duckdb.Error):
            cursor.rollback()
        raise
    cursor.commit()
