// The live page in a real Chromium. `npm test` installs Debian's; where there is none outside CI, this is skipped.
import { execFileSync } from 'node:child_process';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CHUNK_BYTES, MODEL, operatedDaemon, TOKEN, type OperatedDaemon } from './operated-daemon.js';

const EXECUTABLE = programPath(['chromium', 'chromium-browser', 'google-chrome']);
const PHONE = { width: 400, height: 800 };
const DESK = { width: 1200, height: 900 };

let browser: Browser;
let operated: OperatedDaemon;
let page: Page | undefined;
/** What the page asked for, and what went wrong in it. */
let [asked, wrong] = [[] as string[], [] as string[]];

function programPath(names: readonly string[]): string | undefined {
  for (const name of names) {
    try {
      return execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    } catch {
      // the next name
    }
  }
  if (process.env.CI) throw new Error('expected Chromium on CI: apt-get install chromium');
  return undefined;
}

async function open({ viewport = DESK, colorScheme = 'light' as 'light' | 'dark', token = TOKEN } = {}): Promise<Page> {
  [asked, wrong] = [[], []];
  const context = await browser.newContext({ viewport, colorScheme });
  page = await context.newPage();
  page.on('request', (request) => void asked.push(request.url()));
  page.on('pageerror', (error) => void wrong.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.text().includes('401')) wrong.push(message.text());
  });
  page.on('dialog', (dialog) => {
    wrong.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(`${operated.url}/`);
  if (token !== '') await enter(page, token);
  return page;
}

async function enter(on: Page, token: string): Promise<void> {
  await on.fill('#token', token);
  await on.click('text=Show');
}

/** The page asks once a second. */
const shows = (read: () => Promise<string | null>) => expect.poll(read, { timeout: 10_000 });
const text = (selector: string): Promise<string> => page?.locator(selector).innerText() ?? Promise.resolve('');

describe.skipIf(EXECUTABLE === undefined)('the live page', () => {
  beforeAll(async () => {
    operated = await operatedDaemon({ level: 'silent' });
    browser = await chromium.launch({ ...(EXECUTABLE !== undefined && { executablePath: EXECUTABLE }), args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  }, 60_000);

  afterEach(async () => {
    await page?.context().close();
    page = undefined;
  });

  afterAll(async () => {
    await browser?.close();
    await operated?.stop();
  });

  it('asks for the token, says when it is wrong, and shows the numbers when it is right', async () => {
    const on = await open({ token: '' });
    await on.locator('#ask').waitFor();
    expect(await on.locator('#numbers').isVisible()).toBe(false);
    await enter(on, 'a-token-that-is-wrong');
    await shows(() => text('#state')).toBe('token wanted');
    await enter(on, TOKEN);
    await on.locator('#numbers').waitFor();
    expect(await text('#about')).toMatch(/^memory · up \d+ s · 1\.2\.3$/);
    expect(await text('#hit-rate-of')).toBe('nothing fetched yet');
    await on.reload();
    await on.locator('#numbers').waitFor(); // the tab remembers it
    expect(wrong).toEqual([]);
  });

  it('shows what happens, while it happens', async () => {
    const on = await open();
    const space = await operated.register();
    await operated.store(space, ['a1', 'a2', 'a3']);
    await operated.fetch(space, ['a1', 'a2', 'a3', 'b1']);
    await operated.fetch(space, ['a1'], CHUNK_BYTES / 2);
    await operated.post('/v1/lookup', { space, hashes: ['a1', 'b1'], wait_ms: 1000 });
    await shows(() => text('#hit-rate-of')).toBe('3 hits, 2 misses');
    expect(await text('#hit-rate')).toBe('60.0 %');
    expect(await text('#ratio')).toMatch(/^1\.\d\d×$/);
    expect(await text('#fetch-time')).toMatch(/ (µs|ms)$/);
    expect(await text('#lookup-time-of')).toBe('2 hashes, 50.0 % there');
    expect(await text('#failures-of')).toBe('none so far');
    expect(await text('#causes')).toMatch(/not stored\s+1\s+another length\s+1\s+damaged\s+0/);
    expect(await text('#rungs')).toMatch(/exact, fetched\s+3\s.*exact, put\s+3\s/s);
    expect(await text('#store')).toMatch(/calls\s+.*put 3/);
    expect(await text('#state')).toBe('store ok');
    await shows(() => on.locator('#chart').getAttribute('aria-label')).toMatch(/3 hits, 2 misses, 0 failures/);
    expect(await on.locator('#chart rect.hit').count()).toBeGreaterThan(0);
    await operated.fetch(space, ['a1', 'a2']);
    await shows(() => text('#hit-rate-of')).toBe('5 hits, 2 misses');
  });

  it('takes the names that clients choose for text', async () => {
    await open();
    await operated.fetch(await operated.register(), ['b2']);
    await shows(() => text('#spaces')).toContain(MODEL);
    expect(await page?.locator('#spaces img').count()).toBe(0);
    expect(wrong).toEqual([]);
  });

  it('fetches nothing from elsewhere, and its policy forbids that', async () => {
    const on = await open();
    await on.locator('#numbers').waitFor();
    expect(new Set(asked.map((url) => new URL(url).origin).filter((origin) => origin !== 'null'))).toEqual(new Set([operated.url]));
    const tried = await on.evaluate(() => fetch('http://127.0.0.1:9/').then(() => 'allowed', () => 'refused'));
    expect(tried).toBe('refused');
    expect(wrong.join()).toContain('Content Security Policy');
    expect(await (await fetch(`${operated.url}/`)).text()).not.toMatch(/(?:src|href)="(?!data:)/);
  });

  it.each([
    ['light', PHONE],
    ['dark', PHONE],
    ['light', DESK],
    ['dark', DESK],
  ] as const)('can be read: %s, %o', async (colorScheme, viewport) => {
    const on = await open({ colorScheme, viewport });
    await on.locator('#numbers').waitFor();
    await shows(() => text('#hit-rate-of')).not.toBe('');
    const { faults, seen } = await on.evaluate<{ faults: string[]; seen: number }>(READING_FAULTS);
    expect(faults).toEqual([]);
    expect(seen).toBeGreaterThan(40);
    if (process.env.KV_PAGE_SHOTS) await on.screenshot({ path: `${process.env.KV_PAGE_SHOTS}/${colorScheme}-${viewport.width}.png`, fullPage: true });
  });

  it('tells of lm:// clients', async () => {
    operated.operations.lmEvents.onRequest({ command: 'put', outcome: 'stored', rawBytes: 1000, storedBytes: 600, ms: 1, model: 'm', rung: 'exact' });
    await open();
    await shows(() => text('#lm')).toMatch(/put\s+stored 1/);
  });

  it('says when the daemon is gone, and goes on when it is back', async () => {
    const on = await open();
    await on.locator('#numbers').waitFor();
    await on.context().setOffline(true);
    await shows(() => text('#state')).toBe('daemon does not answer');
    await on.context().setOffline(false);
    await shows(() => text('#state')).toMatch(/store ok|ready/);
  });
});

// What does not fit on the screen, and text that does not stand out from its ground (WCAG AA, 4.5 to 1). As text: it runs in the page.
const READING_FAULTS = `(() => {
  const faults = [];
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) faults.push('the page is ' + scrollWidth + ' wide on ' + clientWidth);
  for (const table of document.querySelectorAll('.scroll')) if (table.scrollWidth > table.clientWidth) faults.push('a table is ' + table.scrollWidth + ' wide on ' + table.clientWidth);
  const numbers = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    const color = numbers(getComputedStyle(element).backgroundColor);
    return color.length === 3 || color[3] === 1 ? color : groundOf(element.parentElement);
  };
  const seen = [...document.querySelectorAll('h1, h2, p, b, small, span, td, th, dt, dd, li, label')].filter((element) => element.offsetParent !== null && element.innerText !== '');
  for (const element of seen) {
    const [text, ground] = [numbers(getComputedStyle(element).color), groundOf(element)].map(luminance);
    const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
    if (!(contrast >= 4.5)) faults.push(element.tagName + ' "' + element.innerText.slice(0, 30) + '" has a contrast of ' + contrast.toFixed(2));
  }
  return { faults, seen: seen.length };
})()`;
