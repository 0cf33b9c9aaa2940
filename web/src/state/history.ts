/** The history as it is looked at: what is searched for, filtered, sorted and marked. */

import { computed, signal } from '@preact/signals';
import { arrange, SORTS, type Sort, type View } from '../logic/history.ts';
import { hasFile } from './results.ts';
import { stored } from './store.ts';
import { isActive, tasks } from './tasks.ts';

export const EVERYTHING: Omit<View, 'sort'> = { query: '', state: 'all', source: null };
export const filter = signal(EVERYTHING);
export const sort = stored<Sort>('sort', 'newest', (v): v is Sort => (SORTS as readonly unknown[]).includes(v));

/** What is over. */
export const past = computed(() => tasks.value.filter((task) => !isActive(task)));
/** What of it is looked at, in order. */
export const looked = computed(() => arrange(past.value, { ...filter.value, sort: sort.value }));
/** Those that can be compared. */
export const comparable = computed(() => looked.value.filter(hasFile));
