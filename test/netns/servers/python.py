"""Functions on Python's http.server as HTTP/1.1; prints what they get.

Arguments: PORT, with default settings, or PORT=MANNER.
"""
import base64
import itertools
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self):
        body = base64.b64encode(self.rfile.read(int(self.headers["Content-Length"]))).decode()
        headers = {k.lower(): v for k, v in self.headers.items()}
        self.decide()
        line = json.dumps({"headers": headers, "body": body, "status": self.status}) + "\n"
        os.write(1, line.encode())  # one write: threads print at the same time
        self.response()

    def decide(self):
        pass

    def response(self, close=False):
        self.send_response(self.status)
        self.send_header("Content-Length", "3")
        if close:
            self.send_header("Connection", "close")  # and BaseHTTPRequestHandler does
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *args):
        pass


class Http10(Handler):
    protocol_version = "HTTP/1.0"  # the default


class Close(Handler):
    def response(self):
        super().response(close=True)


class Idle(Handler):
    timeout = 5


class Limit(Handler):
    requests = 0  # of this connection: each has a handler of its own

    def response(self):
        self.requests += 1
        super().response(close=self.requests >= 100)


class Chunked(Handler):
    def response(self):
        self.send_response(self.status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in b"ok", b"ay\n", b"":
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))


class Slow(Handler):
    def response(self):
        time.sleep(2)
        super().response()


class NoContent(Handler):
    status = 204

    def response(self):
        self.send_response(self.status)
        self.end_headers()


class EveryThird(Handler):
    count = itertools.count(1)

    def decide(self):
        self.status = 500 if next(self.count) % 3 else 200


MANNERS = {"": Handler, "close": Close, "idle": Idle, "limit": Limit, "chunked": Chunked, "slow": Slow,
           "204": NoContent, "500": EveryThird}


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128


class Threads(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class Single(HTTPServer):  # serves a connection until it ends, then the next
    address_family = socket.AF_INET6


SHIPPED = {"1.0": (Single, Http10), "1.1-threads": (Threads, Handler), "1.1-single": (Single, Handler)}

servers = []
for arg in sys.argv[1:]:
    port, _, manner = arg.partition("=")
    server, handler = SHIPPED.get(manner) or (Server, MANNERS[manner])
    servers.append(server(("::", int(port)), handler))
for server in servers:
    threading.Thread(target=server.serve_forever).start()
print("msg=serving", file=sys.stderr, flush=True)
