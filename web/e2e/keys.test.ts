import { expect, test } from 'vitest';
import { Browser, Service } from './harness.ts';

test('a service with keys asks for one, refuses a wrong one, and makes and revokes more', async () => {
  const service = await Service.start('--auth', 'on');
  const browser = await Browser.start(service);
  try {
    const { page } = browser;
    await page.goto(service.url);
    await page.getByText('Enter an API key to continue.', { exact: false }).waitFor();
    await page.getByRole('textbox', { name: 'API key' }).fill('not-a-key');
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.getByText('That key wasn’t accepted.', { exact: false }).waitFor();
    await page.getByRole('textbox', { name: 'API key' }).fill(service.createKey('first'));
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.getByRole('link', { name: 'Settings' }).click();
    await page.getByLabel('Key name').fill('studio');
    await page.getByRole('button', { name: 'Create key' }).click();
    const key = await page.locator('.fresh-key code').innerText();
    const opens = async () => (await fetch(`${service.url}api/tasks`, { headers: { 'X-API-KEY': key } })).status;
    expect(await opens()).toBe(200);
    await page.getByRole('button', { name: 'Revoke studio' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
    await page.locator('.is-revoked').waitFor();
    expect(await opens()).toBe(401);
  } finally {
    await browser.stop();
    await service.stop();
  }
});
