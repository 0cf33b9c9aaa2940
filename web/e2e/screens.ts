/** Every screen of the page, one after the other, with real pictures on it. */

import type { Page } from 'playwright-core';
import { drop, sample, set } from './harness.ts';

/** Brings up each screen and hands its name to `visit`. */
export async function tour(page: Page, url: string, visit: (screen: string) => Promise<void>): Promise<void> {
  await page.goto(url);
  await settled(page);
  await visit('enlarge-empty');

  await drop(page, sample('stream.jpg'), sample('brushes.png'), sample('friends.jpg'));
  await set(page, { manner: 'Creative', factor: 4, network: 'x4plus' });
  await stripMade(page);
  await visit('enlarge');
  await set(page, { factor: 16 });
  await page.getByText('Give each its largest').waitFor();
  await visit('enlarge-too-large');
  await set(page, { manner: 'Precision', factor: 3, network: 'animevideo-v3' });
  await stripMade(page);
  await visit('enlarge-precision');
  await page.getByRole('button', { name: 'Copy as…' }).click();
  await visit('enlarge-copy');
  await page.keyboard.press('Escape');

  await set(page, { manner: 'Creative', factor: 4, network: 'x4plus' });
  await page.keyboard.press('Control+Enter');
  await page.locator('.work[data-status=IN_PROGRESS]').getByText(/tile \d+ of/).first().waitFor();
  await visit('pictures-working');
  for (const name of ['stream.jpg', 'brushes.png', 'friends.jpg']) {
    await page.getByRole('link', { name: `Compare: ${name}` }).first().waitFor({ timeout: 120_000 });
  }
  await visit('pictures');

  await page.getByRole('link', { name: 'Compare: friends.jpg' }).first().click();
  await page.getByRole('slider', { name: 'Border' }).waitFor();
  await settled(page);
  await visit('compare');
  await page.getByRole('button', { name: 'What was invented' }).click();
  await page.getByText('departs').waitFor();
  await visit('compare-invented');
  await page.getByRole('button', { name: 'What was invented' }).click();
  await page.getByRole('radio', { name: 'Side by side' }).check();
  await page.getByRole('button', { name: 'Lens' }).click();
  await visit('compare-side');

  await page.getByRole('link', { name: 'Models' }).click();
  await page.locator('.model').first().waitFor();
  await visit('models');
  await page.getByRole('link', { name: 'Settings' }).click();
  await page.getByText('Running for').waitFor();
  await visit('settings');
}

async function stripMade(page: Page): Promise<void> {
  await page.locator('.strip[aria-busy=true]').waitFor({ timeout: 5000 }).catch(() => {}); // it may be faster than the look
  await page.locator('.strip[aria-busy=false]').getByText(/made in/).waitFor();
}

/** Fonts and pictures are there, messages have gone. */
export async function settled(page: Page): Promise<void> {
  await page.evaluate(async () => {
    await document.fonts.ready;
    await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
    await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  });
}
