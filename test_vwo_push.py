"""Tests of vwo_push: ``python3 -m unittest``. Nothing leaves this machine.

The stub collector is a real HTTP server on a real loopback socket. Tests wait for it
through gates and events, never by sleeping; what needs a fresh interpreter runs in a
subprocess and is bounded from outside.
"""

import base64
import collections
import http.server
import json
import os
import queue
import socket
import socketserver
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
import urllib.parse

import vwo_push

TIMEOUT = 20  # seconds; only a failing test ever waits as long
ACCOUNT = 12345
KEY = "0123456789abcdef0123456789abcdef"  # made up
HERE = os.path.dirname(os.path.abspath(vwo_push.__file__))

Received = collections.namedtuple("Received", "method path query headers body port")


def read_back(received):
    """The (visitor UUID, key, value) triples of a request, as a strict server sees them."""
    if received.path.endswith("/server-side/push"):
        tags = json.loads(received.query["tags"])
        return [(received.query["u"], key, value) for key, value in tags["u"].items()]
    body = json.loads(received.body.decode("ascii"))
    if received.path.endswith("/events/t"):
        props = dict(body["d"]["visitor"]["props"])
        del props["vwo_fs_environment"]
        return [(body["d"]["visId"], key, value) for key, value in props.items()]
    return [(event["u"], key, value) for event in body["ev"]
            for key, value in json.loads(event["t"])["u"].items()]


class Stub(socketserver.ThreadingTCPServer):
    """A collector: ``received`` is a queue of what came; answers are scripted.

    ``answers`` holds callables of the handler, or ints (statuses); the last one stays.
    While ``gate`` is shut nothing is answered; what came is in ``received`` already.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, *answers):
        self.received = queue.Queue()
        self.answers = collections.deque(answers or [200])
        self.gate = threading.Event()
        self.gate.set()
        self.errors = []
        self.sockets = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def process_request(self, request, client_address):
        self.sockets.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # clients hang up in some tests
            self.errors.append(sys.exc_info()[1])

    def take(self):
        return self.received.get(timeout=TIMEOUT)

    def take_all(self):
        """Everything received so far."""
        found = []
        while True:
            try:
                found.append(self.received.get_nowait())
            except queue.Empty:
                return found

    def stop(self):
        self.gate.set()
        self.shutdown()
        self.server_close()
        self.thread.join(TIMEOUT)
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        server, url = self.server, urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pairs = urllib.parse.parse_qsl(url.query, True, True, errors="strict")
        assert len(dict(pairs)) == len(pairs), "a parameter came twice"
        server.received.put(Received(self.command, url.path, dict(pairs), self.headers,
                                     body, self.client_address[1]))
        assert server.gate.wait(TIMEOUT)
        answers = server.answers
        answer = answers[0] if len(answers) == 1 else answers.popleft()
        if callable(answer):
            answer(self)
        else:
            self.reply(answer)

    do_POST = do_GET

    def reply(self, status, body=b"ok", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *args):
        pass


class Case(unittest.TestCase):
    """The vocabulary of the tests below."""

    def stub(self, *answers):
        stub = Stub(*answers)
        self.addCleanup(self.assertEqual, stub.errors, [])
        self.addCleanup(stub.stop)
        return stub

    def client(self, stub=None, **options):
        """A client of *stub* (or of nowhere) whose counters must add up in the end."""
        if "transport" not in options:
            options.setdefault("base_url", stub.url if stub else "http://127.0.0.1:9")
        client = vwo_push.Client(ACCOUNT, KEY, **options)
        self.addCleanup(self.assertAddsUp, client)
        self.addCleanup(client.close, 0)
        return client

    def assertAddsUp(self, client):
        stats = client.stats()
        self.assertEqual(stats["pending"], 0, stats)
        self.assertEqual(stats["accepted"], stats["delivered"] + stats["failed"], stats)

    def assertStats(self, client, **expected):
        stats = client.stats()
        self.assertEqual({name: stats[name] for name in expected}, expected)

    def python(self, source, *args, **options):
        """Run *source* in a fresh interpreter; return the finished process."""
        env = dict(os.environ, PYTHONPATH=HERE, **options.pop("env", {}))
        return subprocess.run(
            [sys.executable] + options.pop("flags", []) + ["-c", textwrap.dedent(source)]
            + [str(arg) for arg in args], env=env, timeout=TIMEOUT * 2,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def uuid_of(user_id):
    return vwo_push.visitor_uuid(ACCOUNT, user_id)


class PushTest(Case):
    """The main job, over a real socket."""

    def test_a_push_arrives_as_one_get_and_is_read_back(self):
        stub = self.stub()
        client = self.client(stub)
        self.assertIs(client.push("plan", "premium", "u-42"), True)
        self.assertIs(client.flush(TIMEOUT), True)
        received = stub.take()
        self.assertEqual((received.method, received.path), ("GET", "/server-side/push"))
        self.assertEqual(read_back(received), [(uuid_of("u-42"), "plan", "premium")])
        self.assertStats(client, accepted=1, delivered=1, requests=1, retries=0)

    def test_push_returns_while_the_server_has_not_answered(self):
        stub = self.stub()
        stub.gate.clear()
        client = self.client(stub)
        self.assertTrue(client.push("plan", "premium", "u-42"))
        stub.take()  # it is with the server, and push has returned
        self.assertStats(client, pending=1, delivered=0)
        stub.gate.set()
        self.assertTrue(client.flush(TIMEOUT))


if __name__ == "__main__":
    unittest.main()
