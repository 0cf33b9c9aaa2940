"""The official client of the Model Context Protocol, unmodified: python mcp_client.py ENLARGER FOLDER, with photo.png in the folder.

Prints one JSON object.
"""

import asyncio
import base64
import json
import pathlib
import sys

from mcp import Client, MCPError, StdioServerParameters

program, folder = sys.argv[1:]
folder = pathlib.Path(folder)


async def main():
    said = {"errors": []}
    parameters = StdioServerParameters(command=program, args=["mcp"], cwd=folder)
    async with Client(parameters) as client:
        said["server"] = client.server_info.name
        tools = (await client.list_tools()).tools
        said["tools"] = [tool.name for tool in tools]
        said["upscale_takes"] = sorted(tools[0].input_schema["properties"])

        async def call(name, **arguments):
            result = await client.call_tool(name, arguments)
            text = result.content[0].text
            if result.is_error:
                said["errors"].append(text)
            return text, result.structured_content

        said["models"] = [model["name"] for model in (await call("list_models"))[1]["models"]]
        said["explained"] = await call("explain", image="photo.png", scale=3)

        fractions = []

        async def progress(fraction, total, message):
            fractions.append(fraction / total)

        arguments = {"image": "photo.png", "model": "animevideo-v3", "creativity": 1}
        result = await client.call_tool("upscale", arguments, progress_callback=progress)
        said["beside"] = result.structured_content
        said["progress"] = [len(fractions) > 0, fractions == sorted(fractions)]
        encoded = base64.b64encode((folder / "photo.png").read_bytes()).decode()
        said["encoded"] = await call("upscale", image_base64=encoded, output="made/by.webp", scale=1.5, sharpen=20, quality="fast")

        await call("upscale", image="photo.png", model="animevideo-v3")  # The result is there already.
        await call("upscale", image="photo.png", output="photo.png", overwrite=True)
        await call("upscale", image="nothing.png")
        await call("upscale", image="notes.txt")
        await call("upscale", image="photo.png", factor=2)
        await call("upscale", image="photo.png", scale=99)
        await call("upscale", image="photo.png", hdr=1, flavor="photo")
        await call("upscale", image="photo.png", model="nosuch", output="other.png")
        await call("upscale", image_base64="?")
        await call("upscale", image=".")
        try:
            await client.call_tool("enhance", {})
        except MCPError as error:
            said["unknown_tool"] = str(error)
    print(json.dumps(said))


asyncio.run(main())
