/** Sizes, times and names as people read them. */

import { S } from '../strings.ts';
import { count, decimal } from './numbers.ts';

export const pixels = (width: number, height: number) => `${count(width)} × ${count(height)}`;

export function megapixels(width: number, height: number): string {
  const mp = (width * height) / 1e6;
  return S.units.megapixels(mp < 0.05 ? '<0.1' : decimal(mp));
}

export function bytes(n: number): string {
  let unit = 0;
  // In units of 1024, as the settings and the server's messages count them.
  while (n >= 1024 && unit < S.units.bytes.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${n < 10 && unit > 0 ? decimal(n) : count(Math.round(n))} ${S.units.bytes[unit]}`;
}

/** "8 s", "3 min", "2 h 10 min", "3 days": the precision that an estimate deserves. */
export function duration(seconds: number): string {
  const U = S.units;
  if (seconds < 1) return U.underASecond;
  if (seconds < 90) return U.seconds(Math.round(seconds));
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return U.minutes(minutes);
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 && hours < 10 ? `${U.hours(hours)} ${U.minutes(minutes % 60)}` : U.hours(hours);
  return U.days(Math.round(hours / 24));
}

export function ago(iso: string, now = Date.now()): string {
  const seconds = Math.max(0, (now - Date.parse(iso)) / 1000);
  return seconds < 45 ? S.units.justNow : S.units.ago(duration(seconds));
}

export function until(iso: string, now = Date.now()): string {
  return duration(Math.max(0, (Date.parse(iso) - now) / 1000));
}

/** The name without its ending. */
export const stem = (name: string) => name.replace(/\.[^.]{1,5}$/, '') || name;

/** A name's folders and the name in them: "holiday/day 1" and "a.jpg". */
export function split(name: string): { folder: string; base: string } {
  // Other programs may name files as Windows does.
  const at = Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\'));
  return { folder: name.slice(0, Math.max(at, 0)), base: name.slice(at + 1) || name };
}

const EXTENSIONS: Record<string, string> = {
  'image/png': 'png',
  'image/jpeg': 'jpg',
  'image/webp': 'webp',
  'image/tiff': 'tif',
  'image/avif': 'avif',
};
export const extension = (mediaType: string) => EXTENSIONS[mediaType] ?? 'png';
