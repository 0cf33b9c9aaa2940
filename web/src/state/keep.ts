/** Files on the desk, kept by the browser so that a reload of this tab does not lose them. */

import type { Found } from './folders.ts';

const DATABASE = 'enlarger';
const STORE = 'desk';
/** Which of the kept files are this tab's, in order. */
const LIST = 'enlarger.desk';
/** Files of tabs that were closed are forgotten after a day, in milliseconds. */
const FORGET = 24 * 3600 * 1000;

interface Kept extends Found {
  at: number;
}

const list = (): string[] => {
  try {
    return JSON.parse(sessionStorage.getItem(LIST) ?? '[]');
  } catch {
    return [];
  }
};
const setList = (keys: string[]) => {
  try {
    sessionStorage.setItem(LIST, JSON.stringify(keys));
  } catch {
    // Without storage a reload starts with an empty desk, as before.
  }
};

const done = <T>(request: IDBRequest<T>) =>
  new Promise<T>((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Runs `work` on the store. Private windows may have none, and disks may be full: then nothing is kept. */
async function withStore<T>(work: (store: IDBObjectStore) => Promise<T>): Promise<T | null> {
  try {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    const database = await done(request);
    try {
      return await work(database.transaction(STORE, 'readwrite').objectStore(STORE));
    } finally {
      database.close();
    }
  } catch {
    return null;
  }
}

export async function keep(key: string, found: Found): Promise<void> {
  setList([...list(), key]);
  await withStore((store) => done(store.put({ ...found, at: Date.now() } satisfies Kept, key)));
}

export async function forget(keys: readonly string[]): Promise<void> {
  const gone = new Set(keys);
  setList(list().filter((other) => !gone.has(other)));
  await withStore((store) => Promise.all(keys.map((key) => done(store.delete(key)))));
}

/** What the key of an image begins with that the server has, as the source of a task. */
const OF_TASK = 'task ';

export const keyOfTask = (id: string) => OF_TASK + id;
export const keepTask = (id: string) => setList([...list(), keyOfTask(id)]);

/** What this tab had on its desk: files, which are no longer kept by their old keys, and tasks whose sources were there. */
export async function recall(): Promise<{ found: Found[]; tasks: string[] }> {
  const mine = list();
  setList([]);
  const files = await withStore(async (store) => {
    const found: Found[] = [];
    const [keys, values] = await Promise.all([done(store.getAllKeys()), done<Kept[]>(store.getAll())]);
    const byKey = new Map(keys.map((key, i) => [String(key), values[i]!]));
    for (const key of mine) {
      const kept = byKey.get(key);
      // Earlier versions kept no name beside the file.
      if (kept) found.push({ file: kept.file, name: kept.name ?? kept.file.name });
    }
    const stale = [...byKey].filter(([key, { at }]) => mine.includes(key) || Date.now() - at > FORGET);
    await Promise.all(stale.map(([key]) => done(store.delete(key))));
    return found;
  });
  return { found: files ?? [], tasks: mine.filter((key) => key.startsWith(OF_TASK)).map((key) => key.slice(OF_TASK.length)) };
}
