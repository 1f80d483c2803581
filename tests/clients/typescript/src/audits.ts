// The public audits of GraphQL over HTTP, one line each. AUDITS=inform: a failure is only told.

import { auditServer } from "graphql-http";
import type { AuditFail, AuditOk } from "graphql-http";

import { graphqlUrl, headers } from "./service.js";

const AUDITS = 61;

const results = await auditServer({
  url: graphqlUrl,
  fetchFn: (address: string, init: RequestInit = {}) => {
    const asked = new Headers(init.headers);
    for (const [name, value] of Object.entries(headers)) asked.set(name, value);
    // A client says that its GET is no link on somebody else's page.
    asked.set("graphql-require-preflight", "1");
    return fetch(address, { ...init, headers: asked });
  },
});

const failed = results.filter((result) => result.status !== "ok");
if (process.env["AUDITS"] === "inform") {
  const told = new Map<string, string[]>();
  for (const { id, ...result } of failed) told.set(why(result), [...(told.get(why(result)) ?? []), id]);
  for (const [reason, ids] of told) console.log(`  differs ${reason}: ${ids.join(" ")}`);
} else {
  for (const { id, name, ...result } of results) {
    console.log(`  ${result.status.padEnd(7)} ${id} ${name} ${why(result)}`.trimEnd());
  }
  if (failed.length > 0 || results.length !== AUDITS) process.exitCode = 1;
}
console.log(`  ${results.length - failed.length} of ${results.length} audits are ok`);

function why(result: Omit<AuditOk, "id" | "name"> | Omit<AuditFail, "id" | "name">): string {
  return result.status === "ok" ? "" : `(${result.response.status}) ${result.reason}`;
}
