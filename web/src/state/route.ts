/** Where the person is: `#/`, `#/queue`, `#/compare/ID`, `#/models`, `#/settings`. */

import { signal } from '@preact/signals';

export type Screen = 'enlarge' | 'queue' | 'compare' | 'models' | 'settings';
export interface Route {
  screen: Screen;
  id: string | null;
}

function parse(hash: string): Route {
  const [, name, id] = hash.replace(/^#/, '').split('/');
  if (name === 'compare' && id) return { screen: 'compare', id };
  if (name === 'queue' || name === 'models' || name === 'settings') return { screen: name, id: null };
  return { screen: 'enlarge', id: null };
}

export const route = signal<Route>(parse(location.hash));
addEventListener('hashchange', () => {
  route.value = parse(location.hash);
});

export const href = (screen: Screen, id?: string) => (screen === 'enlarge' ? '#/' : `#/${screen}${id ? `/${id}` : ''}`);
export const go = (screen: Screen, id?: string) => {
  location.hash = href(screen, id);
};
