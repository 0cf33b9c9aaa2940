/** The desk: take pictures in, see them, move the knobs, judge the test strip, run. */

import { useEffect, useRef, useState } from 'preact/hooks';
import * as desk from '../state/desk.ts';
import { S } from '../strings.ts';
import { complain } from '../state/store.ts';
import { Alert, Camera, Cross, Plus } from '../ui/icons.tsx';
import { CameraDialog } from './CameraDialog.tsx';
import { Controls } from './Controls.tsx';
import { TestStrip } from './TestStrip.tsx';
import { Whole } from './Whole.tsx';

const ACCEPT = 'image/png,image/jpeg,image/webp,image/tiff,image/gif,image/bmp,.tif,.tiff';

export function Enlarge() {
  const [camera, setCamera] = useState(false);
  const picker = useRef<HTMLInputElement>(null);
  const snap = useRef<HTMLInputElement>(null);
  const pick = () => picker.current?.click();
  // Browsers open cameras for pages on localhost and https only; elsewhere a phone's own camera program can help.
  const shoot = () => (navigator.mediaDevices ? setCamera(true) : snap.current?.click());
  const takeFrom = (e: { currentTarget: HTMLInputElement }) => {
    desk.take([...(e.currentTarget.files ?? [])]);
    e.currentTarget.value = '';
  };
  usePaste();

  return (
    <div class="enlarge">
      <input
        ref={picker}
        class="sr"
        type="file"
        multiple
        accept={ACCEPT}
        tabIndex={-1}
        aria-label={S.enlarge.choose}
        onChange={takeFrom}
      />
      <input
        ref={snap}
        class="sr"
        type="file"
        accept="image/*"
        capture="environment"
        tabIndex={-1}
        aria-label={S.enlarge.camera}
        onChange={takeFrom}
      />
      {desk.current.value ? (
        <Desk onPick={pick} onCamera={shoot} />
      ) : (
        <Empty onPick={pick} onCamera={shoot} />
      )}
      {camera && <CameraDialog onClose={() => setCamera(false)} />}
    </div>
  );
}

function usePaste() {
  useEffect(() => {
    const onPaste = (e: ClipboardEvent) => {
      const files = [...(e.clipboardData?.files ?? [])];
      if (!files.length) return;
      e.preventDefault();
      desk.take(files);
    };
    document.addEventListener('paste', onPaste);
    return () => document.removeEventListener('paste', onPaste);
  }, []);
}

interface TakeInProps {
  onPick: () => void;
  onCamera: () => void;
}

const SAMPLES = ['brushes', 'friends', 'stream'] as const;

function Empty({ onPick, onCamera }: TakeInProps) {
  return (
    <div class="empty">
      <div class="empty-words">
        <h1 tabIndex={-1}>{S.enlarge.hero}</h1>
        <p class="lead">{S.enlarge.heroBody}</p>
        <div class="row">
          <button type="button" class="primary large" onClick={onPick}>
            {S.enlarge.choose}
          </button>
          <button type="button" class="large" onClick={onCamera}>
            <Camera />
            {S.enlarge.camera}
          </button>
        </div>
        <p class="muted">{S.enlarge.paste}</p>
      </div>
      <section class="prints" aria-labelledby="samples">
        <h2 id="samples">{S.enlarge.samples}</h2>
        <ul>
          {SAMPLES.map((name) => (
            <li key={name}>
              <button type="button" class="print" onClick={() => takeSample(name)}>
                <img src={`./samples/${name}.webp`} alt="" width={384} height={288} />
                <span>{S.enlarge.sampleNames[name]}</span>
              </button>
            </li>
          ))}
        </ul>
        <p class="credit">{S.enlarge.sampleCredit}</p>
      </section>
    </div>
  );
}

async function takeSample(name: string) {
  try {
    const blob = await (await fetch(`./samples/${name}.webp`)).blob();
    await desk.take([new File([blob], `${name}.webp`, { type: 'image/webp' })]);
  } catch (error) {
    complain(error);
  }
}

function Desk({ onPick, onCamera }: TakeInProps) {
  const picture = desk.current.value!;
  return (
    <div class="desk">
      <h1 class="sr" tabIndex={-1}>
        {S.enlarge.title}
      </h1>
      <div class="easels">
        <Whole key={picture.id} picture={picture} />
        <TestStrip />
      </div>
      <Tray onPick={onPick} onCamera={onCamera} />
      <Controls />
    </div>
  );
}

/** All pictures on the desk, and the ways to add more. */
function Tray({ onPick, onCamera }: TakeInProps) {
  return (
    <div class="tray">
      <ul aria-label={S.enlarge.strip}>
        {desk.pictures.value.map((p) => (
          <li key={p.id} class={p === desk.current.value ? 'current' : ''}>
            <button
              type="button"
              class={`tray-picture ${desk.factorFor(p) === null ? 'misfit' : ''}`}
              aria-label={p.fault.value ? S.enlarge.showFaulty(p.name) : S.enlarge.showPicture(p.name)}
              aria-current={p === desk.current.value}
              onClick={() => desk.choose(p)}
            >
              <img src={p.url} alt="" />
              {p.fault.value && <Alert />}
            </button>
            <button type="button" class="tray-remove" aria-label={S.enlarge.removePicture(p.name)} onClick={() => desk.putAway(p)}>
              <Cross />
            </button>
          </li>
        ))}
      </ul>
      <button type="button" class="bare" onClick={onPick}>
        <Plus />
        {S.enlarge.add}
      </button>
      <button type="button" class="bare" onClick={onCamera} aria-label={S.enlarge.camera} title={S.enlarge.camera}>
        <Camera />
      </button>
    </div>
  );
}
