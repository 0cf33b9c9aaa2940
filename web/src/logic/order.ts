/** In which order tasks are worked on. */

import type { Task } from '../wire.ts';

/** Running tasks first, then those that wait by their place, of which the server tells. */
export function inOrderOfWork(tasks: readonly Task[]): Task[] {
  const place = (task: Task) => (task.status === 'IN_PROGRESS' ? -1 : (task.position ?? Infinity));
  return tasks.toSorted((a, b) => {
    const [first, second] = [place(a), place(b)];
    return first === second ? a.created_at.localeCompare(b.created_at) : first - second;
  });
}
