/** Line icons on a 20-unit grid. They only decorate: every control has words. */

import type { ComponentChildren } from 'preact';

const icon = (shape: ComponentChildren) => () => (
  <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    {shape}
  </svg>
);

export const Plus = icon(<path d="M10 4v12M4 10h12" />);
export const Minus = icon(<path d="M4 10h12" />);
export const Cross = icon(<path d="m5 5 10 10M15 5 5 15" />);
export const Check = icon(<path d="m4 10.5 4 4 8-9" />);
export const Camera = icon(<path d="M3 6.5h3.2L7.6 4.5h4.8l1.4 2H17v9H3zM10 8.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6z" />);
export const Download = icon(<path d="M10 3v9.5m-4-4 4 4 4-4M4 16.5h12" />);
export const Trash = icon(<path d="M4 5.5h12M8 5.5V3.5h4v2M5.5 5.5l.8 11h7.4l.8-11" />);
export const Again = icon(<path d="M15.5 7A6 6 0 1 0 16 11M16 3.5V7h-3.5" />);
export const Split = icon(<path d="M3.5 4h13v12h-13zM10 2v16" />);
export const Sliders = icon(<path d="M3 6h7m4 0h3M3 14h3m4 0h7M12 4v4M8 12v4" />);
export const Lens = icon(<path d="M8.5 3.5a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM12.2 12.2 17 17" />);
export const Glow = icon(<path d="M10 2.5v3M10 14.5v3M2.5 10h3M14.5 10h3M4.7 4.7l2.1 2.1M13.2 13.2l2.1 2.1M4.7 15.3l2.1-2.1M13.2 6.8l2.1-2.1" />);
export const Key = icon(<path d="M7 9.5a3.5 3.5 0 1 0 0 1h9.5v3M13 10.5v2.5" />);
export const Alert = icon(<path d="M10 3 2.5 16.5h15zM10 8v4M10 14v.6" />);
export const Arrow = icon(<path d="M12 4 6 10l6 6" />);

export const Previous = icon(<path d="m12.5 4-6 6 6 6" />);
export const Next = icon(<path d="m7.5 4 6 6-6 6" />);
export const Full = icon(<path d="M3.5 7.5v-4h4M12.5 3.5h4v4M16.5 12.5v4h-4M7.5 16.5h-4v-4" />);
export const Copy = icon(<path d="M7 7h9.5v9.5H7zM13 7V3.5H3.5V13H7" />);
export const Star = icon(<path d="m10 3 2.1 4.6 5 .6-3.7 3.4 1 5-4.4-2.5-4.4 2.5 1-5L2.9 8.2l5-.6z" />);
export const Grid = icon(<path d="M3.5 3.5h5.5v5.5H3.5zM11 3.5h5.5v5.5H11zM3.5 11h5.5v5.5H3.5zM11 11h5.5v5.5H11z" />);
export const Folder = icon(<path d="M2.5 5h5l1.5 2h8.5v8.5h-15z" />);

/** The mark: a small square, and the large one that it becomes. */
export const Mark = () => (
  <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
    <rect class="mark-small" x="3" y="18" width="11" height="11" rx="1.5" />
    <path class="mark-large" d="M10 4h18v18M27 5 17 15" />
  </svg>
);
