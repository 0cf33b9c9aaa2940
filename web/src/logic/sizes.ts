/** Sizes, limits and what fits: arithmetic that needs no server. */

import type { Look, ServiceStatus, UpscaleRequest } from '../wire.ts';

export interface Extent {
  width: number;
  height: number;
}

export interface Limits {
  /** Largest upload in bytes. */
  maxBodyBytes: number;
  /** Largest source in pixels. */
  maxSourcePixels: number;
  /** Largest result in pixels. */
  maxResultPixels: number;
}

/** Until the server has told its limits, it is the one to judge. */
export const UNKNOWN_LIMITS: Limits = {
  maxBodyBytes: Infinity,
  maxSourcePixels: Infinity,
  maxResultPixels: Infinity,
};

/** The factors on offer. The creative ones are those that the public interface knows. */
export const FACTORS: Record<Look['mode'], readonly number[]> = {
  creative: [2, 4, 8, 16],
  precision: [2, 3, 4, 6, 8, 12, 16],
};

/** Beyond this nothing is enlarged. */
export const LARGEST_FACTOR = 16;

export function resultSize(source: Extent, factor: number): Extent {
  return { width: Math.round(source.width * factor), height: Math.round(source.height * factor) };
}

/** Whether a result of this factor is within the limits. */
export function fits(source: Extent, factor: number, limits: Limits): boolean {
  const { width, height } = resultSize(source, factor);
  return width * height <= limits.maxResultPixels;
}

/** Whether a job takes more memory than the machine has free: it may fail. What takes more than there is at all, the server refuses. */
export function scarce(bytes: number, status: ServiceStatus | null): boolean {
  return bytes > (status?.machine?.memory_available ?? Infinity);
}

export function factorOf(request: UpscaleRequest, source: Extent): number {
  const { size } = request;
  if ('factor' in size) return size.factor;
  return 'width' in size ? size.width / source.width : size.height / source.height;
}

/** Print size at so many dots per inch. */
export function printSize({ width, height }: Extent, dpi: number): { cm: Extent; inches: Extent } {
  const inches = { width: width / dpi, height: height / dpi };
  return { cm: { width: inches.width * 2.54, height: inches.height * 2.54 }, inches };
}

/** The longest side of a preview's result that the server makes. */
const PREVIEW_RESULT_SIDE = 2048;

/**
 * Side of a square region of the source for a preview that costs about `budget` seconds, at most the image itself.
 * @param secondsPerPixel cost of one source pixel; `null` while unknown
 */
export function previewSide(source: Extent, factor: number, secondsPerPixel: number | null, budget = 2.5): number {
  const wanted = secondsPerPixel ? Math.sqrt(budget / secondsPerPixel) : 96;
  // Multiples of 8 keep JPEG's blocks in phase; below 48 pixels there is nothing to judge.
  const side = Math.floor(Math.min(256, PREVIEW_RESULT_SIDE / factor, Math.max(48, wanted)) / 8) * 8;
  return Math.min(side, source.width, source.height);
}
