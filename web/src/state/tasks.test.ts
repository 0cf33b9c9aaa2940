import { expect, test, vi } from 'vitest';

type Heard = (message: { event: string; data: string }) => void;

const service = vi.hoisted(() => ({
  opened: () => {},
  says: (() => {}) as Heard,
  lists: (_: unknown) => {},
}));

vi.mock('../api.ts', () => ({
  apiKey: { value: '', subscribe: () => () => {} },
  keyWanted: { value: false },
  tasks: () => new Promise((resolve) => (service.lists = resolve)),
  follow: (opened: () => void, says: Heard) => {
    Object.assign(service, { opened, says });
    return new Promise(() => {});
  },
}));
vi.mock('./notify.ts', () => ({ notify: () => {} }));
vi.mock('./store.ts', () => ({ complain: () => {}, say: () => {}, sayAgain: () => {} }));

const { stayConnected, tasks } = await import('./tasks.ts');

test('a list that was on its way undoes nothing that events have said', async () => {
  void stayConnected();
  service.opened();
  const task = (task_id: string, status: string) => ({ task_id, status, name: 'a.png', created_at: task_id });
  const say = (id: string, status: string) => service.says({ event: 'task', data: JSON.stringify(task(id, status)) });
  say('1', 'COMPLETED');
  say('2', 'IN_PROGRESS');
  say('3', 'CREATED');
  service.says({ event: 'deleted', data: JSON.stringify({ task_id: '4' }) });
  service.lists({ total: 3, tasks: [task('4', 'COMPLETED'), task('2', 'COMPLETED'), task('1', 'IN_PROGRESS')] });
  const states = () => Object.fromEntries(tasks.value.map(({ task_id, status }) => [task_id, status]));
  // Before, the second is what its event said.
  await vi.waitFor(() => expect(states()[2]).toBe('COMPLETED'));
  expect(states()).toEqual({ 1: 'COMPLETED', 2: 'COMPLETED', 3: 'CREATED' });
});
