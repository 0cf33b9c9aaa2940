/** The shell: header, the screen that the address names, messages. */

import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from './api.ts';
import { S } from './strings.ts';
import { Compare } from './screens/Compare.tsx';
import { Enlarge } from './screens/Enlarge.tsx';
import { Models } from './screens/Models.tsx';
import { Queue } from './screens/Queue.tsx';
import { Settings } from './screens/Settings.tsx';
import { restore, takeFolder } from './state/desk.ts';
import { dropped } from './state/folders.ts';
import { go, href, route, type Screen } from './state/route.ts';
import { learn } from './state/service.ts';
import { loadPresets } from './state/settings.ts';
import { complain } from './state/store.ts';
import { active, connection, stayConnected } from './state/tasks.ts';
import { Dialog, Toasts } from './ui/controls.tsx';
import { Alert, Mark } from './ui/icons.tsx';

export function App() {
  useEffect(() => {
    stayConnected();
    restore();
  }, []);
  useEffect(() => {
    learn();
    // A lost connection, or a key that is wanted, is said elsewhere.
    if (connection.value === 'open') loadPresets().catch(() => {});
  }, [api.apiKey.value, connection.value]);
  const dropping = useDrop();
  const main = useFocusOnChange();
  const { screen, id, others } = route.value;

  return (
    <>
      <a class="skip" href="#main" onClick={(e) => (e.preventDefault(), main.current?.querySelector<HTMLElement>('h1')?.focus())}>
        {S.skip}
      </a>
      <Header />
      {connection.value === 'lost' && (
        <div class="banner" role="alert">
          <Alert />
          {S.connection.lost}
        </div>
      )}
      <Toasts aside={screen === 'enlarge'} />
      <main id="main" ref={main}>
        {screen === 'enlarge' && <Enlarge />}
        {screen === 'queue' && <Queue />}
        {screen === 'compare' && <Compare id={id!} others={others} />}
        {screen === 'models' && <Models />}
        {screen === 'settings' && <Settings />}
        {screen === 'unknown' && <NotFound />}
      </main>
      {dropping && (
        <div class="drop-here" aria-hidden="true">
          <p>{S.enlarge.dropHere}</p>
        </div>
      )}
      {api.keyWanted.value && <AskForKey why={api.keyWanted.value} />}
    </>
  );
}

function NotFound() {
  return (
    <div class="page nothing">
      <h1 tabIndex={-1}>{S.notFound.title}</h1>
      <p class="muted">{S.notFound.text(route.value.id ?? '')}</p>
      <a class="button primary" href={href('enlarge')}>
        {S.notFound.home}
      </a>
    </div>
  );
}

function Header() {
  const busy = active.value.length;
  const item = (screen: Screen, label: string, current = route.value.screen === screen) => (
    <a href={href(screen)} aria-current={current ? 'page' : undefined}>
      {label}
    </a>
  );
  return (
    <header class="top">
      <a class="word" href={href('enlarge')}>
        <Mark />
        {S.name}
      </a>
      <nav aria-label={S.nav.label}>
        {item('enlarge', S.nav.enlarge)}
        <span class="nav-busy">
          {item('queue', S.nav.queue, route.value.screen === 'queue' || route.value.screen === 'compare')}
          {busy > 0 && (
            <span class="count" role="status" aria-label={S.busy(busy)}>
              {busy}
            </span>
          )}
        </span>
        {item('models', S.nav.models)}
        {item('settings', S.nav.settings)}
      </nav>
    </header>
  );
}

/** A picture may be dropped anywhere on the page. */
function useDrop(): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    // A drag enters and leaves every element that it passes: they are counted.
    let depth = 0;
    const hasFiles = (e: DragEvent) => e.dataTransfer?.types.includes('Files') && route.value.screen !== 'models';
    const onEnter = (e: DragEvent) => {
      if (!hasFiles(e)) return;
      depth += 1;
      setOver(true);
    };
    const onLeave = () => {
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(false);
    };
    const onOver = (e: DragEvent) => e.preventDefault();
    const onDrop = (e: DragEvent) => {
      e.preventDefault();
      depth = 0;
      setOver(false);
      if (!hasFiles(e)) return;
      go('enlarge');
      dropped(e.dataTransfer!).then(takeFolder, complain);
    };
    const events = { dragenter: onEnter, dragleave: onLeave, dragover: onOver, drop: onDrop };
    for (const [name, listener] of Object.entries(events)) addEventListener(name, listener as EventListener);
    return () => {
      for (const [name, listener] of Object.entries(events)) removeEventListener(name, listener as EventListener);
    };
  }, []);
  return over;
}

/** After a change of screen the focus goes to its heading, so that screen readers say where one is. */
function useFocusOnChange() {
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const { screen } = route.value;
  useEffect(() => {
    const name = screen === 'compare' ? S.compare.title : screen === 'unknown' ? S.notFound.title : S.nav[screen];
    document.title = `${name} · ${S.name}`;
    if (first.current) first.current = false;
    else main.current?.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true });
  }, [screen]);
  return main;
}

function AskForKey({ why }: { why: 'missing' | 'wrong' }) {
  const [key, setKey] = useState('');
  return (
    <Dialog title={S.key.title} onClose={() => (api.keyWanted.value = null)}>
      <form
        class="stack"
        onSubmit={(e) => {
          e.preventDefault();
          api.setApiKey(key.trim());
        }}
      >
        <p>{S.key[why]}</p>
        <div class="field">
          <label for="key">{S.key.field}</label>
          <input id="key" type="password" autocomplete="off" autofocus required value={key} onInput={(e) => setKey(e.currentTarget.value)} />
        </div>
        <div class="row end">
          <button class="primary">{S.key.ok}</button>
        </div>
      </form>
    </Dialog>
  );
}
