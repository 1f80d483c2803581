// What both transports of subscriptions are asked to show.

import assert from "node:assert/strict";

import type { ExecutionResult } from "graphql";

import { check, within } from "./checks.js";
import type { ClientLiveActivitySubscription, ClientLiveEventsSubscription } from "./generated/graphql.js";
import { ClientLiveActivity, ClientLiveEvents } from "./operations.js";
import { ingest, pageView } from "./service.js";
import { print } from "graphql";

interface Asked {
  query: string;
  variables?: Record<string, unknown>;
}

/** A client's way to subscribe: results until the iterator is returned. */
export type Subscribe = <Data>(asked: Asked) => AsyncIterableIterator<ExecutionResult<Data>>;

const SECONDS = 10;

/** Both live fields by one client, and that the end of one leaves the other alone. */
export async function checkLive(subscribe: Subscribe): Promise<void> {
  await check("liveEvents tells of events as they are committed", async () => {
    const [event, other] = [pageView(), { ...pageView(), eventType: "sign_up" }];
    const live = subscribe<ClientLiveEventsSubscription>({
      query: print(ClientLiveEvents),
      variables: { filter: { userId: { in: [event.userId, other.userId] } } },
    });
    // Events of before the subscription don't come: they are sent until one is seen.
    const first = await untilSeen(live, () => ingest({ ...event, eventId: null }));
    await ingest(other);
    const seen = await until(live, (data) => data.liveEvents.eventType === "sign_up");

    assert.equal(first.liveEvents.userId, event.userId);
    assert.equal(seen.liveEvents.eventId, other.eventId);
    await live.return?.();
  });

  await check("liveActivity counts on, about once a second", async () => {
    const live = subscribe<ClientLiveActivitySubscription>({ query: print(ClientLiveActivity) });
    const before = await next(live);
    await ingest(pageView(), pageView(), pageView());
    const after = await until(
      live,
      ({ liveActivity }) => liveActivity.events >= before.liveActivity.events + 3,
    );

    assert.ok(after.liveActivity.users >= before.liveActivity.users + 3);
    assert.ok(after.liveActivity.at > before.liveActivity.at);
    assert.ok(after.liveActivity.topPaths.includes("/clients"));
    await live.return?.();
  });

  await check("many subscriptions of one client end one by one", async () => {
    const all = Array.from({ length: 10 }, () =>
      subscribe<ClientLiveActivitySubscription>({ query: print(ClientLiveActivity) }),
    );
    await Promise.all(all.map(next));
    for (const live of all) {
      assert.ok((await next(live)).liveActivity.events >= 0);
      await live.return?.();
    }
  });

  await check("a document that is wrong ends with its errors, and nothing else ends", async () => {
    const good = subscribe<ClientLiveActivitySubscription>({ query: print(ClientLiveActivity) });
    await next(good);
    const bad = subscribe<never>({ query: "subscription { nothing }" });

    assert.equal(await codeOf(bad), "GRAPHQL_VALIDATION_FAILED");
    await next(good);
    await good.return?.();
  });
}

/** The code of the first error, thrown or told. */
export async function codeOf(live: AsyncIterableIterator<ExecutionResult>): Promise<unknown> {
  try {
    const { value } = await within(SECONDS, live.next());
    return (value as ExecutionResult | undefined)?.errors?.[0]?.extensions?.["code"];
  } catch (error) {
    const [first] = Array.isArray(error) ? error : [error];
    return first?.extensions?.code ?? error;
  }
}

async function next<Data>(live: AsyncIterableIterator<ExecutionResult<Data>>): Promise<Data> {
  const { value, done } = await within(SECONDS, live.next());
  const result = value as ExecutionResult<Data> | undefined;
  assert.ok(!done, "the subscription ended");
  assert.ok(result?.data && !result.errors, JSON.stringify(result));
  return result.data;
}

async function until<Data>(
  live: AsyncIterableIterator<ExecutionResult<Data>>,
  isIt: (data: Data) => boolean,
): Promise<Data> {
  for (;;) {
    const data = await next(live);
    if (isIt(data)) return data;
  }
}

async function untilSeen<Data>(
  live: AsyncIterableIterator<ExecutionResult<Data>>,
  send: () => Promise<void>,
): Promise<Data> {
  let seen: Data | undefined;
  const waiting = next(live).then((data) => (seen = data));
  while (seen === undefined) {
    await send();
    await Promise.race([waiting, new Promise((resolve) => setTimeout(resolve, 200))]);
  }
  return seen;
}
