/** Small pieces of state that outlive the page. */

import { effect, signal, type Signal } from '@preact/signals';

/** A signal kept in localStorage. What is stored is checked by `accept`; anything else is forgotten. */
export function stored<T>(name: string, initial: T, accept: (value: unknown) => value is T): Signal<T> {
  const key = `enlarger.${name}`;
  const kept = signal(initial);
  try {
    const value: unknown = JSON.parse(localStorage.getItem(key) ?? 'null');
    if (accept(value)) kept.value = value;
  } catch {
    // Damaged or forbidden storage: the page works without.
  }
  effect(() => {
    try {
      localStorage.setItem(key, JSON.stringify(kept.value));
    } catch {
      // If storage is full or forbidden, only the memory of it is lost.
    }
  });
  return kept;
}

export type Theme = 'system' | 'dark' | 'light';
export const theme = stored<Theme>('theme', 'system', (v): v is Theme => v === 'system' || v === 'dark' || v === 'light');

effect(() => {
  const { dataset } = document.documentElement;
  if (theme.value === 'system') delete dataset.theme;
  else dataset.theme = theme.value;
});

/** Passing messages, shown for a while and read out. */
export interface Toast {
  id: number;
  kind: 'info' | 'error';
  text: string;
  hint: string | null;
  /** One line for each of several things that the message is about. */
  details: string[];
  /** How many things of one kind it is about, if the next of that kind is to join them. */
  group?: { of: string; count: number };
}
export const toasts = signal<Toast[]>([]);
let nextToast = 1;

/** Most messages shown at once; older ones make room. */
const SHOWN = 4;

export function say(text: string, kind: Toast['kind'] = 'info', hint: string | null = null, details: string[] = [], group?: Toast['group']): void {
  const id = nextToast;
  nextToast += 1;
  // Said again, a message is shown once, for its full time anew.
  const others = toasts.value.filter((t) => t.kind !== kind || t.text !== text);
  toasts.value = [...others.slice(1 - SHOWN), { id, kind, text, hint, details, ...(group ? { group } : {}) }];
}

/** Says that something has happened, or how often it has, if that is being said already. */
export function sayAgain(of: string, text: (count: number) => string): void {
  const shown = toasts.value.find((t) => t.group?.of === of);
  const count = (shown?.group?.count ?? 0) + 1;
  if (shown) dismiss(shown.id);
  say(text(count), 'info', null, [], { of, count });
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((t) => t.id !== id);
}

const aborted = (error: unknown) => error instanceof DOMException && error.name === 'AbortError';
const words = (error: unknown) => {
  const { message, hint } = error as { message?: string; hint?: string | null };
  return { message: message ?? String(error), hint: hint ?? null };
};

/** Says an error of any kind as a sentence. */
export function complain(error: unknown): void {
  complainOf([error], () => '');
}

/** Says several errors as one message: `title` tells how many, details tell each. */
export function complainOf(errors: readonly unknown[], title: (n: number) => string): void {
  const all = errors.filter((error) => !aborted(error)).map(words);
  const [first] = all;
  if (!first) return;
  if (all.length === 1) return say(first.message, 'error', first.hint);
  const hints = new Set(all.map((error) => error.hint));
  say(title(all.length), 'error', hints.size === 1 ? first.hint : null, all.map((error) => error.message));
}
