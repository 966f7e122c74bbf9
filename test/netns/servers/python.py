"""A function on Python's http.server as HTTP/1.1; prints what it gets."""
import base64
import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {k.lower(): v for k, v in self.headers.items()}
        line = json.dumps({"headers": headers, "body": base64.b64encode(body).decode()}) + "\n"
        os.write(1, line.encode())  # one write: threads print at the same time
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128


server = Server(("::", int(sys.argv[1])), Handler)
print("msg=serving", file=sys.stderr, flush=True)
server.serve_forever()
