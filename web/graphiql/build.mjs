// Builds the page into build/, or with --check says whether build/ is what the sources and the
// lock file give. What is built is served as it is: the service needs no Node.

import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

import * as esbuild from 'esbuild';

import { notices } from './notices.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const BUILD = join(HERE, 'build');
const source = (name) => join(HERE, 'src', name);

// Workers are modules like the page and share its chunks: GraphQL is there once, not twice.
const ENTRIES = {
  main: source('main.tsx'),
  'editor.worker': 'monaco-editor/esm/vs/editor/editor.worker.js',
  'graphql.worker': 'monaco-graphql/esm/graphql.worker.js',
  'json.worker': 'monaco-editor/esm/vs/language/json/json.worker.js',
};

// Modules that give way to a smaller one that does the same here: who asks, for what, and what
// they get.
const REPLACED = [
  [/monaco-graphql/, /^(\.\/|monaco-graphql\/esm\/)monaco-editor(\.js)?$/, source('monaco.ts')],
  [/@graphiql/, /^monaco-graphql\/esm\/monaco-editor\.js$/, source('monaco.ts')],
  [/@graphiql/, /^prettier\/(plugins\/estree|parser-babel)$/, source('json-format.ts')],
  [/./, /^prettier\/parser-graphql$/, 'prettier/plugins/graphql'],
];

const replacing = {
  name: 'replacing',
  setup(build) {
    for (const [importer, wanted, given] of REPLACED) {
      let used = false;
      build.onResolve({ filter: wanted }, (asked) => {
        if (!importer.test(asked.importer)) return undefined;
        used = true;
        if (given.startsWith('/')) return { path: given };
        return build.resolve(given, { kind: asked.kind, resolveDir: HERE });
      });
      build.onEnd(() => {
        if (!used) throw new Error(`nobody asks for ${wanted} any more: look at REPLACED`);
      });
    }
  },
};

function bundled() {
  return esbuild.build({
    absWorkingDir: HERE,
    entryPoints: ENTRIES,
    entryNames: '[name]-[hash]',
    chunkNames: 'chunk-[hash]',
    assetNames: '[name]-[hash]',
    outdir: 'build/assets',
    bundle: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    minify: true,
    legalComments: 'none', // they stand in the notices
    loader: { '.ttf': 'file' },
    define: { 'process.env.NODE_ENV': '"production"' },
    jsx: 'automatic',
    plugins: [replacing],
    metafile: true,
    write: false,
    logLevel: 'warning',
  });
}

/** Every file of the build by its name below build/. */
async function files() {
  const { outputFiles, metafile } = await bundled();
  const made = new Map();
  const entries = {};
  for (const [path, output] of Object.entries(metafile.outputs)) {
    const name = path.slice('build/assets/'.length);
    const entry = name.match(/^([a-z.]+)-[A-Z0-9]{8}\.(js|css)$/);
    if (entry && entry[1] in ENTRIES) entries[`${entry[1]}.${entry[2]}`] = name;
    // Styles of lazy chunks are in those of the page already, and nobody asks for them.
    else if (name.endsWith('.css')) continue;
    const file = outputFiles.find((one) => relative(HERE, one.path) === path);
    made.set(`assets/${name}`, file.contents);
  }
  const legal = await notices(HERE, metafile);
  entries['notices.txt'] = legal.name;
  made.set(`assets/${legal.name}`, Buffer.from(legal.text));
  made.set('index.html', Buffer.from(await page(entries)));
  return made;
}

async function page(entries) {
  const template = await readFile(source('index.html'), 'utf8');
  return template.replace(/\{\{(.+?)\}\}/g, (_, name) => {
    if (!entries[name]) throw new Error(`index.html asks for ${name}, which is not built`);
    return entries[name];
  });
}

async function write(made) {
  await rm(BUILD, { recursive: true, force: true });
  await mkdir(join(BUILD, 'assets'), { recursive: true });
  for (const [name, contents] of made) await writeFile(join(BUILD, name), contents);
}

async function differences(made) {
  const there = await readdir(BUILD, { recursive: true, withFileTypes: true });
  const names = there
    .filter((entry) => entry.isFile())
    .map((entry) => relative(BUILD, join(entry.parentPath, entry.name)));
  const wrong = names.filter((name) => !made.has(name)).map((name) => `${name} is not built`);
  for (const [name, contents] of made) {
    if (!names.includes(name)) wrong.push(`${name} is missing`);
    else if (!(await readFile(join(BUILD, name))).equals(contents)) wrong.push(`${name} differs`);
  }
  return wrong;
}

const made = await files();
const size = [...made.values()].reduce((sum, contents) => sum + contents.length, 0);
if (process.argv.includes('--check')) {
  const wrong = await differences(made);
  if (wrong.length > 0) {
    console.error(`web/graphiql/build is not what its sources give; run 'make graphiql':`);
    for (const line of wrong) console.error(`  ${line}`);
    process.exit(1);
  }
} else {
  await write(made);
}
console.log(`${made.size} files, ${(size / 1e6).toFixed(2)} MB`);
