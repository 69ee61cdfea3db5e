#!/usr/bin/env python3
"""Sends the requests of a shard to an OpenAI-compatible server and writes the answers in OpenAI's batch format.

Standard library only (Python 3.6 and later), because it runs on whatever node the job lands on. It keeps CONCURRENCY
requests in flight, in the order of the shard. Answers are appended as they come, so a run that was killed goes on where
it stopped: what the output file already answers is not asked again. An answer's `id` is NAME-LINE, its request's line in
the shard: custom_ids may occur twice in a queue of several files. Failures go to a file of their own, are counted, and
make the exit code 1; the next run tries them again. RECORD says what was done how fast, MARKS when.

usage: run_shard.py free-port
       run_shard.py left --output OUT SHARD
       run_shard.py run --url URL --pid PID --ready-timeout S --concurrency N --name NAME --output OUT --errors ERR
                        [--record RECORD] [--marks MARKS] SHARD
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
EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_CANNOT_WRITE = 1, 69, 73


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
    """Lines of the shard with an answer in the output file; a last line that was cut off is removed."""
    done = set()
    if not os.path.exists(path):
        return done
    end = 0
    with open(path, "rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            try:
                done.add(int(json.loads(line.decode("utf-8"))["id"].rsplit("-", 1)[1]))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                break
            end += len(line)
    if end < os.path.getsize(path):
        log("dropping what follows byte %d of %s: it is not a whole answer" % (end, path))
        os.truncate(path, end)
    return done


def unanswered(shard, done):
    """(line number, line) of every request that has no answer."""
    with open(shard, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and number not in done:
                yield number, line


class Output:
    """Whole lines or none, also where the disk is full."""

    def __init__(self, path, mode):
        self.file = open(path, mode, buffering=0)
        self.end = self.file.seek(0, os.SEEK_END)

    def write(self, record):
        # ASCII with escapes: an id reads back as it was, whatever characters it holds.
        rest = json.dumps(record).encode("ascii") + b"\n"
        length = len(rest)
        try:
            while rest:
                rest = rest[self.file.write(rest):]
        except OSError:
            self.file.truncate(self.end)
            raise
        self.end += length


class Tally:
    """What was done how fast."""

    def __init__(self, ready_s):
        self.figures = {"schema_version": 1, "ready_s": ready_s, "started_at": time.time(), "sent": 0, "answered": 0,
                        "failed": 0}
        self.sums = dict.fromkeys(["input_tokens", "output_tokens", "input_sq", "output_sq", "input_output"], 0)
        self.counted, self.in_flight_s, self.start = True, 0.0, time.monotonic()

    def count(self, body, seconds):
        self.in_flight_s += seconds
        usage = body.get("usage") if isinstance(body, dict) else None
        try:
            i, o = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
        except (KeyError, TypeError, ValueError):
            self.counted = False
            return
        for name, value in [("input_tokens", i), ("output_tokens", o), ("input_sq", i * i), ("output_sq", o * o),
                            ("input_output", i * o)]:
            self.sums[name] += value

    def save(self, path):
        seconds = time.monotonic() - self.start
        figures = dict(self.figures, seconds=seconds, mean_in_flight=self.in_flight_s / max(seconds, 1e-9))
        if self.counted:
            figures.update(self.sums)
        with open(path + ".tmp", "w") as out:
            json.dump(figures, out)
        os.replace(path + ".tmp", path)


def mark(path, name):
    if path:
        with open(path, "a") as out:
            out.write("%s %.6f\n" % (name, time.time()))


class Client(threading.Thread):
    """One request in flight: takes lines from `work` until it gets None."""

    def __init__(self, address, pid, work, results):
        super().__init__(daemon=True)
        self.address, self.pid, self.work, self.results = address, pid, work, results
        self.connection = None

    def run(self):
        while True:
            item = self.work.get()
            if item is None:
                return
            number, line = item
            start = time.monotonic()
            result = self.answer(line)
            self.results.put((number, time.monotonic() - start, result))

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
    start = time.monotonic()
    if not wait_until_ready(address, arguments.pid, arguments.ready_timeout):
        return EXIT_UNAVAILABLE
    try:
        return send(arguments, address, time.monotonic() - start)
    except OSError as error:
        log("cannot write: %s; what was answered until now is kept" % error)
        return EXIT_CANNOT_WRITE


def send(arguments, address, ready_s):
    mark(arguments.marks, "serve")
    tally = Tally(ready_s)
    counts = tally.figures
    done = answered(arguments.output)
    if done:
        log("%d requests were answered before" % len(done))
    work, results = queue.Queue(2 * arguments.concurrency), queue.Queue()
    clients = [Client(address, arguments.pid, work, results) for _ in range(arguments.concurrency)]
    for client in clients:
        client.start()
    output, errors = Output(arguments.output, "ab"), Output(arguments.errors, "wb")

    def write(item):
        number, seconds, (custom_id, status, body, failure) = item
        response = None if status is None else {"status_code": status, "request_id": "", "body": body}
        error = None if failure is None else {"code": "failed", "message": failure}
        record = {"id": "%s-%d" % (arguments.name, number), "custom_id": custom_id, "response": response, "error": error}
        (errors if failure else output).write(record)
        counts["failed" if failure else "answered"] += 1
        if not failure:
            tally.count(body, seconds)

    for item in unanswered(arguments.shard, done):
        while True:
            # Between two tries to hand out work, take in what has been answered.
            try:
                work.put(item, timeout=0.05)
                break
            except queue.Full:
                drain(results, write)
        counts["sent"] += 1
        drain(results, write)
    for _ in clients:
        work.put(None)  # the clients make room for it
    while counts["answered"] + counts["failed"] < counts["sent"]:
        write(results.get())
    mark(arguments.marks, "served")
    if arguments.record:
        tally.save(arguments.record)
    log("%(sent)d requests sent, %(answered)d answered, %(failed)d failed" % counts)
    if counts["failed"]:
        log("failures are in %s; run the script again to retry them" % arguments.errors)
        return EXIT_FAILED
    os.remove(arguments.errors)
    return 0


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
    verb = verbs.add_parser("left", help="print how many requests have no answer")
    verb.add_argument("--output", required=True, help="answers")
    verb.add_argument("shard", help="requests in OpenAI's batch format")
    verb = verbs.add_parser("run", help="send a shard")
    verb.add_argument("--url", required=True, help="http://127.0.0.1:PORT")
    verb.add_argument("--pid", required=True, type=int, help="process id of the engine")
    verb.add_argument("--ready-timeout", required=True, type=float, help="seconds to wait for GET /health")
    verb.add_argument("--concurrency", required=True, type=int, help="requests in flight")
    verb.add_argument("--name", required=True, help="in front of the line's number in the id of an answer")
    verb.add_argument("--output", required=True, help="answers, appended")
    verb.add_argument("--errors", required=True, help="failures of this run")
    verb.add_argument("--record", help="JSON of what was done how fast")
    verb.add_argument("--marks", help="when serving began and ended, appended")
    verb.add_argument("shard", help="requests in OpenAI's batch format")
    arguments = parser.parse_args()
    # Threads that wait for answers do not keep a terminated job alive.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    if arguments.verb == "free-port":
        return free_port()
    if arguments.verb == "left":
        print(sum(1 for _ in unanswered(arguments.shard, answered(arguments.output))))
        return 0
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
