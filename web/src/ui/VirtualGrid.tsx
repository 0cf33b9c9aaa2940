/** A grid of any number of equally high items, of which only those in sight are on the page. */

import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';

interface VirtualGridProps<T> {
  items: readonly T[];
  label: string;
  class: string;
  /** Least width of an item, in rem. */
  least: number;
  /** Between items, in rem. */
  gap: { row: number; column: number };
  /** Height of an item that is so wide, both in rem. */
  heightOf: (width: number) => number;
  children: (item: T, index: number) => ComponentChildren;
}

/** Rows beyond those in sight: what the next turn of the wheel or press of Tab shows is there. */
const BEYOND = 2;

interface Sight {
  columns: number;
  /** In pixels, with the gap. */
  row: number;
  first: number;
  last: number;
}

export function VirtualGrid<T>({ items, label, class: name, least, gap, heightOf, children }: VirtualGridProps<T>) {
  const list = useRef<HTMLUListElement>(null);
  const [sight, setSight] = useState<Sight>({ columns: 1, row: 1, first: 0, last: 0 });

  const look = () => {
    const box = list.current!.getBoundingClientRect();
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const width = box.width / rem;
    const columns = Math.max(1, Math.floor((width + gap.column) / (least + gap.column)));
    const row = (heightOf((width - gap.column * (columns - 1)) / columns) + gap.row) * rem;
    const rows = Math.ceil(items.length / columns);
    const within = (n: number) => Math.min(Math.max(n, 0), rows);
    const now = { columns, row, first: within(Math.floor(-box.top / row) - BEYOND), last: within(Math.ceil((innerHeight - box.top) / row) + BEYOND) };
    setSight((before) => (Object.keys(now).every((key) => before[key as keyof Sight] === now[key as keyof Sight]) ? before : now));
  };
  const latest = useRef(look);
  latest.current = look;
  useLayoutEffect(look);
  useLayoutEffect(() => {
    const onChange = () => latest.current();
    const observer = new ResizeObserver(onChange);
    observer.observe(list.current!);
    addEventListener('scroll', onChange, { passive: true });
    addEventListener('resize', onChange);
    return () => {
      observer.disconnect();
      removeEventListener('scroll', onChange);
      removeEventListener('resize', onChange);
    };
  }, []);

  const { columns, row, first, last } = sight;
  const rem = (n: number) => `${n}rem`;
  const style = {
    height: `${Math.ceil(items.length / columns) * row}px`,
    paddingTop: `${first * row}px`,
    gap: `${rem(gap.row)} ${rem(gap.column)}`,
    gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))`,
    gridAutoRows: `calc(${row}px - ${rem(gap.row)})`,
  };
  return (
    <ul ref={list} class={name} aria-label={label} style={style}>
      {items.slice(first * columns, last * columns).map((item, i) => children(item, first * columns + i))}
    </ul>
  );
}
