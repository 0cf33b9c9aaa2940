/** Tells people who are elsewhere that a long job has ended. */

import { describe } from '../logic/describe.ts';
import { S } from '../strings.ts';
import type { Task } from '../wire.ts';
import { go } from './route.ts';
import { stored } from './store.ts';

/** From how many seconds on a job is long: people have turned to something else. */
const LONG = 20;

/** Browsers know no notifications of pages that are neither on localhost nor on https. */
export const canNotify = 'Notification' in globalThis && isSecureContext;
export const notifying = stored<boolean>('notify', false, (v): v is boolean => typeof v === 'boolean');

/** Turns notifications on, if the person lets the browser show them; resolves to whether they did. */
export async function turnOn(): Promise<boolean> {
  notifying.value = canNotify && (await Notification.requestPermission()) === 'granted';
  return notifying.value;
}

export function notify(task: Task): void {
  const elsewhere = document.visibilityState === 'hidden' || !document.hasFocus();
  if (!notifying.value || !canNotify || Notification.permission !== 'granted' || !elsewhere) return;
  if (!task.finished_at || Date.parse(task.finished_at) - Date.parse(task.created_at) < LONG * 1000) return;
  const done = task.status === 'COMPLETED';
  const text = done ? S.queue.saidDone(task.name) : S.queue.saidFailed(task.name, task.error?.message ?? '');
  const notification = new Notification(text, { body: describe(task), icon: './icon.svg', tag: task.task_id });
  notification.onclick = () => {
    window.focus();
    if (done) go('compare', task.task_id);
    else go('queue');
    notification.close();
  };
}
