#!/usr/bin/env python3
"""Stands in for an inference server in tests: an OpenAI-compatible HTTP server that is not ready at once, fails every
tenth request the first time, refuses prompts that say `refuse`, takes a minute for `slow` ones, and starts a worker process as real engines do.

Its arguments, its environment's GREETING and the ids of its processes go to the file that FAKE_ENGINE_LOG names."""
import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
import time

arguments = sys.argv[1:]
port = None
for index, argument in enumerate(arguments):
    if argument.startswith("--port="):
        port = int(argument[7:])
    elif argument == "--port":
        port = int(arguments[index + 1])
if os.environ.get("FAKE_ENGINE_DIES"):
    sys.exit("fake engine: out of memory")
worker = subprocess.Popen(["sleep", "300"])
with open(os.environ["FAKE_ENGINE_LOG"], "w") as log:
    json.dump({"arguments": arguments, "greeting": os.environ.get("GREETING"), "pids": [os.getpid(), worker.pid]}, log)
started = time.monotonic()
lock = threading.Lock()
seen = {}
state = {"now": 0, "most": 0}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer(200 if time.monotonic() - started > 0.4 else 503, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
            prompt = body["prompt"]
            seen[prompt] = seen.get(prompt, 0) + 1
            first = seen[prompt] == 1
        time.sleep(60 if "slow" in prompt else 0.002 * (len(prompt) % 7))
        with lock:
            state["now"] -= 1
        if "refuse" in prompt:
            self.answer(400, {"error": "refused"})
        elif len(seen) % 10 == 0 and first:
            self.answer(500, {"error": "try again"})
        else:
            self.answer(200, {"model": body["model"], "echo": prompt, "path": self.path, "most": state["most"]})

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


Server(("127.0.0.1", port), Handler).serve_forever()
