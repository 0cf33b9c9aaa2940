import { expect, test } from 'vitest';
import { departure } from './departure.ts';
import { AreaReducer, lanczosWindow, type Pixels } from './resample.ts';

/** A picture from a function of x and y, the same in all channels, opaque. */
function draw(width: number, height: number, value: (x: number, y: number) => number): Pixels {
  const data = new Uint8ClampedArray(width * height * 4);
  for (let i = 0; i < width * height; i += 1) {
    data.fill(value(i % width, Math.floor(i / width)), i * 4, i * 4 + 3);
    data[i * 4 + 3] = 255;
  }
  return { width, height, data };
}

test('Lanczos keeps a flat picture flat and a slope a slope, and its windows meet without a seam', () => {
  const flat = lanczosWindow(draw(7, 5, () => 100), 28, 20, { x: 0, y: 0, width: 28, height: 20 });
  expect(new Set(flat.data)).toEqual(new Set([100, 255]));

  const slope = draw(40, 8, (x) => 20 + 5 * x);
  const whole = lanczosWindow(slope, 160, 32, { x: 0, y: 0, width: 160, height: 32 });
  for (let x = 32; x < 128; x += 1) expect(Math.abs(whole.data[x * 4]! - (20 + 5 * ((x + 0.5) / 4 - 0.5)))).toBeLessThanOrEqual(1);

  const part = lanczosWindow(slope, 160, 32, { x: 50, y: 8, width: 20, height: 10 });
  for (let y = 0; y < 10; y += 1) {
    const from = ((y + 8) * 160 + 50) * 4;
    expect([...part.data.slice(y * 80, y * 80 + 80)]).toEqual([...whole.data.slice(from, from + 80)]);
  }
});

test('reducing averages areas exactly, in strips, for whole and for broken ratios', () => {
  for (const [from, to] of [
    [{ width: 12, height: 8 }, { width: 3, height: 2 }],
    [{ width: 10, height: 9 }, { width: 4, height: 4 }],
  ] as const) {
    const picture = draw(from.width, from.height, (x, y) => (x * 37 + y * 91) % 256);
    const reducer = new AreaReducer(from, to);
    for (let y = 0; y < from.height; y += 3) reducer.feed(picture.data.subarray(y * from.width * 4, (y + 3) * from.width * 4));
    const reduced = reducer.finish();
    for (let cell = 0; cell < to.width * to.height; cell += 1) {
      expect(reduced[cell * 3]).toBeCloseTo(integral(picture, to, cell % to.width, Math.floor(cell / to.width)), 6);
    }
  }
});

/** The mean under a cell, from the overlap of every pixel with it: a slower way to the same number. */
function integral(picture: Pixels, to: { width: number; height: number }, column: number, row: number): number {
  const overlap = (pixel: number, cell: number, from: number, cells: number) =>
    Math.max(0, Math.min(pixel + 1, ((cell + 1) * from) / cells) - Math.max(pixel, (cell * from) / cells));
  let sum = 0;
  let area = 0;
  for (let y = 0; y < picture.height; y += 1) {
    for (let x = 0; x < picture.width; x += 1) {
      const share = overlap(x, column, picture.width, to.width) * overlap(y, row, picture.height, to.height);
      sum += share * picture.data[(y * picture.width + x) * 4]!;
      area += share;
    }
  }
  return sum / area;
}

test('what is unchanged departs by nothing; a known change departs by its root mean square', () => {
  const original = draw(4, 4, (x) => x * 60);
  const same = Float64Array.from({ length: 48 }, (_, i) => original.data[Math.floor(i / 3) * 4]!);
  const nothing = departure(original, same);
  expect(nothing.rms).toBe(0);
  expect(nothing.map.data.every((v, i) => i % 4 !== 3 || v === 0)).toBe(true);

  const changed = same.map((v, i) => (i < 12 ? v + 51 : v)); // a quarter of the pixels by a fifth of full scale
  expect(departure(original, changed).rms).toBeCloseTo(0.1, 9);
});
