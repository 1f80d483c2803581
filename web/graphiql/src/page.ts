// What the page's own markup tells: the addresses of files whose names have a hash.

const root = document.getElementById('root');
if (!root) throw new Error('the page has no #root');

export const ROOT = root;

// Relative to the page, so that a prefix that a proxy puts before it does no harm.
const named = (name: string): URL => new URL(root.dataset[name] ?? '', document.baseURI);

// By the label with which Monaco asks for one; `editor` stands in for any other.
export const WORKERS: { readonly [label: string]: URL; readonly editor: URL } = {
  editor: named('editorWorker'),
  graphql: named('graphqlWorker'),
  json: named('jsonWorker'),
};
export const NOTICES = named('notices').href;
export const EXAMPLES = new URL('graphql/examples.json', document.baseURI).href;

const api = new URL(document.baseURI);
api.search = api.hash = '';
export const HTTP_ADDRESS = api.href;
export const SOCKET_ADDRESS = api.href.replace(/^http/, 'ws');
