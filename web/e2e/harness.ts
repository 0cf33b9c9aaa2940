/** A real service on a free port, a real Chromium on its page. */

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { chromium, type BrowserContext, type Page } from 'playwright-core';
import { afterEach, beforeEach, expect } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
const BINARY = process.env.ENLARGER_BIN ?? join(ROOT, 'target/debug/enlarger');
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export const sample = (name: string) => join(ROOT, 'samples', name);

/** The smallest model: most tests prove what does not depend on which one runs. */
export const FAST = 'animevideo-v3';

/** Those of the test that runs, in files that have called {@link startFresh}. */
export let service: Service;
export let browser: Browser;

/** Gives each test of a file a service of its own and a browser on its page. The page may ask nobody else, and complain of nothing. */
export function startFresh(...args: string[]): void {
  beforeEach(async () => {
    service = await Service.start(...args);
    browser = await Browser.start(service);
    await browser.page.goto(service.url);
  });
  afterEach(async () => {
    const { strangers, complaints } = browser;
    await browser.stop();
    await service.stop();
    expect(strangers, 'requests to other hosts').toEqual([]);
    expect(complaints, 'errors of the page').toEqual([]);
  });
}

/** The service under test. */
export class Service {
  readonly dir = mkdtempSync(join(tmpdir(), 'enlarger-e2e-'));
  #process: ChildProcess | null = null;
  #said = '';

  private constructor(
    readonly port: number,
    private readonly args: string[],
  ) {}

  static async start(...args: string[]): Promise<Service> {
    const service = new Service(await freePort(), args);
    await service.start();
    return service;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/`;
  }

  /** Starts it (again) on the same port and data, and waits until it answers. */
  async start(): Promise<void> {
    const args = ['serve', '--listen', `127.0.0.1:${this.port}`, '--data-dir', this.dir, ...this.args];
    const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (this.#said += chunk));
    for (;;) {
      if (child.exitCode !== null) throw new Error(`the service ended with ${child.exitCode}:\n${this.#said}`);
      const answer = await fetch(`${this.url}health`).catch(() => null);
      if (answer?.ok) return;
      await new Promise((later) => setTimeout(later, 20));
    }
  }

  /** Makes an administrator's key on the command line. */
  createKey(name: string): string {
    const said = execFileSync(BINARY, ['keys', 'create', name, '--admin', '--data-dir', this.dir]).toString();
    return said.trim().split(/\s+/).at(-1)!;
  }

  /** Ends it without a warning. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.once('exit', done));
    child.kill('SIGKILL');
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer();
    server.once('error', fail);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
}

/** A browser of its own, with an empty profile. */
export class Browser {
  /** Requests to any other host; they are not let through. */
  readonly strangers: string[] = [];
  /** What the page complained about. */
  readonly complaints: string[] = [];

  private constructor(
    readonly context: BrowserContext,
    private readonly profile: string,
  ) {}

  static async start(service: Service, options: Parameters<typeof chromium.launchPersistentContext>[1] = {}): Promise<Browser> {
    const profile = mkdtempSync(join(tmpdir(), 'enlarger-chromium-'));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: CHROMIUM,
      args: FLAGS,
      viewport: { width: 1440, height: 900 },
      acceptDownloads: true,
      ...options,
    });
    const browser = new Browser(context, profile);
    await context.route('**/*', (route) => {
      const { protocol, host } = new URL(route.request().url());
      if (protocol === 'blob:' || protocol === 'data:' || host === `127.0.0.1:${service.port}`) return route.fallback();
      browser.strangers.push(route.request().url());
      return route.abort();
    });
    browser.page.on('pageerror', (error) => browser.complaints.push(String(error)));
    browser.page.on('console', (message) => {
      if (message.type() === 'error' && /Content.Security.Policy/i.test(message.text())) browser.complaints.push(message.text());
    });
    return browser;
  }

  get page(): Page {
    return this.context.pages()[0]!;
  }

  async stop(): Promise<void> {
    await this.context.close();
    rmSync(this.profile, { recursive: true, force: true });
  }
}

/** Drops files on the page, as a person does from a file manager. */
export async function drop(page: Page, ...paths: string[]): Promise<void> {
  const files = paths.map((path) => ({ name: basename(path), bytes: readFileSync(path).toString('base64') }));
  const transfer = await page.evaluateHandle((list) => {
    const data = new DataTransfer();
    for (const { name, bytes } of list) data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name));
    return data;
  }, files);
  await page.dispatchEvent('#main', 'dragenter', { dataTransfer: transfer });
  await page.dispatchEvent('#main', 'drop', { dataTransfer: transfer });
}

/** Chooses how to enlarge what is on the desk. */
export async function set(page: Page, { mode, factor, model, quality }: { mode?: string; factor?: number; model?: string; quality?: string }): Promise<void> {
  if (mode) await page.getByRole('radio', { name: mode }).check();
  if (factor) await page.getByRole('radio', { name: `${factor}×`, exact: true }).check();
  if (quality) await page.getByRole('radio', { name: quality, exact: true }).check();
  if (model) await page.getByLabel('Model').selectOption(model);
}

/** Width and height in the header of a PNG (ISO 15948, section 11.2.1). */
export function pngSize(path: string): { width: number; height: number } {
  const bytes = readFileSync(path);
  if (bytes.toString('latin1', 1, 4) !== 'PNG') throw new Error(`${path} is not a PNG`);
  return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
}

/** Base64 of an 8 x 8 PNG with a red and a blue half. */
export function dot(): string {
  const script = `import base64, struct, sys, zlib
def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
rows = (b'\\0' + b'\\xc0\\x20\\x20' * 4 + b'\\x20\\x20\\xc0' * 4) * 8
png = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 8, 8, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
print(base64.b64encode(png).decode())`;
  made ??= execFileSync('python3', ['-c', script]).toString().trim();
  return made;
}
let made: string | undefined;
