"""A port of the master's own, served by a thread, as exporters of metrics have it."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

workers = 2


def when_ready(server):
    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self):
            body = f"workers {len(server.WORKERS)}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    metrics = HTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=metrics.serve_forever, daemon=True).start()
    server.log.info("metrics at http://127.0.0.1:%d", metrics.server_port)
