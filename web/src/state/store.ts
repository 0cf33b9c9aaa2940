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
      // A full or forbidden storage only costs the memory of it.
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
  hint?: string | null;
}
export const toasts = signal<Toast[]>([]);
let nextToast = 1;

export function say(text: string, kind: Toast['kind'] = 'info', hint: string | null = null): void {
  const id = nextToast;
  nextToast += 1;
  toasts.value = [...toasts.value.slice(-3), { id, kind, text, hint }];
  if (kind === 'info') setTimeout(() => dismiss(id), 5000);
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((t) => t.id !== id);
}

/** Says an error of any kind as a sentence. */
export function complain(error: unknown): void {
  if (error instanceof DOMException && error.name === 'AbortError') return;
  const { message, hint } = error as { message?: string; hint?: string | null };
  say(message ?? String(error), 'error', hint ?? null);
}
