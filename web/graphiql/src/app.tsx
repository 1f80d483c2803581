import { HISTORY_PLUGIN } from '@graphiql/plugin-history';
import { useGraphiQL, useGraphiQLActions } from '@graphiql/react';
import { GraphiQL } from 'graphiql';
import { useEffect, useMemo } from 'react';

import { EXAMPLES_PLUGIN, ExamplesContext, variablesOf, type Example } from './examples';
import { connect } from './fetcher';
import { KeyContext, useKeyState } from './key';
import { KeyBar } from './key-bar';

const PLUGINS = [EXAMPLES_PLUGIN, HISTORY_PLUGIN];
const WITHOUT_EXAMPLES = '# Ctrl-Space offers what can be asked for; Ctrl-Enter runs it.\n';
const FIRST = 'dau';

export function App({ examples }: { examples: Example[] }) {
  const key = useKeyState();
  const { text, judge } = key;
  const connection = useMemo(() => connect(text, judge), [text, judge]);
  useEffect(() => () => connection.close(), [connection]);
  const tabs = useMemo(() => atFirst(examples), [examples]);

  return (
    <KeyContext value={key}>
      <ExamplesContext value={examples}>
        <KeyBar />
        <main className="stage">
          <GraphiQL
            fetcher={connection.fetcher}
            // Nobody is asked for the schema before there is a key.
            {...(text ? {} : { schema: null })}
            inputValueDeprecation
            schemaDescription
            plugins={PLUGINS}
            visiblePlugin={EXAMPLES_PLUGIN}
            {...tabs}
            defaultQuery=""
            defaultEditorToolsVisibility="variables"
            // What is typed there would be kept in localStorage with the history, keys as well.
            isHeadersEditorEnabled={false}
            showPersistHeadersSettings={false}
          >
            <GraphiQL.Logo>
              <span className="editor-name">GraphiQL</span>
            </GraphiQL.Logo>
            <LongLines />
            <SystemTheme />
          </GraphiQL>
        </main>
      </ExamplesContext>
    </KeyContext>
  );
}

/** Breaks long lines of a document: GraphiQL would have them end below its buttons. */
function LongLines() {
  const editor = useGraphiQL((state) => state.queryEditor);
  useEffect(() => editor?.updateOptions({ wordWrap: 'on', wrappingIndent: 'same' }), [editor]);
  return null;
}

/** Takes the editors along when the system turns dark or light; the rest follows by itself. */
function SystemTheme() {
  const theme = useGraphiQL((state) => state.theme);
  const { setTheme } = useGraphiQLActions();
  useEffect(() => {
    const dark = matchMedia('(prefers-color-scheme: dark)');
    const turn = () => theme === null && setTheme(null);
    dark.addEventListener('change', turn);
    return () => dark.removeEventListener('change', turn);
  }, [theme, setTheme]);
  return null;
}

/** What a browser shows that has not been here before; others have their tabs again. */
function atFirst(examples: Example[]) {
  const first = examples.find((example) => example.name === FIRST) ?? examples[0];
  const query = first?.query ?? WITHOUT_EXAMPLES;
  const variables = first ? variablesOf(first) : '';
  const isFirst = localStorage.getItem('graphiql:tabState') === null;
  return {
    defaultTabs: [{ query, variables }],
    // GraphiQL takes the query from the first of the tabs, and nothing else.
    ...(isFirst ? { initialVariables: variables } : {}),
  };
}
