"""What requests cost that are made to keep a server busy: processor time until they are refused."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import process_time

from graphql import GraphQLSchema
from starlette.types import Message

from benchmarks.hostile_documents import BODIES, HOSTILE
from benchmarks.tables import Figure, Mark, Results, WrongAnswer, print_title, read_options
from schema.build import graphql_schema
from schema.documents import BadDocument, Documents
from server.graphql_request import BadRequest, read_post

# A whole dashboard as clients ask for it, for comparison.
_ORDINARY = Path(__file__).parents[1] / "docs" / "examples" / "dashboard.graphql"
_MARK = Mark("at most", 50)
_SHOWN = 10
_JSON = {b"content-type": b"application/json"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How many runs there are; each keeps the quickest of some readings."""

    runs: int
    readings: int


FULL = Plan(runs=7, readings=3)
QUICK = Plan(runs=1, readings=1)


async def measure(plan: Plan, results: Results) -> None:
    """All figures, with a table of documents and one of bodies."""
    schema = graphql_schema()
    read_ordinary = partial(
        _read, schema, _ORDINARY.name, _ORDINARY.read_text(encoding="utf-8"), refused=False
    )
    # Types work out their fields when they are first asked for them.
    read_ordinary()
    found: dict[str, list[float]] = {name: [] for name in ("", *HOSTILE, *BODIES)}
    # Turn by turn, so that whatever else the machine does hits all of them alike.
    for _ in range(plan.runs):
        turns = range(plan.readings)
        found[""].append(min(read_ordinary() for _ in turns))
        for name, (text, _) in HOSTILE.items():
            found[name].append(min(_read(schema, name, text) for _ in turns))
        for name, body in BODIES.items():
            found[name].append(min([await _refuse_body(name, body) for _ in turns]))
    ordinary_figure = results.add("ordinary_document", "ms", found[""])
    documents = _add(results, "documents", {name: found[name] for name in HOSTILE})
    bodies = _add(results, "bodies", {name: found[name] for name in BODIES})
    results.show(
        f"Documents: an ordinary one, and the slowest {_SHOWN} of {len(documents)}",
        [ordinary_figure, *documents[:_SHOWN]],
    )
    results.show("Bodies", bodies)


def _add(results: Results, kind: str, runs: Mapping[str, list[float]]) -> list[Figure]:
    """Keep the figures of one kind, and give them with the slowest first."""
    figures = [
        results.add(f"{kind}.{name.replace(',', '').replace(' ', '_')}", "ms", values, _MARK)
        for name, values in runs.items()
    ]
    return sorted(figures, key=lambda figure: -figure.median)


def _read(schema: GraphQLSchema, name: str, text: str, *, refused: bool = True) -> float:
    """Milliseconds of processor time until a document is refused, or ready to be executed."""
    # New ones, as a document that was read before is not read again.
    documents = Documents(schema, hide_suggestions=True)
    was_refused = False
    started = process_time()
    try:
        documents.of(text)
    except BadDocument:
        was_refused = True
    milliseconds = 1_000 * (process_time() - started)
    if was_refused is not refused:
        raise WrongAnswer(f"{name}: refused is {was_refused}, and should be {refused}")
    return milliseconds


async def _refuse_body(name: str, body: bytes) -> float:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    started = process_time()
    try:
        await read_post(_JSON, receive)
    except BadRequest:
        return 1_000 * (process_time() - started)
    raise WrongAnswer(f"{name}: the body is not refused")


def main() -> None:
    options = read_options(__doc__ or "")
    plan = QUICK if options.quick else FULL
    results = Results("hostile", options, asdict(plan))
    print_title(results)
    # As `footfall serve` does: what lives as long as the process is not looked through again.
    gc.collect()
    gc.freeze()
    asyncio.run(measure(plan, results))
    gc.unfreeze()
    results.write()


if __name__ == "__main__":
    main()
