// graphql-sse: subscriptions as server-sent events, one connection each.

import assert from "node:assert/strict";

import { createClient } from "graphql-sse";
import type { Client } from "graphql-sse";
import { print } from "graphql";

import { check } from "./checks.js";
import { checkLive } from "./live.js";
import { ClientLiveActivity } from "./operations.js";
import { graphqlUrl, headers } from "./service.js";

function connect(sent: Record<string, string>): Client {
  return createClient({ url: graphqlUrl, headers: sent, retryAttempts: 0 });
}

console.log("graphql-sse");

const client = connect(headers);
await checkLive((asked) => client.iterate(asked) as never);
client.dispose();

await check("a stream with a wrong key is refused", async () => {
  const stranger = connect({ "x-api-key": "ff_nobody_00" });
  const live = stranger.iterate({ query: print(ClientLiveActivity) });

  await assert.rejects(live.next());
});
