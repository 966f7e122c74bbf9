"""A function as a WSGI application; prints what it gets."""
import base64
import json
import os


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
    headers = {k[5:].lower().replace("_", "-"): v for k, v in environ.items() if k.startswith("HTTP_")}
    line = json.dumps({"headers": headers, "body": base64.b64encode(body).decode(), "status": 200}) + "\n"
    os.write(1, line.encode())  # one write: threads print at the same time
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\n"]
