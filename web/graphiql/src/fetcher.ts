// How operations get to the service: queries and mutations by POST, subscriptions by WebSocket.

import type { Fetcher, FetcherParams } from '@graphiql/toolkit';
import { getOperationAST, GraphQLError, parse, type ExecutionResult } from 'graphql';
import { createClient, type Client } from 'graphql-ws';

import type { Verdict } from './key';
import { HTTP_ADDRESS, SOCKET_ADDRESS } from './page';

type Result = ExecutionResult<Record<string, unknown>, Record<string, unknown>>;
type Judge = (verdict: Verdict) => void;

const NO_KEY = 'Enter an API key above first: it goes with every request.';
const UNKNOWN_KEY = 'the service does not know the key';
const NO_ANSWER = 'The service does not answer; is it running?';

// What a socket is closed with because of its key; other codes say nothing about it.
const KEY_CODES = [4401, 4403];

export interface Connection {
  fetcher: Fetcher;
  close(): void;
}

export function connect(key: string, judge: Judge): Connection {
  if (!key) {
    return { fetcher: () => Promise.resolve(failed(NO_KEY)), close: () => undefined };
  }
  const socket = createClient({
    url: SOCKET_ADDRESS,
    lazy: true, // opened by the first subscription, closed after the last
    connectionParams: { 'X-API-Key': key },
  });
  return {
    fetcher: (params) =>
      isSubscription(params) ? follow(socket, params, judge) : post(key, params, judge),
    close: () => void socket.dispose(),
  };
}

const failed = (message: string): Result => ({ errors: [new GraphQLError(message)] });

function isSubscription({ query, operationName }: FetcherParams): boolean {
  try {
    return getOperationAST(parse(query), operationName)?.operation === 'subscription';
  } catch {
    return false; // the service says what is wrong with it
  }
}

async function post(key: string, params: FetcherParams, judge: Judge): Promise<Result> {
  let response: Response;
  try {
    response = await fetch(HTTP_ADDRESS, {
      method: 'POST',
      credentials: 'omit',
      headers: {
        accept: 'application/graphql-response+json, application/json;q=0.9',
        'content-type': 'application/json',
        'x-api-key': key,
      },
      body: JSON.stringify(params),
    });
  } catch {
    judge({ is: 'unanswered', why: NO_ANSWER });
    return failed(NO_ANSWER);
  }
  const result = (await response.json()) as Result;
  const isRefused = response.status === 401;
  judge(
    isRefused
      ? { is: 'refused', why: result.errors?.[0]?.message ?? UNKNOWN_KEY }
      : { is: 'accepted' },
  );
  return result;
}

/** The results of a subscription; stopping it is told to the service at once. */
function follow(socket: Client, params: FetcherParams, judge: Judge): AsyncIterableIterator<Result> {
  const { query, variables, operationName } = params;
  const results = socket.iterate({
    query,
    variables: variables ?? null,
    operationName: operationName ?? null,
  });
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      try {
        return (await results.next()) as IteratorResult<Result>;
      } catch (problem) {
        if (problem instanceof CloseEvent && KEY_CODES.includes(problem.code)) {
          judge({ is: 'refused', why: problem.reason || UNKNOWN_KEY });
        }
        return { done: false, value: explained(problem) };
      }
    },
    // Not that of a generator, which would wait for the next result first.
    return: async () => (await results.return?.()) as IteratorResult<Result>,
  };
}

/** A result that says why a subscription ended: what the service said, or what became of it. */
function explained(problem: unknown): Result {
  if (Array.isArray(problem)) return { errors: problem as GraphQLError[] };
  if (problem instanceof CloseEvent) {
    const { code, reason } = problem;
    return failed(`The connection was closed: ${reason || 'no reason was given'} (${code})`);
  }
  return failed(problem instanceof Error ? problem.message : NO_ANSWER);
}
