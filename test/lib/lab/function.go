package lab

// PythonFunction is a function in Python that says 200 to each POST, on the port that PORT names.
const PythonFunction = `import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        self.rfile.read(int(self.headers['Content-Length']))
        self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(('', int(os.environ['PORT'])), H).serve_forever()`
