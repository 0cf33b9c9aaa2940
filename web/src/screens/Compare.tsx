/** Looking at results: slider, side by side, lens, and what was invented. */

import { useSignal } from '@preact/signals';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import * as api from '../api.ts';
import { takeAgain } from '../state/desk.ts';
import { fileName } from '../logic/files.ts';
import { describe, variant } from '../logic/describe.ts';
import { duration, megapixels, pixels, split } from '../logic/format.ts';
import { S } from '../strings.ts';
import { comparable } from '../state/history.ts';
import { copyImage, dragOut, hasFile, sameSource } from '../state/results.ts';
import { go, href } from '../state/route.ts';
import * as store from '../state/tasks.ts';
import type { PictureFile, Task } from '../wire.ts';
import { Choice, Trouble } from '../ui/controls.tsx';
import { Arrow, Copy, Download, Full, Glow, Lens, Minus, Next, Plus, Previous, Sliders } from '../ui/icons.tsx';
import { Stage } from '../ui/Stage.tsx';
import { GLOW } from '../viewer/glow.ts';
import { Shelf } from '../viewer/shelf.ts';
import { shown, viewOf } from '../viewer/shown.ts';
import { Pictures, type Source } from '../viewer/sources.ts';
import type { Layer, Layout, Scene, Viewer } from '../viewer/viewer.ts';

/** What can be seen: the source, the source enlarged by Lanczos, or the result of the task with this id. */
type Shown = 'original' | 'lanczos' | (string & {});

/** Results that are compared at once: each may take 400 MB. */
export const MOST = 4;

export function Compare({ id, others }: { id: string; others: readonly string[] }) {
  const task = store.find(id);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  useEffect(() => {
    setProblem(null);
    store.fetchTask(id).catch(setProblem);
  }, [id]);
  useEffect(() => {
    // One that is gone is just not among them.
    for (const other of others) if (!store.find(other)) store.fetchTask(other).catch(() => {});
  }, [others.join()]);

  if (!task) {
    return (
      <Notice>
        {!problem ? (
          <p class="muted">{S.compare.loading}</p>
        ) : problem.status === 404 ? (
          <Trouble message={S.compare.notFound} hint={S.compare.notFoundHint} />
        ) : (
          <Trouble message={problem.message} hint={problem.hint} />
        )}
      </Notice>
    );
  }
  if (task.files === 'gone') return <Notice><Trouble message={S.compare.gone} hint={S.compare.goneHint} /></Notice>;
  if (!hasFile(task) || !task.source) return <Notice><Trouble message={S.compare.notDone} /></Notice>;
  const beside = others.map(store.find).filter((other) => other !== null && hasFile(other) && sameSource(other, task)) as Task[];
  return <Table task={task} others={beside.slice(0, MOST - 1)} />;
}

function Notice({ children }: { children: preact.ComponentChildren }) {
  return (
    <div class="page">
      <h1 tabIndex={-1}>{S.compare.title}</h1>
      {children}
      <p>
        <a href={href('queue')}>{S.compare.back}</a>
      </p>
    </div>
  );
}

function Table({ task, others }: { task: Task; others: readonly Task[] }) {
  const [layout, setLayout] = useState<Layout>('slider');
  const [left, setLeft] = useState<Shown>('original');
  const [beside, setBeside] = useState<ReadonlySet<Shown>>(new Set(['original']));
  const [one, setOne] = useState<Shown>(task.task_id);
  const [lens, setLens] = useState(false);
  const [invented, setInvented] = useState(false);
  const zoom = useSignal(1);
  const viewer = useRef<Viewer | null>(null);
  const sheet = useRef<HTMLDivElement>(null);

  // What has come to be compared is shown: two by the slider, more beside each other.
  useEffect(() => {
    if (others.length) setLeft(others.at(-1)!.task_id);
    if (others.length > 1) setLayout('side');
  }, [others.map((t) => t.task_id).join()]);

  const results = [task, ...others];
  const known = (which: Shown) => which === 'original' || which === 'lanczos' || results.some((t) => t.task_id === which);
  // After a change of the task what was chosen may not be there any more.
  const against = known(left) && left !== task.task_id ? left : 'original';
  const alone = known(one) ? one : task.task_id;
  const inGrid = [...(['original', 'lanczos'] as const).filter((which) => beside.has(which)), ...others.map((t) => t.task_id)];
  const seen: Shown[] = layout === 'single' ? [alone] : [...(layout === 'slider' ? [against] : inGrid), task.task_id];
  const { sources, maps, error, tick } = useSources(task, results.filter((t) => seen.includes(t.task_id)), {
    lanczos: seen.includes('lanczos'),
    maps: invented,
  });

  const kept = useRef<{ task: Task; scene: Omit<Scene, 'border'>; seen: readonly Shown[] } | null>(null);
  const now = useMemo(() => {
    const layers = seen.map((which): Layer => ({ source: sources.get(which) ?? null, overlay: maps.get(which) ?? null }));
    // Until all is there, what was seen of this source stays.
    if (!layers.at(-1)!.source) return kept.current && sameSource(kept.current.task, task) ? kept.current : null;
    const { width, height } = task.result!;
    return { task, seen, scene: { world: { width, height }, layers, layout, lens } };
  }, [sources, maps, layout, seen.join(), lens, task.task_id]);
  kept.current = now;

  const variants = store.tasks.value.filter((t) => hasFile(t) && sameSource(t, task));
  const letter = (id: string) => S.compare.letter(variants.findIndex((t) => t.task_id === id));
  const nameOf = (which: Shown) => {
    const of = results.find((t) => t.task_id === which);
    return of && others.length ? `${letter(which)} · ${describe(of)}` : plainName(which);
  };
  const show = (which: Shown) => {
    setLayout('single');
    setOne(which);
  };
  const list = comparable.value;
  const place = list.findIndex((t) => t.task_id === task.task_id);
  const [previous, next] = [list[place - 1], place < 0 ? undefined : list[place + 1]];
  const visit = (to: Task | undefined) => to && go('compare', to.task_id);
  const full = () => (document.fullscreenElement ? document.exitFullscreen() : sheet.current?.requestFullscreen());
  useKeys({
    1: () => show('original'),
    2: () => show('lanczos'),
    3: () => show(task.task_id),
    s: () => setLayout(layout === 'slider' ? 'side' : layout === 'side' ? 'single' : 'slider'),
    l: () => setLens(!lens),
    i: () => setInvented(!invented),
    f: () => viewer.current?.actual(),
    0: () => viewer.current?.fit(),
    p: () => visit(previous),
    n: () => visit(next),
    m: full,
  });

  const short = (which: Shown) => ({ value: which, label: isResult(which) && others.length ? letter(which) : plainName(which) });
  const main = sources.get(task.task_id);
  return (
    <div class="compare" ref={sheet}>
      <div class="compare-head">
        <a class="button bare" href={href('queue')}>
          <Arrow />
          {S.compare.back}
        </a>
        <button type="button" class="bare icon-only" disabled={!previous} aria-label={S.compare.previous} title={S.compare.previous} onClick={() => visit(previous)}>
          <Previous />
        </button>
        <button type="button" class="bare icon-only" disabled={!next} aria-label={S.compare.next} title={S.compare.next} onClick={() => visit(next)}>
          <Next />
        </button>
        <h1 tabIndex={-1} title={task.name}>{split(task.name).base}</h1>
        <span class="num muted">
          {pixels(task.source!.width, task.source!.height)} → {pixels(task.result!.width, task.result!.height)} ·{' '}
          {megapixels(task.result!.width, task.result!.height)}
        </span>
        <span class="row">
          <button
            type="button"
            onClick={() => {
              takeAgain(task);
              go('enlarge');
            }}
          >
            <Sliders />
            {S.compare.rerun}
          </button>
          <button type="button" class="icon-only" aria-label={S.results.copy} title={S.results.copy} onClick={() => copyImage(task)}>
            <Copy />
          </button>
          <a class="button primary" href={api.local(task.result!.url)} download={fileName(task)} title={S.results.drag} onDragStart={(e) => dragOut(e, task)}>
            <Download />
            {S.compare.download}
          </a>
        </span>
      </div>

      <div class="compare-stage">
        {error ? (
          <Trouble message={S.compare.tooHeavy(task.name)} hint={`${error} ${S.compare.tooHeavyHint}`} />
        ) : (
          <>
            <Stage
              label={S.compare.stage}
              scene={now?.scene ?? null}
              tick={tick}
              onViewer={(v) => (viewer.current = v)}
              onView={(view) => (zoom.value = view.zoom)}
              labels={(now?.seen ?? []).map(nameOf)}
            />
            {main && main.width < task.result!.width && <p class="stage-corner">{S.compare.reduced(megapixels(main.width, main.height))}</p>}
            {!now && (
              <p class="stage-note" role="status">
                {S.compare.loading}
              </p>
            )}
          </>
        )}
      </div>

      <div class="compare-tools" role="group" aria-label={S.compare.title}>
        <Choice<Layout>
          label={S.compare.layout}
          hideLabel
          value={layout}
          options={[
            { value: 'slider', label: S.compare.slider },
            { value: 'side', label: S.compare.side },
            { value: 'single', label: S.compare.single },
          ]}
          onChange={setLayout}
        />
        {layout === 'single' && (
          <Choice<Shown> label={S.compare.show} hideLabel value={alone} options={['original', 'lanczos', ...results.map((t) => t.task_id)].map(short)} onChange={setOne} />
        )}
        {layout === 'slider' && (
          <Choice<Shown> label={S.compare.left} hideLabel value={against} options={['original', 'lanczos', ...others.map((t) => t.task_id)].map(short)} onChange={setLeft} />
        )}
        {layout === 'side' && (
          <span class="row" role="group" aria-label={S.compare.beside}>
            {(['original', 'lanczos'] as const).map((which) => (
              <button key={which} type="button" aria-pressed={beside.has(which)} onClick={() => setBeside(toggled(beside, which))}>
                {S.compare[which]}
              </button>
            ))}
          </span>
        )}
        <span class="row">
          <button type="button" aria-pressed={lens} onClick={() => setLens(!lens)}>
            <Lens />
            {S.compare.lens}
          </button>
          <button
            type="button"
            aria-pressed={invented}
            aria-describedby="invented-explain"
            disabled={!task.invention?.map_url}
            onClick={() => setInvented(!invented)}
          >
            <Glow />
            {S.compare.invented}
          </button>
          {task.invention && (
            <output class="departs" title={S.compare.inventedExplain}>
              {S.compare.inventedNumber(task.invention.share)}
            </output>
          )}
        </span>
        <span class="row zoom">
          <button type="button" class="bare" aria-label={S.compare.zoomOut} onClick={() => viewer.current?.zoomBy(0.8)}>
            <Minus />
          </button>
          <output class="num" aria-live="off">
            {S.compare.zoomAt(zoom.value)}
          </output>
          <button type="button" class="bare" aria-label={S.compare.zoomIn} onClick={() => viewer.current?.zoomBy(1.25)}>
            <Plus />
          </button>
          <button type="button" onClick={() => viewer.current?.fit()}>
            {S.compare.fit}
          </button>
          <button type="button" onClick={() => viewer.current?.actual()}>
            {S.compare.actual}
          </button>
          {document.fullscreenEnabled && (
            <button type="button" class="icon-only" aria-label={S.compare.full} title={S.compare.full} onClick={full}>
              <Full />
            </button>
          )}
        </span>
      </div>
      <div class={invented ? 'hint explain' : 'sr'}>
        {invented && <Legend />}
        <p id="invented-explain">{S.compare.inventedExplain}</p>
      </div>

      <div class="compare-foot">
        {variants.length > 1 && <Variants task={task} others={others} variants={variants} letter={letter} onCompare={(ids) => go('compare', task.task_id, ...ids)} />}
        <Making task={task} />
        <details>
          <summary>{S.compare.keys}</summary>
          <dl class="keys">
            {S.compare.keysList.map(([key, what]) => (
              <div key={key}>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
        </details>
      </div>
    </div>
  );
}

const isResult = (which: Shown) => which !== 'original' && which !== 'lanczos';
const plainName = (which: Shown) => (which === 'original' ? S.compare.original : which === 'lanczos' ? S.compare.lanczos : S.compare.result);

function toggled<T>(set: ReadonlySet<T>, member: T): ReadonlySet<T> {
  const next = new Set(set);
  if (!next.delete(member)) next.add(member);
  return next;
}

interface VariantsProps {
  task: Task;
  others: readonly Task[];
  variants: readonly Task[];
  letter: (id: string) => string;
  /** Hears which results to compare the task with. */
  onCompare: (ids: readonly string[]) => void;
}

/** All results of this source: one to look at, and others to hold against it. */
function Variants({ task, others, variants, letter, onCompare }: VariantsProps) {
  const ids = others.map((t) => t.task_id);
  return (
    <section class="variants" aria-labelledby="variants">
      <h2 id="variants">{S.compare.variants}</h2>
      <ul>
        {variants.map((t) => {
          const [id, isMain] = [t.task_id, t === task];
          const chosen = ids.includes(id);
          return (
            <li key={id} aria-current={isMain}>
              <label class="check">
                <input
                  type="checkbox"
                  checked={isMain || chosen}
                  disabled={isMain || (!chosen && ids.length >= MOST - 1)}
                  aria-label={S.compare.with(letter(id))}
                  onChange={() => onCompare(chosen ? ids.filter((other) => other !== id) : [...ids, id])}
                />
                <b>{letter(id)}</b>
              </label>
              {/* What was the main one stays beside it, if others are compared. */}
              <a href={href('compare', id, ...(ids.length ? [task.task_id, ...ids].filter((other) => other !== id) : []))}>{variant(t)}</a>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** Which light stands for how much change. */
function Legend() {
  const [from, to] = S.compare.legend(GLOW.from, GLOW.to);
  return (
    <p class="legend num">
      {from}
      <span style={{ '--glow': GLOW.gradient }} aria-hidden="true" />
      {to}
    </p>
  );
}

function Making({ task }: { task: Task }) {
  const seconds = Object.values(task.timings ?? {}).reduce((sum, s) => sum + s, 0);
  return (
    <details>
      <summary>{S.compare.details}</summary>
      <p>
        {describe(task)}
        {seconds > 0 && ` · ${duration(seconds)}`}
      </p>
      {task.plan?.notes?.map((note) => <p key={note}>{note}</p>)}
      {task.plan && <pre tabIndex={0} aria-label={S.compare.details}>{JSON.stringify(task.plan, null, 2)}</pre>}
    </details>
  );
}

function useKeys(actions: Record<string, () => void>) {
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      const typing = (e.target as Element).closest?.('input:not([type=radio]), textarea, select, dialog');
      if (typing || e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return;
      latest.current[e.key.toLowerCase()]?.();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
}

/** Pictures held open at once: the original, a result and the one before it. */
const KEPT = 3;

interface Wanted {
  which: Shown;
  /** Told apart by what it is made of. */
  name: string;
  open: (pictures: Pictures, shelf: Shelf) => Promise<Source>;
}

/** Opens a file, or what the server shows of it where the browser cannot decode it. */
async function opened(pictures: Pictures, { url, media_type }: PictureFile): Promise<Source> {
  const path = api.local(url);
  if (shown(media_type)) {
    const blob = await api.file(path);
    try {
      return await pictures.open(blob);
    } catch {
      // Some files are beyond browsers though their format is not.
    }
  }
  return pictures.open(await api.file(viewOf(path)));
}

/** Without its signature, which is new each time that the service tells it. */
const pathOf = (url: string) => new URL(url, location.href).pathname;

/** The source of a task and results, opened by a worker that lives as long as the screen; what is not wanted is not made. */
function useSources(task: Task, results: readonly Task[], want: { lanczos: boolean; maps: boolean }) {
  const [tick, setTick] = useState(0);
  const [there, setThere] = useState<ReadonlyMap<string, Source>>(new Map());
  const [error, setError] = useState<string | null>(null);
  const worker = useRef<{ pictures: Pictures; shelf: Shelf } | null>(null);
  useEffect(() => {
    const pictures = new Pictures(() => setTick((n) => n + 1));
    worker.current = { pictures, shelf: new Shelf(pictures) };
    return () => pictures.close();
  }, []);

  const source = task.source!;
  const { width, height } = task.result!;
  const original: Wanted = { which: 'original', name: pathOf(source.url), open: (pictures) => opened(pictures, source) };
  const files: Wanted[] = [
    original,
    ...results.map((t) => ({ which: t.task_id, name: pathOf(t.result!.url), open: (pictures: Pictures) => opened(pictures, t.result!) })),
  ];
  if (want.lanczos) {
    const open = async (pictures: Pictures, shelf: Shelf) =>
      pictures.lanczos(await shelf.get(original.name, () => original.open(pictures, shelf)), width, height);
    files.push({ which: 'lanczos', name: `${original.name} at ${width} × ${height}`, open });
  }
  const lit: Wanted[] = results.flatMap((t) => {
    const url = want.maps ? t.invention?.map_url : null;
    return url ? [{ which: t.task_id, name: pathOf(url), open: async (pictures: Pictures) => pictures.glow(await api.file(api.local(url))) }] : [];
  });
  const wanted = [...files, ...lit];

  const names = wanted.map(({ name }) => name).join();
  useEffect(() => {
    const { pictures, shelf } = worker.current!;
    let stale = false;
    setError(null);
    for (const { name, open } of wanted) {
      shelf.get(name, () => open(pictures, shelf)).then(
        (opened) => !stale && setThere((before) => new Map(before).set(name, opened)),
        (problem: Error) => !stale && setError(problem.message),
      );
    }
    shelf.keep(Math.max(KEPT, wanted.length));
    setThere((before) => new Map([...before].filter(([name]) => shelf.has(name))));
    return () => {
      stale = true;
    };
  }, [names]);

  const seen = (list: readonly Wanted[]) => new Map(list.flatMap(({ which, name }) => (there.has(name) ? [[which, there.get(name)!] as const] : [])));
  const sources = useMemo(() => seen(files), [there, names]);
  const maps = useMemo(() => seen(lit), [there, names]);
  return { sources, maps, error, tick };
}
