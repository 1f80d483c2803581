// Apollo Client: typed operations by POST, and persisted queries by POST and by GET.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";

import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from "@apollo/client";
import { CombinedGraphQLErrors } from "@apollo/client/errors";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";

import { check } from "./checks.js";
import { ClientDau, ClientEvents, ClientIngest, ClientReceipts } from "./operations.js";
import { graphqlUrl, headers, pageView, today } from "./service.js";

interface Sent {
  method: string;
  hasText: boolean;
  status: number;
}

/** A client without a cache of its own, and what it sent so far. */
function client(...links: ApolloLink[]): { apollo: ApolloClient; sent: Sent[] } {
  const sent: Sent[] = [];
  const http = new HttpLink({
    uri: graphqlUrl,
    headers,
    fetch: async (address, init) => {
      const response = await fetch(address, init);
      const where = init?.method === "GET" ? String(address) : String(init?.body);
      const hasText = /[?&"]query\b/.test(where);
      sent.push({ method: init?.method ?? "GET", hasText, status: response.status });
      return response;
    },
  });
  const apollo = new ApolloClient({
    link: ApolloLink.from([...links, http]),
    cache: new InMemoryCache(),
    defaultOptions: { query: { fetchPolicy: "no-cache" } },
  });
  return { apollo, sent };
}

function persisted(useGETForHashedQueries: boolean): PersistedQueryLink {
  const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
  return new PersistedQueryLink({ sha256, useGETForHashedQueries });
}

/** Names that nobody has asked by yet: each makes a document of its own. */
const filter = { eventType: { eq: "page_view" } };
const range = { from: today(), to: today() };

console.log("Apollo Client");

await check("a typed mutation takes events in, and a typed query finds their receipts", async () => {
  const { apollo } = client();
  const event = pageView();
  const taken = await apollo.mutate({
    mutation: ClientIngest,
    variables: { input: { events: [event, { eventType: "" }] } },
  });
  const found = await apollo.query({
    query: ClientReceipts,
    variables: { eventIds: [event.eventId] },
  });

  assert.deepEqual(
    taken.data?.ingest.receipts.map(({ status, code }) => [status, code]),
    [["ACCEPTED", null], ["REJECTED", "INVALID_EVENT_TYPE"]],
  );
  assert.equal(found.data?.receipts[0]?.eventId, event.eventId);
});

await check("a report has the types that codegen says", async () => {
  const { apollo } = client();
  const { data } = await apollo.query({ query: ClientDau, variables: { range, filter } });
  const [point] = data?.dau.points ?? [];

  assert.equal(data?.dau.points.length, 1);
  assert.equal(point?.date, today());
  assert.equal(typeof point.users, "number");
  assert.ok(Date.parse(data.dau.meta.dataThrough) > Date.parse("2020-01-01"));
});

await check("an error arrives with its code and the argument it is about", async () => {
  const { apollo } = client();
  const asked = apollo.query({
    query: ClientEvents,
    variables: { first: 10, after: "no cursor", userId: "somebody" },
  });

  await assert.rejects(asked, (error: unknown) => {
    assert.ok(CombinedGraphQLErrors.is(error));
    assert.equal(error.errors[0]?.extensions?.["code"], "BAD_USER_INPUT");
    assert.equal(error.errors[0]?.extensions?.["argument"], "after");
    return true;
  });
});

for (const [method, useGet] of [["POST", false], ["GET", true]] as const) {
  await check(`a persisted query by ${method} is sent whole once, then by its hash`, async () => {
    const { apollo, sent } = client(persisted(useGet));
    // A hash is known whichever way it came, so each way has a document of its own.
    const query = useGet ? ClientDau : ClientReceipts;
    const ask = () =>
      query === ClientDau
        ? apollo.query({ query, variables: { range } })
        : apollo.query({ query: ClientReceipts, variables: { eventIds: [] } });
    const first = await ask();
    const second = await ask();

    assert.ok(first.data);
    assert.deepEqual(Object.keys(second.data ?? {}), Object.keys(first.data));
    assert.deepEqual(
      sent.map(({ method, hasText }) => [method, hasText]),
      [[method, false], ["POST", true], [method, false]],
    );
  });
}

await check("a mutation is never sent by GET, persisted or not", async () => {
  const { apollo, sent } = client(persisted(true));
  const { data } = await apollo.mutate({
    mutation: ClientIngest,
    variables: { input: { events: [pageView()] } },
  });

  assert.equal(data?.ingest.accepted, 1);
  assert.ok(sent.every(({ method }) => method === "POST"));
});
