import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { Browser, Service } from './harness.ts';

const DIST = resolve(import.meta.dirname, '../dist');

test('the page weighs at most 150 KB compressed, its font and sample pictures included, and its code at most 200 KB as it is run', () => {
  const files = readdirSync(DIST, { recursive: true, withFileTypes: true })
    .filter((f) => f.isFile())
    .map((f) => ({ name: f.name, bytes: readFileSync(join(f.parentPath, f.name)) }));
  const sum = (sizes: number[]) => sizes.reduce((a, b) => a + b, 0);
  const code = files.filter((f) => /\.(js|css|html)$/.test(f.name));
  const all = sum(files.map((f) => gzipSync(f.bytes).length));
  const raw = sum(code.map((f) => f.bytes.length));
  const compressed = sum(code.map((f) => gzipSync(f.bytes).length));
  console.log({ all, code: { raw, compressed } });
  expect(all).toBeLessThanOrEqual(150_000);
  expect(raw).toBeLessThanOrEqual(200_000);
});

test('the first paint waits for neither script, font nor image', async () => {
  const service = await Service.start();
  const browser = await Browser.start(service);
  try {
    const { page } = browser;
    // Never answered: whatever is painted is painted without them.
    const held: string[] = [];
    await page.route(/\.(js|woff2|jpg|svg)$|\/api\//, (route) => void held.push(new URL(route.request().url()).pathname));
    await page.goto(service.url, { waitUntil: 'commit' });
    const paint = await page.evaluate(
      () =>
        new Promise<string>((resolve) => {
          new PerformanceObserver((list) => {
            const paint = list.getEntriesByName('first-contentful-paint')[0];
            if (paint) resolve(document.body.innerText.trim());
          }).observe({ type: 'paint', buffered: true });
        }),
    );
    expect(paint).toBe('enlarger');
    expect(held.filter((path) => path.endsWith('.js')).length, 'the script was asked for').toBeGreaterThan(0);
  } finally {
    await browser.stop();
    await service.stop();
  }
});
