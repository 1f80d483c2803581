// The example operations: a panel of GraphiQL that opens one in a tab.

import { useGraphiQL, useGraphiQLActions, type GraphiQLPlugin } from '@graphiql/react';
import { Kind, parse } from 'graphql';
import { createContext, useContext } from 'react';

import { untilToday } from './dates';
import { EXAMPLES } from './page';

export interface Example {
  name: string;
  kind: 'query' | 'mutation' | 'subscription';
  title: string;
  about: string;
  query: string;
  variables: Record<string, unknown> | null;
}

const HEADINGS: readonly [Example['kind'], string][] = [
  ['query', 'Questions'],
  ['subscription', 'Live'],
  ['mutation', 'Changes'],
];

export async function loadExamples(): Promise<Example[]> {
  try {
    const response = await fetch(EXAMPLES);
    return response.ok ? ((await response.json()) as Example[]) : [];
  } catch {
    return []; // the editor is of use without them
  }
}

export const variablesOf = (example: Example): string =>
  example.variables ? JSON.stringify(untilToday(example.variables, new Date()), null, 2) : '';

export const ExamplesContext = createContext<Example[]>([]);

/** What opens an example: in the tab that has it, else in an empty one, else in a new one. */
function useOpen(): (example: Example) => void {
  const { addTab, changeTab, setOperationFacts } = useGraphiQLActions();
  const { tabs, queryEditor, variableEditor } = useGraphiQL((state) => ({
    tabs: state.tabs,
    queryEditor: state.queryEditor,
    variableEditor: state.variableEditor,
  }));
  return (example) => {
    const open = tabs.findIndex((tab) => tab.query === example.query);
    if (open >= 0) {
      changeTab(open);
    } else {
      if (queryEditor?.getValue().trim()) addTab();
      queryEditor?.setValue(example.query);
      variableEditor?.setValue(variablesOf(example));
    }
    // GraphiQL reads the document a moment later; until then it would run the one before.
    setOperationFacts(factsOf(example));
  };
}

function factsOf(example: Example) {
  const documentAST = parse(example.query);
  const operations = documentAST.definitions.filter(
    (definition) => definition.kind === Kind.OPERATION_DEFINITION,
  );
  const operationName = operations[0]?.name?.value ?? '';
  return { documentAST, operations, operationName };
}

function Examples() {
  const examples = useContext(ExamplesContext);
  const open = useOpen();
  return (
    <section className="examples" aria-label="Examples">
      <h2 className="examples-title">Examples</h2>
      {examples.length === 0 && <p>The service has none to show.</p>}
      {HEADINGS.map(([kind, heading]) => (
        <Group key={kind} heading={heading} examples={of(kind, examples)} open={open} />
      ))}
    </section>
  );
}

const of = (kind: Example['kind'], examples: Example[]) =>
  examples.filter((example) => example.kind === kind);

/** The text with what stands between backticks as code. */
const withCode = (text: string) =>
  text.split('`').map((part, place) => (place % 2 ? <code key={place}>{part}</code> : part));

interface GroupProps {
  heading: string;
  examples: Example[];
  open(example: Example): void;
}

function Group({ heading, examples, open }: GroupProps) {
  if (examples.length === 0) return null;
  return (
    <>
      <h3 className="examples-heading">{heading}</h3>
      <ul className="examples-list">
        {examples.map((example) => (
          <li key={example.name}>
            <button
              type="button"
              data-example={example.name}
              title={example.about.replaceAll('`', '')}
              onClick={() => open(example)}
            >
              <span className="examples-name">{example.title}</span>
              <span className="examples-about">{withCode(example.about)}</span>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

function ExamplesIcon() {
  return (
    <svg viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.4" aria-hidden="true">
      <path d="M2 14h12M4 14V9M8 14V5M12 14V2" />
    </svg>
  );
}

export const EXAMPLES_PLUGIN: GraphiQLPlugin = {
  title: 'Examples',
  icon: ExamplesIcon,
  content: Examples,
};
