import './monaco';
import '@graphiql/react/style.css';
import '@graphiql/plugin-doc-explorer/style.css';
import '@graphiql/plugin-history/style.css';
import 'graphiql/graphiql.css';
import './style.css';

import { createRoot } from 'react-dom/client';

import { App } from './app';
import { loadExamples } from './examples';
import { ROOT, WORKERS } from './page';

self.MonacoEnvironment = {
  getWorker(_id: string, label: string) {
    const address = WORKERS[label] ?? WORKERS.editor;
    return new Worker(address, { type: 'module', name: label });
  },
};

createRoot(ROOT).render(<App examples={await loadExamples()} />);
