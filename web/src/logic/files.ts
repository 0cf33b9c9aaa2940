/** What results are called as files. */

import type { Task } from '../wire.ts';
import { extension, split, stem } from './format.ts';
import { decimal } from './numbers.ts';
import { factorOf } from './sizes.ts';

/** "photo_4x.png": what a result is called as a file. */
export const fileName = (task: Task) =>
  `${stem(split(task.name).base)}_${task.source ? decimal(factorOf(task.request, task.source)) : ''}x.${extension(task.result?.media_type ?? '')}`;

/** The same with the folders that its source was in. Names come from any program: they lead to no place outside the archive. */
export function pathInZip(task: Task): string {
  const folders = split(task.name).folder.split(/[/\\]/).filter((part) => part && part !== '.' && part !== '..' && !part.includes(':'));
  return [...folders, fileName(task)].join('/');
}
