"""A client of A1111's API, unmodified, against a server: python webuiapi_client.py PHOTO URL. Prints one JSON object."""

import json
import sys

import webuiapi
from PIL import Image

photo, url = sys.argv[1:]
client = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1", username="me", password="unused")
image = Image.open(photo)
by_factor = client.extra_single_image(image, upscaling_resize=2, upscaler_1="R-ESRGAN 4x+ Anime6B")
to_size = client.extra_single_image(
    image, resize_mode=1, upscaling_resize_w=100, upscaling_resize_h=100, upscaler_1="animevideo-v3"
)
try:
    client.extra_single_image(image, upscaler_1="Lanczos")
    refusal = None
except RuntimeError as error:
    refusal = str(error)

print(
    json.dumps(
        {
            "upscalers": [upscaler["name"] for upscaler in client.get_upscalers()],
            "by_factor": by_factor.image.size,
            "to_size": to_size.image.size,
            "refusal": refusal,
        }
    )
)
