/** The tasks as the service tells them: one list, kept fresh by its events. */

import { computed, effect, signal } from '@preact/signals';
import * as api from '../api.ts';
import { S } from '../strings.ts';
import type { Task } from '../wire.ts';
import { split } from '../logic/format.ts';
import { inOrderOfWork } from '../logic/order.ts';
import { notify } from './notify.ts';
import { complain, say, sayAgain } from './store.ts';

const PER_PAGE = 100;

export type Connection = 'connecting' | 'open' | 'lost';
export const connection = signal<Connection>('connecting');

const byId = signal<ReadonlyMap<string, Task>>(new Map());
export const total = signal(0);
export const loaded = signal(false);
/** All that is known, newest first. */
export const tasks = computed(() => [...byId.value.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1)));
/** What is running and waiting, in the order of work. */
export const active = computed(() => inOrderOfWork(tasks.value.filter(isActive)));

export const isActive = (task: Task) => task.status === 'CREATED' || task.status === 'IN_PROGRESS';
export const find = (id: string) => byId.value.get(id) ?? null;

/** Programs need not name their images; the server then tells the task's number, which means nothing to people. */
const titled = (task: Task): Task => (task.name === task.task_id ? { ...task, name: S.queue.untitled } : task);

export function put(...fresh: Task[]): void {
  const next = new Map(byId.value);
  for (const task of fresh) next.set(task.task_id, titled(task));
  byId.value = next;
}

function drop(id: string): void {
  const next = new Map(byId.value);
  next.delete(id);
  byId.value = next;
}

/** What events say while the list is on its way; `null` of what was deleted. */
let meanwhile: Map<string, Task | null> | null = null;

/** Replaces the list. Events that come while it is on its way may be newer than it, or older: what is over stays over. */
async function reload(): Promise<void> {
  const heard = new Map<string, Task | null>();
  meanwhile = heard;
  const answer = await api.tasks(1, PER_PAGE).finally(() => meanwhile === heard && (meanwhile = null));
  const next = new Map(answer.tasks.map((t) => [t.task_id, titled(t)]));
  for (const [id, task] of heard) {
    const listed = next.get(id);
    if (task === null) next.delete(id);
    else if (!listed || isActive(listed)) next.set(id, titled(task));
  }
  total.value = answer.total;
  byId.value = next;
  loaded.value = true;
}

/** Loads what of the history is not known yet, a page at a time. */
export async function loadAll(): Promise<void> {
  for (let page = 1; byId.value.size < total.value; page += 1) {
    const answer = await api.tasks(page, PER_PAGE);
    total.value = answer.total;
    put(...answer.tasks);
    if (answer.tasks.length < PER_PAGE) return;
  }
}

/** A task that may not be in the list yet. */
export async function fetchTask(id: string): Promise<Task> {
  const task = await api.task(id);
  put(task);
  return task;
}

function onEvent({ event, data }: { event: string; data: string }): void {
  if (event === 'task') {
    const task: Task = JSON.parse(data);
    const before = find(task.task_id);
    meanwhile?.set(task.task_id, task);
    put(task);
    if (!before) total.value += 1;
    if (before && isActive(before)) announce(titled(task));
  } else if (event === 'deleted') {
    const { task_id } = JSON.parse(data);
    meanwhile?.set(task_id, null);
    drop(task_id);
  }
}

function announce(task: Task): void {
  if (!isActive(task) && task.status !== 'CANCELLED') notify(task);
  if (task.status === 'COMPLETED') sayAgain('ready', (n) => (n === 1 ? S.queue.saidDone(split(task.name).base) : S.queue.saidDoneAll(n)));
  if (task.status === 'FAILED') say(S.queue.saidFailed(task.name, task.error?.message ?? ''), 'error', task.error?.hint ?? null);
}

/** How long to wait after the n-th broken connection, in milliseconds. */
const pause = (n: number) => Math.min(500 * 2 ** n, 5000);

/** Follows the service for as long as the page is open; a broken connection is taken up again. */
export async function stayConnected(): Promise<never> {
  for (let failures = 0; ; failures += 1) {
    const attempt = new AbortController();
    const key = api.apiKey.value;
    const stopWatching = api.apiKey.subscribe((now) => now !== key && attempt.abort());
    try {
      await api.follow(
        () => {
          if (connection.value === 'lost') say(S.connection.back);
          connection.value = 'open';
          failures = 0;
          // The stream reports changes from now on; the list has what changed before.
          reload().catch(complain);
        },
        onEvent,
        attempt.signal,
      );
    } catch {
      // Said by the banner, or by the question for a key.
    }
    stopWatching();
    if (attempt.signal.aborted) continue;
    if (api.keyWanted.value) await keyGiven();
    else {
      connection.value = 'lost';
      await new Promise((resolve) => setTimeout(resolve, pause(failures)));
    }
  }
}

function keyGiven(): Promise<void> {
  return new Promise((resolve) => {
    const stop = effect(() => {
      if (api.keyWanted.value) return;
      resolve();
      queueMicrotask(() => stop());
    });
  });
}

async function act(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    complain(error);
  }
}

export const cancelTask = (id: string) => act(async () => put(await api.cancel(id)));
export const retryTask = (id: string) => act(async () => put(await api.retry(id)));
export const favorTask = (id: string, favorite: boolean) => act(async () => put(await api.favor(id, favorite)));
export const deleteTask = (id: string) =>
  act(async () => {
    await api.remove(id);
    drop(id);
    total.value = Math.max(0, total.value - 1);
  });
