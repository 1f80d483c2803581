// The notices that the licences of the bundled packages ask for, in one file.

import { createHash } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

const LICENCE = /^(licen[cs]e|copying|notice|third-?party-?notices?)(\.\w+)?(\.\w+)?$/i;
const RULE = `\n${'='.repeat(80)}\n\n`;

/** The text of the notices, and a file name that changes with it. */
export async function notices(root, metafile) {
  const packages = await Promise.all(folders(metafile).map((folder) => described(root, folder)));
  // Many packages of one house have the same text: it is given once.
  const byText = new Map();
  for (const { title, text } of packages) byText.set(text, [...(byText.get(text) ?? []), title]);
  const parts = [...byText].map(([text, titles]) => `${titles.join('\n')}\n\n${text}\n`);
  const text = `This page is made of Footfall's own code and of these packages.\n${RULE}${parts.join(RULE)}`;
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 8).toUpperCase();
  return { name: `notices-${hash}.txt`, text };
}

/** The folders of the packages of which at least a byte is in the bundle. */
function folders(metafile) {
  const found = new Set();
  for (const output of Object.values(metafile.outputs)) {
    for (const [input, { bytesInOutput }] of Object.entries(output.inputs)) {
      const folder = input.match(/^.*node_modules\/(@[^/]+\/)?[^/]+/)?.[0];
      if (folder && bytesInOutput > 0) found.add(folder);
    }
  }
  return [...found].sort();
}

async function described(root, folder) {
  const { name, version, license } = JSON.parse(
    await readFile(join(root, folder, 'package.json'), 'utf8'),
  );
  const names = (await readdir(join(root, folder))).filter((file) => LICENCE.test(file)).sort();
  const texts = await Promise.all(names.map((file) => readFile(join(root, folder, file), 'utf8')));
  const plain = texts.map((text) => text.replaceAll('\r\n', '\n').trim()).join('\n\n');
  return {
    title: `${name} ${version} (${license})`,
    text: plain || `The package has no text of its own; its licence is ${license}.`,
  };
}
