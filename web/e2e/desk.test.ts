import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { browser, dot, drop, FAST, sample, service, set, startFresh } from './harness.ts';

startFresh();

const write = (name: string, bytes: Buffer) => {
  const path = join(service.dir, name);
  writeFileSync(path, bytes);
  return path;
};

/** Saves what is set as a preset. The name is typed where the dialog has put the focus, as soon as it is there. */
async function savePreset(name: string): Promise<void> {
  const { page } = browser;
  await page.getByRole('button', { name: 'Save as preset' }).click();
  await page.locator('dialog input:focus').waitFor();
  await page.keyboard.type(name);
  await page.keyboard.press('Enter');
}

/** The mean colour of a part of a canvas, given in shares of its size, once it no longer changes. */
async function colour(canvas: string, x: number, y: number): Promise<number[]> {
  let last = '';
  let mean: number[] = [];
  await expect
    .poll(async () => {
      const before = last;
      mean = await browser.page.locator(canvas).evaluate(
        (c: HTMLCanvasElement, [x, y]) => {
          const { data } = c.getContext('2d')!.getImageData(c.width * x! - 8, c.height * y! - 8, 16, 16);
          return [0, 1, 2, 3].map((k) => Math.round(data.filter((_, i) => i % 4 === k).reduce((a, b) => a + b, 0) / 256));
        },
        [x, y],
      );
      last = String(mean);
      return mean[3]! > 0 && last === before;
    })
    .toBe(true);
  return mean;
}

const reddish = ([r, , b]: number[]) => r! > b! + 80;
const bluish = ([r, , b]: number[]) => b! > r! + 80;

test.for([
  ['8-bit RGB', { bits: 8, photometric: 2, left: [200, 30, 30], right: [30, 30, 200] }],
  ['16-bit CMYK', { bits: 16, photometric: 5, left: [0, 220, 220, 20], right: [220, 220, 0, 20] }],
] as const)('a TIFF is seen on the desk, in the queue and in Compare: %s', async ([, kind]) => {
  const { page } = browser;
  await drop(page, write('scan.tif', tiff(64, 64, kind.bits, kind.photometric, (x) => (x < 32 ? kind.left : kind.right))));
  await set(page, { mode: 'Precision', factor: 2, model: FAST });
  const drawn = page.locator('.sheet img, .tray-picture img');
  await expect.poll(() => drawn.evaluateAll((all) => (all as HTMLImageElement[]).map((i) => i.naturalWidth))).toEqual([64, 64]);
  // Before is left of the divider: the whole image, as the preview shows all of it.
  await page.locator('.strip[aria-busy=false]').getByText(/px area/).waitFor();
  await page.getByRole('slider', { name: 'Divider' }).press('End');
  const before = [await colour('.strip .stage-canvas', 0.25, 0.5), await colour('.strip .stage-canvas', 0.75, 0.5)];
  expect([reddish(before[0]!), bluish(before[1]!)], `before: ${before.join(' / ')}`).toEqual([true, true]);

  await page.getByLabel('Save as').selectOption('tiff');
  await page.keyboard.press('Control+Enter');
  await page.getByRole('link', { name: 'Compare: scan.tif' }).first().click({ timeout: 30_000 });
  const divider = page.getByRole('slider', { name: 'Divider' });
  await divider.waitFor();
  for (const [what, key] of [['original', 'End'], ['result', 'Home']] as const) {
    await divider.press(key);
    const seen = [await colour('.stage-canvas', 0.45, 0.5), await colour('.stage-canvas', 0.55, 0.5)];
    expect([reddish(seen[0]!), bluish(seen[1]!)], `${what}: ${seen.join(' / ')}`).toEqual([true, true]);
  }
});

test('transparency shows a checkerboard, before and after', async () => {
  const { page } = browser;
  const png = await page.evaluate(() => {
    const canvas = document.createElement('canvas');
    canvas.width = 64;
    canvas.height = 64;
    const c = canvas.getContext('2d')!;
    c.fillStyle = '#c02020';
    c.fillRect(16, 0, 32, 64);
    return canvas.toDataURL('image/png').split(',')[1]!;
  });
  await drop(page, write('sprite.png', Buffer.from(png, 'base64')));
  await set(page, { factor: 4, model: FAST });
  await page.locator('.strip[aria-busy=false]').getByText(/px area/).waitFor();
  for (const side of ['Home', 'End']) {
    await page.getByRole('slider', { name: 'Divider' }).press(side);
    const [r, g, b, a] = await colour('.strip .stage-canvas', 0.06, 0.5);
    expect([r === g && g === b, a, r! > 178 && r! < 201], `${side}: ${[r, g, b, a]}`).toEqual([true, 255, true]);
  }
  const board = await page.locator('.sheet img').evaluate((img) => getComputedStyle(img).backgroundImage);
  expect(board).toContain('conic-gradient');
});

/** An image of one colour, drawn by the browser. */
async function plain(colour: string, type: 'image/png' | 'image/jpeg'): Promise<Buffer> {
  const url = await browser.page.evaluate(
    ([colour, type]) => {
      const canvas = document.createElement('canvas');
      canvas.width = 64;
      canvas.height = 64;
      const c = canvas.getContext('2d')!;
      c.fillStyle = colour!;
      c.fillRect(0, 0, 64, 64);
      return canvas.toDataURL(type);
    },
    [colour, type],
  );
  return Buffer.from(url.split(',')[1]!, 'base64');
}

/** Both sides of the test strip, once it is there. */
async function strip(): Promise<number[][]> {
  await browser.page.locator('.strip[aria-busy=false]').getByText(/px area/).waitFor();
  const sides = [];
  for (const key of ['End', 'Home']) {
    await browser.page.getByRole('slider', { name: 'Divider' }).press(key);
    sides.push(await colour('.strip .stage-canvas', 0.5, 0.5));
  }
  return sides;
}

test('the preview is the shown image’s, also of a file that lacks its end; a damaged one is refused and changes nothing', async () => {
  const { page } = browser;
  const [red, blue] = [await plain('#c02020', 'image/png'), await plain('#2020c0', 'image/jpeg')];
  await drop(page, write('red.png', red));
  await set(page, { factor: 2, model: FAST });
  expect((await strip()).map(reddish)).toEqual([true, true]);

  const wrong = Buffer.from(red);
  const data = wrong.indexOf('IDAT');
  wrong[data + 4 + wrong.readUInt32BE(data - 4)]! ^= 255;
  await drop(page, write('wrong.png', wrong));
  await page.getByText(/^wrong\.png cannot be used: .*checksum/).waitFor();
  expect((await strip()).map(reddish), 'after the damaged one').toEqual([true, true]);

  await drop(page, write('blue.jpg', blue.subarray(0, -2)));
  await page.locator('.sheet').getByAltText('blue.jpg').waitFor();
  expect((await strip()).map(bluish), 'a JPEG without its end mark').toEqual([true, true]);
  await drop(page, write('red-again.png', red.subarray(0, -12)));
  await page.locator('.sheet').getByAltText('red-again.png').waitFor();
  expect((await strip()).map(reddish), 'a PNG without its IEND').toEqual([true, true]);
});

test('the chosen quality goes with the estimate, the copied command and the task', async () => {
  const { page } = browser;
  const estimate = async (quality: string, choose: () => Promise<void>) => {
    const answer = page.waitForResponse((r) => {
      const { request } = r.url().endsWith('/api/estimate') ? r.request().postDataJSON() : { request: null };
      return request?.quality === quality && request.size.factor === 4;
    });
    await choose();
    return (await (await answer).json()).seconds as number;
  };
  const best = await estimate('best', () => drop(page, sample('friends.jpg')));
  const choice = page.getByRole('group', { name: 'Quality' });
  expect(await choice.getByRole('radio', { name: 'Best' }).isChecked()).toBe(true);
  const fast = await estimate('fast', () => choice.getByRole('radio', { name: 'Fast' }).check());
  expect(fast).toBeLessThan(best);
  const hint = page.locator(`[id="${await choice.getAttribute('aria-describedby')}"]`);
  expect(await hint.innerText()).toBe('One small model, unless you choose another one');

  await page.getByRole('button', { name: 'Copy as…' }).click();
  expect(await page.getByLabel('Command line', { exact: true }).innerText()).toContain('--quality fast');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  await page.keyboard.press('Control+Enter');
  await page.getByRole('link', { name: 'Compare: friends.jpg' }).first().waitFor({ timeout: 30_000 });
  const { tasks } = await (await fetch(`${service.url}api/tasks`)).json();
  expect(tasks.map((task: { request: { quality: string } }) => task.request.quality)).toEqual(['fast']);
});

test('what was kept before there was a quality is still there, and means the best', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'));
  await set(page, { factor: 2, quality: 'Fast' });
  await savePreset('Old');
  await page.getByRole('button', { name: 'Old', exact: true }).waitFor();
  await page.evaluate(async () => {
    for (const [name, value] of Object.entries(localStorage)) localStorage.setItem(name, value.replace('"quality":"fast",', ''));
    const { presets } = await (await fetch('api/presets')).json();
    delete presets[0].settings.quality;
    await fetch('api/presets', { method: 'PUT', body: JSON.stringify({ presets }) });
  });
  await page.reload();
  const checked = (name: string) => page.getByRole('radio', { name, exact: true }).isChecked();
  await page.getByRole('group', { name: 'Quality' }).waitFor();
  expect([await checked('2×'), await checked('Best')]).toEqual([true, true]);
  await set(page, { quality: 'Draft' });
  await page.getByRole('button', { name: 'Old', exact: true }).click();
  expect(await checked('Best')).toBe(true);
});

test('dialogs put the focus into their field, and Enter does what they are for', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'));
  await savePreset('My old photos');
  await page.getByText('Preset “My old photos” saved.').waitFor();
  await page.getByRole('button', { name: 'My old photos', exact: true }).waitFor();
  // Where there is no field, the focus is not on the ✕ either.
  await page.getByRole('button', { name: 'Copy as…' }).click();
  await expect.poll(() => page.evaluate(() => document.activeElement?.textContent)).toBe('Copy');
  const line = await page.getByLabel('Command line', { exact: true }).innerText();
  expect(line).toMatch(/^enlarger upscale friends\.jpg -s 4x .*-f png$/);
});

test('messages gather, leave by themselves, wait under the pointer, and stay clear of the preview', async () => {
  const { page } = browser;
  await page.clock.install();
  await page.goto(service.url);
  await drop(page, sample('friends.jpg'));
  await page.locator('.easels').waitFor();
  const long = `${'a-very-long-name-without-a-blank-'.repeat(6)}.png`;
  await drop(page, ...[1, 2, 3].map((n) => write(`${n}.png`, Buffer.from('no image'))), write(long, Buffer.from('none')));
  const toast = page.locator('.toast');
  await toast.getByText('4 files skipped').waitFor();
  expect(await toast.count()).toBe(1);
  for (const viewport of [{ width: 390, height: 844 }, { width: 1024, height: 768 }, { width: 1440, height: 900 }]) {
    await page.setViewportSize(viewport);
    const box = (await toast.boundingBox())!;
    for (const easel of await page.locator('.easel').all()) {
      const e = (await easel.boundingBox())!;
      const apart = box.x >= e.x + e.width || e.x >= box.x + box.width || box.y >= e.y + e.height || e.y >= box.y + box.height;
      expect(apart, `clear of the preview, ${viewport.width} px wide`).toBe(true);
    }
    const inside = (t: Element) => [...t.querySelectorAll('*')].every((e) => e.getBoundingClientRect().right <= t.getBoundingClientRect().right + 1);
    expect(await toast.evaluate(inside), `its words are inside, ${viewport.width} px wide`).toBe(true);
  }
  await toast.hover();
  await page.clock.fastForward(60_000);
  expect(await toast.count(), 'while the pointer is on it').toBe(1);
  await page.mouse.move(5, 500);
  // The pointer's leaving may reach the page after the clock was moved.
  await expect.poll(async () => {
    await page.clock.fastForward(60_000);
    return toast.count();
  }).toBe(0);
});

test('an address that leads nowhere says so and leads home', async () => {
  const { page } = browser;
  const { task_id } = await (await fetch(`${service.url}api/tasks`, {
    method: 'POST',
    body: JSON.stringify({ image: dot(), name: 'dot.png', request: { size: { factor: 2 }, look: { mode: 'precision' } } }),
  })).json();
  await page.getByRole('link', { name: 'Images', exact: true }).click();
  await page.locator('.past[data-status=COMPLETED]').waitFor();
  await page.goto(`${service.url}#/compare/${task_id}`);
  await page.getByRole('slider', { name: 'Divider' }).waitFor();
  await page.goto(`${service.url}#/compare/nonsense`);
  await page.getByText('Image not found.').waitFor();
  expect(await page.locator('.stage-canvas').count(), 'the image before').toBe(0);
  await page.goto(`${service.url}#/anything`);
  await page.getByText('There is nothing at #/anything.').waitFor();
  await page.getByRole('link', { name: 'Go to the start page' }).click();
  await page.getByRole('heading', { name: 'Drop an image.' }).waitFor();
});

test('a reload keeps the desk, and an emptied desk stays empty', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'), sample('brushes.png'));
  await page.getByRole('button', { name: 'Show brushes.png' }).waitFor();
  await page.reload();
  for (const name of ['friends.jpg', 'brushes.png']) await page.getByRole('button', { name: `Show ${name}` }).waitFor();
  for (const name of ['friends.jpg', 'brushes.png']) await page.getByRole('button', { name: `Remove ${name}` }).click();
  await page.reload();
  await page.getByRole('heading', { name: 'Drop an image.' }).waitFor();
});

test('"Download all" packs every result, not only those on the screen', async () => {
  const { page } = browser;
  const MANY = 103; // a page of the list has 100
  for (let n = 0; n < MANY; n += 1) {
    const body = { image: dot(), name: `dot-${n}.png`, request: { size: { factor: 2 }, look: { mode: 'precision' }, model: FAST } };
    const answer = await fetch(`${service.url}api/tasks`, { method: 'POST', body: JSON.stringify(body) });
    expect(answer.status).toBe(200);
  }
  const completed = async () => (await (await fetch(`${service.url}api/tasks?status=COMPLETED`)).json()).total;
  await expect.poll(completed, { timeout: 90_000 }).toBe(MANY);
  await page.goto(`${service.url}#/queue`);
  await page.reload();
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download all (.zip)' }).click();
  const path = await (await download).path();
  const names = execFileSync('python3', ['-c', 'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist())', path]).toString().trim().split(' ');
  expect(names.sort()).toEqual(Array.from({ length: MANY }, (_, n) => `dot-${n}_2x.png`).sort());
});

test('the lens stays a lens at any zoom', async () => {
  const { page } = browser;
  await fetch(`${service.url}api/tasks`, {
    method: 'POST',
    body: JSON.stringify({ image: dot(), name: 'dot.png', request: { size: { factor: 4 }, look: { mode: 'precision' }, model: FAST } }),
  });
  await page.goto(`${service.url}#/queue`);
  await page.getByRole('link', { name: 'Compare: dot.png' }).first().click({ timeout: 30_000 });
  await page.getByRole('slider', { name: 'Divider' }).waitFor();
  await page.getByRole('radio', { name: 'Single' }).check();
  // A result of 32 pixels fills the stage many times enlarged: red to the left of the middle, blue to its right. The lens is 60
  // pixels right of the middle, and what is left of its own middle comes nearer to that. Where the lens is not, nothing changes.
  const box = (await page.locator('.stage-canvas').boundingBox())!;
  const at = (dx: number) => colour('.stage-canvas', 0.5 + dx / box.width, 0.5);
  const lens = page.getByRole('button', { name: 'Lens' });
  for (const press of ['0', '+', '+']) {
    await page.locator('.stage-canvas').press(press);
    await page.mouse.move(5, 5);
    expect([reddish(await at(-25)), bluish(await at(90))], 'without a lens').toEqual([true, true]);
    await lens.click();
    await page.mouse.move(box.x + box.width / 2 + 60, box.y + box.height / 2);
    expect([bluish(await at(-25)), bluish(await at(90)), reddish(await at(-75))], 'with it').toEqual([true, true, true]);
    await lens.click();
  }
});

test('models say what they are for, and an ncnn model is dropped as its two files', async () => {
  const { page } = browser;
  await page.goto(`${service.url}#/models`);
  await page.getByText('Drawings, cartoons, flat art', { exact: false }).waitFor();
  const { param, bin } = ncnnPair();
  const files = [write('tiny.bin', bin), write('tiny.param', Buffer.from(param)), write('junk.pth', Buffer.from('no model'))];
  await page.locator('input[type=file]').setInputFiles(files);
  await page.getByText('Added the model “tiny”.').waitFor();
  const trouble = page.locator('.toast.error');
  await trouble.getByText(/^junk\.pth: /).waitFor();
  expect(await trouble.innerText()).not.toMatch(/\/tmp|--/);
  await page.getByRole('heading', { name: 'tiny' }).waitFor();
  // It is on offer at once.
  await page.goto(`${service.url}#/`);
  await drop(page, sample('friends.jpg'));
  await set(page, { factor: 4, model: 'tiny' });
  await page.locator('.strip[aria-busy=false]').getByText(/px area/).waitFor();
});

/** A TIFF without compression (TIFF 6.0, section 2): `pixel` gives the samples of a column, 0..255. */
function tiff(width: number, height: number, bits: number, photometric: number, pixel: (x: number) => readonly number[]): Buffer {
  const samples = pixel(0).length;
  const data = Buffer.alloc((width * height * samples * bits) / 8);
  for (let i = 0; i < width * height; i += 1) {
    pixel(i % width).forEach((v, c) => (bits === 8 ? data.writeUInt8(v, i * samples + c) : data.writeUInt16LE(v * 257, (i * samples + c) * 2)));
  }
  const SHORT = 3;
  const LONG = 4;
  const depths = 8 + 2 + 9 * 12 + 4;
  const start = depths + samples * 2;
  const tags = [
    [256, LONG, 1, width], [257, LONG, 1, height], [258, SHORT, samples, depths], [259, SHORT, 1, 1], [262, SHORT, 1, photometric],
    [273, LONG, 1, start], [277, SHORT, 1, samples], [278, LONG, 1, height], [279, LONG, 1, data.length],
  ] as const;
  const head = Buffer.alloc(start);
  head.write('II*\0', 'latin1');
  head.writeUInt32LE(8, 4);
  head.writeUInt16LE(tags.length, 8);
  tags.forEach(([tag, type, count, value], i) => {
    head.writeUInt16LE(tag, 10 + i * 12);
    head.writeUInt16LE(type, 12 + i * 12);
    head.writeUInt32LE(count, 14 + i * 12);
    head.writeUInt32LE(value, 18 + i * 12);
  });
  for (let c = 0; c < samples; c += 1) head.writeUInt16LE(bits, depths + c * 2);
  return Buffer.concat([head, data]);
}

/** A small Compact network of which only the nearest-neighbour branch counts: all its weights are 0. */
function ncnnPair(): { param: string; bin: Buffer } {
  const layers = [
    'Input data 0 1 data',
    'Split split 1 2 data d0 d1',
    'Convolution conv0 1 1 d0 a 0=8 1=3 4=1 5=1 6=216',
    'PReLU prelu0 1 1 a b 0=8',
    'Convolution conv1 1 1 b c 0=8 1=3 4=1 5=1 6=576',
    'PReLU prelu1 1 1 c d 0=8',
    'Convolution conv2 1 1 d e 0=48 1=3 4=1 5=1 6=3456',
    'PixelShuffle shuffle 1 1 e f 0=4',
    'Interp up 1 1 d1 g 0=1 1=4.000000 2=4.000000',
    'BinaryOp add 2 1 f g output 0=0',
  ];
  const values = 1 + 216 + 8 + 8 + 1 + 576 + 8 + 8 + 1 + 3456 + 48;
  return { param: `7767517\n${layers.length} 11\n${layers.join('\n')}\n`, bin: Buffer.alloc(values * 4) };
}
