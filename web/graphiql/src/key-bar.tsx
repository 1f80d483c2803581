import { useEffect, useRef, useState } from 'react';

import { useKey, type Verdict } from './key';
import { NOTICES } from './page';

const WORDS: Readonly<Record<Verdict['is'], string>> = {
  missing: 'Enter an API key: every request needs one.',
  asked: 'Asking for the schema …',
  accepted: 'Accepted. The key goes with every request of this tab.',
  refused: 'Not accepted: ',
  unanswered: '',
};

const said = (verdict: Verdict): string =>
  WORDS[verdict.is] + ('why' in verdict ? verdict.why : '');

export function KeyBar() {
  const { text, verdict, use } = useKey();
  const [draft, setDraft] = useState(text);
  const field = useRef<HTMLInputElement>(null);

  useEffect(() => {
    if (verdict.is === 'missing' || verdict.is === 'refused') field.current?.focus();
  }, [verdict.is]);

  return (
    <header className="bar">
      <strong className="bar-name">Footfall</strong>
      {/* No form: nothing is ever submitted, and password managers stay out of it. */}
      <div className="bar-key" role="group" aria-label="API key">
        <label htmlFor="key">API key</label>
        <input
          ref={field}
          id="key"
          type="password"
          value={draft}
          placeholder="paste it here and press Enter"
          autoComplete="off"
          spellCheck={false}
          onChange={(event) => setDraft(event.target.value)}
          onKeyDown={(event) => event.key === 'Enter' && use(draft)}
        />
        <button type="button" onClick={() => use(draft)}>
          Use
        </button>
        <button
          type="button"
          disabled={!text && !draft}
          onClick={() => {
            setDraft('');
            use('');
          }}
        >
          Forget
        </button>
      </div>
      <span className="bar-verdict" role="status" data-verdict={verdict.is}>
        {said(verdict)}
      </span>
      <a className="bar-notices" href={NOTICES}>
        Licences
      </a>
    </header>
  );
}
