import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { browser, drop, FAST, sample, service, set, startFresh } from './harness.ts';

startFresh();

/** Drops files and folders of the disk, as a file manager does. */
async function dropFromDisk(page: Page, ...files: string[]): Promise<void> {
  const cdp = await page.context().newCDPSession(page);
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const) await cdp.send('Input.dispatchDragEvent', { type, x: 300, y: 300, data });
}

test('a folder is dropped with all that is in it, survives a reload, and comes back as a zip of the same structure', async () => {
  const { page } = browser;
  const folder = join(service.dir, 'holiday');
  mkdirSync(join(folder, 'day 10'), { recursive: true });
  mkdirSync(join(folder, 'day 2'));
  copyFileSync(sample('friends.jpg'), join(folder, 'day 10', 'a.jpg'));
  copyFileSync(sample('friends.jpg'), join(folder, 'day 2', 'a.jpg'));
  copyFileSync(sample('brushes.png'), join(folder, 'cover.png'));
  writeFileSync(join(folder, 'notes.txt'), 'not an image');
  writeFileSync(join(folder, '.DS_Store'), 'hidden');
  await dropFromDisk(page, folder);
  await page.getByText('1 of 3 images').waitFor();
  await page.getByText('Left out 1 file that is not an image.').waitFor();
  const names = () => page.locator('.tray-picture').evaluateAll((all) => all.map((b) => (b as HTMLElement).title));
  expect(await names()).toEqual(['holiday/cover.png', 'holiday/day 2/a.jpg', 'holiday/day 10/a.jpg']);
  await page.reload();
  await expect.poll(names).toEqual(['holiday/cover.png', 'holiday/day 2/a.jpg', 'holiday/day 10/a.jpg']);

  await set(page, { factor: 2, model: FAST });
  await page.getByRole('button', { name: 'Enlarge 3 images' }).click();
  await expect.poll(() => page.locator('.past[data-status=COMPLETED]').count(), { timeout: 60_000 }).toBe(3);
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download all (.zip)' }).click();
  const path = await (await download).path();
  const list = execFileSync('python3', ['-c', 'import sys, zipfile; print("\\n".join(sorted(zipfile.ZipFile(sys.argv[1]).namelist())))', path]).toString();
  expect(list.trim().split('\n')).toEqual(['holiday/cover_2x.png', 'holiday/day 10/a_2x.png', 'holiday/day 2/a_2x.png']);
});

test('a folder is chosen by a button, and the desk is cleared at once', async () => {
  const { page } = browser;
  const folder = join(service.dir, 'scans');
  mkdirSync(folder);
  for (const name of ['1.jpg', '2.jpg']) copyFileSync(sample('friends.jpg'), join(folder, name));
  await page.getByLabel('Choose a folder', { exact: true }).last().setInputFiles(folder);
  await page.getByText('1 of 2 images').waitFor();
  await page.getByRole('button', { name: 'Clear all' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Clear all' }).click();
  await page.getByRole('heading', { name: 'Drop an image.' }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: 'Drop an image.' }).waitFor();
  expect(await page.locator('.tray').count()).toBe(0);
});

test('an exact width is met to the pixel, megapixels closely, and the quality of the file counts', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'));
  await set(page, { model: FAST });
  let runs = 0;
  const run = async () => {
    await page.keyboard.press('Control+Enter');
    runs += 1;
    await expect.poll(() => page.locator('.past[data-status=COMPLETED]').count(), { timeout: 30_000 }).toBe(runs);
    const { tasks } = await (await fetch(`${service.url}api/tasks`)).json();
    return tasks[0].result as { width: number; height: number; bytes: number; media_type: string };
  };
  await page.getByRole('radio', { name: 'Exact' }).check();
  await page.getByLabel('Exact size').fill('777');
  await page.getByLabel('Save as').selectOption('webp');
  await page.getByLabel('File quality').fill('20');
  await page.getByText('777 × 777', { exact: false }).waitFor();
  const small = await run();
  expect([small.width, small.height, small.media_type]).toEqual([777, 777, 'image/webp']);

  await page.getByRole('button', { name: 'Edit and run again: friends.jpg' }).click();
  expect(await page.getByLabel('Exact size').inputValue(), 'it is set again').toBe('777');
  await page.getByLabel('File quality').fill('95');
  const large = await run();
  expect(large.bytes).toBeGreaterThan(small.bytes * 1.5);

  await page.getByRole('button', { name: 'Edit and run again: friends.jpg' }).first().click();
  await page.getByLabel('Unit').selectOption('megapixels');
  await page.getByLabel('Exact size').fill('0.5');
  await page.getByText('707 × 707', { exact: false }).waitFor();
  await page.getByLabel('Exact size').fill('900');
  await page.getByText(/^friends\.jpg would be enlarged 93\.8×\. The range is 1× to 16×\.$/).waitFor();
  expect(await page.locator('.run button.primary').isDisabled()).toBe(true);
});

test('the resolution that is set is written into the file, and print sizes follow it', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'));
  await set(page, { factor: 2, model: FAST });
  await page.getByLabel('Resolution').selectOption('240');
  await page.getByText('Print at 240 dpi').waitFor();
  await page.getByText('6.8 × 6.8 cm (2.7 × 2.7 in)').waitFor();
  await page.keyboard.press('Control+Enter');
  await page.locator('.past[data-status=COMPLETED]').waitFor({ timeout: 30_000 });
  const { tasks } = await (await fetch(`${service.url}api/tasks`)).json();
  const png = Buffer.from(await (await fetch(tasks[0].result.url)).arrayBuffer());
  // pHYs (ISO 15948, 11.3.5.3): pixels per meter across and down, and the unit.
  const at = png.indexOf('pHYs') + 4;
  expect([png.readUInt32BE(at), png.readUInt32BE(at + 4), png[at + 8]]).toEqual([Math.round(240 / 0.0254), Math.round(240 / 0.0254), 1]);
});

test('six presets set what they are for, and show whether they still apply', async () => {
  const { page } = browser;
  await drop(page, sample('friends.jpg'));
  await set(page, { factor: 2 });
  const chips = page.locator('.chip button[aria-pressed]');
  expect(await chips.allInnerTexts()).toEqual(['Portrait', 'Old photo', 'Game texture', 'Logo and text', 'Print', 'Web']);
  const pressed = () => page.locator('.chip button[aria-pressed=true]').allInnerTexts();
  expect(await pressed()).toEqual([]);
  const web = page.waitForRequest((r) => r.url().endsWith('/api/preview') && r.postDataJSON().request.look.mode === 'precision');
  await page.getByRole('button', { name: 'Web', exact: true }).click();
  expect((await web).postDataJSON().request).toMatchObject({ size: { factor: 2 }, look: { sharpen: 15, flavor: 'photo' } });
  expect([await page.getByLabel('Save as').inputValue(), await page.getByLabel('File quality').inputValue(), await pressed()]).toEqual(['webp', '82', ['Web']]);
  await page.getByLabel('Sharpen').fill('16');
  expect(await pressed()).toEqual([]);
  const portrait = page.waitForRequest((r) => r.url().endsWith('/api/preview') && r.postDataJSON().request.look.optimized_for === 'soft_portraits');
  await page.getByRole('button', { name: 'Portrait', exact: true }).click();
  await portrait;
  expect(await page.getByLabel('Save as').inputValue(), 'what a preset does not set is neutral').toBe('png');
});

test('the end of a long job is told where the person is elsewhere, if they want that', async () => {
  const { page } = browser;
  await browser.context.grantPermissions(['notifications']);
  const body = JSON.stringify({ image: readFileSync(sample('friends.jpg')).toString('base64'), name: 'long.jpg', request: { size: { factor: 2 }, model: FAST } });
  const made = await (await fetch(`${service.url}api/tasks`, { method: 'POST', body })).json();
  await expect.poll(async () => (await (await fetch(`${service.url}api/tasks/${made.task_id}`)).json()).status, { timeout: 30_000 }).toBe('COMPLETED');
  const task = await (await fetch(`${service.url}api/tasks/${made.task_id}`)).json();

  await page.goto(`${service.url}#/settings`);
  await page.getByLabel('Tell me when a long job ends', { exact: false }).check();
  // The browser's own notifications are not part of the page: they are written down. The events are the service's, with other times.
  await page.addInitScript(() => {
    const told: string[] = [];
    Object.assign(window, { told });
    class Told {
      static permission = 'granted';
      constructor(text: string) {
        told.push(text);
      }
    }
    Object.defineProperty(window, 'Notification', { value: Told });
    document.hasFocus = () => false;
  });
  const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000).toISOString();
  const event = (name: string, part: object) => `event: task\ndata: ${JSON.stringify({ ...task, task_id: `id of ${name}`, name, created_at: at(0), finished_at: null, ...part })}\n\n`;
  const events = [['short.jpg', 19], ['long.jpg', 21]].flatMap(([name, seconds]) => [
    event(name as string, { status: 'IN_PROGRESS' }),
    event(name as string, { status: 'COMPLETED', finished_at: at(seconds as number) }),
  ]);
  await page.route('**/api/events', (route) => route.fulfill({ contentType: 'text/event-stream', body: events.join('') }));
  await page.reload();
  await expect.poll(() => page.evaluate(() => (window as unknown as { told: string[] }).told)).toContain('long.jpg is ready.');
  expect(await page.evaluate(() => (window as unknown as { told: string[] }).told)).not.toContain('short.jpg is ready.');
});
