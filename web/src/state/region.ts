/** Regions of pictures on the desk, as pixels. */

import type { Crop } from '../wire.ts';
import { viewed, type Picture } from './desk.ts';

/** A region of the original, or of what the server shows of it where the browser has no bitmap of the file. */
export async function originalOf(picture: Picture, crop: Crop): Promise<ImageBitmap> {
  try {
    return await regionOf(picture.url, picture, crop);
  } catch {
    const { url } = await viewed(picture);
    return regionOf(url, picture, crop).finally(() => URL.revokeObjectURL(url));
  }
}

/** A region of a picture, cut from an image of it that may be smaller. */
async function regionOf(url: string, picture: Picture, crop: Crop): Promise<ImageBitmap> {
  const image = new Image();
  image.src = url;
  await image.decode();
  const share = image.naturalWidth / picture.size.width;
  return createImageBitmap(image, crop.x * share, crop.y * share, Math.max(1, crop.width * share), Math.max(1, crop.height * share));
}
