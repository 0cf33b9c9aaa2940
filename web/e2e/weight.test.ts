import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { Browser, Service } from './harness.ts';

const DIST = resolve(import.meta.dirname, '../dist');

test('the page weighs at most 150 KB, its font and sample pictures included', () => {
  const files = readdirSync(DIST, { recursive: true, withFileTypes: true }).filter((f) => f.isFile());
  const bytes = files.map((f) => gzipSync(readFileSync(join(f.parentPath, f.name))).length).reduce((a, b) => a + b, 0);
  console.log(`${(bytes / 1000).toFixed(1)} kB in ${files.length} files, compressed`);
  expect(bytes).toBeLessThanOrEqual(150_000);
});

test('the first paint comes within 200 ms of asking', async () => {
  const service = await Service.start();
  const browser = await Browser.start(service);
  try {
    const paints: number[] = [];
    // Each visit asks for everything again. The best one counts: the others measure what else the machine was doing.
    for (let visit = 0; visit < 5; visit += 1) {
      const cdp = await browser.context.newCDPSession(browser.page);
      await cdp.send('Network.clearBrowserCache');
      await browser.page.goto(service.url);
      paints.push(
        await browser.page.evaluate(
          () =>
            new Promise<number>((resolve) => {
              new PerformanceObserver((list) => {
                const paint = list.getEntriesByName('first-contentful-paint')[0];
                if (paint) resolve(paint.startTime);
              }).observe({ type: 'paint', buffered: true });
            }),
        ),
      );
    }
    console.log('first contentful paint, ms:', paints.map(Math.round));
    expect(Math.min(...paints)).toBeLessThan(200);
  } finally {
    await browser.stop();
    await service.stop();
  }
});
