import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { Browser, drop, sample, Service, set } from './harness.ts';

test(
  'a result of 100 megapixels pans at 30 frames per second or more',
  async () => {
    const service = await Service.start();
    const browser = await Browser.start(service);
    try {
      const { page } = browser;
      await page.goto(service.url);
      const source = join(service.dir, 'poster.png');
      writeFileSync(source, await square(page, 628));
      await drop(page, source);
      await set(page, { mode: 'Precision', factor: 16, model: 'animevideo-v3' });
      await page.keyboard.press('Control+Enter');
      await page.getByRole('link', { name: 'Compare: poster.png' }).first().click({ timeout: 240_000 });
      await page.getByText('10,048 × 10,048 · 101 MP').waitFor();
      await page.getByRole('slider', { name: 'Divider' }).waitFor({ timeout: 60_000 });

      const rates: Record<string, number> = {};
      for (const key of ['0', '+', 'f']) {
        await page.locator('.stage-canvas').press(key);
        rates[await page.locator('.zoom output').innerText()] = await panRate(page);
      }
      console.log('frames per second at each zoom:', rates);
      for (const [zoom, rate] of Object.entries(rates)) expect(rate, `at ${zoom}`).toBeGreaterThanOrEqual(30);
    } finally {
      await browser.stop();
      await service.stop();
    }
  },
  300_000,
);

/** A sample photo stretched to a square, as PNG. */
async function square(page: Page, side: number): Promise<Buffer> {
  const photo = readFileSync(sample('brushes.png')).toString('base64');
  const drawn = await page.evaluate(
    async ([bytes, to]) => {
      const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))]));
      const canvas = document.createElement('canvas');
      canvas.width = to;
      canvas.height = to;
      canvas.getContext('2d')!.drawImage(bitmap, 0, 0, to, to);
      return canvas.toDataURL('image/png');
    },
    [photo, side] as const,
  );
  return Buffer.from(drawn.split(',')[1]!, 'base64');
}

/** Drags the picture to and fro for some seconds; resolves to the mean number of frames per second. */
async function panRate(page: Page): Promise<number> {
  const box = (await page.locator('.stage-canvas').boundingBox())!;
  const x = box.x + box.width / 4;
  const y = box.y + box.height / 2;
  const frames = await page.evaluateHandle(() => {
    const list: number[] = [];
    const tick = (time: number) => {
      list.push(time);
      if (list.length < 100_000) requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
    return list;
  });
  for (let stroke = 0; stroke < 6; stroke += 1) {
    const way = stroke % 2 ? -1 : 1;
    await page.mouse.move(x + 150 * way, y);
    await page.mouse.down();
    await page.mouse.move(x - 150 * way, y + 80 * way, { steps: 60 });
    await page.mouse.up();
  }
  return frames.evaluate((list) => {
    const seen = [...list];
    return ((seen.length - 1) * 1000) / (seen.at(-1)! - seen[0]!);
  });
}
