import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { browser, drop, FAST, pngSize, sample, service, set, startFresh } from './harness.ts';

/** A network that needs many seconds for a sample, so that there is time to interfere. */
const SLOW = 'x4plus';

// A short lease: a task whose worker was killed is taken up again after it.
startFresh('--lease-seconds', '3');

const past = (status: string) => browser.page.locator(`.past[data-status=${status}]`);
const working = () => browser.page.locator('.work[data-status=IN_PROGRESS]');

test('a dropped photo is enlarged, its slider moves, and the download is a picture of the right size', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'));
  await set(page, { factor: 2, model: FAST });
  await page.getByText('640 × 640', { exact: false }).waitFor();
  await page.getByText('5.4 × 5.4 cm').waitFor();
  await page.getByText(/~\d+ s|under 1 s/).first().waitFor();
  await page.getByRole('button', { name: 'Enlarge', exact: false }).last().click();

  await page.getByRole('link', { name: 'Compare: friends.jpg' }).first().click();
  const handle = page.getByRole('slider', { name: 'Divider' });
  await handle.waitFor();
  const inkBefore = await leftOfStage();
  const box = (await handle.boundingBox())!;
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + 300, box.y + box.height / 2, { steps: 5 });
  await page.mouse.up();
  expect(Number(await handle.getAttribute('aria-valuenow'))).toBeGreaterThan(60);
  await handle.press('Home');
  expect(await handle.getAttribute('aria-valuenow')).toBe('0');
  expect(await leftOfStage(), 'the left half shows the result now').not.toBe(inkBefore);

  const download = page.waitForEvent('download');
  await page.getByRole('link', { name: 'Download' }).click();
  const path = await (await download).path();
  expect((await download).suggestedFilename()).toBe('friends_2x.png');
  expect(pngSize(path)).toEqual({ width: 640, height: 640 });
  expect(await opened(path), 'another decoder opens it').toEqual({ width: 640, height: 640 });
});

/** The size of a file's picture, decoded whole by the browser. */
function opened(path: string): Promise<{ width: number; height: number }> {
  return browser.page.evaluate(async (base64) => {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))]));
    return { width: bitmap.width, height: bitmap.height };
  }, readFileSync(path).toString('base64'));
}

/** The pixels left of the middle of the stage, once all tiles are drawn. */
async function leftOfStage(): Promise<string> {
  const canvas = browser.page.locator('.stage-canvas');
  let last = '';
  await expect
    .poll(async () => {
      const before = last;
      last = await canvas.evaluate((c: HTMLCanvasElement) => {
        const { data } = c.getContext('2d')!.getImageData(c.width * 0.3, c.height * 0.3, c.width * 0.19, c.height * 0.4);
        return data.some((v) => v > 0) ? String(data.reduce((hash, v) => (Math.imul(hash, 31) + v) | 0, 7)) : '';
      });
      return last !== '' && last === before;
    })
    .toBe(true);
  return last;
}

test('the test strip starts where the detail is', async () => {
  const { page } = browser;
  const png = await page.evaluate(() => {
    const canvas = document.createElement('canvas');
    canvas.width = 900;
    canvas.height = 600;
    const c = canvas.getContext('2d')!;
    c.fillStyle = '#9fc4e8';
    c.fillRect(0, 0, 900, 600);
    c.fillStyle = '#203010';
    // Leaves, low on the right.
    for (let y = 480; y < 560; y += 8) for (let x = 700; x < 780; x += 8) if ((x + y) % 16) c.fillRect(x, y, 8, 8);
    return canvas.toDataURL('image/png').split(',')[1]!;
  });
  const path = join(service.dir, 'sky.png');
  writeFileSync(path, Buffer.from(png, 'base64'));
  const asked = page.waitForRequest((r) => r.url().endsWith('/api/preview'));
  await drop(page, path);
  const { crop } = (await asked).postDataJSON().request;
  // Its size is that of the room for it on the page, and it lies within the image: the leaves are in it, not always in its middle.
  const said = JSON.stringify(crop);
  expect(crop.width * crop.height, said).toBeLessThan((900 * 600) / 4);
  expect(crop.x <= 700 && crop.x + crop.width >= 780, said).toBe(true);
  expect(crop.y <= 480 && crop.y + crop.height >= 560, said).toBe(true);
});

test('a knob renders the test strip anew', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'));
  await set(page, { model: FAST });
  await page.getByText(/px area/).waitFor();
  const asked = page.waitForRequest((r) => r.url().endsWith('/api/preview') && r.postDataJSON().request.look.hdr === 10);
  await page.getByLabel('HDR').fill('10');
  const { request } = (await asked).postDataJSON();
  expect(request.crop.width).toBeGreaterThanOrEqual(48);
  const answer = await (await asked).response();
  expect(answer?.status()).toBe(200);
  await page.getByText(/px area/).waitFor();
});

test('a draft of the test strip comes first where the strip takes long', async () => {
  const { page } = browser;
  const qualities: string[] = [];
  page.on('request', (r) => {
    if (!r.url().endsWith('/api/preview')) return;
    const { model, quality } = r.postDataJSON().request;
    if (model === SLOW) qualities.push(quality);
  });
  await drop(page, sample('stream.jpg'));
  await set(page, { model: SLOW });
  await expect.poll(() => qualities.at(-1), { timeout: 30_000 }).toBe('best');
  expect(qualities[0]).toBe('draft');
  await page.getByText(/px area/).waitFor();
});

test('a wrong file, a damaged file and a factor that is too large are answered with what to do', async () => {
  const { page } = browser;
  const text = join(service.dir, 'letter.png');
  writeFileSync(text, 'Dear printer');
  const torn = join(service.dir, 'torn.png');
  writeFileSync(torn, Buffer.from('89504e470d0a1a0a0000000d', 'hex'));
  await drop(page, text, torn);
  const message = page.getByRole('alert').filter({ hasText: '2 files skipped' });
  await message.getByText('letter.png cannot be used: this is not an image in a supported format').waitFor();
  await message.getByText(/torn\.png cannot be used: the PNG file/).waitFor();
  const empty = join(service.dir, 'empty.jpg');
  writeFileSync(empty, '');
  await drop(page, empty);
  await page.getByText('empty.jpg is empty.').waitFor();
  const phone = join(service.dir, 'phone.heic');
  writeFileSync(phone, Buffer.from('\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'latin1'));
  await drop(page, phone);
  await page.getByText('phone.heic cannot be used: this is a HEIC image, which is not supported').waitFor();
  await page.getByText('Convert it to PNG, JPEG, WebP or TIFF first').waitFor();

  // Whatever this server allows, 20 megapixels are the limit here.
  await page.route('**/api/status', async (route) => {
    const status = await (await route.fetch()).json();
    status.limits.max_result_megapixels = 20;
    await route.fulfill({ json: status });
  });
  await page.reload();
  await drop(page, sample('stream.jpg'));
  await set(page, { factor: 16 });
  await page.getByText('At 16×, stream.jpg would be 28.3 MP. The limit is 20 MP.').waitFor();
  expect(await page.getByRole('button', { name: /^Enlarge/ }).last().isDisabled()).toBe(true);
  await page.getByRole('button', { name: 'Use 8×', exact: true }).click();
  await page.getByText('3,072 × 2,304', { exact: false }).waitFor();
});

test('a job that takes more memory than is free is said to, before it is queued', async () => {
  const { page } = browser;
  let asked = 0;
  await page.route('**/api/status', async (route) => {
    const status = await (await route.fetch()).json();
    asked += 1;
    status.machine.memory_available = 40 * 2 ** 20;
    await route.fulfill({ json: status });
  });
  await page.reload();
  await drop(page, sample('stream.jpg'));
  await set(page, { factor: 16 });
  await page.locator('.verdict').getByText(/^This needs about [\d.,]+ [MG]B of memory, but only 40 MB is free, so it may fail\.$/).waitFor();
  expect(await page.locator('.run button.primary').isEnabled(), 'memory may come free').toBe(true);
  const before = asked;
  await page.locator('.strip[aria-busy=false]').getByText(/px area/).waitFor();
  expect(asked - before, 'asking does not lead to asking').toBeLessThanOrEqual(1);
});

test('a running task is cancelled, tried again and deleted', async () => {
  const { page } = browser;
  await drop(page, sample('stream.jpg'));
  await set(page, { factor: 4, model: SLOW });
  await page.keyboard.press('Control+Enter');
  await working().waitFor();
  await page.getByRole('button', { name: 'Cancel: stream.jpg' }).click();
  await past('CANCELLED').waitFor();
  await page.getByRole('button', { name: 'Try again: stream.jpg' }).click();
  await working().waitFor();
  await page.getByRole('button', { name: 'Cancel: stream.jpg' }).click();
  await past('CANCELLED').waitFor();
  await page.getByRole('button', { name: 'Delete: stream.jpg' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByText('Nothing here yet.').waitFor();
});

test('a reload in mid-run loses nothing', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'));
  await set(page, { factor: 2, model: SLOW });
  await page.keyboard.press('Control+Enter');
  await working().waitFor();
  await page.reload();
  await working().waitFor();
  await past('COMPLETED').waitFor({ timeout: 100_000 });
});

test('a service that is killed in mid-run is missed, found again, and finishes the task', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'));
  await set(page, { factor: 2, model: SLOW });
  await page.keyboard.press('Control+Enter');
  await working().waitFor();
  await service.kill();
  await page.getByText('Connection lost.', { exact: false }).waitFor();
  await service.start();
  await page.getByText('Reconnected.').waitFor();
  await past('COMPLETED').waitFor({ timeout: 110_000 });
  await page.getByText('Connection lost.', { exact: false }).waitFor({ state: 'detached' });
});

test('several pictures go through together and come back as one zip', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'), sample('brushes.png'));
  await set(page, { factor: 2, model: FAST });
  await page.getByRole('button', { name: 'Enlarge 2 images' }).click();
  await expect.poll(() => past('COMPLETED').count(), { timeout: 60_000 }).toBe(2);
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download all (.zip)' }).click();
  const path = await (await download).path();
  const list = execFileSync('python3', ['-m', 'zipfile', '-l', path]).toString();
  expect(list).toContain('friends_2x.png');
  expect(list).toContain('brushes_2x.png');
  execFileSync('python3', ['-m', 'zipfile', '-t', path]);
});

test('a task that fails says why and what to do', async () => {
  const { page } = browser;
  // The header is right, the pixels are not: only decoding shows it.
  const torn = readFileSync(sample('brushes.png'));
  torn.fill(0, 100_000, 100_064);
  const answer = await fetch(`${service.url}api/tasks`, {
    method: 'POST',
    body: JSON.stringify({ image: torn.toString('base64'), name: 'torn.png' }),
  });
  expect(answer.status).toBe(200);
  await page.getByRole('link', { name: 'Images', exact: true }).click();
  await past('FAILED').waitFor();
  const trouble = past('FAILED').getByRole('alert');
  expect(await trouble.innerText()).toMatch(/^[A-Z]\w* \w+ \w+/);
  await expect.poll(() => past('FAILED').locator('img').count(), { message: 'there is no image of it' }).toBe(0);

  // Back on the desk it is marked, once the server has said so, and is not counted.
  await page.getByRole('button', { name: 'Edit and run again: torn.png' }).click();
  await page.getByRole('button', { name: 'Show torn.png, which can’t be enlarged' }).waitFor();
  const run = page.locator('.run button.primary');
  expect(await run.isDisabled()).toBe(true);
  const images = page.locator('.sheet img, .tray-picture img');
  expect(await images.evaluateAll((all) => (all as HTMLImageElement[]).map((i) => i.complete && i.naturalWidth > 0)), 'none is broken').toEqual([true, true]);
  const why = page.locator('.strip').getByRole('alert');
  expect(await why.innerText()).toMatch(/^[A-Z].* PNG /);
  expect(await why.getByRole('button').count(), 'trying again would be in vain').toBe(0);
  await drop(page, sample('friends.jpg'));
  await expect.poll(() => run.innerText()).toMatch(/^Enlarge 1 image/);
});
