/** A photo from the camera. */

import { useEffect, useRef, useState } from 'preact/hooks';
import { take } from '../state/desk.ts';
import { alone } from '../state/folders.ts';
import { S } from '../strings.ts';
import { Dialog, Trouble } from '../ui/controls.tsx';

export function CameraDialog({ onClose }: { onClose: () => void }) {
  const video = useRef<HTMLVideoElement>(null);
  const [state, setState] = useState<'opening' | 'open' | 'failed'>('opening');

  useEffect(() => {
    let stream: MediaStream | null = null;
    let closed = false;
    const stop = () => stream?.getTracks().forEach((track) => track.stop());
    (async () => {
      try {
        // As large as the camera can; it goes down to what it has.
        stream = await navigator.mediaDevices.getUserMedia({
          video: { facingMode: 'environment', width: { ideal: 4096 }, height: { ideal: 3072 } },
        });
        if (closed) return stop();
        video.current!.srcObject = stream;
        await video.current!.play();
        setState('open');
      } catch {
        setState('failed');
      }
    })();
    return () => {
      closed = true;
      stop();
    };
  }, []);

  async function shoot() {
    const { videoWidth, videoHeight } = video.current!;
    const canvas = new OffscreenCanvas(videoWidth, videoHeight);
    canvas.getContext('2d')!.drawImage(video.current!, 0, 0);
    const blob = await canvas.convertToBlob({ type: 'image/png' });
    const time = new Date().toISOString().slice(0, 19).replace(/[:T]/g, '-');
    onClose();
    await take(alone([new File([blob], `photo-${time}.png`, { type: 'image/png' })]));
  }

  return (
    <Dialog title={S.enlarge.cameraTitle} onClose={onClose}>
      {state === 'failed' ? (
        <Trouble message={S.enlarge.cameraFailed} hint={S.enlarge.cameraFailedHint} />
      ) : (
        <>
          <video ref={video} class="camera" muted playsInline />
          <div class="row end">
            <button type="button" class="primary" disabled={state !== 'open'} onClick={shoot}>
              {S.enlarge.shoot}
            </button>
          </div>
        </>
      )}
    </Dialog>
  );
}
