import { expect, test } from 'vitest';
import { glow } from './glow.ts';
import { lanczosWindow, type Pixels } from './resample.ts';

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

test('a map of what was invented glows brighter the further off, and not at all where nothing is', () => {
  const { data } = glow(draw(256, 1, (x) => x));
  const alpha = [...data].filter((_, i) => i % 4 === 3);
  expect(alpha.slice(0, 11)).toEqual(Array(11).fill(0)); // rounding of a source's 8 bits
  expect(alpha.slice(11, 154).every((a, i, all) => a > 0 && (i === 0 || a >= all[i - 1]!))).toBe(true);
  expect(alpha[12], 'what is just beyond rounding is faint').toBeLessThan(40);
  expect(new Set(alpha.slice(153))).toEqual(new Set([240]));
});
