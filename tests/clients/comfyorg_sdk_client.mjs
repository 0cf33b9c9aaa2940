// Comfy's own TypeScript client, unmodified, against a server: node comfyorg_sdk_client.mjs PHOTO
// The server is named by COMFY_ROUTER_BASE_URL, as for any user of that client. Prints one JSON object.

import { readFileSync } from 'node:fs';
import { comfy } from '@comfyorg/sdk';

const MODEL = 'freepik/ai-image-upscaler-precision-v2';
const image = readFileSync(process.argv[2]).toString('base64');

comfy.config({ credentials: 'unused' });
const { data: body, requestId } = await comfy.models.run(MODEL, { image, scale_factor: 2, flavor: 'photo' });
const picture = Buffer.from(await (await fetch(body.data.generated[0])).arrayBuffer());

const refusal = await comfy.models.run(MODEL, { image, scale_factor: 99 }).then(
  () => null,
  (error) => `${error.constructor.name}: ${error.message}`,
);

console.log(
  JSON.stringify({
    status: body.data.status,
    width: picture.readUInt32BE(16),
    height: picture.readUInt32BE(20),
    requestId,
    refusal,
  }),
);
