// The operations of these checks; codegen knows their variables and answers.

import { graphql } from "./generated/index.js";

export const ClientDau = graphql(`
  query ClientDau($range: DateRange!, $filter: EventFilter) {
    dau(range: $range, filter: $filter) {
      total
      points { date users complete }
      meta { timezone dataThrough }
    }
  }
`);

export const ClientIngest = graphql(`
  mutation ClientIngest($input: IngestInput!) {
    ingest(input: $input) {
      received
      accepted
      rejected
      receipts { index eventId status code }
    }
  }
`);

export const ClientReceipts = graphql(`
  query ClientReceipts($eventIds: [UUID!]!) {
    receipts(eventIds: $eventIds) { eventId status }
  }
`);

export const ClientEvents = graphql(`
  query ClientEvents($first: Int!, $after: String, $userId: String!) {
    userEvents(first: $first, after: $after, userId: $userId) {
      nodes { eventId eventType occurredAt }
      pageInfo { hasNextPage endCursor }
    }
  }
`);

export const ClientLiveEvents = graphql(`
  subscription ClientLiveEvents($filter: EventFilter) {
    liveEvents(filter: $filter) { eventId eventType userId occurredAt }
  }
`);

export const ClientLiveActivity = graphql(`
  subscription ClientLiveActivity {
    liveActivity { at users events topPaths }
  }
`);
