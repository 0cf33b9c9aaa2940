import { beforeEach, expect, test } from 'vitest';
import { browser, dot, service, startFresh } from './harness.ts';

/** So many entries that a page with all of them would be slow. */
const ENTRIES = 1000;

startFresh();

beforeEach(async () => {
  const { page } = browser;
  const body = JSON.stringify({ image: dot(), name: 'x.jpg', request: { size: { factor: 2 }, quality: 'draft' } });
  const { task_id } = await (await fetch(`${service.url}api/tasks`, { method: 'POST', body })).json();
  await expect.poll(async () => (await (await fetch(`${service.url}api/tasks/${task_id}`)).json()).status, { timeout: 30_000 }).toBe('COMPLETED');
  const task = await (await fetch(`${service.url}api/tasks/${task_id}`)).json();
  // One real task, told as many: 3 in 100 failed, and each name has two results.
  const entries = Array.from({ length: ENTRIES }, (_, i) => ({
    ...task,
    task_id: `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
    name: `photo ${Math.floor(i / 2) + 1}.jpg`,
    created_at: new Date(Date.UTC(2026, 0, 1) - i * 60_000).toISOString(),
    finished_at: new Date(Date.UTC(2026, 0, 1) - i * 60_000 + 1000).toISOString(),
    ...(i % 100 < 3 ? { status: 'FAILED', result: null, error: { code: 'x', message: 'something went wrong' } } : {}),
  }));
  await page.route('**/api/tasks?*', (route) => {
    const query = new URL(route.request().url()).searchParams;
    const [at, per] = [Number(query.get('page')), Number(query.get('per_page'))];
    return route.fulfill({ json: { tasks: entries.slice((at - 1) * per, at * per), total: ENTRIES } });
  });
  await page.route('**/api/tasks/*/favorite', (route) => {
    const entry = entries.find(({ task_id }) => route.request().url().includes(task_id));
    entry.favorite = route.request().method() === 'PUT';
    return route.fulfill({ json: entry });
  });
  await page.goto(`${service.url}#/queue`);
  await page.reload();
  await page.getByText('1,000 images').waitFor();
});

const titles = () => browser.page.locator('.past h3').allInnerTexts();

test('of 1,000 entries only those in sight are on the page, wherever it is scrolled', async () => {
  const { page } = browser;
  expect((await titles())[0]).toBe('photo 1.jpg');
  for (const to of [0, 0.5, 1, 0.25]) {
    await page.evaluate((to) => scrollTo(0, to * document.documentElement.scrollHeight), to);
    await expect
      .poll(() =>
        page.locator('.past').evaluateAll((all) => {
          const boxes = all.map((li) => li.getBoundingClientRect());
          const list = document.querySelector('.contact-sheet')!.getBoundingClientRect();
          const top = Math.min(...boxes.map((b) => b.top));
          const bottom = Math.max(...boxes.map((b) => b.bottom));
          // No gap at either edge of the window, unless the list ends there.
          return { few: all.length < 100, top: top <= Math.max(0, list.top + 1), bottom: bottom >= Math.min(innerHeight, list.bottom - 30) };
        }),
      )
      .toEqual({ few: true, top: true, bottom: true });
  }
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await expect.poll(async () => (await titles()).at(-1)).toBe('photo 500.jpg');
});

test('the history is searched, filtered, sorted and marked, and what is found is selected', async () => {
  const { page } = browser;
  const found = (text: string) => page.getByRole('status').filter({ hasText: text }).waitFor();
  await page.getByLabel('Search').fill('42 DRAFT photo');
  await found('30 of 1,000 images');
  await page.getByLabel('Sort by').selectOption('name');
  await expect.poll(titles).toEqual(expect.arrayContaining(['photo 42.jpg']));
  expect((await titles())[0], 'in the order of numbers').toBe('photo 42.jpg');
  await page.getByLabel('Search').fill('');
  await page.getByLabel('Show', { exact: true }).selectOption('FAILED');
  await found('30 of 1,000 images');
  await page.getByLabel('Show', { exact: true }).selectOption('all');
  await page.getByLabel('Search').fill('photo 7.jpg');
  await page.getByRole('button', { name: 'Favorite: photo 7.jpg' }).first().click();
  await page.getByLabel('Search').fill('');
  await page.getByLabel('Show', { exact: true }).selectOption('favourites');
  await found('1 of 1,000 images');
  await page.reload();
  await page.getByText('1,000 images').waitFor();
  await page.getByLabel('Show', { exact: true }).selectOption('favourites');
  await expect.poll(titles, { message: 'marks are kept' }).toEqual(['photo 7.jpg']);

  await page.getByLabel('Show', { exact: true }).selectOption('all');
  await page.getByRole('button', { name: 'Show all results of this image: photo 3.jpg' }).first().click();
  await found('2 of 1,000 images');
  await page.getByRole('button', { name: 'Select all' }).click();
  await page.getByText('2 selected').waitFor();
  expect(await page.getByRole('button', { name: 'Compare', exact: true }).isEnabled()).toBe(true);
  await page.getByRole('button', { name: 'Results of photo 3.jpg' }).click();
  await page.getByRole('button', { name: 'Clear selection' }).click();
  const boxes = page.getByRole('checkbox');
  await boxes.nth(1).check();
  await boxes.nth(5).click({ modifiers: ['Shift'] });
  await page.getByText('5 selected').waitFor();
});

test('a step of the wheel through 1,000 entries fits into a frame: each card is made once, and none is changed', async () => {
  const { page } = browser;
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Performance.enable', { timeDomain: 'threadTicks' });
  const metrics = async () => Object.fromEntries((await cdp.send('Performance.getMetrics')).metrics.map(({ name, value }) => [name, value]));
  const columns = await page.locator('.contact-sheet').evaluate((list) => getComputedStyle(list).gridTemplateColumns.split(' ').length);
  const row = await page.evaluate(() => {
    const tops = [...document.querySelectorAll('.past')].map((card) => card.getBoundingClientRect().top);
    return tops.find((top) => top > tops[0]!)! - tops[0]!;
  });
  const STEPS = 120;
  const PER_ROW = 3;
  const before = await metrics();
  const seen = await page.evaluate(
    async ([steps, by]) => {
      const list = document.querySelector('.contact-sheet')!;
      let [made, changed, most] = [0, 0, 0];
      const watcher = new MutationObserver((records) => {
        for (const { type, target, addedNodes } of records) {
          if (type === 'childList' && target === list) made += addedNodes.length;
          else if (target !== list) changed += 1;
        }
      });
      watcher.observe(list, { subtree: true, childList: true, attributes: true, characterData: true });
      for (let step = 0; step < steps; step += 1) {
        scrollBy(0, by);
        await new Promise(requestAnimationFrame);
        most = Math.max(most, list.childElementCount);
      }
      watcher.disconnect();
      return { made, changed, most, scrolled: scrollY };
    },
    [STEPS, row / PER_ROW] as const,
  );
  const after = await metrics();
  const each = (name: string) => (after[name]! - before[name]!) / STEPS;
  const work = { layouts: each('LayoutCount'), milliseconds: each('TaskDuration') * 1000 };
  console.log('a step of scrolling:', { ...work, ...seen });
  const rows = STEPS / PER_ROW;
  expect(seen.scrolled).toBeGreaterThan((rows - 1) * row);
  expect(seen.made, 'each row that comes into sight is made once').toBeLessThanOrEqual((rows + 2) * columns);
  expect(seen.changed, 'cards that stay are left alone').toBe(0);
  expect(seen.most).toBeLessThan(100);
  expect(work.layouts).toBeLessThan(2);
  expect(work.milliseconds, 'of the processor, for a frame').toBeLessThan(1000 / 60);
});

test.for([{ width: 390, height: 844 }, { width: 1280, height: 800 }])('a message covers nothing that cannot be brought into sight, $width px wide', async (viewport) => {
  const { page } = browser;
  await page.setViewportSize(viewport);
  await page.route('**/api/tasks/*/favorite', (route) => route.fulfill({ status: 500, json: { message: 'the store is away' } }));
  await page.getByRole('button', { name: 'Favorite: photo 1.jpg' }).first().click();
  const toast = page.locator('.toast');
  await toast.hover();
  const edges = () => page.locator('.toasts').evaluate((bar) => {
    const { left, right, top, bottom } = bar.getBoundingClientRect();
    return { wide: left <= 0 && right >= document.documentElement.clientWidth, low: Math.round(bottom) === innerHeight, top };
  });
  expect(await edges()).toMatchObject({ wide: true, low: true });
  // By the keyboard: what has the focus is in sight.
  await page.getByRole('checkbox').nth(1).focus();
  for (let presses = 0; presses < 40; presses += 1) {
    await page.keyboard.press('Tab');
    const { top } = await edges();
    const focused = await page.evaluate(() => document.activeElement!.getBoundingClientRect().bottom);
    expect(focused, 'above the message').toBeLessThanOrEqual(top);
  }
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  const last = page.locator('.past').last();
  await expect.poll(() => last.locator('h3').innerText()).toBe('photo 500.jpg');
  expect((await last.boundingBox())!.y + (await last.boundingBox())!.height).toBeLessThanOrEqual((await edges()).top);
});
