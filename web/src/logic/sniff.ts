/** What a file is by its first bytes, not by its name. */

import type { Extent } from './sizes.ts';

export type PictureType = 'image/png' | 'image/jpeg' | 'image/webp' | 'image/gif' | 'image/bmp' | 'image/tiff';

/** How many bytes {@link pictureType} looks at. */
export const SNIFF_BYTES = 16;

export function pictureType(head: Uint8Array): PictureType | null {
  const starts = (at: number, ...wanted: number[]) => wanted.every((byte, i) => head[at + i] === byte);
  const text = (at: number, wanted: string) => starts(at, ...[...wanted].map((c) => c.charCodeAt(0)));
  if (starts(0, 0x89) && text(1, 'PNG')) return 'image/png';
  if (starts(0, 0xff, 0xd8, 0xff)) return 'image/jpeg';
  if (text(0, 'RIFF') && text(8, 'WEBP')) return 'image/webp';
  if (text(0, 'GIF8')) return 'image/gif';
  if (text(0, 'BM')) return 'image/bmp';
  if (starts(0, 0x49, 0x49, 0x2a, 0) || starts(0, 0x4d, 0x4d, 0, 0x2a)) return 'image/tiff';
  return null;
}

/** Width and height of a TIFF's first picture (TIFF 6.0, tags 256 and 257), which browsers do not show. */
export async function tiffSize(file: Blob): Promise<Extent | null> {
  const read = async (at: number, length: number) => new DataView(await file.slice(at, at + length).arrayBuffer());
  try {
    const head = await read(0, 8);
    const little = head.getUint16(0) === 0x4949;
    const directory = head.getUint32(4, little);
    const entries = (await read(directory, 2)).getUint16(0, little);
    const table = await read(directory + 2, entries * 12);
    let width = 0;
    let height = 0;
    for (let i = 0; i < entries; i += 1) {
      const tag = table.getUint16(i * 12, little);
      const short = table.getUint16(i * 12 + 2, little) === 3;
      const value = short ? table.getUint16(i * 12 + 8, little) : table.getUint32(i * 12 + 8, little);
      if (tag === 256) width = value;
      if (tag === 257) height = value;
    }
    return width && height ? { width, height } : null;
  } catch {
    return null;
  }
}
