/** Numbers as people read them. */

const whole = new Intl.NumberFormat('en');
const oneDigit = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const twoFigures = new Intl.NumberFormat('en', { maximumSignificantDigits: 2 });

export const count = (n: number) => whole.format(n);
export const decimal = (n: number) => oneDigit.format(n);
export const pixels = (width: number, height: number) => `${whole.format(width)} × ${whole.format(height)}`;

export function megapixels(width: number, height: number): string {
  const mp = (width * height) / 1e6;
  return mp < 0.05 ? '<0.1 MP' : `${oneDigit.format(mp)} MP`;
}

/** "16.7" or "0.62": millions of something, never "0". */
export const millions = (n: number) => (n < 1e6 ? twoFigures : oneDigit).format(n / 1e6);

/** "2.0%" of a share. */
export const percent = (share: number) => `${(share * 100).toFixed(1)}%`;

export function bytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1000;
    unit += 1;
  }
  return `${n < 10 && unit > 0 ? oneDigit.format(n) : whole.format(Math.round(n))} ${units[unit]}`;
}

/** "8 s", "3 min", "2 h 10 min", "3 days": the precision that an estimate deserves. */
export function duration(seconds: number): string {
  if (seconds < 1) return 'under 1 s';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 && hours < 10 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} days`;
}

export function ago(iso: string, now = Date.now()): string {
  const seconds = Math.max(0, (now - Date.parse(iso)) / 1000);
  return seconds < 45 ? 'just now' : `${duration(seconds)} ago`;
}

export function until(iso: string, now = Date.now()): string {
  return duration(Math.max(0, (Date.parse(iso) - now) / 1000));
}

/** The name without its ending. */
export const stem = (name: string) => name.replace(/\.[^.]{1,5}$/, '') || name;

const EXTENSIONS: Record<string, string> = {
  'image/png': 'png',
  'image/jpeg': 'jpg',
  'image/webp': 'webp',
  'image/tiff': 'tif',
  'image/avif': 'avif',
};
export const extension = (mediaType: string) => EXTENSIONS[mediaType] ?? 'png';
