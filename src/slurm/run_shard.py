#!/usr/bin/env python3
"""Sends the requests of a shard to an OpenAI-compatible server and writes the answers in OpenAI's batch format.

Standard library only (Python 3.6 and later), because it runs on whatever node the job lands on. It keeps CONCURRENCY
requests in flight, in the order of the shard. Answers are appended as they come, so a run that was killed goes on where
it stopped: what the output file already answers is not asked again. Failures go to a file of their own, are counted,
and make the exit code 1; the next run tries them again.

usage: run_shard.py free-port
       run_shard.py run --url URL --pid PID --ready-timeout S --concurrency N --output OUT --errors ERR SHARD
"""
import argparse
import http.client
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import urllib.parse

ATTEMPTS = 4
# A long answer of a busy engine may take long; an engine that has died is noticed by its pid.
ANSWER_TIMEOUT_S = 6 * 3600
EXIT_FAILED, EXIT_UNAVAILABLE = 1, 69


def log(text):
    print("run_shard: " + text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        print(probe.getsockname()[1])


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def wait_until_ready(address, pid, timeout):
    """True once GET /health answers 200; False if the engine ends or the time is over."""
    start = time.monotonic()
    while time.monotonic() - start < timeout:
        if not alive(pid):
            log("the engine ended before it was ready; its log says why")
            return False
        try:
            connection = http.client.HTTPConnection(*address, timeout=10)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                log("engine ready after %.0f s" % (time.monotonic() - start))
                return True
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    log("the engine was not ready within %.0f s" % timeout)
    return False


def answered(path):
    """custom_ids with an answer in the output file; a last line that was cut off is removed."""
    done = set()
    if not os.path.exists(path):
        return done
    end = 0
    with open(path, "rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            try:
                done.add(json.loads(line.decode("utf-8"))["custom_id"])
            except (ValueError, KeyError, TypeError):
                break
            end += len(line)
    if end < os.path.getsize(path):
        log("dropping what follows byte %d of %s: it is not a whole answer" % (end, path))
        os.truncate(path, end)
    return done


class Client(threading.Thread):
    """One request in flight: takes lines from `work` until it gets None."""

    def __init__(self, address, pid, work, results):
        super().__init__(daemon=True)
        self.address, self.pid, self.work, self.results = address, pid, work, results
        self.connection = None

    def run(self):
        while True:
            line = self.work.get()
            if line is None:
                return
            self.results.put(self.answer(line))

    def answer(self, line):
        custom_id, status, body = None, None, None
        try:
            request = json.loads(line.decode("utf-8"))
            custom_id = request["custom_id"]
            url = request.get("url") or "/v1/chat/completions"
            payload = json.dumps(request["body"]).encode("ascii")
            method = request.get("method") or "POST"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return custom_id, None, None, "not a batch request: %r" % error
        failure = None
        for attempt in range(ATTEMPTS):
            # At once after the first failure (an idle connection that the engine has closed), then patiently.
            time.sleep(max(0, attempt - 1) ** 2)
            if not alive(self.pid):
                return custom_id, None, None, failure or "the engine has ended"
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection(*self.address, timeout=ANSWER_TIMEOUT_S)
                self.connection.request(method, url, payload, {"Content-Type": "application/json"})
                response = self.connection.getresponse()
                status, text = response.status, response.read()
                body = json.loads(text.decode("utf-8"))
            except (OSError, http.client.HTTPException, ValueError) as error:
                failure = "%s: %s" % (type(error).__name__, error)
                if self.connection is not None:
                    self.connection.close()
                self.connection = None
                continue
            if status == 200:
                return custom_id, status, body, None
            failure = "HTTP status %d" % status
            # The engine refuses this request and will refuse it again; 429 and 5xx may pass.
            if status < 500 and status != 429:
                break
        return custom_id, status, body, failure


def run(arguments):
    url = urllib.parse.urlsplit(arguments.url)
    address = (url.hostname, url.port)
    if not wait_until_ready(address, arguments.pid, arguments.ready_timeout):
        return EXIT_UNAVAILABLE
    done = answered(arguments.output)
    if done:
        log("%d requests were answered before" % len(done))
    work, results = queue.Queue(2 * arguments.concurrency), queue.Queue()
    clients = [Client(address, arguments.pid, work, results) for _ in range(arguments.concurrency)]
    for client in clients:
        client.start()
    counts = {"sent": 0, "answered": 0, "failed": 0}
    with open(arguments.output, "ab") as output, open(arguments.errors, "wb") as errors:

        def write(result):
            custom_id, status, body, failure = result
            response = None if status is None else {"status_code": status, "request_id": "", "body": body}
            error = None if failure is None else {"code": "failed", "message": failure}
            counts["failed" if failure else "answered"] += 1
            # ASCII with escapes: an id reads back as it was, whatever characters it holds.
            record = {"id": "", "custom_id": custom_id, "response": response, "error": error}
            target = errors if failure else output
            target.write(json.dumps(record).encode("ascii") + b"\n")
            target.flush()

        with open(arguments.shard, "rb") as lines:
            for line in lines:
                if not line.strip() or custom_id_of(line) in done:
                    continue
                while True:
                    # Between two tries to hand out work, take in what has been answered.
                    try:
                        work.put(line, timeout=0.05)
                        break
                    except queue.Full:
                        drain(results, write)
                counts["sent"] += 1
                drain(results, write)
        for _ in clients:
            work.put(None)
        while counts["answered"] + counts["failed"] < counts["sent"]:
            write(results.get())
    log("%(sent)d requests sent, %(answered)d answered, %(failed)d failed" % counts)
    if counts["failed"]:
        log("failures are in %s; run the script again to retry them" % arguments.errors)
        return EXIT_FAILED
    os.remove(arguments.errors)
    return 0


def custom_id_of(line):
    try:
        custom_id = json.loads(line.decode("utf-8"))["custom_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return custom_id if isinstance(custom_id, str) else None


def drain(results, write):
    while True:
        try:
            write(results.get_nowait())
        except queue.Empty:
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb")
    verbs.required = True
    verbs.add_parser("free-port", help="print a port that is free on the loopback interface")
    verb = verbs.add_parser("run", help="send a shard")
    verb.add_argument("--url", required=True, help="http://127.0.0.1:PORT")
    verb.add_argument("--pid", required=True, type=int, help="process id of the engine")
    verb.add_argument("--ready-timeout", required=True, type=float, help="seconds to wait for GET /health")
    verb.add_argument("--concurrency", required=True, type=int, help="requests in flight")
    verb.add_argument("--output", required=True, help="answers, appended")
    verb.add_argument("--errors", required=True, help="failures of this run")
    verb.add_argument("shard", help="requests in OpenAI's batch format")
    arguments = parser.parse_args()
    # Threads that wait for answers do not keep a terminated job alive.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    if arguments.verb == "free-port":
        return free_port()
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
