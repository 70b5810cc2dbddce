#!/usr/bin/env python3
"""Times MusicNN's network in onnxruntime-web on the CPU of headless Chromium and prints one line of JSON.

The patches are real ones of an audio file. `embedding` is the mean of one batch's, to check the peer by.
"""
import argparse
import functools
import http.server
import json
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np

import common

FLAGS = "--headless=new --no-sandbox --no-first-run --disable-quic --disable-sync --disable-background-networking"


class Site(http.server.BaseHTTPRequestHandler):
    """The page, ONNX Runtime, the model and the patches; and where the page puts its result."""

    protocol_version = "HTTP/1.1"

    def __init__(self, files, results, *rest):
        self.files, self.results = files, results
        super().__init__(*rest)

    def do_GET(self):
        path = self.path.partition("?")[0]
        found = self.files.get(path)
        if found is None and path.startswith("/ort/"):
            found = common.WORK / "node_modules/onnxruntime-web/dist" / pathlib.PurePath(path).name
        if isinstance(found, pathlib.Path):
            found = found.read_bytes() if found.exists() else None
        kind = {".mjs": "text/javascript", ".wasm": "application/wasm"}.get(path[path.rfind(".") :], "text/html")
        self.answer(404 if found is None else 200, found or b"", kind)

    def do_POST(self):
        self.results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(200, b"", "text/plain")

    def answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--model", type=pathlib.Path, default=common.ROOT / "models/msd-musicnn.safetensors")
    parser.add_argument("--batch", type=int, default=8, metavar="PATCHES")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("file", nargs="?", default=common.ROOT / "tests/fixtures/music/sweep_16k_mono.wav")
    options = parser.parse_args()

    files = {
        "/": HERE / "index.html",
        "/model.onnx": common.graph(options.model, "onnx"),
        "/patches": common.real_patches([common.decode(options.file)], options.batch).tobytes(),
    }
    results = queue.Queue()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Site, files, results))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = f"http://127.0.0.1:{server.server_port}/?threads={options.threads}&batch={options.batch}"
    page += f"&repetitions={common.WARM_UP + common.REPETITIONS}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [options.chromium, *FLAGS.split(), f"--user-data-dir={profile}", page]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            result = results.get(timeout=300)
        except queue.Empty:
            result = {"error": "no result after 300 s"}
        finally:
            browser.terminate()
            browser.wait(30)
    if "error" in result:
        sys.exit(result["error"])
    line = {
        "peer": "onnxruntime-web",
        "version": result["version"],
        "threads": options.threads,
        "startup_ms": round(result["startup_ms"], 1),
        **common.rates(result["seconds"], options.batch),
        "batch": options.batch,
        "embedding": np.reshape(result["embeddings"], (-1, 200)).mean(0).tolist(),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
