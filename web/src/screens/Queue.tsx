/** What is in progress, and what has been done. */

import { useSignal } from '@preact/signals';
import type { VNode } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api.ts';
import { takeAgain } from '../state/desk.ts';
import { fileName } from '../logic/files.ts';
import { describe } from '../logic/describe.ts';
import { ago, bytes, duration, megapixels, pixels, split, until } from '../logic/format.ts';
import { SORTS, sourceOf, STATES, type Sort } from '../logic/history.ts';
import { keptFor } from '../logic/retention.ts';
import { sentence } from '../logic/problem.ts';
import { S } from '../strings.ts';
import * as history from '../state/history.ts';
import { copyImage, dragOut, hasFile, sameSource, saveZip } from '../state/results.ts';
import { go, href } from '../state/route.ts';
import { service } from '../state/service.ts';
import { complain } from '../state/store.ts';
import * as store from '../state/tasks.ts';
import type { Task } from '../wire.ts';
import { Select, Sure, Trouble } from '../ui/controls.tsx';
import { Again, Alert, Copy, Cross, Download, Grid, Sliders, Split, Star, Trash } from '../ui/icons.tsx';
import { VirtualGrid } from '../ui/VirtualGrid.tsx';
import { MOST } from './Compare.tsx';

export function Queue() {
  const selected = useSignal<ReadonlySet<string>>(new Set());
  const active = store.active.value;
  const past = history.past.value;
  const looked = history.looked.value;
  const known = store.tasks.value.length;
  const loading = store.loaded.value && known < store.total.value;
  useEffect(() => {
    if (loading) store.loadAll().catch(complain);
  }, [loading]);

  /** The one that was last selected or not: with Shift all up to the next click are treated the same. */
  const anchor = useRef<string | null>(null);
  const toggle = (id: string, e: { shiftKey: boolean }) => {
    const next = new Set(selected.value);
    const on = !next.has(id);
    const at = (which: string | null) => looked.findIndex((t) => t.task_id === which);
    const [from, to] = [at(anchor.current), at(id)].sort((a, b) => a - b) as [number, number];
    const range = e.shiftKey && from >= 0 ? looked.slice(from, to + 1) : looked.filter((t) => t.task_id === id);
    for (const { task_id } of range) if (on) next.add(task_id); else next.delete(task_id);
    anchor.current = id;
    selected.value = next;
  };

  const card = useCards(toggle);

  return (
    <div class="page queue">
      <div class="row between page-head">
        <h1 tabIndex={-1}>{S.queue.title}</h1>
        {past.length > 0 && <Bulk looked={looked} selected={selected.value} select={(ids) => (selected.value = new Set(ids))} />}
      </div>

      {store.loaded.value && !active.length && !past.length && (
        <div class="nothing">
          <p class="lead">{S.queue.empty}</p>
          <p class="muted">
            {S.queue.emptyHint} {keptFor(service.value)}
          </p>
          <a class="button primary" href={href('enlarge')}>
            {S.queue.toEnlarge}
          </a>
        </div>
      )}

      {active.length > 0 && (
        <section aria-labelledby="in-work">
          <div class="row between">
            <h2 id="in-work">{S.queue.inWork}</h2>
            {active.length > 1 && (
              <button type="button" class="bare" onClick={() => active.forEach((t) => store.cancelTask(t.task_id))}>
                {S.queue.cancelAll}
              </button>
            )}
          </div>
          <ul class="working">
            {active.map((task) => (
              <Working key={task.task_id} task={task} />
            ))}
          </ul>
        </section>
      )}

      {past.length > 0 && (
        <section aria-labelledby="done">
          <div class="row between">
            <h2 id="done">{S.queue.done}</h2>
            <p class="muted small">{keptFor(service.value)}</p>
          </div>
          <Finder />
          <p class="muted small num" role="status">
            {loading ? S.queue.loading(known, store.total.value) : S.queue.found(looked.length, past.length)}
          </p>
          {looked.length === 0 && (
            <p class="row">
              {S.queue.nothingFound}
              <button type="button" onClick={() => (history.filter.value = history.EVERYTHING)}>
                {S.queue.showAll}
              </button>
            </p>
          )}
          <VirtualGrid
            items={looked}
            label={S.queue.done}
            class={`contact-sheet ${selected.value.size ? 'selecting' : ''}`}
            least={CARD.least}
            gap={CARD.gap}
            heightOf={(width) => (width * 3) / 4 + CARD.words}
          >
            {(task) => card(task, selected.value.has(task.task_id))}
          </VirtualGrid>
        </section>
      )}
    </div>
  );
}

/** Makes cards, and hands out the same again while nothing has changed: it is not drawn anew with every row that scrolls into sight. */
function useCards(toggle: (id: string, e: { shiftKey: boolean }) => void): (task: Task, selected: boolean) => VNode {
  const latest = useRef(toggle);
  latest.current = toggle;
  const made = useRef(new WeakMap<Task, { selected: boolean; card: VNode }>());
  return (task, selected) => {
    const known = made.current.get(task);
    if (known?.selected === selected) return known.card;
    const card = <Past key={task.task_id} task={task} selected={selected} onToggle={(e) => latest.current(task.task_id, e)} />;
    made.current.set(task, { selected, card });
    return card;
  };
}

/** Measures of a card, in rem: an image of 4:3, and as many lines of words below it as style.css gives them. */
const CARD = { least: 10.4, gap: { row: 1.5, column: 1.25 }, words: 9.25 };

/** Search, filters and order. */
function Finder() {
  const { filter, sort } = history;
  const { query, state, source } = filter.value;
  const set = (part: Partial<typeof filter.value>) => (filter.value = { ...filter.value, ...part });
  return (
    <search class="finder">
      <div class="field grow">
        <label for="search">{S.queue.search}</label>
        <input id="search" type="search" placeholder={S.queue.searchHint} value={query} onInput={(e) => set({ query: e.currentTarget.value })} />
      </div>
      <Select
        label={S.queue.show}
        value={state}
        options={STATES.map((value) => ({ value, label: S.queue.states[value] }))}
        onChange={(next) => set({ state: next })}
      />
      <Select<Sort> label={S.queue.sort} value={sort.value} options={SORTS.map((value) => ({ value, label: S.queue.sorts[value] }))} onChange={(next) => (sort.value = next)} />
      {source && (
        <button type="button" aria-pressed title={S.queue.everySource} onClick={() => set({ source: null })}>
          {S.queue.source(split(source.name).base)}
          <Cross />
        </button>
      )}
    </search>
  );
}

function Working({ task }: { task: Task }) {
  const { progress } = task;
  const share = progress?.fraction ?? 0;
  return (
    <li class="work" data-status={task.status}>
      <div class="thumb">
        <Thumb task={task} />
      </div>
      <div class="work-body">
        <h3 title={task.name}>{split(task.name).base}</h3>
        <p class="muted">{describe(task)}</p>
        <p class="num work-state">
          {task.status === 'CREATED' ? (
            <>
              {S.queue.status.CREATED}
              {task.position !== null && ` · ${S.queue.waiting(task.position)}`}
              {task.wait_seconds !== null && task.wait_seconds > 1 && ` · ${S.queue.starts(duration(task.wait_seconds))}`}
            </>
          ) : (
            <>
              {progress ? S.queue.stage[progress.stage] : S.queue.status.IN_PROGRESS}
              {progress && progress.total > 0 && ` · ${S.queue.part(progress.done, progress.total)}`}
              {progress?.eta_seconds != null && ` · ${S.queue.left(duration(progress.eta_seconds))}`}
            </>
          )}
        </p>
        {task.held_up && (
          <p class="unwell">
            <Alert />
            {task.held_up}
          </p>
        )}
        <progress max={1} value={task.status === 'CREATED' ? 0 : share} aria-label={S.queue.progressOf(task.name)} />
      </div>
      <button type="button" aria-label={S.queue.of(S.queue.cancel, task.name)} onClick={() => store.cancelTask(task.task_id)}>
        <Cross />
        {S.queue.cancel}
      </button>
    </li>
  );
}

/** The source, small, if there is an image of it. It has its own shape, so that the board shows through it and not around it. */
function Thumb({ task }: { task: Task }) {
  const [broken, setBroken] = useState(false);
  if (!task.thumb_url || !task.source || broken) return null;
  const { width, height } = task.source;
  return (
    <img
      src={api.local(task.thumb_url)}
      alt=""
      loading="lazy"
      decoding="async"
      style={{ '--ratio': `${width / height}` }}
      onError={() => setBroken(true)}
    />
  );
}

function Past({ task, selected, onToggle }: { task: Task; selected: boolean; onToggle: (e: { shiftKey: boolean }) => void }) {
  const [sure, setSure] = useState(false);
  const ready = hasFile(task);
  const { name, task_id: id } = task;
  return (
    <li class="past" data-status={task.status}>
      <label class="select">
        <input type="checkbox" checked={selected} onClick={onToggle} aria-label={S.queue.select(name)} />
      </label>
      <button
        type="button"
        class="favourite"
        aria-pressed={task.favorite}
        aria-label={S.queue.favourite(name)}
        title={S.queue.favouriteHint}
        onClick={() => store.favorTask(id, !task.favorite)}
      >
        <Star />
      </button>
      {ready ? (
        <a class="thumb" href={href('compare', id)} aria-label={S.queue.of(S.queue.compare, name)} onDragStart={(e) => dragOut(e, task)}>
          <Thumb task={task} />
        </a>
      ) : task.status === 'FAILED' && task.error ? (
        <div class="thumb failed">
          <Trouble message={sentence(task.error.message)} hint={task.error.hint ? sentence(task.error.hint) : null} />
        </div>
      ) : (
        <div class="thumb">
          <Thumb task={task} />
        </div>
      )}
      <div class="past-body">
        <h3 title={name}>{split(name).base}</h3>
        {task.result && (
          <p class="num">
            {pixels(task.result.width, task.result.height)} <small>{megapixels(task.result.width, task.result.height)} · {bytes(task.result.bytes)}</small>
          </p>
        )}
        <p class="muted small" title={describe(task)}>
          {describe(task)}
        </p>
        <p class="muted small">
          {task.status !== 'COMPLETED' && `${S.queue.status[task.status]} · `}
          {ago(task.finished_at ?? task.created_at)}
          {task.files === 'gone' ? ` · ${S.queue.filesGone}` : task.expires_at ? ` · ${S.queue.expires(until(task.expires_at))}` : ''}
        </p>
      </div>
      <div class="past-actions">
        {ready && (
          <>
            <a
              class="button icon-only"
              href={api.local(task.result!.url)}
              download={fileName(task)}
              title={S.queue.download}
              aria-label={S.queue.of(S.queue.download, name)}
              onDragStart={(e) => dragOut(e, task)}
            >
              <Download />
            </a>
            <button type="button" class="icon-only when-wide" title={S.results.copy} aria-label={S.queue.of(S.results.copy, name)} onClick={() => copyImage(task)}>
              <Copy />
            </button>
          </>
        )}
        {(task.status === 'FAILED' || task.status === 'CANCELLED') && task.files === 'present' && (
          <button type="button" class="icon-only" title={S.queue.retry} aria-label={S.queue.of(S.queue.retry, name)} onClick={() => store.retryTask(id)}>
            <Again />
          </button>
        )}
        {task.source && task.files === 'present' && (
          <button
            type="button"
            class="icon-only"
            title={S.queue.rerun}
            aria-label={S.queue.of(S.queue.rerun, name)}
            onClick={() => {
              takeAgain(task);
              go('enlarge');
            }}
          >
            <Sliders />
          </button>
        )}
        <button
          type="button"
          class="icon-only when-wide"
          title={S.queue.onlySource}
          aria-label={S.queue.of(S.queue.onlySource, name)}
          onClick={() => (history.filter.value = { ...history.EVERYTHING, source: { key: sourceOf(task), name } })}
        >
          <Grid />
        </button>
        <button type="button" class="icon-only" title={S.queue.delete} aria-label={S.queue.of(S.queue.delete, name)} onClick={() => setSure(true)}>
          <Trash />
        </button>
      </div>
      {sure && <Sure question={S.queue.deleteSure(name)} yes={S.queue.delete} onYes={() => store.deleteTask(id)} onClose={() => setSure(false)} />}
    </li>
  );
}

interface BulkProps {
  looked: readonly Task[];
  selected: ReadonlySet<string>;
  select: (ids: readonly string[]) => void;
}

/** Actions on what is selected of what is looked at, or on all of that when nothing is. */
function Bulk({ looked, selected, select }: BulkProps) {
  const [packing, setPacking] = useState<[number, number] | null>(null);
  const [sure, setSure] = useState(false);
  const chosen = looked.filter((t) => selected.has(t.task_id));
  const files = (chosen.length ? chosen : looked).filter(hasFile);
  const [first, ...rest] = chosen.filter(hasFile);
  const together = first !== undefined && rest.length > 0 && rest.length < MOST && chosen.every((t) => hasFile(t) && sameSource(t, first));

  async function zip() {
    try {
      // What has not been loaded yet belongs to all of them, too.
      if (!chosen.length) await store.loadAll();
      await saveZip(chosen.length ? files : history.comparable.value, (n, all) => setPacking([n, all]));
    } catch (error) {
      complain(error);
    } finally {
      setPacking(null);
    }
  }

  return (
    <div class="row">
      {chosen.length > 0 && (
        <>
          <span class="muted num" role="status">
            {S.queue.selected(chosen.length)}
          </span>
          <button type="button" class="bare" onClick={() => select([])}>
            {S.queue.clearSelection}
          </button>
          <button
            type="button"
            disabled={!together}
            title={together ? undefined : S.queue.compareHint(MOST)}
            onClick={() => go('compare', ...chosen.map((t) => t.task_id))}
          >
            <Split />
            {S.queue.compareSelected}
          </button>
          <button type="button" onClick={() => setSure(true)}>
            <Trash />
            {S.queue.deleteSelected}
          </button>
        </>
      )}
      {chosen.length < looked.length && (
        <button type="button" class="bare" onClick={() => select(looked.map((t) => t.task_id))}>
          {S.queue.selectAll}
        </button>
      )}
      {files.length > 0 && (
        <button type="button" disabled={packing !== null} onClick={zip}>
          <Download />
          {packing ? S.queue.zipping(...packing) : chosen.length ? S.queue.downloadSome(files.length) : S.queue.downloadAll}
        </button>
      )}
      {sure && (
        <Sure
          question={S.queue.deleteAllSure(chosen.length)}
          yes={S.queue.delete}
          onYes={() => {
            chosen.forEach((t) => store.deleteTask(t.task_id));
            select([]);
          }}
          onClose={() => setSure(false)}
        />
      )}
    </div>
  );
}
