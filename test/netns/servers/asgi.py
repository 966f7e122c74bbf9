"""A function as an ASGI application; prints what it gets."""
import base64
import json
import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError  # no lifespan
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {k.decode(): v.decode() for k, v in scope["headers"]}
    line = json.dumps({"headers": headers, "body": base64.b64encode(body).decode(), "status": 200}) + "\n"
    os.write(1, line.encode())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"ok\n"})
