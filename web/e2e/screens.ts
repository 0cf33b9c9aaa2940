/** Every screen of the page, one after the other, with real pictures on it. */

import type { Page } from 'playwright-core';
import { drop, sample, set } from './harness.ts';

/** Brings up each screen and hands its name to `visit`. */
export async function tour(page: Page, url: string, visit: (screen: string) => Promise<void>): Promise<void> {
  // A limit that the largest size is beyond, whatever this machine could do.
  const STATUS = '**/api/status';
  await page.route(STATUS, async (route) => {
    const status = await (await route.fetch()).json();
    await route.fulfill({ json: { ...status, limits: { ...status.limits, max_result_megapixels: 20 } } });
  });
  await page.goto(url);
  await settled(page);
  await visit('enlarge-empty');

  await drop(page, sample('stream.jpg'), sample('brushes.png'), sample('friends.jpg'));
  await set(page, { mode: 'Creative', factor: 4, model: 'x4plus' });
  await stripMade(page);
  await visit('enlarge');
  await set(page, { factor: 16 });
  await page.getByText('Use the largest size that fits each').waitFor();
  await visit('enlarge-too-large');
  await page.unroute(STATUS);
  await set(page, { mode: 'Precision', factor: 3, model: 'animevideo-v3' });
  await stripMade(page);
  await visit('enlarge-precision');
  await page.getByRole('button', { name: 'Copy as…' }).click();
  await visit('enlarge-copy');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Try several…' }).click();
  await page.getByRole('radio', { name: 'Four settings' }).check();
  await page.locator('.trials[aria-busy=false]').waitFor({ timeout: 60_000 });
  await visit('contact-sheet');
  await page.keyboard.press('Escape');

  await set(page, { mode: 'Creative', factor: 4, model: 'x4plus' });
  await page.keyboard.press('Control+Enter');
  await page.locator('.work[data-status=IN_PROGRESS]').getByText(/part \d+ of/).first().waitFor();
  await visit('pictures-working');
  for (const name of ['stream.jpg', 'brushes.png', 'friends.jpg']) {
    await page.getByRole('link', { name: `Compare: ${name}` }).first().waitFor({ timeout: 240_000 });
  }
  await visit('pictures');

  await page.getByRole('link', { name: 'Compare: friends.jpg' }).first().click();
  await page.getByRole('slider', { name: 'Divider' }).waitFor();
  await settled(page);
  await visit('compare');
  await page.getByRole('button', { name: 'Show changes' }).click();
  await page.getByText('change', { exact: false }).first().waitFor();
  await visit('compare-invented');
  await page.getByRole('button', { name: 'Show changes' }).click();
  await page.getByRole('radio', { name: 'Side by side' }).check();
  await page.getByRole('button', { name: 'Lens' }).click();
  await visit('compare-side');
  await page.getByRole('button', { name: 'Lens' }).click();

  // The same photo with other settings, and both results beside each other.
  await page.getByRole('button', { name: 'Edit and run again' }).click();
  await set(page, { mode: 'Precision', factor: 4, model: 'animevideo-v3' });
  await page.keyboard.press('Control+Enter');
  await page.getByRole('link', { name: 'Compare: friends.jpg' }).nth(1).waitFor({ timeout: 60_000 });
  await page.getByRole('link', { name: 'Compare: friends.jpg' }).first().click();
  await page.getByRole('checkbox', { name: 'Compare with B' }).check();
  await page.getByRole('radio', { name: 'Side by side' }).check();
  await settled(page);
  await visit('compare-results');

  await page.getByRole('link', { name: 'Models' }).click();
  await page.locator('.model').first().waitFor();
  await visit('models');
  await page.goto(`${url}#/nowhere`);
  await page.getByRole('heading', { name: 'Page not found' }).waitFor();
  await visit('not-found');
  await page.getByRole('link', { name: 'Settings' }).click();
  await page.getByText('Uptime').waitFor();
  await visit('settings');
}

async function stripMade(page: Page): Promise<void> {
  await page.locator('.strip[aria-busy=true]').waitFor({ timeout: 5000 }).catch(() => {}); // it may be faster than the look
  await page.locator('.strip[aria-busy=false]').getByText(/px area/).waitFor();
}

/** Fonts and pictures are there, messages have gone. */
export async function settled(page: Page): Promise<void> {
  await page.evaluate(async () => {
    await document.fonts.ready;
    await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
    await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  });
}
