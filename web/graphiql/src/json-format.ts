// A parser and a printer for Prettier that lay out JSON with comments.
//
// GraphiQL asks Prettier for its JavaScript parser to tidy the variables. This one stands in for
// it (see build.mjs): it does the same to JSON and is half a megabyte smaller.

import { applyEdits, format } from 'jsonc-parser';

interface Text {
  text: string;
}

const FORMAT = 'jsonc-text';

export const parsers = {
  jsonc: {
    astFormat: FORMAT,
    locStart: () => 0,
    locEnd: (node: Text) => node.text.length,
    parse(source: string): Text {
      const edits = format(source, undefined, { insertSpaces: true, tabSize: 2 });
      return { text: applyEdits(source, edits) };
    },
  },
};

export const printers = {
  [FORMAT]: { print: (path: { node: Text }) => path.node.text },
};
