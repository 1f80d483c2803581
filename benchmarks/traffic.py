"""Events to send: every one with an id of its own, all of them ready before the clock starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import urlsplit
from uuid import UUID

from benchmarks.load import http_request
from benchmarks.tables import WrongAnswer
from data.events import Event

USERS = 20_000
PATHS = 200
_TYPES = ("page_view", "click", "search", "add_to_cart", "signup", "purchase")
_PLANS = ("free", "plus", "team")
_INGEST = (
    "mutation ($input: IngestInput!) { ingest(input: $input) { accepted duplicates rejected } }"
)


class Traffic:
    """A source of new events; ids come from the random source, so none comes twice."""

    def __init__(self) -> None:
        self._random = Random()

    def new_id(self) -> UUID:
        """A UUID that no other event has."""
        return UUID(int=self._random.getrandbits(128), version=4)

    def _fields(self) -> str:
        """The fields of an event as JSON, without the braces; put together fast."""
        draw = self._random.random
        user = int(draw() * USERS)
        return (
            f'"eventId":"{self.new_id()}","eventType":"{_TYPES[int(draw() * len(_TYPES))]}",'
            f'"userId":"user-{user}","sessionId":"session-{user}-{int(draw() * 5)}",'
            f'"url":"https://shop.example/p/{int(draw() * PATHS)}?ref=mail",'
            f'"properties":{{"plan":"{_PLANS[user % 3]}","amount":{int(draw() * 10_000) / 100}}}'
        )

    def single_requests(self, site: str, count: int) -> list[bytes]:
        """`POST /collect` with one event each."""
        return [
            http_request("POST", "/collect", f'{{"site":"{site}",{self._fields()}}}'.encode())
            for _ in range(count)
        ]

    def batch_requests(self, site: str, key: str, count: int, size: int) -> list[bytes]:
        """The mutation `ingest` with `size` typed events each, in variables."""
        headers = {"content-type": "application/json", "x-api-key": key}
        return [
            http_request("POST", "/graphql", self._batch_body(site, size), headers)
            for _ in range(count)
        ]

    def _batch_body(self, site: str, size: int) -> bytes:
        # The rest of the second is the event's own, so moments differ, as they do in life.
        second = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=2)
        moment = second.isoformat().removesuffix("+00:00")
        events = ",".join(
            f'{{{self._fields()},"occurredAt":"{moment}.{number % 1_000:03}Z"}}'
            for number in range(size)
        )
        variables = f'{{"input":{{"siteId":"{site}","events":[{events}]}}}}'
        return f'{{"query":{json.dumps(_INGEST)},"variables":{variables}}}'.encode()

    def ledger_events(self, site: str, count: int) -> Iterator[Event]:
        """The same events as the ledger takes them."""
        moment = datetime.now(UTC)
        for _ in range(count):
            sent = json.loads(f"{{{self._fields()}}}")
            url: str = sent["url"]
            yield Event(
                event_id=UUID(sent["eventId"]),
                site_id=site,
                event_type=sent["eventType"],
                occurred_at=moment,
                received_at=moment,
                user_id=sent["userId"],
                session_id=sent["sessionId"],
                url=url,
                path=urlsplit(url).path,
                properties=json.dumps(sent["properties"], separators=(",", ":")),
            )


def accepted_one(body: bytes) -> int:
    """1 for the answer to one new event of `POST /collect`; raises `WrongAnswer` for any other."""
    if b'"status":"success"' in body and b'"receipt":"ACCEPTED"' in body:
        return 1
    raise WrongAnswer(f"POST /collect answered {body[:500]!r}")


def accepted_batch(body: bytes, size: int) -> int:
    """`size` for the answer to as many new events; raises `WrongAnswer` for any other."""
    expected = {"accepted": size, "duplicates": 0, "rejected": 0}
    sent = json.loads(body)
    if "errors" in sent or sent["data"] != {"ingest": expected}:
        raise WrongAnswer(f"ingest answered {body[:500]!r}")
    return size


def queued_one(body: bytes) -> int:
    """1 for the answer to one event that was queued; raises `WrongAnswer` for any other."""
    if b'"receipt":"QUEUED"' in body:
        return 1
    raise WrongAnswer(f"POST /collect answered {body[:500]!r}")


def queued_batch(body: bytes, size: int) -> int:
    """`size` for the answer to as many queued events; raises `WrongAnswer` for any other."""
    sent = json.loads(body)
    # All that `_INGEST` asks for: what is neither new, known nor refused is queued.
    if "errors" in sent or set(sent["data"]["ingest"].values()) != {0}:
        raise WrongAnswer(f"ingest answered {body[:500]!r}")
    return size


def days_around_now() -> tuple[str, str]:
    """A range of days that holds every event of this run, also across midnight."""
    today = datetime.now(UTC).date()
    return str(today - timedelta(days=2)), str(today + timedelta(days=1))
