"""A client that openapi-python-client has generated runs a job: python generated_client.py PHOTO URL, with the client's package in
PYTHONPATH. Prints one JSON object.
"""

import base64
import io
import json
import sys
import time

import httpx
from enlarger_client import Client
from enlarger_client.api.console import create_task, get_task, preview
from enlarger_client.api.images import upscale_image
from enlarger_client.models import Crop, SizeType0, Submission, UpscaleForm, UpscaleFormResponseFormat, UpscaleRequest
from enlarger_client.types import File

photo, url = sys.argv[1:]
client = Client(base_url=url, timeout=httpx.Timeout(240))
with open(photo, "rb") as file:
    image = file.read()
encoded = base64.b64encode(image).decode()


def size(png):
    return [int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")]


request = UpscaleRequest(size=SizeType0(factor=2.0), model="animevideo-v3")
task = create_task.sync(client=client, body=Submission(image=encoded, request=request))
while task.status in ("CREATED", "IN_PROGRESS"):
    time.sleep(0.1)
    task = get_task.sync(task.task_id, client=client)

request.crop = Crop(x=0, y=0, width=16, height=16)
shown = preview.sync(client=client, body=Submission(image=encoded, request=request))
refused = create_task.sync(client=client, body=Submission(image="nonsense"))

form = UpscaleForm(
    image=File(payload=io.BytesIO(image), file_name="photo.png", mime_type="image/png"),
    scale=1.5,
    model="animevideo-v3",
    response_format=UpscaleFormResponseFormat.B64_JSON,
)
answer = upscale_image.sync(client=client, body=form)

print(
    json.dumps(
        {
            "status": task.status,
            "result": size(httpx.get(task.result.url).content),
            "preview": size(shown.payload.read()),
            "refusal": refused.message,
            "form": size(base64.b64decode(answer.data[0].b64_json)),
        }
    )
)
