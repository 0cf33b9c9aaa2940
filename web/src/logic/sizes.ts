/** Sizes, limits and what fits: arithmetic that needs no server. */

import type { Look, UpscaleRequest } from '../types.ts';

export interface Extent {
  width: number;
  height: number;
}

export interface Limits {
  /** Largest upload in bytes. */
  maxBodyBytes: number;
  /** Largest source in pixels. */
  maxSourcePixels: number;
  /** Largest creative result in pixels. */
  maxCreativePixels: number;
  /** Longest side of a precision result in pixels. */
  maxPrecisionSide: number;
}

/** The contract's limits; the service may name its own. */
export const CONTRACT_LIMITS: Limits = {
  maxBodyBytes: 128 * 1024 * 1024,
  maxSourcePixels: 64_000_000,
  maxCreativePixels: 25_300_000,
  maxPrecisionSide: 10_060,
};

/** The factors on offer. The creative ones are those that the public interface knows. */
export const FACTORS: Record<Look['mode'], readonly number[]> = {
  creative: [2, 4, 8, 16],
  precision: [2, 3, 4, 6, 8, 12, 16],
};

export function resultSize(source: Extent, factor: number): Extent {
  return { width: Math.round(source.width * factor), height: Math.round(source.height * factor) };
}

/** Whether a result of this factor is within the limits. */
export function fits(source: Extent, mode: Look['mode'], factor: number, limits: Limits): boolean {
  const { width, height } = resultSize(source, factor);
  if (mode === 'creative') return width * height <= limits.maxCreativePixels;
  return Math.max(width, height) <= limits.maxPrecisionSide;
}

/** The largest factor on offer that fits, or `null` if none does. */
export function largestFactor(source: Extent, mode: Look['mode'], limits: Limits): number | null {
  return FACTORS[mode].filter((f) => fits(source, mode, f, limits)).at(-1) ?? null;
}

export function factorOf(request: UpscaleRequest, source: Extent): number {
  const { size } = request;
  if ('factor' in size) return size.factor;
  return 'width' in size ? size.width / source.width : size.height / source.height;
}

/** Print size in centimetres at so many dots per inch. */
export function printSize({ width, height }: Extent, dpi = 300): Extent {
  return { width: (width / dpi) * 2.54, height: (height / dpi) * 2.54 };
}

/**
 * A square region of the source for a preview that costs about `budget` seconds, at most the picture itself.
 * @param secondsPerPixel cost of one source pixel; `null` while unknown
 */
export function previewSide(source: Extent, secondsPerPixel: number | null, budget = 2.5): number {
  const wanted = secondsPerPixel ? Math.sqrt(budget / secondsPerPixel) : 96;
  // Multiples of 8 keep JPEG's blocks in phase; below 48 pixels there is nothing to judge.
  const side = Math.floor(Math.min(256, Math.max(48, wanted)) / 8) * 8;
  return Math.min(side, source.width, source.height);
}
