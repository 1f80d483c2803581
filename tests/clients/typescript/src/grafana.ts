// A Grafana data source sends what its panel knows, whether the document asks for it or not.

import assert from "node:assert/strict";

import { check } from "./checks.js";
import { graphqlUrl, headers, today } from "./service.js";

const PANEL = `
  query Panel($range: DateRange!) {
    eventCounts(range: $range, interval: HOUR) { points { at count } }
  }
`;

interface Panel {
  data?: { eventCounts: { points: { at: string; count: number }[] } };
  errors?: unknown;
}

async function ask(variables: Record<string, unknown>): Promise<Panel> {
  const now = Date.now();
  const response = await fetch(graphqlUrl, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json", accept: "application/json, */*" },
    body: JSON.stringify({
      query: PANEL,
      operationName: "Panel",
      variables: {
        ...variables,
        from: now - 3_600_000,
        to: now,
        interval_ms: 60_000,
        maxDataPoints: 1_200,
        refId: "A",
      },
    }),
  });
  assert.equal(response.status, 200);
  return (await response.json()) as Panel;
}

console.log("Grafana");

await check("variables that the document doesn't declare are ignored", async () => {
  const body = await ask({ range: { from: today(), to: today() } });

  assert.equal(body.errors, undefined);
  assert.ok(body.data);
});

await check("the rows of a report are points with a time that JavaScript reads", async () => {
  const { data } = await ask({ range: { from: today(), to: today() } });
  const times = data?.eventCounts.points.map((point) => Date.parse(point.at)) ?? [];

  assert.equal(times.length, 24);
  assert.ok(times.every((time, hour) => time === Date.parse(today()) + hour * 3_600_000));
});

await check("a variable that is declared and has no value is still an error", async () => {
  const body = await ask({});

  assert.ok(body.errors);
});
