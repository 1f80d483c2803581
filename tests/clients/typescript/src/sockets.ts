// graphql-ws: subscriptions over the protocol graphql-transport-ws.

import assert from "node:assert/strict";

import { createClient } from "graphql-ws";
import type { Client } from "graphql-ws";
import { WebSocket } from "ws";

import { check } from "./checks.js";
import { checkLive } from "./live.js";
import { ClientLiveActivity } from "./operations.js";
import { key, socketUrl } from "./service.js";
import { print } from "graphql";

function connect(apiKey: string): Client {
  return createClient({
    url: socketUrl,
    webSocketImpl: WebSocket,
    connectionParams: { "x-api-key": apiKey },
    retryAttempts: 0,
    lazyCloseTimeout: 1_000,
  });
}

console.log("graphql-ws");

const client = connect(key);
await checkLive((asked) => client.iterate(asked) as never);
await client.dispose();

await check("a socket with a wrong key is closed with 4401 or 4403", async () => {
  const stranger = connect("ff_nobody_00");
  const live = stranger.iterate({ query: print(ClientLiveActivity) });

  await assert.rejects(live.next(), ({ code }: { code: number }) => [4401, 4403].includes(code));
});

await check("a query may be asked over the socket too", async () => {
  const asking = connect(key);
  const { value } = await asking.iterate({ query: "{ __typename }" }).next();

  assert.deepEqual(value?.data, { __typename: "Query" });
  await asking.dispose();
});
