import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { Browser, drop, FAST, sample, Service, set } from './harness.ts';

/** What is on the canvas, and the bytes of the preview drawn by the browser at the same place. */
interface Compared {
  side: number;
  /** Mean difference per sample, 0..255, where the result is shown. */
  off: number;
  /** The same against the result shown twice as often, which is how it once was. */
  offRepeated: number;
}

/** Holds the canvas, showing the result only, against the PNG that the server sent. */
async function compare(page: Page, png: Buffer): Promise<Compared> {
  await page.getByRole('slider', { name: 'Divider' }).press('Home');
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  return page.locator('.strip .stage-canvas').evaluate(async (canvas: HTMLCanvasElement, base64: string) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const result = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
    const zoom = Math.min(canvas.width / result.width, canvas.height / result.height);
    const [w, h] = [result.width * zoom, result.height * zoom];
    const [x0, y0] = [Math.round((canvas.width - w) / 2), Math.round((canvas.height - h) / 2)];
    const shown = (repeat: number) => {
      const c = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d')!;
      c.imageSmoothingQuality = 'medium';
      for (let i = 0; i < repeat * repeat; i += 1) {
        c.drawImage(result, x0 + ((i % repeat) * w) / repeat, y0 + (Math.floor(i / repeat) * h) / repeat, w / repeat, h / repeat);
      }
      return c.getImageData(x0, y0, Math.floor(w), Math.floor(h)).data;
    };
    const seen = canvas.getContext('2d')!.getImageData(x0, y0, Math.floor(w), Math.floor(h)).data;
    const off = (wanted: Uint8ClampedArray) => seen.reduce((sum, v, i) => sum + Math.abs(v - wanted[i]!), 0) / seen.length;
    return { side: Math.max(result.width, result.height), off: off(shown(1)), offRepeated: off(shown(2)) };
  }, png.toString('base64'));
}

/** Sides of the previews, in pixels of the source, that these tests want: just larger than a tile when enlarged. */
const SIDES: Record<number, number> = { 3: 216, 16: 56 };

/** Opens the page with estimates that lead to previews of these sides, however fast the machine is. */
async function open(service: Service, deviceScaleFactor: number): Promise<Browser> {
  const browser = await Browser.start(service, { deviceScaleFactor });
  await browser.page.route('**/api/estimate', async (route) => {
    const { width, height, request } = route.request().postDataJSON();
    const BUDGET = 2.5;
    const seconds = (width * height * BUDGET) / SIDES[request.size.factor as number]! ** 2;
    await route.fulfill({ json: { seconds, bytes: 1, output_width: 1, output_height: 1 } });
  });
  await browser.page.goto(service.url);
  return browser;
}

/** Runs `act`, waits for the preview that it leads to, and asks the server for the same once more. */
async function previewed(page: Page, act: () => Promise<void>): Promise<Buffer> {
  const answer = page.waitForResponse((r) => r.url().endsWith('/api/preview') && r.ok());
  await act();
  const request = (await answer).request();
  await page.locator('.strip[aria-busy=false]').getByText(/px area/).waitFor();
  const again = await fetch(request.url(), { method: 'POST', body: request.postData()! });
  return Buffer.from(await again.arrayBuffer());
}

test.for([1, 2])('the preview on the page is the one that the server made, also where it is larger than a tile: %i device pixels', async (ratio) => {
  const service = await Service.start();
  const browser = await open(service, ratio);
  try {
    const { page } = browser;
    await page.evaluate(
      ([model]) => localStorage.setItem('enlarger.settings', JSON.stringify({ ...JSON.parse(localStorage.getItem('enlarger.settings')!), mode: 'precision', factor: 3, model })),
      [FAST],
    );
    await page.reload();
    const seen: Record<string, Compared> = {};
    seen['3x'] = await compare(page, await previewed(page, () => drop(page, sample('stream.jpg'))));
    seen['16x'] = await compare(page, await previewed(page, () => set(page, { factor: 16 })));
    const box = (await page.locator('.sheet').boundingBox())!;
    seen['16x, at the corner'] = await compare(page, await previewed(page, () => page.mouse.click(box.x + box.width - 2, box.y + box.height - 2)));
    const narrow = join(service.dir, 'narrow.png');
    writeFileSync(narrow, await cut(page, 40, 300));
    seen['16x, as wide as the image'] = await compare(page, await previewed(page, () => drop(page, narrow)));
    console.log(seen);
    for (const [what, { side, off, offRepeated }] of Object.entries(seen)) {
      expect(side, `${what} is larger than a tile`).toBeGreaterThan(512);
      expect(off, what).toBeLessThan(3); // what two ways of smoothing differ by
      expect(offRepeated, `${what}: repeats would be noticed`).toBeGreaterThan(8);
    }
  } finally {
    await browser.stop();
    await service.stop();
  }
});

/** A part of a sample photo as PNG. */
async function cut(page: Page, width: number, height: number): Promise<Buffer> {
  const drawn = await page.evaluate(
    async ([w, h]) => {
      const bitmap = await createImageBitmap(await (await fetch('./samples/stream.webp')).blob());
      const canvas = document.createElement('canvas');
      canvas.width = w;
      canvas.height = h;
      canvas.getContext('2d')!.drawImage(bitmap, 0, 0, w, h, 0, 0, w, h);
      return canvas.toDataURL('image/png');
    },
    [width, height] as const,
  );
  return Buffer.from(drawn.split(',')[1]!, 'base64');
}
