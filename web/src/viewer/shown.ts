/** Which image files browsers decode themselves; the server makes a PNG of the others. */

/** Formats that every browser decodes. Even of these some files are beyond it: 12-bit or arithmetic-coded JPEG, for example. */
const SHOWN = new Set(['image/png', 'image/jpeg', 'image/webp', 'image/gif', 'image/bmp', 'image/avif']);

export const shown = (mediaType: string) => SHOWN.has(mediaType);

/** Where the server has a PNG of a file of its own. */
export const viewOf = (url: string) => `${url}${url.includes('?') ? '&' : '?'}view=1`;
