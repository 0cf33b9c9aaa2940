import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CONTRACT_LIMITS as limits, fits, largestFactor } from './sizes.ts';
import { EventParser } from './sse.ts';
import { ZipWriter } from './zip.ts';

test('the largest factor that fits is offered, at the very edge of each limit', () => {
  // 25.3 MP: 2515 x 2515 x 4 = 25,300,900 is just too much, 2514 x 2515 x 4 just not.
  expect(fits({ width: 2515, height: 2515 }, 'creative', 2, limits)).toBe(false);
  expect(fits({ width: 2514, height: 2515 }, 'creative', 2, limits)).toBe(true);
  expect(fits({ width: 5030, height: 10 }, 'precision', 2, limits)).toBe(true);
  expect(fits({ width: 5031, height: 10 }, 'precision', 2, limits)).toBe(false);
  expect(largestFactor({ width: 600, height: 600 }, 'creative', limits)).toBe(8);
  expect(largestFactor({ width: 600, height: 600 }, 'precision', limits)).toBe(16);
  expect(largestFactor({ width: 6000, height: 4000 }, 'creative', limits)).toBeNull();
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
