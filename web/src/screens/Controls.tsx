/** The panel of the desk: manner, size, knobs, presets, and what will come of it. */

import { computed, signal, useSignal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import * as api from '../api.ts';
import * as desk from '../state/desk.ts';
import { bytes, duration, megapixels, pixels, split } from '../logic/format.ts';
import { decimal } from '../logic/numbers.ts';
import { FACTORS, LARGEST_FACTOR, printSize, resultSize, scarce } from '../logic/sizes.ts';
import * as snippets from '../logic/snippets.ts';
import { KNOBS } from '../knobs.ts';
import { S } from '../strings.ts';
import { service } from '../state/service.ts';
import { change, deletePreset, isApplied, presets, requestFor, reset, savePreset, settings, sizeFor, STARTING, wantedFactor, withPreset, type Exact } from '../state/settings.ts';
import { complain, say } from '../state/store.ts';
import type { CheckpointList, Creative, Engine, Flavor, Generative, Model, OptimizedFor, Output, OutputFormat, Precision, Quality } from '../wire.ts';
import { Choice, Dialog, Knob, Select, Trouble } from '../ui/controls.tsx';
import { Cross } from '../ui/icons.tsx';

const optionsOf = <T extends string>(words: Record<T, string | readonly [string, string]>) =>
  (Object.entries(words) as [T, string | readonly [string, string]][]).map(([value, w]) => ({
    value,
    label: typeof w === 'string' ? w : `${w[0]}: ${w[1]}`,
  }));

export function Controls() {
  useRunKey();
  return (
    <aside class="panel" aria-label={S.enlarge.title}>
      <div class="panel-scroll">
        <Presets />
        <Manner />
        <Size />
        {settings.value.mode === 'creative' ? <CreativeKnobs /> : <PrecisionKnobs />}
        <Effort />
        <More />
      </div>
      <Verdict />
    </aside>
  );
}

function useRunKey() {
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      if (e.key === 'Enter' && (e.ctrlKey || e.metaKey) && !document.querySelector('dialog[open]')) desk.runAll();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
}

function Manner() {
  const { mode } = settings.value;
  return (
    <Choice
      label={S.enlarge.mode}
      hideLabel
      value={mode}
      options={[
        { value: 'creative', label: <Two title={S.enlarge.creative} text={S.enlarge.creativeHint} /> },
        { value: 'precision', label: <Two title={S.enlarge.precision} text={S.enlarge.precisionHint} /> },
      ]}
      onChange={(next) => {
        const factors = FACTORS[next];
        const factor = factors.filter((f) => f <= settings.value.factor).at(-1) ?? factors[0]!;
        change({ mode: next, factor });
      }}
    />
  );
}

const Two = ({ title, text }: { title: string; text: string }) => (
  <>
    <b>{title}</b>
    <small>{text}</small>
  </>
);

/** The option beside the factors. */
const EXACT = 'exact';

function Size() {
  const { mode, factor, exact } = settings.value;
  const picture = desk.current.value!;
  const factors = FACTORS[mode].map((f) => {
    const ok = desk.possible(picture, f);
    return { value: f as number | typeof EXACT, label: S.enlarge.factor(decimal(f)), dimmed: !ok, ...(ok ? {} : { title: S.enlarge.factorTooLarge(f) }) };
  });
  return (
    <>
      <Choice<number | typeof EXACT>
        label={S.enlarge.size}
        value={exact ? EXACT : factor}
        options={[...factors, { value: EXACT, label: S.enlarge.exact }]}
        onChange={(f) => change(f === EXACT ? { exact: { by: 'width', value: Math.round(picture.size.width * factor) } } : { factor: f, exact: null })}
      />
      {exact && <ExactSize exact={exact} picture={picture} />}
    </>
  );
}

function ExactSize({ exact, picture }: { exact: Exact; picture: desk.Picture }) {
  const { width, height } = picture.size;
  const set = (next: Partial<Exact>) => change({ exact: { ...exact, ...next } });
  const by = (next: Exact['by']) => {
    const result = resultSize(picture.size, wantedFactor(picture.size));
    set({ by: next, value: next === 'width' ? result.width : Math.max(0.1, Math.round((result.width * result.height) / 1e5) / 10) });
  };
  const [least, most] = exact.by === 'width' ? [width, width * LARGEST_FACTOR] : [(width * height) / 1e6, (width * height * LARGEST_FACTOR ** 2) / 1e6];
  return (
    <div class="pair even">
      <div class="field">
        <label for="exact">{S.enlarge.exactSize}</label>
        <input
          id="exact"
          type="number"
          inputMode="decimal"
          min={exact.by === 'width' ? least : decimalUp(least)}
          max={most}
          step={exact.by === 'width' ? 1 : 'any'}
          value={exact.value}
          onInput={(e) => {
            const value = e.currentTarget.valueAsNumber;
            if (value > 0) set({ value: exact.by === 'width' ? Math.round(value) : value });
          }}
        />
      </div>
      <Select<Exact['by']> label={S.enlarge.exactUnit} value={exact.by} options={optionsOf(S.enlarge.exactBy)} onChange={by} />
    </div>
  );
}

/** Rounded up to a tenth. */
const decimalUp = (n: number) => Math.ceil(n * 10) / 10;

function CreativeKnobs() {
  const { creative } = settings.value;
  const set = (part: Partial<Omit<Creative, 'mode'>>) => change({ creative: { ...creative, ...part } });
  return (
    <>
      <div class="knobs">
        {KNOBS.creative.map(({ name, title, help, min, max }) => (
          <Knob key={name} label={title} hint={help} value={creative[name]} min={min} max={max} neutral={0} onChange={(value) => set({ [name]: value })} />
        ))}
      </div>
      <Select<Engine> label={S.enlarge.engine} value={creative.engine} options={optionsOf(S.engines)} onChange={(engine) => set({ engine })} />
      <Select<OptimizedFor>
        label={S.enlarge.optimizedFor}
        value={creative.optimized_for}
        options={optionsOf(S.optimizedFor)}
        onChange={(optimized_for) => set({ optimized_for })}
      />
      <Words
        id="prompt"
        label={S.enlarge.prompt}
        hint={drawing.value ? S.enlarge.promptDraws : S.enlarge.promptHint}
        value={creative.prompt}
        onChange={(prompt) => set({ prompt })}
      />
      <Drawing />
    </>
  );
}

interface WordsProps {
  id: string;
  label: string;
  hint: string;
  value: string | null | undefined;
  onChange: (words: string | null) => void;
}

/** A text that may be left out: blank is none. */
const Words = ({ id, label, hint, value, onChange }: WordsProps) => (
  <div class="field">
    <label for={id}>{label}</label>
    <textarea
      id={id}
      rows={2}
      aria-describedby={`${id}-hint`}
      value={value ?? ''}
      onInput={(e) => onChange(e.currentTarget.value.trim() ? e.currentTarget.value : null)}
    />
    <p id={`${id}-hint`} class="hint">
      {hint}
    </p>
  </div>
);

const checkpoints = signal<CheckpointList>({ files: [], configured: null });

/** The checkpoint that would draw, if one would. */
const drawing = computed(() => {
  const { checkpoint } = settings.value.generative;
  if (checkpoint !== null) return checkpoint === NONE ? null : checkpoint;
  return checkpoints.value.configured;
});

/** The checkpoint that leaves the generative engine out. */
const NONE = 'none';

/** What the generative engine draws with, where the server has a checkpoint. */
function Drawing() {
  useEffect(() => {
    api.checkpoints().then(
      (list) => (checkpoints.value = list),
      () => {}, // There is nothing to choose then; what is wrong is said elsewhere.
    );
  }, []);
  const { configured } = checkpoints.value;
  const files = checkpoints.value.files.filter((file) => file.kind === 'checkpoint');
  if (files.length === 0) return null;
  const { generative } = settings.value;
  const set = (part: Partial<Generative>) => change({ generative: { ...generative, ...part } });
  const options = [
    { value: '', label: configured ? S.enlarge.checkpointConfigured(configured) : S.enlarge.checkpointNone },
    ...(configured ? [{ value: NONE, label: S.enlarge.checkpointNone }] : []),
    ...files.map(({ name, family }) => ({ value: name, label: family ? `${name} (${family})` : name })),
  ];
  return (
    <>
      <Select label={S.enlarge.checkpoint} value={generative.checkpoint ?? ''} options={options} onChange={(name) => set({ checkpoint: name || null })} />
      {drawing.value && (
        <Words id="negative" label={S.enlarge.negative} hint={S.enlarge.negativeHint} value={generative.negative} onChange={(negative) => set({ negative })} />
      )}
    </>
  );
}

function PrecisionKnobs() {
  const { precision } = settings.value;
  const set = (part: Partial<Omit<Precision, 'mode'>>) => change({ precision: { ...precision, ...part } });
  return (
    <>
      <div class="knobs">
        {KNOBS.precision.map(({ name, title, help, min, max, default: neutral }) => (
          <Knob key={name} label={title} hint={help} value={precision[name]} min={min} max={max} neutral={neutral} onChange={(value) => set({ [name]: value })} />
        ))}
      </div>
      <Select<Flavor | ''>
        label={S.enlarge.flavor}
        value={precision.flavor ?? ''}
        options={[{ value: '', label: S.enlarge.flavorNone }, ...optionsOf(S.flavors)]}
        onChange={(flavor) => set({ flavor: flavor || null })}
      />
    </>
  );
}

function Effort() {
  const { quality } = settings.value;
  return (
    <Choice<Quality>
      label={S.enlarge.quality}
      hint={S.qualities[quality][1]}
      value={quality}
      options={(Object.keys(S.qualities) as Quality[]).map((value) => ({ value, label: S.qualities[value][0] }))}
      onChange={(next) => change({ quality: next })}
    />
  );
}

/** Pixels per inch on offer: screens, drafts, and prints from newspapers to fine art. */
const RESOLUTIONS = [72, 96, 150, 240, 300, 360, 600, 1200];

/** What the server uses where no quality is named, of the formats that have one: the defaults in `enlarger-image/src/encode`. */
const USUAL_QUALITY: Partial<Record<OutputFormat, number>> = { jpeg: 92, webp: 90, avif: 80 };

function More() {
  const models = useSignal<Model[]>([]);
  useEffect(() => {
    api.models().then(
      (list) => (models.value = list),
      () => {}, // The choice is then only the automatic one; what is wrong is said elsewhere.
    );
  }, []);
  const { model, output } = settings.value;
  const formats = (Object.keys(S.formats) as OutputFormat[]).map((value) => ({ value, label: S.formats[value] }));
  const usual = USUAL_QUALITY[output.format];
  const set = (part: Partial<Record<keyof Output, Output[keyof Output]>>) => {
    const next = Object.entries({ ...output, ...part }).filter(([, value]) => value !== undefined);
    change({ output: Object.fromEntries(next) as Output });
  };
  return (
    <div class="pair">
      <Select
        label={S.enlarge.model}
        value={model ?? ''}
        options={[
          { value: '', label: S.enlarge.modelAutomatic },
          ...models.value.map((m) => ({ value: m.name, label: m.title })),
        ]}
        onChange={(name) => change({ model: name || null })}
      />
      <Select<OutputFormat>
        label={S.enlarge.format}
        value={output.format}
        options={formats}
        onChange={(format) => set({ format, quality: undefined })}
      />
      <p class="hint pair-hint">{models.value.find((m) => m.name === model)?.good_at ?? S.enlarge.modelAutomaticHint}</p>
      <div class="pair-hint">
        <Select
          label={S.enlarge.dpi}
          value={String(output.dpi ?? '')}
          options={[{ value: '', label: S.enlarge.dpiOfSource }, ...RESOLUTIONS.map((n) => ({ value: String(n), label: S.enlarge.dpiOf(n) }))]}
          onChange={(n) => set({ dpi: n ? Number(n) : undefined })}
        />
      </div>
      {usual !== undefined && (
        <div class="pair-hint">
          <Knob
            label={S.enlarge.fileQuality}
            hint={S.enlarge.fileQualityHint}
            value={output.quality ?? usual}
            min={1}
            max={100}
            neutral={usual}
            onChange={(quality) => set({ quality: quality === usual ? undefined : quality })}
          />
        </div>
      )}
    </div>
  );
}

function Presets() {
  const naming = useSignal<string | null>(null);

  function save(e: Event) {
    e.preventDefault();
    const name = naming.value?.trim();
    if (!name) return;
    naming.value = null;
    savePreset(name).then(() => say(S.enlarge.presetSaved(name)), complain);
  }

  return (
    <section class="presets" aria-labelledby="presets">
      <div class="row between">
        <h2 id="presets">{S.enlarge.presets}</h2>
        <span class="row">
          <button type="button" class="bare" onClick={reset}>
            {S.enlarge.reset}
          </button>
          <button type="button" class="bare" onClick={() => (naming.value = '')}>
            {S.enlarge.presetSave}
          </button>
        </span>
      </div>
      <ul class="chips">
        {(Object.keys(STARTING) as (keyof typeof STARTING)[]).map((key) => (
          <li key={key} class="chip">
            <button type="button" title={S.startingPresets[key][1]} aria-pressed={isApplied(STARTING[key])} onClick={() => change(withPreset(STARTING[key]))}>
              {S.startingPresets[key][0]}
            </button>
          </li>
        ))}
        {presets.value.map((p) => (
          <li key={p.name} class="chip own">
            <button type="button" aria-pressed={isApplied(p.settings)} onClick={() => change(withPreset(p.settings))}>
              {p.name}
            </button>
            <button
              type="button"
              aria-label={S.enlarge.presetDelete(p.name)}
              onClick={() => deletePreset(p).catch(complain)}
            >
              <Cross />
            </button>
          </li>
        ))}
      </ul>
      {naming.value !== null && (
        <Dialog title={S.enlarge.presetSave} onClose={() => (naming.value = null)}>
          <form class="stack" onSubmit={save}>
            <div class="field">
              <label for="preset-name">{S.enlarge.presetName}</label>
              <input id="preset-name" value={naming.value} maxLength={60} required autofocus onInput={(e) => (naming.value = e.currentTarget.value)} />
            </div>
            <div class="row end">
              <button class="primary">{S.enlarge.presetSave}</button>
            </div>
          </form>
        </Dialog>
      )}
    </section>
  );
}

/** What will come out, what stands in the way, and the button. */
function Verdict() {
  const picture = desk.current.value!;
  const list = desk.pictures.value;
  const runnable = list.filter((p) => desk.factorFor(p) !== null);
  const misfit = desk.fitEach.value ? null : list.filter((p) => !p.fault.value).map((p) => desk.misfit(p)).find((m) => m !== null);
  const problem = desk.estimateProblem.value;
  const sending = list.map((p) => p.sending.value).find((share) => share !== null);

  return (
    <div class="verdict">
      {!misfit && problem && <Trouble message={problem.message} hint={problem.hint} />}
      {misfit ? <MisfitNote misfit={misfit} many={list.length > 1} /> : !picture.fault.value && <Numbers picture={picture} factor={desk.factorFor(picture) ?? wantedFactor(picture.size)} />}
      <div class="row run">
        <button type="button" class="primary large grow" disabled={!runnable.length || desk.running.value} onClick={desk.runAll}>
          {desk.running.value && sending !== undefined
            ? S.enlarge.uploading(sending)
            : list.length > 1 && runnable.length > 0
              ? S.enlarge.runMany(runnable.length)
              : S.enlarge.run}
          <kbd aria-hidden="true">{S.enlarge.runKeys}</kbd>
        </button>
        <CopyAs />
      </div>
    </div>
  );
}

/** What prints are usually made at, where nothing else is set. */
const USUAL_DPI = 300;

function Numbers({ picture, factor }: { picture: desk.Picture; factor: number }) {
  const result = resultSize(picture.size, factor);
  const dpi = settings.value.output.dpi ?? USUAL_DPI;
  const print = printSize(result, dpi);
  const estimate = desk.estimated.value;
  const runnable = desk.pictures.value.filter((p) => desk.factorFor(p) !== null);
  const others = runnable.length - 1;
  const all = runnable.reduce((sum, p) => sum + p.size.width * p.size.height, 0);
  const free = service.value?.machine?.memory_available;
  return (
    <>
    <dl class="numbers">
      <div>
        <dt>{S.enlarge.resultSize}</dt>
        <dd>
          {pixels(result.width, result.height)} <small>{megapixels(result.width, result.height)}</small>
        </dd>
      </div>
      <div class="print-size">
        <dt>{S.enlarge.print(dpi)}</dt>
        <dd>{S.enlarge.printSize(print.cm, print.inches)}</dd>
      </div>
      <div>
        <dt>{S.enlarge.time}</dt>
        <dd>
          {estimate && estimate.seconds !== null ? S.enlarge.about(duration(estimate.seconds)) : S.enlarge.timeUnknown}
          {estimate && estimate.secondsPerSourcePixel !== null && others > 0 && <small>{S.enlarge.together(duration(estimate.secondsPerSourcePixel * all))}</small>}
        </dd>
      </div>
    </dl>
    {estimate && free !== undefined && scarce(estimate.bytes, service.value) && (
      <Trouble message={S.enlarge.scarce(bytes(estimate.bytes), bytes(free))} hint={S.enlarge.scarceHint} />
    )}
    </>
  );
}

function MisfitNote({ misfit, many }: { misfit: desk.Misfit; many: boolean }) {
  const { factor } = misfit;
  return (
    <Trouble message={misfit.text} hint={factor === null ? S.errors.noneFits : null}>
      {many && (
        <button type="button" onClick={() => (desk.fitEach.value = true)}>
          {S.errors.fitEach}
        </button>
      )}
      {!many && factor !== null && (
        <button type="button" onClick={() => change({ factor, exact: null })}>
          {S.errors.useFactor(factor)}
        </button>
      )}
    </Trouble>
  );
}

const COPIES = [
  { what: S.enlarge.copyCli, write: snippets.commandLine },
  { what: S.enlarge.copyCurl, write: snippets.curl },
  { what: S.enlarge.copyPython, write: snippets.python },
  { what: S.enlarge.copyComfy, write: snippets.comfy, note: S.enlarge.copyComfyNote },
];

function CopyAs() {
  const [open, setOpen] = useState(false);
  const { name, size } = desk.current.value!;
  const base = location.href.replace(/\/?([?#].*)?$/, '');
  const { output } = settings.value;
  const snippet = { base, file: split(name).base, request: requestFor(sizeFor(size, wantedFactor(size))), output };
  async function copy(what: string, text: string) {
    try {
      await navigator.clipboard.writeText(text);
      say(S.enlarge.copied(what));
      setOpen(false);
    } catch {
      say(S.enlarge.copyFailed, 'error', S.enlarge.copyFailedHint);
    }
  }
  return (
    <>
      <button type="button" class="large" aria-haspopup="dialog" onClick={() => setOpen(true)}>
        {S.enlarge.copy}
      </button>
      {open && (
        <Dialog title={S.enlarge.copy} onClose={() => setOpen(false)}>
          <div class="stack">
            {COPIES.map(({ what, write, note }) => (
              <section key={what} class="copy">
                <div class="row between">
                  <h3>{what}</h3>
                  <button type="button" onClick={() => copy(what, write(snippet))} aria-label={`${S.enlarge.copy} ${what}`}>
                    {S.enlarge.copyThis}
                  </button>
                </div>
                <pre tabIndex={0} aria-label={what}>{write(snippet)}</pre>
                {note && <p class="hint">{note}</p>}
              </section>
            ))}
          </div>
        </Dialog>
      )}
    </>
  );
}
