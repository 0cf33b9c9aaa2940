"""Comfy's own Python client, unmodified, against a server: python comfy_sdk_client.py PHOTO.

The server is named by COMFY_ROUTER_BASE_URL, as for any user of that client. Prints one JSON object.
"""

import base64
import json
import sys
import urllib.request

from comfy_sdk import Comfy

MODEL = "freepik/ai-image-upscaler-precision-v2"

with open(sys.argv[1], "rb") as file:
    image = base64.b64encode(file.read()).decode()

client = Comfy(api_key="unused")
arguments = {"image": image, "scale_factor": 2, "flavor": "photo"}
result = client.models.run(MODEL, arguments)
with urllib.request.urlopen(result["data"]["generated"][0]) as answer:
    picture = answer.read()

handle = client.models.submit(MODEL, arguments)
collected = handle.get()

try:
    client.models.run(MODEL, {"image": image, "scale_factor": 99})
    refusal = None
except Exception as error:
    refusal = f"{type(error).__name__}: {error}"

print(
    json.dumps(
        {
            "status": result["data"]["status"],
            "width": int.from_bytes(picture[16:20], "big"),
            "height": int.from_bytes(picture[20:24], "big"),
            "queued": collected["data"]["status"],
            "refusal": refusal,
        }
    )
)
