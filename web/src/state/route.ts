/** Where the person is. */

import { signal } from '@preact/signals';
import { parse, type Route, type Screen } from '../logic/route.ts';

export type { Screen };

export const route = signal<Route>(parse(location.hash));
addEventListener('hashchange', () => {
  route.value = parse(location.hash);
});

export const href = (screen: Screen, ...ids: readonly string[]) => (screen === 'enlarge' ? '#/' : `#/${screen}${ids.length ? `/${ids.join(',')}` : ''}`);
export const go = (screen: Screen, ...ids: readonly string[]) => {
  location.hash = href(screen, ...ids);
};
