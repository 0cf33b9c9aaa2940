import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { inOrderOfWork } from './order.ts';
import { modelsOf } from './pairs.ts';
import { pathInZip } from './files.ts';
import { duration, megapixels, split } from './format.ts';
import { millions, percent } from './numbers.ts';
import { FACTORS, fits, previewSide, printSize, scarce, UNKNOWN_LIMITS } from './sizes.ts';
import { mayBeTransparent } from './sniff.ts';
import { EventParser } from './sse.ts';
import { nameOf } from '../state/folders.ts';
import { cells, gridOf } from '../viewer/grid.ts';
import { S } from '../strings.ts';
import { parse } from './route.ts';
import { keptFor } from './retention.ts';
import type { ServiceStatus, Task } from '../wire.ts';
import { ZipWriter } from './zip.ts';

test('the sizes on offer end at the largest result that the server allows, at its very edge', () => {
  const limits = { ...UNKNOWN_LIMITS, maxResultPixels: 100e6 };
  expect(fits({ width: 5000, height: 5000 }, 2, limits)).toBe(true);
  expect(fits({ width: 5001, height: 5000 }, 2, limits)).toBe(false);
  // A photo of 20 megapixels, the kind that phones and cameras make.
  const photo = { width: 6028, height: 3391 };
  expect([2, 4].map((factor) => fits(photo, factor, limits))).toEqual([true, false]);
  expect([2, 4, 8].map((factor) => fits(photo, factor, { ...limits, maxResultPixels: 400e6 }))).toEqual([true, true, false]);
  expect(fits(photo, 16, UNKNOWN_LIMITS), 'without a limit memory alone decides, and the server knows it').toBe(true);
});

test('memory is scarce where a job takes more than is free, and never while that is not known', () => {
  const status = { machine: { memory_total: 24e9, memory_available: 2e9 } } as ServiceStatus;
  expect([1.9e9, 2e9, 2.1e9, 30e9].map((bytes) => scarce(bytes, status))).toEqual([false, false, true, true]);
  expect([null, {} as ServiceStatus].map((unknown) => scarce(1e15, unknown))).toEqual([false, false]);
});

test('how long results are kept is said in words', () => {
  const status = (retention_seconds?: number | null, disk_budget_bytes?: number | null) =>
    keptFor({ version: '', auth: { required: false }, retention_seconds, disk_budget_bytes } as ServiceStatus);
  expect(status(86_400)).toBe('Results are kept for 24 h.');
  expect(status(604_800, null)).toBe('Results are kept for 7 days.');
  expect(status(null, null)).toBe('Results are kept until you delete them.');
  expect(status(null, 51_200 * 2 ** 20)).toBe('Results are kept until you delete them. Beyond 50 GB in total, the oldest are deleted.');
  expect(keptFor(null)).toBe('');
});

test('a preview is never larger than the server makes it, nor than the image', () => {
  const large = { width: 4000, height: 3000 };
  for (const pace of [null, 1e-9, 1e-4, 10]) {
    for (const factor of [...FACTORS.creative, ...FACTORS.precision]) {
      const side = previewSide(large, factor, pace);
      expect([side % 8, side >= 48, side * factor <= 2048], `${side} px at ${factor}x`).toEqual([0, true, true]);
    }
  }
  expect(previewSide({ width: 30, height: 500 }, 16, 1e-9)).toBe(30);
});

test('small numbers are not rounded to nothing', () => {
  expect(megapixels(32, 32)).toBe('<0.1 MP');
  expect(megapixels(6028, 3391)).toBe('20.4 MP');
  expect(millions(20_412)).toBe('0.02');
  expect(millions(621_424)).toBe('0.62');
  expect(millions(16_697_987)).toBe('16.7');
  expect(percent(0.02)).toBe('2.0%');
  expect(duration(0.2)).toBe('under 1 s');
});

test('strings agree with their numbers', () => {
  expect([1, 2].map(S.enlarge.runMany)).toEqual(['Enlarge 1 image', 'Enlarge 2 images']);
  expect([1, 2, 1500].map(S.enlarge.leftOut)).toEqual([
    'Left out 1 file that is not an image.',
    'Left out 2 files that are not images.',
    'Left out 1,500 files that are not images.',
  ]);
  expect([1, 3].map(S.queue.deleteAllSure)).toEqual(['Delete 1 image and its files?', 'Delete 3 images and their files?']);
  expect([0.3, 14].map((s) => S.enlarge.about(duration(s)))).toEqual(['under 1 s', '~14 s']);
});

test('only what may be transparent is shown on a checkerboard', () => {
  const png = (colourType: number, rest = '') =>
    new Uint8Array([...Buffer.from('\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08\x08', 'latin1'), colourType, ...Buffer.from(rest, 'latin1')]);
  expect([0, 2, 3, 4, 6].map((type) => mayBeTransparent(png(type)))).toEqual([false, false, true, true, true]);
  expect(mayBeTransparent(png(2, '\0\0\0....\0\0\0\x06tRNS'))).toBe(true);
  expect(mayBeTransparent(new Uint8Array([0xff, 0xd8, 0xff, 0xe0]))).toBe(false);
  expect(mayBeTransparent(new Uint8Array(Buffer.from('RIFF\0\0\0\0WEBPVP8X', 'latin1')))).toBe(true);
});

test('the queue is listed in the order of work: what runs, then by place', () => {
  const task = (name: string, status: string, position: number | null) =>
    ({ name, status, position, created_at: `2026-01-01T00:00:0${name}Z` }) as unknown as Task;
  const listed = [task('4', 'CREATED', 0), task('3', 'CREATED', 2), task('2', 'IN_PROGRESS', null), task('1', 'CREATED', 1)];
  expect(inOrderOfWork(listed).map((t) => t.name)).toEqual(['2', '4', '1', '3']);
  const unplaced = [task('3', 'CREATED', null), task('2', 'CREATED', null), task('1', 'CREATED', 5)];
  expect(inOrderOfWork(unplaced).map((t) => t.name)).toEqual(['1', '2', '3']);
});

test('the two files of an ncnn model go together, by name or because there are no others', () => {
  const groups = (...names: string[]) => modelsOf(names.map((name) => ({ name }))).map((files) => files.map((f) => f.name));
  expect(groups('a.bin', 'a.param')).toEqual([['a.param', 'a.bin']]);
  expect(groups('net.param', 'weights.bin')).toEqual([['net.param', 'weights.bin']]);
  expect(groups('b.bin', 'A.PARAM', 'c.pth', 'a.bin', 'b.param')).toEqual([['A.PARAM', 'a.bin'], ['c.pth'], ['b.param', 'b.bin']]);
  expect(groups('a.param')).toEqual([['a.param']]);
  expect(groups('pytorch_model.bin', 'x.safetensors')).toEqual([['pytorch_model.bin'], ['x.safetensors']]);
});

test('addresses that lead nowhere are known as such', () => {
  const screen = (hash: string) => parse(hash).screen;
  expect(['', '#', '#/', '#/queue', '#/models/', '#/compare/abc'].map(screen)).toEqual(['enlarge', 'enlarge', 'enlarge', 'queue', 'models', 'compare']);
  expect(['#/anything', '#/compare', '#/queue/7', '#/compare/a/b', '#/compare/,', '#nonsense'].map(screen)).toEqual(Array(6).fill('unknown'));
  expect(parse('#/compare/a,b,,a,c,b')).toEqual({ screen: 'compare', id: 'a', others: ['b', 'c'] });
});

test('images of a grid are as large as the window allows, and lie beside each other', () => {
  const grid = (count: number, width: number, height: number) => {
    const { columns, rows } = gridOf(count, { width: 400, height: 300 }, { width, height });
    return [columns, rows];
  };
  expect([grid(2, 1600, 600), grid(2, 400, 900), grid(7, 1300, 700), grid(1, 10, 10)]).toEqual([[2, 1], [1, 2], [4, 2], [1, 1]]);
  const boxes = cells(5, { columns: 3, rows: 2 }, { width: 302, height: 201 }, 1);
  expect(boxes.map(({ x, y }) => [x, y])).toEqual([[0, 0], [101, 0], [202, 0], [0, 101], [101, 101]]);
  expect(new Set(boxes.map(({ width, height }) => `${width} ${height}`))).toEqual(new Set(['100 100']));
});

test('names keep as many of their folders as the server takes', () => {
  expect(nameOf('/holiday/day 1/a.jpg')).toBe('holiday/day 1/a.jpg');
  expect(nameOf(`${'long/'.repeat(60)}a.jpg`)).toBe(`${'long/'.repeat(50)}a.jpg`);
  expect(nameOf(`folder/${'x'.repeat(300)}.jpg`)).toHaveLength(255);
  expect([split('a.jpg'), split('b/c/a.jpg')]).toEqual([{ folder: '', base: 'a.jpg' }, { folder: 'b/c', base: 'a.jpg' }]);
});

test('a result goes into a zip under the folders of its source, and to no place outside', () => {
  const path = (name: string) =>
    pathInZip({ name, source: { width: 10, height: 10 }, request: { size: { width: 25 } }, result: { media_type: 'image/webp' } } as unknown as Task);
  expect(['a.jpg', 'holiday/day 1/a.b.jpg', '/etc/a', '../../a.jpg', 'C:\\x/..\\a.png', 'C:/a.png'].map(path)).toEqual([
    'a_2.5x.webp', 'holiday/day 1/a.b_2.5x.webp', 'etc/a_2.5x.webp', 'a_2.5x.webp', 'x/a_2.5x.webp', 'a_2.5x.webp',
  ]);
});

test('a print is measured in centimeters and in inches', () => {
  const { cm, inches } = printSize({ width: 3000, height: 1500 }, 300);
  expect([inches, S.enlarge.printSize(cm, inches)]).toEqual([{ width: 10, height: 5 }, '25.4 × 12.7 cm (10.0 × 5.0 in)']);
});

test('events are understood in any pieces', () => {
  const text = ': hello\n\nevent: task\ndata: {"a":\ndata: 1}\n\ndata: plain\r\n\r\nevent: lost\n\n';
  const expected = [
    { event: 'task', data: '{"a":\n1}' },
    { event: 'message', data: 'plain' },
  ];
  for (let size = 1; size <= text.length; size += 1) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < text.length; at += size) events.push(...parser.push(text.slice(at, at + size)));
    expect(events, `in pieces of ${size}`).toEqual(expected);
  }
});

test('a zip is read back by another implementation, with equal names told apart', async () => {
  const zip = new ZipWriter();
  await zip.add('grün.png', new Blob(['first']));
  await zip.add('grün.png', new Blob(['second']));
  await zip.add('empty', new Blob([]));
  const path = join(mkdtempSync(join(tmpdir(), 'zip-')), 'a.zip');
  writeFileSync(path, Buffer.from(await zip.finish().arrayBuffer()));
  const script = `import json, sys, zipfile
z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None
print(json.dumps({n: z.read(n).decode() for n in z.namelist()}))`;
  const read = JSON.parse(execFileSync('python3', ['-c', script, path]).toString());
  expect(read).toEqual({ 'grün.png': 'first', 'grün-2.png': 'second', empty: '' });
});
