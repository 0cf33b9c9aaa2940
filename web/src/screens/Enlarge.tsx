/** The desk: take pictures in, see them, move the knobs, judge the test strip, run. */

import { useEffect, useRef, useState } from 'preact/hooks';
import * as desk from '../state/desk.ts';
import { alone, picked } from '../state/folders.ts';
import { megapixels } from '../logic/format.ts';
import { S } from '../strings.ts';
import { complain } from '../state/store.ts';
import { Sure } from '../ui/controls.tsx';
import { Alert, Camera, Cross, Folder, Plus } from '../ui/icons.tsx';
import { CameraDialog } from './CameraDialog.tsx';
import { Controls } from './Controls.tsx';
import { TestStrip } from './TestStrip.tsx';
import { Whole } from './Whole.tsx';

const ACCEPT = 'image/png,image/jpeg,image/webp,image/tiff,image/gif,image/bmp,.tif,.tiff';

export function Enlarge() {
  const [camera, setCamera] = useState(false);
  const picker = useRef<HTMLInputElement>(null);
  const snap = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const ways = {
    onPick: () => picker.current?.click(),
    onFolder: () => folder.current?.click(),
  // Browsers open cameras for pages on localhost and https only; elsewhere a phone's own camera program can help.
    onCamera: () => (navigator.mediaDevices ? setCamera(true) : snap.current?.click()),
  };
  const takeFrom = (e: { currentTarget: HTMLInputElement }) => {
    desk.take(alone(e.currentTarget.files ?? []));
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
      <input
        ref={folder}
        class="sr"
        type="file"
        {...{ webkitdirectory: true }}
        tabIndex={-1}
        aria-label={S.enlarge.folder}
        onChange={(e) => {
          desk.takeFolder(picked(e.currentTarget.files ?? []));
          e.currentTarget.value = '';
        }}
      />
      {desk.current.value ? <Desk {...ways} /> : <Empty {...ways} />}
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
      desk.take(alone(files));
    };
    document.addEventListener('paste', onPaste);
    return () => document.removeEventListener('paste', onPaste);
  }, []);
}

interface TakeInProps {
  onPick: () => void;
  onFolder: () => void;
  onCamera: () => void;
}

const SAMPLES = ['brushes', 'friends', 'stream'] as const;

function Empty({ onPick, onFolder, onCamera }: TakeInProps) {
  return (
    <div class="empty">
      <div class="empty-words">
        <h1 tabIndex={-1}>{S.enlarge.hero}</h1>
        <p class="lead">{S.enlarge.heroBody}</p>
        <div class="row">
          <button type="button" class="primary large" onClick={onPick}>
            {S.enlarge.choose}
          </button>
          <button type="button" class="large" onClick={onFolder}>
            <Folder />
            {S.enlarge.folder}
          </button>
          <button type="button" class="large" onClick={onCamera}>
            <Camera />
            {S.enlarge.camera}
          </button>
        </div>
        <p class="muted" role="status">
          {desk.taking.value ? S.enlarge.taking(desk.taking.value.done, desk.taking.value.all) : S.enlarge.paste}
        </p>
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
    await desk.take(alone([new File([blob], `${name}.webp`, { type: 'image/webp' })]));
  } catch (error) {
    complain(error);
  }
}

function Desk(ways: TakeInProps) {
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
      <Tray {...ways} />
      <Controls />
    </div>
  );
}

/** All pictures on the desk, and the ways to add more. */
function Tray({ onPick, onFolder, onCamera }: TakeInProps) {
  const [sure, setSure] = useState(false);
  const list = desk.pictures.value;
  const current = desk.current.value;
  const place = list.indexOf(current!) + 1;
  const all = list.reduce((sum, { size }) => sum + size.width * size.height, 0);
  const shown = useRef<HTMLLIElement>(null);
  useEffect(() => shown.current?.scrollIntoView({ block: 'nearest', inline: 'nearest' }), [current]);
  const { taking } = desk;
  return (
    <div class="tray">
      <ul aria-label={S.enlarge.strip}>
        {list.map((p) => (
          <li key={p.id} ref={p === current ? shown : null} class={p === current ? 'current' : ''}>
            <button
              type="button"
              class={`tray-picture ${desk.factorFor(p) === null ? 'misfit' : ''}`}
              aria-label={p.fault.value ? S.enlarge.showFaulty(p.name) : S.enlarge.showPicture(p.name)}
              title={p.name}
              aria-current={p === current}
              onClick={() => desk.choose(p)}
            >
              <img src={p.url} alt="" loading="lazy" decoding="async" />
              {p.fault.value && <Alert />}
            </button>
            <button type="button" class="tray-remove" aria-label={S.enlarge.removePicture(p.name)} onClick={() => desk.putAway(p)}>
              <Cross />
            </button>
          </li>
        ))}
      </ul>
      <div class="row tray-tools">
        <button type="button" class="bare" onClick={onPick}>
          <Plus />
          {S.enlarge.add}
        </button>
        <button type="button" class="bare icon-only" onClick={onFolder} aria-label={S.enlarge.addFolder} title={S.enlarge.addFolder}>
          <Folder />
        </button>
        <button type="button" class="bare icon-only" onClick={onCamera} aria-label={S.enlarge.camera} title={S.enlarge.camera}>
          <Camera />
        </button>
        <span class="muted small num" role="status">
          {taking.value ? S.enlarge.taking(taking.value.done, taking.value.all) : S.enlarge.onDesk(place, list.length, megapixels(all, 1))}
        </span>
        {list.length > 1 && (
          <button type="button" class="bare" onClick={() => setSure(true)}>
            {S.enlarge.clear}
          </button>
        )}
      </div>
      {sure && (
        <Sure
          question={S.enlarge.clearSure(list.length)}
          hint={S.enlarge.clearHint}
          yes={S.enlarge.clear}
          onYes={() => desk.putAway(...list)}
          onClose={() => setSure(false)}
        />
      )}
    </div>
  );
}
