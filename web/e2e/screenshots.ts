/** Takes the pictures in docs/screenshots: every screen, dark and light, and narrow. Run by `npm run screenshots`. */

import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'vitest';
import { Browser, Service } from './harness.ts';
import { settled, tour } from './screens.ts';

const FOLDER = resolve(import.meta.dirname, '../../docs/screenshots');

test.for([
  { name: 'dark', colorScheme: 'dark', viewport: { width: 1440, height: 900 } },
  { name: 'light', colorScheme: 'light', viewport: { width: 1440, height: 900 } },
  { name: 'phone', colorScheme: 'dark', viewport: { width: 390, height: 844 } },
] as const)('screenshots, $name', async ({ name, colorScheme, viewport }) => {
  mkdirSync(FOLDER, { recursive: true });
  const service = await Service.start();
  const browser = await Browser.start(service, { colorScheme, viewport, reducedMotion: 'reduce' });
  try {
    await tour(browser.page, service.url, async (screen) => {
      await settled(browser.page);
      await browser.page.screenshot({ path: join(FOLDER, `${screen}-${name}.jpg`), type: 'jpeg', quality: 84 });
    });
  } finally {
    await browser.stop();
    await service.stop();
  }
});
