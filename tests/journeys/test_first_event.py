"""An event in, an exact answer out: by every way in."""

from datetime import UTC, datetime

from tests.fixtures.app import App
from tests.fixtures.windows import within_an_hour

DAU = """
query ($site: ID!, $day: Date!) {
  dau(siteId: $site, range: {from: $day, to: $day}) {
    total
    points { date users complete }
    meta { dataThrough computedAt cache source exact timezone }
  }
}
"""


async def test_one_event_by_each_way_in_is_in_the_day(app: App) -> None:
    await within_an_hour(30)
    today = datetime.now(UTC).date().isoformat()

    posted = await app.client.post("/collect", json={"site": "shop", "event": "view", "user": "a"})
    pixel = await app.client.get("/collect", params={"site": "shop", "event": "view", "user": "b"})
    receipts = await app.ingest("shop", {"eventType": "view", "userId": "c"})
    await app.followed()

    assert posted.status_code == 200
    assert posted.json()["status"] == "success"
    assert (pixel.headers["content-type"], len(pixel.content)) == ("image/gif", 43)
    assert receipts == ["ACCEPTED"]
    report = (await app.data(DAU, {"site": "shop", "day": today}))["dau"]
    assert report["total"] == 3
    assert report["points"] == [{"date": today, "users": 3, "complete": False}]
    assert report["meta"]["timezone"] == "UTC"
    assert report["meta"]["exact"] is True
