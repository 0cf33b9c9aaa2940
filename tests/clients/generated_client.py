"""A client that openapi-python-client has generated runs a job: python generated_client.py PHOTO URL, with the client's package in
PYTHONPATH. Prints one JSON object.
"""

import base64
import json
import sys
import time

import httpx
from enlarger_client import Client
from enlarger_client.api.console import create_task, get_task, preview
from enlarger_client.models import Crop, Factor, Submission, UpscaleRequest
from enlarger_client.api.images import upscale_image
from enlarger_client.models import UpscaleForm
from enlarger_client.types import File

photo, url = sys.argv[1:]
client = Client(base_url=url, timeout=httpx.Timeout(240))
with open(photo, "rb") as file:
    image = file.read()
encoded = base64.b64encode(image).decode()
request = UpscaleRequest(size=Factor(2.0), model="animevideo-v3")
task = create_task.sync(client=client, body=Submission(image=encoded, request=request))
while task.status in ("CREATED", "IN_PROGRESS"):
    time.sleep(0.1)
    task = get_task.sync(task.task_id, client=client)
result = httpx.get(task.result.url).content

request.crop = Crop(x=0, y=0, width=16, height=16)
shown = preview.sync(client=client, body=Submission(image=encoded, request=request))
refused = create_task.sync(client=client, body=Submission(image="nonsense"))

print(
    json.dumps(
        {
            "status": task.status,
            "result": [int.from_bytes(result[16:20], "big"), int.from_bytes(result[20:24], "big")],
            "preview": shown.payload.read(8).hex(),
            "refusal": refused.message,
        }
    )
)
