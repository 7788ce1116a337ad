"""Serves the page to this machine's browser: python -m web.serve --open"""

import argparse
import functools
import http.server
import sys
import webbrowser
from pathlib import Path

from tfdense.errors import InputError, exit_status
from web.prepare import PAGE

# Threads of WebAssembly share memory, which browsers give only to a page that is isolated from
# others: the first three. The last forbids, whatever the page holds, to send anything elsewhere.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".tflite": "application/octet-stream",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Answers with the files of the page, compressed where a compressed one lies beside it."""

    protocol_version = "HTTP/1.1"
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | _TYPES

    def send_head(self):
        """Sends the headers of a file; what lies compressed beside it is sent in its place."""
        path = Path(self.translate_path(self.path))
        compressed = path.with_name(f"{path.name}.gz")
        if "gzip" not in self.headers.get("Accept-Encoding", "") or not compressed.is_file():
            return super().send_head()
        file = compressed.open("rb")
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(compressed.stat().st_size))
        self.end_headers()
        return file

    def list_directory(self, path):
        """Lists no folder."""
        self.send_error(http.HTTPStatus.NOT_FOUND)

    def end_headers(self):
        """Adds what every answer carries."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        # The names of what was built hold a version or a hash, but for a few small files.
        lasting = "/built/litert-" in self.path or self.path.endswith(".tflite")
        self.send_header("Cache-Control", "max-age=31536000, immutable" if lasting else "no-cache")
        super().end_headers()

    def log_message(self, *arguments):
        """Prints nothing."""


def make_server(
    port: int, host: str = "127.0.0.1", page: Path = PAGE, handler: type[Handler] = Handler
) -> http.server.ThreadingHTTPServer:
    """Returns a server of the page, whose `serve_forever` answers.

    Args:
        port: 0 takes any that is free.
        host: the address to listen at.
        page: the folder.
        handler: of requests.

    Raises:
        InputError: if it cannot listen there.
    """
    try:
        return http.server.ThreadingHTTPServer(
            (host, port), functools.partial(handler, directory=page)
        )
    except (OSError, OverflowError) as error:
        raise InputError(f"Cannot listen at {host}, port {port}: {error}") from None


def main() -> int:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _serve(arguments))


def _serve(arguments: argparse.Namespace) -> None:
    if not (PAGE / "built" / "models.json").is_file():
        raise InputError("The page lacks LiteRT.js and a model: run `make web`.")
    server = make_server(arguments.port, arguments.host)
    # Only at this name, or by https, do browsers give a page threads and the camera.
    address = f"http://localhost:{server.server_port}/"
    print(f"{address} (Ctrl-C ends)", flush=True)
    if arguments.open:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


if __name__ == "__main__":
    sys.exit(main())
