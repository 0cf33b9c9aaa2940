import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { browser, drop, service, set, startFresh } from './harness.ts';

startFresh();

test('a result of 100 megapixels pans with at most 1/30 s of work for a frame', async () => {
  const { page } = browser;
  const source = join(service.dir, 'poster.png');
  writeFileSync(source, await squares(page, 628));
  await drop(page, source);
  await set(page, { mode: 'Precision', factor: 16 });
  await page.keyboard.press('Control+Enter');
  await page.getByRole('link', { name: 'Compare: poster.png' }).first().click({ timeout: 100_000 });
  await page.getByText('10,048 × 10,048 · 101 MP').waitFor();
  await page.getByRole('slider', { name: 'Divider' }).waitFor({ timeout: 60_000 });

  const work: Record<string, number> = {};
  for (const key of ['0', '+', 'f']) {
    await page.locator('.stage-canvas').press(key);
    work[await page.locator('.zoom output').innerText()] = await workOfPanning(page);
  }
  console.log('milliseconds of a frame at each zoom:', work);
  for (const [zoom, milliseconds] of Object.entries(work)) expect(milliseconds, `at ${zoom}`).toBeLessThanOrEqual(1000 / 30);
});

/** A PNG of squares of 4 pixels in three colors: pixel art, which is enlarged without a model. */
async function squares(page: Page, side: number): Promise<Buffer> {
  const drawn = await page.evaluate((side) => {
    const canvas = document.createElement('canvas');
    canvas.width = side;
    canvas.height = side;
    const c = canvas.getContext('2d')!;
    for (let i = 0; i < (side / 4) ** 2; i += 1) {
      c.fillStyle = ['#c01818', '#18a018', '#1818c0'][(Math.imul(i, 2654435761) >>> 16) % 3]!;
      c.fillRect((i % (side / 4)) * 4, Math.floor(i / (side / 4)) * 4, 4, 4);
    }
    return canvas.toDataURL('image/png');
  }, side);
  return Buffer.from(drawn.split(',')[1]!, 'base64');
}

/** Drags the image to and fro; resolves to the milliseconds of processor time that the page's thread takes for a frame. */
async function workOfPanning(page: Page): Promise<number> {
  const box = (await page.locator('.stage-canvas').boundingBox())!;
  const x = box.x + box.width / 4;
  const y = box.y + box.height / 2;
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Performance.enable', { timeDomain: 'threadTicks' });
  const busy = async () => (await cdp.send('Performance.getMetrics')).metrics.find(({ name }) => name === 'TaskDuration')!.value;
  const frames = await page.evaluateHandle(() => {
    const count = { of: 0 };
    const tick = () => {
      count.of += 1;
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
    return count;
  });
  const counted = () => frames.evaluate((count) => count.of);
  const [before, first] = [await busy(), await counted()];
  for (let stroke = 0; stroke < 6; stroke += 1) {
    const way = stroke % 2 ? -1 : 1;
    await page.mouse.move(x + 150 * way, y);
    await page.mouse.down();
    await page.mouse.move(x - 150 * way, y + 80 * way, { steps: 60 });
    await page.mouse.up();
  }
  return ((await busy()) - before) * 1000 / ((await counted()) - first);
}
