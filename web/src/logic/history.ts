/** Searching, filtering and sorting tasks. */

import type { Task } from '../wire.ts';
import { describe } from './describe.ts';
import { inOrder } from './numbers.ts';

export const SORTS = ['newest', 'oldest', 'name', 'largest'] as const;
export type Sort = (typeof SORTS)[number];
export const STATES = ['all', 'COMPLETED', 'FAILED', 'CANCELLED', 'favourites'] as const;

export interface View {
  /** Words that are all in the name or among the settings. */
  query: string;
  state: (typeof STATES)[number];
  /** Only results of the same source as this task's, by {@link sourceOf}. */
  source: { key: string; name: string } | null;
  sort: Sort;
}

/** The same for all tasks of one source, as far as can be told without its pixels. */
export const sourceOf = ({ name, source }: Task) => (source ? `${source.width} ${source.height} ${source.bytes} ${name}` : name);

const finished = (task: Task) => task.finished_at ?? task.created_at;
// Timestamps of one form are in order as text.
const later = (a: string, b: string) => (a < b ? 1 : a > b ? -1 : 0);
const ORDERS: Record<Sort, (a: Task, b: Task) => number> = {
  newest: (a, b) => later(finished(a), finished(b)),
  oldest: (a, b) => later(finished(b), finished(a)),
  name: (a, b) => inOrder(a.name, b.name) || later(finished(a), finished(b)),
  largest: (a, b) => (b.result?.bytes ?? 0) - (a.result?.bytes ?? 0),
};

export function arrange(tasks: readonly Task[], { query, state, source, sort }: View): Task[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return tasks
    .filter((task) => {
      if (state === 'favourites' ? !task.favorite : state !== 'all' && task.status !== state) return false;
      if (source && sourceOf(task) !== source.key) return false;
      if (words.length === 0) return true;
      const text = `${task.name} ${describe(task)}`.toLowerCase();
      return words.every((word) => text.includes(word));
    })
    .sort(ORDERS[sort]);
}
