/** Files as people hand them over: dropped, pasted or picked, alone or in folders. */

import { inOrder } from '../logic/numbers.ts';

/** A file, and its name with the folders that it was found in: "holiday/day 1/a.jpg". */
export interface Found {
  file: File;
  name: string;
}

/** What can be in a folder that is dropped, by name: everything else there is left out without asking the server. */
const IMAGE = /\.(png|jpe?g|jfif|webp|tiff?|gif|bmp|avif)$/i;
const isImage = ({ name }: { name: string }) => IMAGE.test(name) && !name.startsWith('.');

/** Longest name that the server takes, in characters. */
const LONGEST_NAME = 255;

/** As much of a path as the server takes: the outermost folders go first, never the file's own name. */
export function nameOf(path: string): string {
  const parts = path.split('/').filter(Boolean);
  while (parts.length > 1 && parts.join('/').length > LONGEST_NAME) parts.shift();
  return parts.join('/').slice(-LONGEST_NAME) || 'image.png';
}

export const alone = (files: Iterable<File>): Found[] => [...files].map((file) => ({ file, name: nameOf(file.name) }));

/** What was picked as a folder, and how many other files are in it. */
export function picked(files: Iterable<File>): { found: Found[]; others: number } {
  const all = [...files].filter((file) => !file.name.startsWith('.'));
  const found = all.filter(isImage).map((file) => ({ file, name: nameOf(file.webkitRelativePath || file.name) }));
  return { found: sorted(found), others: all.length - found.length };
}

/** What was dropped. To be called while the event is handled: afterwards browsers show nothing of it. */
export async function dropped(data: DataTransfer): Promise<{ found: Found[]; others: number }> {
  const entries = [...data.items].filter((item) => item.kind === 'file').map((item) => item.webkitGetAsEntry());
  const files = [...data.files];
  // Files from other programs have no entries.
  if (!entries.some((entry) => entry?.isDirectory)) return { found: alone(files), others: 0 };
  const found: Found[] = [];
  let others = 0;
  for (const entry of entries) {
    if (!entry) continue;
    for await (const inside of walk(entry)) {
      if (entry.isDirectory && !isImage(inside)) others += inside.name.startsWith('.') ? 0 : 1;
      else found.push({ file: await fileOf(inside), name: nameOf(inside.fullPath) });
    }
  }
  return { found: sorted(found), others };
}

/** The files of a folder and of all within it. */
async function* walk(entry: FileSystemEntry): AsyncGenerator<FileSystemFileEntry> {
  if (entry.isFile) yield entry as FileSystemFileEntry;
  if (!entry.isDirectory) return;
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // Browsers hand out a hundred at a time, and none at the end.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const inside of some) yield* walk(inside);
  }
}

const fileOf = (entry: FileSystemFileEntry) => new Promise<File>((resolve, reject) => entry.file(resolve, reject));

const sorted = (found: Found[]) => found.toSorted((a, b) => inOrder(a.name, b.name));
