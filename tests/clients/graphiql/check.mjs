// Looks at GraphiQL in a real Chromium, as a person would, and at what the browser did meanwhile.
//
//     node check.mjs URL KEY [FOLDER]
//
// URL is that of the service, KEY one of a site with events; pictures go to FOLDER, if there is
// one. CHROMIUM names the browser where it is not in its usual place.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

const [, , service, key, pictures] = process.argv;
if (!key) {
  console.error('usage: node check.mjs URL KEY [FOLDER]');
  process.exit(2);
}

const USUAL = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const SWITCHES = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const ACCEPTED = 'Accepted.';
const PATIENCE = 20_000;

/** What the browser did besides what it was asked to. */
const seen = { addresses: new Set(), sockets: new Set(), errors: [], violations: [] };

function watch(context) {
  context.on('request', (request) => seen.addresses.add(request.url()));
  context.on('weberror', (error) => seen.errors.push(String(error.error())));
  context.on('console', (message) => {
    // The browser itself reports the 401 that the wrong key gets.
    if (message.type() === 'error' && !message.text().includes('401')) {
      seen.errors.push(message.text());
    }
  });
  context.on('page', (page) => page.on('websocket', (socket) => seen.sockets.add(socket.url())));
}

async function reportViolations(context) {
  await context.exposeFunction('reportViolation', (text) => seen.violations.push(text));
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      window.reportViolation(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
    });
  });
}

async function picture(page, name) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) });
}

async function says(page, text) {
  await page.locator('.bar-verdict', { hasText: text }).waitFor({ timeout: PATIENCE });
}

async function enterKey(page, text) {
  await page.fill('#key', text);
  await page.press('#key', 'Enter');
}

async function openExample(page, name) {
  const opener = page.locator(`[data-example="${name}"]`);
  if (!(await opener.isVisible())) await page.click('button[aria-label="Show Examples"]');
  await opener.click();
}

const run = (page) => page.click('.graphiql-execute-button');

/** The text of an editor, which draws only the lines that fit. */
const shown = async (page, editor) =>
  (await page.locator(`${editor} .view-lines`).innerText()).replaceAll('\u00a0', ' ');

async function answers(page, text) {
  await page
    .locator('.result-window .view-lines')
    .filter({ hasText: text })
    .waitFor({ timeout: PATIENCE });
}

async function withoutKey(page) {
  await page.goto(`${service}/graphql`);
  await says(page, 'Enter an API key');
  await page.locator('.graphiql-query-editor .view-lines').filter({ hasText: 'Dau' }).waitFor();
  assert.equal(await page.title(), 'Footfall');
  await picture(page, '1-without-a-key');
}

async function withWrongKey(page) {
  await enterKey(page, 'not-a-key');
  await page.locator('.bar-verdict[data-verdict="refused"]').waitFor({ timeout: PATIENCE });
  await picture(page, '2-with-a-wrong-key');
}

async function withKey(page) {
  await enterKey(page, key);
  await says(page, ACCEPTED);
}

async function reports(page) {
  await openExample(page, 'dau');
  await run(page);
  await answers(page, '"users"');
  assert.match(await shown(page, '.graphiql-query-editor'), /query Dau/);
  // The example's fixed days are moved up to today, which Swedes write as ISO 8601 does.
  const today = await page.evaluate(() => new Date().toLocaleDateString('sv'));
  assert.ok((await shown(page, '.graphiql-editor-tool')).includes(`"to": "${today}"`));
  await picture(page, '3-daily-active-users');
  await openExample(page, 'retention');
  await run(page);
  await answers(page, '"cohorts"');
}

async function documentation(page) {
  await page.click('button[aria-label="Show Documentation Explorer"]');
  await page.locator('.graphiql-doc-explorer-type-name', { hasText: /^Query$/ }).click();
  await page.locator('text=Unique active users per calendar day.').waitFor({ timeout: PATIENCE });
  await picture(page, '4-documentation');
}

/** The workers are at work: one completes a query by the schema, one the variables by the query. */
async function completion(page) {
  await page.click('button[aria-label="New tab"]');
  await complete(page, '.graphiql-query-editor', 'query Q($range: DateRange!) { da', 'dau');
  await picture(page, '5-completion');
  await page.keyboard.press('Escape');
  await complete(page, '.graphiql-editor-tool', '{"ra', 'range');
  await page.keyboard.press('Escape');
}

async function complete(page, editor, text, offered) {
  await page.locator(`${editor} .view-lines`).first().click();
  await page.keyboard.type(text);
  const offer = page.locator('.suggest-widget.visible', { hasText: offered }).first();
  // The worker may still be about to learn of the schema or the query.
  for (let left = 20; left > 0 && !(await offer.isVisible()); left -= 1) {
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+Space');
    await page.waitForTimeout(500);
  }
  assert.ok(await offer.isVisible(), `${offered} is not offered after ${text}`);
}

async function subscription(page) {
  await openExample(page, 'live-activity');
  await run(page);
  await answers(page, '"topPaths"');
  await picture(page, '6-live');
  await run(page);
  assert.equal([...seen.sockets].length, 1);
}

async function darkTheme(page) {
  await page.emulateMedia({ colorScheme: 'dark' });
  await openExample(page, 'dau');
  await picture(page, '7-dark');
}

/** The key is for this tab alone. */
async function keptSafe(page) {
  const kept = await page.evaluate(() => ({
    local: JSON.stringify(localStorage),
    cookies: document.cookie,
    address: location.href,
  }));
  for (const [place, text] of Object.entries(kept)) {
    assert.ok(!text.includes(key), `the key is in ${place}`);
  }
  await page.reload();
  await says(page, ACCEPTED);
  await page.click('text=Forget');
  await says(page, 'Enter an API key');
  assert.equal(await page.evaluate(() => JSON.stringify(sessionStorage).includes('key')), false);
}

function nothingElse() {
  const own = new URL(service).host;
  const foreign = [...seen.addresses, ...seen.sockets].filter(
    (address) => !address.startsWith('data:') && new URL(address).host !== own,
  );
  assert.deepEqual(foreign, [], 'requests went to other hosts');
  assert.ok(![...seen.addresses].some((address) => address.includes(key)), 'the key is in a URL');
  assert.deepEqual(seen.violations, [], 'the page did what its policy forbids');
  assert.deepEqual(seen.errors, [], 'the console has errors');
}

const STEPS = [
  withoutKey,
  withWrongKey,
  withKey,
  reports,
  documentation,
  completion,
  subscription,
  darkTheme,
  keptSafe,
  nothingElse,
];

async function main() {
  const browserPath = process.env.CHROMIUM ?? USUAL.find((path) => existsSync(path));
  if (!browserPath) {
    throw new Error('no Chromium found: install it, or name it with CHROMIUM=/path/to/it');
  }
  const profile = await mkdtemp(join(tmpdir(), 'footfall-graphiql-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: browserPath,
    args: SWITCHES,
    headless: true,
    viewport: { width: 1360, height: 820 },
  });
  try {
    watch(context);
    await reportViolations(context);
    const page = await context.newPage();
    for (const step of STEPS) {
      try {
        await step(page);
      } catch (error) {
        await picture(page, `failed-${step.name}`);
        throw error;
      }
      console.log(`ok ${step.name}`);
    }
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  }
}

await main();
