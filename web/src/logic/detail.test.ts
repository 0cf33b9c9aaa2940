import { expect, test } from 'vitest';
import { busiest } from './detail.ts';

const image = (width: number, height: number, grey: (x: number, y: number) => number, alpha = 255) => {
  const data = new Uint8ClampedArray(width * height * 4);
  for (let i = 0; i < width * height; i += 1) data.set([...Array(3).fill(grey(i % width, Math.floor(i / width))), alpha], i * 4);
  return { width, height, data };
};

test('the test strip starts where the contrast is, not in the sky', () => {
  // A chequered square of 20 x 20 at (70, 60) in a flat image of 100 x 100: only the window over it has all of it.
  const { x, y } = busiest(image(100, 100, (x, y) => (x >= 70 && x < 90 && y >= 60 && y < 80 ? ((x + y) % 2) * 200 : 128)));
  expect(Math.abs(x - 0.8)).toBeLessThanOrEqual(0.011);
  expect(Math.abs(y - 0.7)).toBeLessThanOrEqual(0.011);
});

test('a soft gradient is less than fine detail, at the edge of a narrow image too', () => {
  const { x, y } = busiest(image(20, 200, (x, y) => (y >= 196 ? (x % 2) * 90 : y / 2)));
  expect(y).toBeGreaterThan(0.97);
  expect(x).toBeGreaterThan(0);
});

test('where all is flat or nothing is to be seen it is the middle', () => {
  expect(busiest(image(30, 40, () => 77))).toEqual({ x: 0.5, y: 0.5 });
  expect(busiest(image(1, 1, () => 9))).toEqual({ x: 0.5, y: 0.5 });
  expect(busiest(image(16, 16, (x) => x * 10, 0))).toEqual({ x: 0.5, y: 0.5 });
});
