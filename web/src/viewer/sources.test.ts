import { expect, test } from 'vitest';
import { levels, onLevel, TILE } from './protocol.ts';
import { bitmapSource, tilesIn, type Source } from './sources.ts';

const everywhere = { left: -1e6, top: -1e6, right: 1e6, bottom: 1e6 };

/** How often each pixel of a level is covered. */
function cover(source: Source, level: number): Set<number> {
  const width = onLevel(source.width, level);
  const height = onLevel(source.height, level);
  const times = new Uint8Array(width * height);
  for (const t of tilesIn(source, level, everywhere)) {
    for (let y = t.y; y < t.y + t.height; y += 1) times.fill(times[y * width + t.x]! + 1, y * width + t.x, y * width + t.x + t.width);
  }
  return new Set(times);
}

test('a bitmap is shown once, however large and of whatever shape', () => {
  for (const [width, height] of [[512, 512], [513, 40], [40, 800], [2048, 2048]] as const) {
    const bitmap = { width, height } as ImageBitmap;
    const source = bitmapSource(bitmap);
    expect([...tilesIn(source, 0, everywhere)]).toEqual([{ column: 0, row: 0, x: 0, y: 0, width, height }]);
    expect(source.tile(0, 0, 0)).toBe(bitmap);
  }
});

test('tiles cover each level of an image exactly once', () => {
  for (const [width, height] of [[511, 513], [1025, 3], [1600, 1100]] as const) {
    const source: Source = { width, height, levels: levels(width, height), side: TILE, transparent: false, tile: () => null };
    for (let level = 0; level < source.levels; level += 1) expect(cover(source, level)).toEqual(new Set([1]));
    expect([...tilesIn(source, source.levels - 1, everywhere)], 'the coarsest level is one tile').toHaveLength(1);
  }
});
