// Trusted documents: a key that takes only what codegen's manifest named, by its hash.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

import { check } from "./checks.js";
import { ClientDau } from "./operations.js";
import { graphqlUrl, headers, today } from "./service.js";

interface Answer {
  data?: { dau?: unknown };
  errors?: { extensions: { code: string } }[];
}

const MANIFEST = new URL("../src/generated/persisted-documents.json", import.meta.url);
const range = { from: today(), to: today() };

async function ask(body: Record<string, unknown>): Promise<Answer> {
  const response = await fetch(graphqlUrl, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return (await response.json()) as Answer;
}

console.log("Trusted documents");

await check("codegen's ids are sha256 of the text, as the service reckons them", async () => {
  const manifest = JSON.parse(await readFile(MANIFEST, "utf8")) as Record<string, string>;
  const entries = Object.entries(manifest);

  assert.ok(entries.length > 5);
  for (const [id, text] of entries) {
    assert.equal(id, `sha256:${createHash("sha256").update(text).digest("hex")}`);
  }
});

await check("a document of the manifest is asked for by its id alone", async () => {
  const documentId = (ClientDau as { __meta__?: { hash: string } }).__meta__?.hash;
  const answer = await ask({ documentId, variables: { range } });

  assert.equal(answer.errors, undefined);
  assert.ok(answer.data?.dau);
});

await check("anything else is refused, text and all", async () => {
  const answer = await ask({ query: "{ __typename }" });

  assert.equal(answer.errors?.[0]?.extensions.code, "FORBIDDEN");
});
