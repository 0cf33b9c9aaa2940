import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { browser, drop, FAST, sample, service, set, startFresh } from './harness.ts';

startFresh();

interface Made {
  task_id: string;
  status: string;
  result: { url: string; width: number } | null;
}

/** Results of one image with each of the styles, in the order of the styles. */
async function results(file: string, ...looks: object[]): Promise<Made[]> {
  const image = readFileSync(file).toString('base64');
  const made: Made[] = [];
  for (const look of looks) {
    const body = JSON.stringify({ image, name: 'dog.jpg', request: { size: { factor: 2 }, model: FAST, look } });
    let task: Made = await (await fetch(`${service.url}api/tasks`, { method: 'POST', body })).json();
    await expect
      .poll(async () => (task = await (await fetch(`${service.url}api/tasks/${task.task_id}`)).json()).status, { timeout: 60_000 })
      .toBe('COMPLETED');
    made.push(task);
  }
  return made;
}

/** The mean grey of each image around a place, given in shares of its sides: what the page must show there. */
const greyOf = (url: string, x: number, y: number) =>
  browser.page.evaluate(
    async ([url, x, y]) => {
      const { pathname, search } = new URL(url);
      const bitmap = await createImageBitmap(await (await fetch(pathname + search)).blob());
      const c = new OffscreenCanvas(16, 16).getContext('2d')!;
      c.drawImage(bitmap, bitmap.width * x - 8, bitmap.height * y - 8, 16, 16, 0, 0, 16, 16);
      return c.getImageData(0, 0, 16, 16).data.reduce((sum, v, i) => sum + (i % 4 < 3 ? v : 0), 0) / 768;
    },
    [url, x, y] as const,
  );

/** The mean grey of the canvas around a point, in device pixels, once it no longer changes. */
async function seen(x: number, y: number, side = 16): Promise<number> {
  let last = -1;
  let grey = 0;
  await expect
    .poll(async () => {
      last = grey;
      grey = await browser.page.locator('.stage-canvas').last().evaluate(
        (c: HTMLCanvasElement, [x, y, side]) => {
          const { data } = c.getContext('2d')!.getImageData(x! - side! / 2, y! - side! / 2, side!, side!);
          return data.reduce((sum, v, i) => sum + (i % 4 < 3 ? v : 0), 0) / (side! * side! * 3);
        },
        [x, y, side],
      );
      return grey > 0 && grey === last;
    })
    .toBe(true);
  return grey;
}

const canvas = () => browser.page.locator('.stage-canvas').last().evaluate((c: HTMLCanvasElement) => ({ width: c.width, height: c.height }));

test('two results of one image are held against each other by slider and side by side, under one zoom', async () => {
  const { page } = browser;
  const dark = { mode: 'creative', optimized_for: 'science_fiction_n_horror', hdr: 10 };
  const [plain, strange] = await results(sample('friends.jpg'), { mode: 'precision', sharpen: 0 }, dark);
  await page.goto(`${service.url}#/queue`);
  await page.getByRole('checkbox', { name: 'Select dog.jpg' }).nth(1).waitFor();
  for (const box of await page.getByRole('checkbox', { name: 'Select dog.jpg' }).all()) await box.check();
  await page.getByRole('button', { name: 'Compare', exact: true }).click();
  const divider = page.getByRole('slider', { name: 'Divider' });
  await divider.waitFor();

  // At 1:1 in the middle of the canvas is the middle of the image.
  await page.locator('.stage-canvas').press('f');
  const [a, b] = [await greyOf(plain!.result!.url, 0.5, 0.5), await greyOf(strange!.result!.url, 0.5, 0.5)];
  expect(Math.abs(a - b), 'they differ').toBeGreaterThan(4);
  let { width, height } = await canvas();
  const both: number[] = [];
  for (const key of ['End', 'Home']) {
    await divider.press(key);
    both.push(await seen(width / 2, height / 2));
  }
  expect(both.toSorted((x, y) => x - y).map((grey, i) => Math.abs(grey - [a, b].toSorted((x, y) => x - y)[i]!) < 1.5), `${both} for ${[a, b]}`).toEqual([true, true]);

  // Side by side with the original: three cells that show the same place, also after zooming and moving.
  await page.getByRole('radio', { name: 'Side by side' }).check();
  await expect.poll(() => page.locator('.stage-grid .tag').allInnerTexts()).toEqual(['Original', expect.stringMatching(/^[AB] · 2× /), expect.stringMatching(/^[AB] · 2× /)]);
  await page.locator('.stage-canvas').press('f');
  ({ width, height } = await canvas());
  const cells = () => Promise.all([0, 1, 2].map((i) => seen((width * (2 * i + 1)) / 6, height / 2)));
  const near = (x: number[], y: number[]) => x.every((v, i) => Math.abs(v - y[i]!) < 3);
  const before = await cells();
  expect(near(before.slice(1).toSorted((x, y) => x - y), [a, b].toSorted((x, y) => x - y)), `${before} for ${[a, b]}`).toBe(true);
  await page.locator('.stage-canvas').press('ArrowLeft');
  const after = await cells();
  expect(after.every((grey, i) => grey !== before[i]), `all move: ${before} to ${after}`).toBe(true);
});

test('Compare goes to the next and the previous image of what was found, and to the full screen', async () => {
  const { page } = browser;
  await results(sample('friends.jpg'), { mode: 'precision' }, { mode: 'precision', sharpen: 50 });
  await page.goto(`${service.url}#/queue`);
  const links = page.getByRole('link', { name: 'Compare: dog.jpg' });
  await links.nth(1).waitFor();
  const [newer, older] = await links.evaluateAll((all) => all.map((a) => (a as HTMLAnchorElement).hash));
  await links.first().click();
  await page.getByRole('slider', { name: 'Divider' }).waitFor();
  expect(await page.getByRole('button', { name: 'Previous image' }).isDisabled()).toBe(true);
  await page.keyboard.press('n');
  await expect.poll(() => new URL(page.url()).hash).toBe(older);
  await page.getByRole('button', { name: 'Previous image' }).click();
  await expect.poll(() => new URL(page.url()).hash).toBe(newer);
  await page.getByRole('button', { name: 'Full screen' }).click();
  await expect.poll(() => page.evaluate(() => document.fullscreenElement?.className)).toBe('compare');
  await page.keyboard.press('m');
  await expect.poll(() => page.evaluate(() => document.fullscreenElement)).toBe(null);
});

test('a result is copied to the clipboard and dragged out as the file that it is', async () => {
  const { page } = browser;
  await browser.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const [made] = await results(sample('friends.jpg'), { mode: 'precision' });
  await page.goto(`${service.url}#/compare/${made!.task_id}`);
  await page.getByRole('button', { name: 'Copy image' }).click();
  await page.getByText('Copied: dog.jpg', { exact: false }).waitFor();
  const copied = await page.evaluate(async () => {
    const [item] = await navigator.clipboard.read();
    const { width, height } = await createImageBitmap(await item!.getType('image/png'));
    return { width, height };
  });
  expect(copied).toEqual({ width: 640, height: 640 });

  await page.goto(`${service.url}#/queue`);
  const dragged = await page.getByRole('link', { name: 'Compare: dog.jpg' }).evaluate((link) => {
    const dataTransfer = new DataTransfer();
    link.dispatchEvent(new DragEvent('dragstart', { bubbles: true, dataTransfer }));
    return dataTransfer.getData('DownloadURL');
  });
  const [, type, name, url] = /^([^:]+):([^:]+):(.+)$/.exec(dragged)!;
  expect([type, name]).toEqual(['image/png', 'dog_2x.png']);
  const [there, result] = await Promise.all([url!, made!.result!.url].map(async (u) => Buffer.from(await (await fetch(u)).arrayBuffer())));
  expect(there!.equals(result!)).toBe(true);
});

test('all models are tried on one area, and the one that is picked is used', async () => {
  const { page } = browser;
  await page.goto(service.url);
  const small = join(service.dir, 'small.png');
  writeFileSync(small, await cut(64));
  await drop(page, small);
  await set(page, { factor: 2, quality: 'Best' });
  await page.locator('.strip[aria-busy=false]').getByText(/px area/).waitFor();
  const asked: { model: string | null; crop: object }[] = [];
  page.on('request', (r) => r.url().endsWith('/api/preview') && asked.push(r.postDataJSON().request));
  await page.getByRole('button', { name: 'Try several…' }).click();
  await page.locator('.trials[aria-busy=false]').waitFor();
  const { models } = await (await fetch(`${service.url}api/models`)).json();
  expect(asked.map(({ model }) => model)).toEqual([null, ...models.map((m: { name: string }) => m.name)]);
  expect(new Set(asked.map(({ crop }) => JSON.stringify(crop))).size, 'the same area').toBe(1);
  // Every cell of the grid has an image in its middle.
  const tags = await page.locator('.stage-grid li').evaluateAll((all) =>
    all.map((li) => {
      const stage = li.closest('.stage')!.getBoundingClientRect();
      const cell = li.getBoundingClientRect();
      return { x: cell.x + cell.width / 2 - stage.x, y: cell.y + cell.height / 2 - stage.y };
    }),
  );
  expect(tags.length).toBe(models.length + 2);
  for (const { x, y } of tags) expect(await seen(x, y)).toBeGreaterThan(0);

  const { name, title } = models.find((m: { name: string }) => m.name === FAST);
  await page.getByRole('button', { name: `Use: ${title}` }).click();
  expect(await page.getByLabel('Model').inputValue()).toBe(name);
  // Two ways of setting the knobs, pinned, are tried against each other; one is enlarged at once.
  await page.getByRole('button', { name: 'Pin', exact: true }).click();
  await page.getByLabel('HDR').fill('6');
  await page.getByRole('button', { name: 'Pinned (1 of 4)' }).click();
  await page.getByRole('button', { name: 'Try several…' }).click();
  await page.getByRole('button', { name: `Enlarge: creative, hdr +6, ${FAST}` }).click();
  await page.locator('.past[data-status=COMPLETED]').waitFor({ timeout: 30_000 });
  const { tasks } = await (await fetch(`${service.url}api/tasks`)).json();
  expect([tasks[0].request.model, tasks[0].request.look.hdr]).toEqual([FAST, 6]);
});

/** The middle of a sample photo as PNG. */
async function cut(side: number): Promise<Buffer> {
  const drawn = await browser.page.evaluate(async (side) => {
    const bitmap = await createImageBitmap(await (await fetch('./samples/friends.webp')).blob());
    const canvas = document.createElement('canvas');
    canvas.width = side;
    canvas.height = side;
    canvas.getContext('2d')!.drawImage(bitmap, (side - bitmap.width) / 2, (side - bitmap.height) / 2);
    return canvas.toDataURL('image/png');
  }, side);
  return Buffer.from(drawn.split(',')[1]!, 'base64');
}
