// The API key: where it is kept, and what the service says of it.

import { createContext, useContext, useMemo, useState } from 'react';

// For this tab and until it is closed: never in localStorage, a cookie or the address.
const KEPT_AS = 'footfall:key';

export type Verdict =
  | { is: 'missing' }
  | { is: 'asked' }
  | { is: 'accepted' }
  | { is: 'refused'; why: string }
  | { is: 'unanswered'; why: string };

export interface Key {
  text: string;
  verdict: Verdict;
  use(text: string): void;
  judge(verdict: Verdict): void;
}

function kept(): string {
  try {
    return sessionStorage.getItem(KEPT_AS) ?? '';
  } catch {
    return ''; // a browser that keeps nothing: the key lasts as long as the page
  }
}

function keep(text: string): void {
  try {
    if (text) sessionStorage.setItem(KEPT_AS, text);
    else sessionStorage.removeItem(KEPT_AS);
  } catch {
    // as above
  }
}

const started = (text: string): Verdict => ({ is: text ? 'asked' : 'missing' });

export function useKeyState(): Key {
  const [text, setText] = useState(kept);
  const [verdict, setVerdict] = useState<Verdict>(() => started(text));
  return useMemo(
    () => ({
      text,
      verdict,
      use(next: string) {
        const bare = next.trim();
        keep(bare);
        setText(bare);
        setVerdict(started(bare));
      },
      judge: setVerdict,
    }),
    [text, verdict],
  );
}

export const KeyContext = createContext<Key | null>(null);

export function useKey(): Key {
  const key = useContext(KeyContext);
  if (!key) throw new Error('there is no key above this component');
  return key;
}
