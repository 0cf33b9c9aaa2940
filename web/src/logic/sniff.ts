/** What a file is by its first bytes, not by its name. */

export type PictureType = 'image/png' | 'image/jpeg' | 'image/webp' | 'image/gif' | 'image/bmp' | 'image/tiff';

/** How many bytes {@link pictureType} looks at. */
export const SNIFF_BYTES = 16;

/** How many bytes {@link mayBeTransparent} looks at: in a PNG tRNS comes before the pixels, which come after some hundred bytes of metadata, mostly. */
export const TRANSPARENCY_BYTES = 64 * 1024;

/** Whether an image file may have transparent pixels, by its header; `true` where that does not tell (ISO 15948, 11.2.1 and 11.3.1). */
export function mayBeTransparent(head: Uint8Array): boolean {
  const type = pictureType(head);
  if (type === 'image/jpeg' || type === 'image/bmp') return false;
  if (type !== 'image/png') return true;
  const [GREY, RGB] = [0, 2];
  const colourType = head[25];
  const opaque = colourType === GREY || colourType === RGB;
  return !opaque || new TextDecoder('latin1').decode(head).includes('tRNS');
}

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
