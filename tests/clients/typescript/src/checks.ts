// One line for each check; the process fails if any of them did.

import { AssertionError } from "node:assert/strict";

const SECONDS = 30;

/** Run a check and say how it went. The others go on whatever becomes of it. */
export async function check(sentence: string, run: () => Promise<void>): Promise<void> {
  try {
    await within(SECONDS, run());
    console.log(`  ok      ${sentence}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`  FAILED  ${sentence}\n${indented(reason(error))}`);
  }
}

/** What the promise gives, or an error where it takes longer. */
export async function within<T>(seconds: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function reason(error: unknown): string {
  if (error instanceof AssertionError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : JSON.stringify(error);
}

function indented(text: string): string {
  return text.replaceAll(/^/gm, "          ");
}
