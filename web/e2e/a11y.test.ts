import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { Browser, Service } from './harness.ts';
import { tour } from './screens.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe calls serious or critical, as "rule: element". */
async function seriousProblems(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const axe = (window as unknown as { axe: typeof import('axe-core') }).axe;
    const { violations } = await axe.run(document);
    return violations
      .filter((v) => v.impact === 'serious' || v.impact === 'critical')
      .flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 160)} ${n.any[0]?.message ?? ''}`));
  });
}

test.for([
  { theme: 'dark', viewport: { width: 1440, height: 900 } },
  { theme: 'light', viewport: { width: 390, height: 844 } },
] as const)('axe finds no serious problem on any screen: $theme, $viewport.width px', { timeout: 600_000 }, async ({ theme, viewport }) => {
  const service = await Service.start();
  const browser = await Browser.start(service, { colorScheme: theme, viewport, reducedMotion: 'reduce' });
  const problems: Record<string, string[]> = {};
  try {
    await tour(browser.page, service.url, async (screen) => {
      const found = await seriousProblems(browser.page);
      if (found.length) problems[screen] = found;
    });
  } finally {
    await browser.stop();
    await service.stop();
  }
  expect(problems).toEqual({});
});
