/** Results, as files to take away. */

import * as api from '../api.ts';
import { describe } from '../logic/describe.ts';
import { fileName, pathInZip } from '../logic/files.ts';
import { split } from '../logic/format.ts';
import { sourceOf } from '../logic/history.ts';
import { MAX_BYTES, ZipWriter } from '../logic/zip.ts';
import { S } from '../strings.ts';
import { viewOf } from '../viewer/shown.ts';
import type { Task } from '../wire.ts';
import { complain, say } from './store.ts';

export const hasFile = (task: Task) => task.status === 'COMPLETED' && task.files === 'present' && task.result !== null;

/** Whether two tasks have the same source, so that their results can be held against each other. */
export const sameSource = (a: Task, b: Task) => sourceOf(a) === sourceOf(b);

/** Puts results into one zip, or several where one cannot hold them. `onFile` hears which one is being packed. */
export async function saveZip(tasks: readonly Task[], onFile: (n: number, all: number) => void): Promise<void> {
  let archive = new ZipWriter();
  let parts = 0;
  const finish = () => {
    parts += 1;
    save(archive.finish(), parts === 1 ? 'enlarged.zip' : `enlarged-${parts}.zip`);
    archive = new ZipWriter();
  };
  for (const [i, task] of tasks.entries()) {
    onFile(i + 1, tasks.length);
    const blob = await api.file(api.local(task.result!.url));
    // What does not fit into one archive goes into the next.
    if (archive.size > 0 && archive.size + blob.size > MAX_BYTES) finish();
    await archive.add(pathInZip(task), blob);
  }
  finish();
}

function save(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser reads the address after this turn; a minute is ample.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Lets a result be dragged out of the page as the file that it is, where browsers allow it, and as its address elsewhere. */
export function dragOut(e: DragEvent, task: Task): void {
  const url = new URL(api.local(task.result!.url), location.href).href;
  e.dataTransfer?.setData('DownloadURL', `${task.result!.media_type}:${fileName(task).replace(/:/g, '_')}:${url}`);
  e.dataTransfer?.setData('text/uri-list', url);
  e.dataTransfer?.setData('text/plain', url);
}

/** Copies a result to the clipboard, which takes images as PNG only. */
export async function copyImage(task: Task): Promise<void> {
  const { url, media_type } = task.result!;
  const path = api.local(url);
  try {
    const png = api.file(media_type === 'image/png' ? path : viewOf(path));
    // Safari only takes what it is promised while the click is handled.
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': png })]);
    say(S.enlarge.copied(`${split(task.name).base}, ${describe(task)}`));
  } catch (error) {
    if (error instanceof api.Problem) complain(error);
    else say(S.enlarge.copyFailed, 'error', S.results.copyFailedHint);
  }
}
