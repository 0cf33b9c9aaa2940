/** Addresses of the screens: `#/`, `#/queue`, `#/compare/ID`, `#/models`, `#/settings`; any other is unknown. */

export type Screen = 'enlarge' | 'queue' | 'compare' | 'models' | 'settings' | 'unknown';
export interface Route {
  screen: Screen;
  /** The task to compare, or the address that is unknown. */
  id: string | null;
}

export function parse(hash: string): Route {
  const [name = '', id, ...rest] = hash.replace(/^#?\/?/, '').replace(/\/$/, '').split('/');
  if (rest.length === 0 && name === 'compare' && id) return { screen: 'compare', id };
  if (id === undefined && name === '') return { screen: 'enlarge', id: null };
  if (id === undefined && (name === 'queue' || name === 'models' || name === 'settings')) return { screen: name, id: null };
  return { screen: 'unknown', id: hash };
}
