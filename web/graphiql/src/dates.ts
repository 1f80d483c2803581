// Examples name fixed days, so that they hold as they stand; the page asks for recent ones.

const DAY = /^\d{4}-\d{2}-\d{2}$/;
const MILLISECONDS = 86_400_000;

/** The variables with all their days moved by as much as takes the latest one to today. */
export function untilToday<T>(variables: T, today: Date): T {
  const latest = days(variables).sort().at(-1);
  if (latest === undefined) return variables;
  const local = Date.UTC(today.getFullYear(), today.getMonth(), today.getDate());
  return moved(variables, local - Date.parse(latest)) as T;
}

function days(value: unknown): string[] {
  if (typeof value === 'string') return DAY.test(value) ? [value] : [];
  return value && typeof value === 'object' ? Object.values(value).flatMap(days) : [];
}

function moved(value: unknown, by: number): unknown {
  if (typeof value === 'string') {
    return DAY.test(value) ? isoDay(Date.parse(value) + by) : value;
  }
  if (Array.isArray(value)) return value.map((item) => moved(item, by));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, moved(item, by)]));
}

const isoDay = (time: number): string =>
  new Date(Math.round(time / MILLISECONDS) * MILLISECONDS).toISOString().slice(0, 10);
