"""An HTTPS server whose routes are functions."""

import http.server
import json
import ssl
import threading
from collections.abc import Callable

from certificates import Pair
from say import Problem, say

# (method, path, headers, body) -> (status, body): an object is answered as JSON, text and bytes as they are.
Route = Callable[[str, str, dict, bytes], tuple[int, object]]
MOST = 1 << 20


def serve(address: str, port: int, pair: Pair, route: Route) -> None:
    """Serves until the process ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 15

        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            if size > MOST:
                self.send_error(413)
                return
            try:
                status, body = route(self.command, self.path, dict(self.headers), self.rfile.read(size))
            except Exception as error:  # the joiner tries again
                say(f"{self.command} {self.path}: {error}")
                status, body = 500, {"code": 500, "message": str(error)}
            data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(body, (bytes, str)) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self):
            connection, peer = super().get_request()
            # The handshake happens in the connection's own thread, at its first read: a slow peer keeps nobody waiting.
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), peer

        def handle_error(self, *_) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.crt, pair.key)
    try:
        server = Server((address, port), Handler)
    except OSError as error:
        raise Problem(f"cannot listen on {address}:{port}: {error}") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
