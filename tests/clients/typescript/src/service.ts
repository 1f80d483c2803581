// The running service, as run.py tells it by the environment.

import { randomUUID } from "node:crypto";

import type { EventInput } from "./generated/graphql.js";

export const url = setting("FOOTFALL_URL");
export const graphqlUrl = `${url}/graphql`;
export const socketUrl = graphqlUrl.replace(/^http/, "ws");

/** A key of the site `shop` that may read and ingest. */
export const key = setting("FOOTFALL_KEY");
export const headers = { "x-api-key": key };

/** One page view of somebody new, with an id by which it is found again. */
export function pageView(): EventInput & { eventId: string } {
  return { eventId: randomUUID(), eventType: "page_view", userId: randomUUID(), path: "/clients" };
}

/** Send events by a plain request; every one of them must be new. */
export async function ingest(...events: EventInput[]): Promise<void> {
  const response = await fetch(graphqlUrl, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({
      query: "mutation ($input: IngestInput!) { ingest(input: $input) { accepted } }",
      variables: { input: { events } },
    }),
  });
  const body = (await response.json()) as { data?: { ingest: { accepted: number } } };
  if (body.data?.ingest.accepted !== events.length) {
    throw new Error(`the events were not taken: ${response.status} ${JSON.stringify(body)}`);
  }
}

/** Today in UTC, the time zone of the site. */
export function today(): string {
  return new Date().toISOString().slice(0, 10);
}

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: these checks are started by run.py`);
  return value;
}
