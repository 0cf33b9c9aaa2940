/** The small controls that the screens share. */

import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { S } from '../strings.ts';
import { Alert, Cross } from './icons.tsx';
import { dismiss, toasts, type Toast } from '../state/store.ts';

interface KnobProps {
  label: string;
  hint: string;
  value: number;
  min: number;
  max: number;
  neutral: number;
  onChange: (value: number) => void;
}

/** A slider with a notch where it does nothing; double click or 0 goes back there. */
export function Knob({ label, hint, value, min, max, neutral, onChange }: KnobProps) {
  const id = useId();
  const share = (v: number) => `${(v - min) / (max - min)}`;
  const shown = min < 0 && value > 0 ? `+${value}` : String(value);
  const low = Math.min(value, neutral);
  const high = Math.max(value, neutral);
  return (
    <div class="knob" style={{ '--low': share(low), '--high': share(high), '--neutral': share(neutral) }}>
      <div class="knob-head">
        <label for={id}>{label}</label>
        <output for={id} class={value === neutral ? 'at-neutral' : ''}>
          {shown}
        </output>
      </div>
      <div class="knob-track">
        <input
          id={id}
          type="range"
          min={min}
          max={max}
          step={1}
          value={value}
          aria-describedby={`${id}-hint`}
          aria-valuetext={value === neutral ? `${shown}, ${S.enlarge.neutral}` : shown}
          onInput={(e) => onChange(Number(e.currentTarget.value))}
          onDblClick={() => onChange(neutral)}
          onKeyDown={(e) => {
            if (e.key === '0' || e.key === 'Backspace') onChange(neutral);
          }}
        />
      </div>
      <p id={`${id}-hint`} class="hint">
        {hint}
      </p>
    </div>
  );
}

interface ChoiceProps<T> {
  label: string;
  hideLabel?: boolean;
  hint?: string;
  value: T;
  options: readonly { value: T; label: ComponentChildren; title?: string; dimmed?: boolean }[];
  onChange: (value: T) => void;
}

/** A few exclusive options in a row: radio buttons by nature, so arrow keys work. */
export function Choice<T extends string | number>({ label, hideLabel, hint, value, options, onChange }: ChoiceProps<T>) {
  const name = useId();
  return (
    <fieldset class="choice" aria-describedby={hint && `${name}-hint`}>
      <legend class={hideLabel ? 'sr' : ''}>{label}</legend>
      <div class="choice-row">
        {options.map((o) => (
          <label key={o.value} title={o.title} class={o.dimmed ? 'dimmed' : ''}>
            <input type="radio" name={name} checked={o.value === value} onChange={() => onChange(o.value)} />
            <span>{o.label}</span>
          </label>
        ))}
      </div>
      {hint && (
        <p id={`${name}-hint`} class="hint">
          {hint}
        </p>
      )}
    </fieldset>
  );
}

interface SelectProps<T> {
  label: string;
  value: T;
  options: readonly { value: T; label: string }[];
  onChange: (value: T) => void;
}

export function Select<T extends string>({ label, value, options, onChange }: SelectProps<T>) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(e) => onChange(e.currentTarget.value as T)}>
        {options.map((o) => (
          <option key={o.value} value={o.value}>
            {o.label}
          </option>
        ))}
      </select>
    </div>
  );
}

interface DialogProps {
  title: string;
  /** As large as the window allows. */
  wide?: boolean;
  onClose: () => void;
  children: ComponentChildren;
}

/** A native modal dialog: it keeps the focus, and Escape closes it. The focus starts where `autofocus` is, never on the ✕. */
export function Dialog({ title, wide, onClose, children }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  // Before anything is painted, so that it takes keys as soon as it is there.
  useLayoutEffect(() => {
    const dialog = ref.current!;
    dialog.showModal();
    const first = dialog.querySelector<HTMLElement>('[autofocus]') ?? dialog.querySelector<HTMLElement>('.dialog-body button, .dialog-body input');
    first?.focus();
  }, []);
  return (
    <dialog ref={ref} class={wide ? 'wide' : ''} aria-labelledby={id} onClose={onClose}>
      <div class="dialog-head">
        <h2 id={id}>{title}</h2>
        <button type="button" class="bare" aria-label={S.close} onClick={() => ref.current?.close()}>
          <Cross />
        </button>
      </div>
      <div class="dialog-body">{children}</div>
    </dialog>
  );
}

interface SureProps {
  question: string;
  hint?: string;
  yes: string;
  onYes: () => void;
  onClose: () => void;
}

/** Asks before something that cannot be undone. */
export function Sure({ question, hint = S.queue.forGood, yes, onYes, onClose }: SureProps) {
  return (
    <Dialog title={question} onClose={onClose}>
      <p class="muted">{hint}</p>
      <div class="row end">
        <button type="button" autofocus onClick={onClose}>
          {S.queue.keep}
        </button>
        <button
          type="button"
          class="danger"
          onClick={() => {
            onYes();
            onClose();
          }}
        >
          {yes}
        </button>
      </div>
    </Dialog>
  );
}

/** A sentence about what is wrong, and what to do. */
export function Trouble({ message, hint, children }: { message: string; hint?: string | null; children?: ComponentChildren }) {
  return (
    <div class="trouble" role="alert">
      <Alert />
      <div>
        <p>{message}</p>
        {hint && <p class="muted">{hint}</p>}
        {children && <div class="row">{children}</div>}
      </div>
    </div>
  );
}

/** How long a message is shown, in milliseconds: an error takes longer to read, and something has to be done about it. */
const LIFE = { info: 5_000, error: 20_000 } satisfies Record<Toast['kind'], number>;

/** Messages that leave by themselves, but not while the pointer or the focus is on them. `aside`: over the desk's panel, clear of its images. */
export function Toasts({ aside }: { aside: boolean }) {
  const [held, setHeld] = useState(false);
  const cards = (kind: Toast['kind']) => toasts.value.filter((t) => t.kind === kind).map((t) => <ToastCard key={t.id} held={held} {...t} />);
  useEffect(() => {
    // A card that is dismissed under the pointer fires no pointerleave.
    if (!toasts.value.length) setHeld(false);
  }, [toasts.value.length]);
  return (
    <div
      class={aside ? 'toasts aside' : 'toasts'}
      onPointerEnter={() => setHeld(true)}
      onPointerLeave={() => setHeld(false)}
      onFocusIn={() => setHeld(true)}
      onFocusOut={() => setHeld(false)}
    >
      <div role="status" aria-live="polite">
        {cards('info')}
      </div>
      <div role="alert" aria-live="assertive">
        {cards('error')}
      </div>
    </div>
  );
}

function ToastCard({ id, kind, text, hint, details, held }: Toast & { held: boolean }) {
  // With the layout, not after the next paint: a message must not leave once the pointer is on it.
  useLayoutEffect(() => {
    if (held) return;
    const timer = setTimeout(() => dismiss(id), LIFE[kind]);
    return () => clearTimeout(timer);
  }, [held]);
  return (
    <div class={`toast ${kind}`}>
      <div>
        <p>{text}</p>
        {details.length > 0 && (
          <ul>
            {details.map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        )}
        {hint && <p class="muted">{hint}</p>}
      </div>
      <button type="button" class="bare" aria-label={S.dismiss} onClick={() => dismiss(id)}>
        <Cross />
      </button>
    </div>
  );
}
