/** What is in progress, and what has been done. */

import { useSignal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import * as api from '../api.ts';
import { takeAgain } from '../state/desk.ts';
import { ago, bytes, decimal, duration, extension, megapixels, pixels, stem, until } from '../logic/format.ts';
import { keptFor } from '../logic/retention.ts';
import { sentence } from '../logic/problem.ts';
import { factorOf } from '../logic/sizes.ts';
import { MAX_BYTES, ZipWriter } from '../logic/zip.ts';
import { S } from '../strings.ts';
import { go, href } from '../state/route.ts';
import { service } from '../state/service.ts';
import { complain } from '../state/store.ts';
import * as store from '../state/tasks.ts';
import type { Task } from '../wire.ts';
import { Sure, Trouble } from '../ui/controls.tsx';
import { Again, Cross, Download, Sliders, Split, Trash } from '../ui/icons.tsx';
import { describe } from './Compare.tsx';

export const fileName = (task: Task) =>
  `${stem(task.name)}_${task.source ? decimal(factorOf(task.request, task.source)) : ''}x.${extension(task.result?.media_type ?? '')}`;

const hasFile = (task: Task) => task.status === 'COMPLETED' && task.files === 'present' && task.result !== null;

export function Queue() {
  const selected = useSignal<ReadonlySet<string>>(new Set());
  const active = store.active.value;
  const past = store.tasks.value.filter((t) => !store.isActive(t));
  const toggle = (id: string) => {
    const next = new Set(selected.value);
    if (!next.delete(id)) next.add(id);
    selected.value = next;
  };

  return (
    <div class="page queue">
      <div class="row between page-head">
        <h1 tabIndex={-1}>{S.queue.title}</h1>
        {past.length > 0 && <Bulk past={past} selected={selected.value} clear={() => (selected.value = new Set())} />}
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
          <ul class="contact-sheet">
            {past.map((task) => (
              <Past key={task.task_id} task={task} selected={selected.value.has(task.task_id)} onToggle={() => toggle(task.task_id)} />
            ))}
          </ul>
          {store.tasks.value.length < store.total.value && (
            <button type="button" onClick={() => store.loadMore().catch(complain)}>
              {S.queue.more}
            </button>
          )}
        </section>
      )}
    </div>
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
        <h3>{task.name}</h3>
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

function Past({ task, selected, onToggle }: { task: Task; selected: boolean; onToggle: () => void }) {
  const [sure, setSure] = useState(false);
  const ready = hasFile(task);
  const name = task.name;
  return (
    <li class="past" data-status={task.status}>
      <label class="select">
        <input type="checkbox" checked={selected} onChange={onToggle} aria-label={S.queue.select(name)} />
      </label>
      {ready ? (
        <a class="thumb" href={href('compare', task.task_id)} aria-label={S.queue.of(S.queue.compare, name)}>
          <Thumb task={task} />
        </a>
      ) : (
        <div class="thumb">
          <Thumb task={task} />
        </div>
      )}
      <div class="past-body">
        <h3 title={name}>{name}</h3>
        {task.result && (
          <p class="num">
            {pixels(task.result.width, task.result.height)} <small>{megapixels(task.result.width, task.result.height)} · {bytes(task.result.bytes)}</small>
          </p>
        )}
        <p class="muted small">{describe(task)}</p>
        {task.status === 'FAILED' && task.error && <Trouble message={sentence(task.error.message)} hint={task.error.hint ? sentence(task.error.hint) : null} />}
        <p class="muted small">
          {task.status !== 'COMPLETED' && `${S.queue.status[task.status]} · `}
          {ago(task.finished_at ?? task.created_at)}
          {task.files === 'gone' ? ` · ${S.queue.filesGone}` : task.expires_at ? ` · ${S.queue.expires(until(task.expires_at))}` : ''}
        </p>
      </div>
      <div class="past-actions">
        {ready && (
          <>
            <a class="button icon-only" href={href('compare', task.task_id)} title={S.queue.compare} aria-label={S.queue.of(S.queue.compare, name)}>
              <Split />
            </a>
            <a
              class="button icon-only"
              href={api.local(task.result!.url)}
              download={fileName(task)}
              title={S.queue.download}
              aria-label={S.queue.of(S.queue.download, name)}
            >
              <Download />
            </a>
          </>
        )}
        {(task.status === 'FAILED' || task.status === 'CANCELLED') && task.files === 'present' && (
          <button type="button" aria-label={S.queue.of(S.queue.retry, name)} onClick={() => store.retryTask(task.task_id)}>
            <Again />
            {S.queue.retry}
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
        <button type="button" class="icon-only" title={S.queue.delete} aria-label={S.queue.of(S.queue.delete, name)} onClick={() => setSure(true)}>
          <Trash />
        </button>
      </div>
      {sure && (
        <Sure
          question={S.queue.deleteSure(name)}
          yes={S.queue.delete}
          onYes={() => store.deleteTask(task.task_id)}
          onClose={() => setSure(false)}
        />
      )}
    </li>
  );
}

/** Actions on the selected pictures, or on all when none is selected. */
function Bulk({ past, selected, clear }: { past: Task[]; selected: ReadonlySet<string>; clear: () => void }) {
  const [packing, setPacking] = useState<[number, number] | null>(null);
  const [sure, setSure] = useState(false);
  const chosen = past.filter((t) => selected.has(t.task_id));
  const files = chosen.filter(hasFile);
  const any = past.some(hasFile);
  useEffect(() => {
    if (selected.size && !chosen.length) clear();
  }, [past]);

  async function zip() {
    try {
      setPacking([0, files.length]);
      const all = chosen.length ? files : (await store.allCompleted()).filter(hasFile);
      let archive = new ZipWriter();
      let parts = 0;
      const finish = () => {
        parts += 1;
        save(archive.finish(), parts === 1 ? 'enlarged.zip' : `enlarged-${parts}.zip`);
        archive = new ZipWriter();
      };
      for (const [i, task] of all.entries()) {
        setPacking([i + 1, all.length]);
        const blob = await api.file(api.local(task.result!.url));
        // What does not fit into one archive goes into the next.
        if (archive.size > 0 && archive.size + blob.size > MAX_BYTES) finish();
        await archive.add(fileName(task), blob);
      }
      finish();
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
          <button type="button" class="bare" onClick={clear}>
            {S.queue.clearSelection}
          </button>
          <button type="button" onClick={() => setSure(true)}>
            <Trash />
            {S.queue.deleteSelected}
          </button>
        </>
      )}
      {(chosen.length ? files.length > 0 : any) && (
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
            clear();
          }}
          onClose={() => setSure(false)}
        />
      )}
    </div>
  );
}

function save(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser reads the address after this turn; a minute is ample.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
