/** Addresses of the screens: `#/`, `#/queue`, `#/compare/ID`, `#/compare/ID,ID…`, `#/models`, `#/settings`; any other is unknown. */

export type Screen = 'enlarge' | 'queue' | 'compare' | 'models' | 'settings' | 'unknown';
export interface Route {
  screen: Screen;
  /** The task to compare, or the address that is unknown. */
  id: string | null;
  /** Tasks to compare it with. */
  others: readonly string[];
}

export function parse(hash: string): Route {
  const [name = '', id, ...rest] = hash.replace(/^#?\/?/, '').replace(/\/$/, '').split('/');
  const [first, ...others] = id?.split(',').filter(Boolean) ?? [];
  if (rest.length === 0 && name === 'compare' && first) return { screen: 'compare', id: first, others: [...new Set(others)].filter((other) => other !== first) };
  if (id === undefined && name === '') return { screen: 'enlarge', id: null, others: [] };
  if (id === undefined && (name === 'queue' || name === 'models' || name === 'settings')) return { screen: name, id: null, others: [] };
  return { screen: 'unknown', id: hash, others: [] };
}
