/** Looking at a result: slider, side by side, lens, and what was invented. */

import { useSignal } from '@preact/signals';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import * as api from '../api.ts';
import { takeAgain } from '../state/desk.ts';
import { ago, decimal, duration, extension, megapixels, pixels, stem } from '../logic/format.ts';
import { factorOf } from '../logic/sizes.ts';
import { KNOBS } from '../knobs.ts';
import { S } from '../strings.ts';
import { go, href } from '../state/route.ts';
import * as store from '../state/tasks.ts';
import type { PictureFile, Task } from '../wire.ts';
import { Choice, Select, Trouble } from '../ui/controls.tsx';
import { Arrow, Download, Glow, Lens, Minus, Plus, Sliders } from '../ui/icons.tsx';
import { Stage } from '../ui/Stage.tsx';
import { GLOW } from '../viewer/glow.ts';
import { shown, viewOf } from '../viewer/shown.ts';
import { Pictures, type Source } from '../viewer/sources.ts';
import type { Layout, Scene, Viewer } from '../viewer/viewer.ts';

type Shown = 'original' | 'lanczos' | 'result';

export function Compare({ id }: { id: string }) {
  const task = store.find(id);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  useEffect(() => {
    setProblem(null);
    store.fetchTask(id).catch(setProblem);
  }, [id]);

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
  if (task.status !== 'COMPLETED' || !task.result || !task.source) return <Notice><Trouble message={S.compare.notDone} /></Notice>;
  return <Table task={task} />;
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

/** Whether two results are of the same picture, so that they can be held against each other. */
const sameSource = (a: Task, b: Task) =>
  a.name === b.name && a.source?.width === b.source?.width && a.source?.height === b.source?.height && a.source?.bytes === b.source?.bytes;

function Table({ task }: { task: Task }) {
  const [layout, setLayout] = useState<Layout>('slider');
  const [left, setLeft] = useState<'original' | 'lanczos'>('original');
  const [one, setOne] = useState<Shown>('result');
  const [lens, setLens] = useState(false);
  const [invented, setInvented] = useState(false);
  const zoom = useSignal(1);
  const viewer = useRef<Viewer | null>(null);
  const { sources, map, error, tick } = useSources(task, {
    lanczos: left === 'lanczos' || (layout === 'single' && one === 'lanczos'),
    map: invented,
  });

  const scene = useMemo<Omit<Scene, 'border'> | null>(() => {
    const right = layout === 'single' ? sources[one] : sources.result;
    if (!right) return null;
    const { width, height } = task.result!;
    const overlay = invented && (layout !== 'single' || one === 'result') ? map : null;
    return { world: { width, height }, left: layout === 'single' ? null : (sources[left] ?? sources.original), right, layout, overlay, lens };
  }, [sources, layout, left, one, lens, invented, map, task.task_id]);

  const variants = store.tasks.value.filter((t) => t.status === 'COMPLETED' && t.files === 'present' && sameSource(t, task));
  const show = (which: Shown) => {
    setLayout('single');
    setOne(which);
  };
  useKeys({
    1: () => show('original'),
    2: () => show('lanczos'),
    3: () => show('result'),
    s: () => setLayout(layout === 'slider' ? 'side' : layout === 'side' ? 'single' : 'slider'),
    l: () => setLens(!lens),
    i: () => setInvented(!invented),
    f: () => viewer.current?.actual(),
    0: () => viewer.current?.fit(),
  });

  const name = `${stem(task.name)}_${decimal(factorOf(task.request, task.source!))}x.${extension(task.result!.media_type)}`;
  return (
    <div class="compare">
      <div class="compare-head">
        <a class="button bare" href={href('queue')}>
          <Arrow />
          {S.compare.back}
        </a>
        <h1 tabIndex={-1}>{task.name}</h1>
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
          <a class="button primary" href={api.local(task.result!.url)} download={name}>
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
              scene={scene}
              tick={tick}
              onViewer={(v) => (viewer.current = v)}
              onView={(view) => (zoom.value = view.zoom)}
              leftLabel={S.compare[left]}
              rightLabel={S.compare.result}
            />
            {sources.result && sources.result.width < task.result!.width && (
              <p class="stage-corner">{S.compare.reduced(megapixels(sources.result.width, sources.result.height))}</p>
            )}
            {!scene && (
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
        {layout === 'single' ? (
          <Choice<Shown>
            label={S.compare.show}
            hideLabel
            value={one}
            options={(['original', 'lanczos', 'result'] as const).map((value) => ({ value, label: S.compare[value] }))}
            onChange={setOne}
          />
        ) : (
          <Choice<'original' | 'lanczos'>
            label={S.compare.left}
            hideLabel
            value={left}
            options={(['original', 'lanczos'] as const).map((value) => ({ value, label: S.compare[value] }))}
            onChange={setLeft}
          />
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
            {S.compare.zoomAt((zoom.value * 100).toFixed(zoom.value < 0.1 ? 1 : 0))}
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
        </span>
      </div>
      <div class={invented ? 'hint explain' : 'sr'}>
        {invented && <Legend />}
        <p id="invented-explain">{S.compare.inventedExplain}</p>
      </div>

      <div class="compare-foot">
        {variants.length > 1 && (
          <Select
            label={S.compare.variants}
            value={task.task_id}
            options={variants.map((t) => ({ value: t.task_id, label: variant(t) }))}
            onChange={(id) => go('compare', id)}
          />
        )}
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

/** "4× creative, creativity +3, sparkle": what sets a variant apart. */
export function describe(task: Task): string {
  const { look } = task.request;
  const parts = [`${task.source ? decimal(factorOf(task.request, task.source)) : '?'}× ${S.enlarge[look.mode].toLowerCase()}`];
  if (look.mode === 'creative') {
    for (const { name, title } of KNOBS.creative) {
      if (look[name]) parts.push(`${title.toLowerCase()} ${look[name] > 0 ? '+' : ''}${look[name]}`);
    }
    if (look.engine !== 'automatic') parts.push(S.engines[look.engine][0].toLowerCase());
    if (look.optimized_for !== 'standard') parts.push(S.optimizedFor[look.optimized_for].toLowerCase());
  } else {
    parts.push(KNOBS.precision.map(({ name }) => look[name]).join(' / '));
    if (look.flavor) parts.push(S.flavors[look.flavor].split(':')[0]!.toLowerCase());
  }
  if (task.request.model) parts.push(task.request.model);
  const { quality = 'best' } = task.request;
  if (quality !== 'best') parts.push(S.qualities[quality][0].toLowerCase());
  return parts.join(', ');
}

/** What sets a variant apart from others of the same image. */
const variant = (task: Task) =>
  `${describe(task)}, ${extension(task.result!.media_type).toUpperCase()}, ${ago(task.finished_at ?? task.created_at)}`;

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

interface Sources {
  original: Source | null;
  lanczos: Source | null;
  result: Source | null;
}

/** Pictures held open at once: the original, a variant and the one before it. */
const KEPT = 3;

/** The pictures of a task, opened by a worker that lives as long as the screen; what is not wanted is not made. */
function useSources(task: Task, want: { lanczos: boolean; map: boolean }) {
  const [tick, setTick] = useState(0);
  const [sources, setSources] = useState<Sources>({ original: null, lanczos: null, result: null });
  const [error, setError] = useState<string | null>(null);
  const [map, setMap] = useState<{ source: Source; of: string } | null>(null);
  const worker = useRef<Pictures | null>(null);
  const open = useRef(new Map<string, Promise<Source>>());

  useEffect(() => {
    worker.current = new Pictures(() => setTick((n) => n + 1));
    return () => worker.current?.close();
  }, []);

  /** Opens a file, or what the server shows of it where the browser cannot decode it. */
  async function begin({ url, media_type }: PictureFile): Promise<Source> {
    const path = api.local(url);
    if (shown(media_type)) {
      const blob = await api.file(path);
      try {
        return await worker.current!.open(blob);
      } catch {
        // Some files are beyond browsers though their format is not.
      }
    }
    return worker.current!.open(await api.file(viewOf(path)));
  }

  function get(file: PictureFile): Promise<Source> {
    const path = api.local(file.url);
    const known = open.current.get(path);
    open.current.delete(path);
    const opening = known ?? begin(file);
    open.current.set(path, opening);
    while (open.current.size > KEPT) {
      const [oldest, source] = open.current.entries().next().value!;
      open.current.delete(oldest);
      source.then((s) => worker.current?.release(s)).catch(() => {});
    }
    return opening;
  }

  useEffect(() => {
    let stale = false;
    setError(null);
    (async () => {
      const original = await get(task.source!);
      if (stale) return;
      const result = await get(task.result!);
      if (!stale) setSources((before) => ({ original, result, lanczos: before.result?.width === result.width ? before.lanczos : null }));
    })().catch((problem: Error) => !stale && setError(problem.message));
    return () => {
      stale = true;
    };
  }, [task.task_id]);

  const { original, result, lanczos } = sources;
  useEffect(() => {
    if (!want.lanczos || lanczos || !original || !result) return;
    let stale = false;
    worker.current!.lanczos(original, result.width, result.height).then((made) => {
      if (!stale) setSources((before) => ({ ...before, lanczos: made }));
    });
    return () => {
      stale = true;
    };
  }, [want.lanczos, lanczos, original, result]);

  const url = task.invention?.map_url;
  useEffect(() => {
    if (!want.map || !url || map?.of === url) return;
    let stale = false;
    api
      .file(api.local(url))
      .then((blob) => worker.current!.glow(blob))
      .then((source) => {
        if (stale) return worker.current?.release(source);
        if (map) worker.current!.release(map.source);
        setMap({ source, of: url });
      })
      .catch((problem: Error) => !stale && setError(problem.message));
    return () => {
      stale = true;
    };
  }, [want.map, url]);

  return { sources, map: map && map.of === url ? map.source : null, error, tick };
}
