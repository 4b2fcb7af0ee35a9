"""Tests of vwo_push: ``python3 -m unittest``. Nothing leaves this machine.

The stub collector is a real HTTP server on a real loopback socket. Tests wait for it
through gates and events, never by sleeping; what needs a fresh interpreter runs in a
subprocess and is bounded from outside.
"""

import base64
import collections
import collections.abc
import contextlib
import copy
import email.utils
import errno
import fractions
import gc
import http.server
import inspect
import io
import json
import logging
import os
import pickle
import queue
import random
import re
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import types
import unittest
import urllib.parse
import urllib.request
import zipfile
from unittest import mock

import vwo_push

TIMEOUT = 20  # seconds; only a failing test ever waits as long
ACCOUNT = 12345
KEY = "0123456789abcdef0123456789abcdef"  # made up
HERE = os.path.dirname(os.path.abspath(vwo_push.__file__))

Received = collections.namedtuple("Received", "method path query headers body port")


def setUpModule():
    # A shell that starts us in the background has Ctrl-C ignored, also in our children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


# -- What push takes, and what is on the wire ------------------------------------------

SECRET = "S3NTINEL"
EMOJI = "\U0001f600"


def ok(request, timeout):
    return 200


def hang_up(handler):
    handler.close_connection = True


class Quiet(Case):
    """Refused pushes are part of the test and not for the terminal."""

    def setUp(self):
        logger, handler = logging.getLogger("vwo_push"), logging.NullHandler()
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)

    def backlog(self, stub, client, *pushes):
        """Let *pushes* wait together behind a first one; return what they became.

        The client has one worker, and it is held up by the answer to the first.
        """
        stub.gate.clear()
        self.assertTrue(client.push("first", "1", "u"))
        stub.take()
        for push in pushes:
            self.assertTrue(client.push(*push))
        stub.gate.set()
        self.assertTrue(client.flush(TIMEOUT))
        return stub.take_all()

    def deliver(self, stub, client, *push, **named):
        """Make one push; return the requests it became."""
        self.assertIs(client.push(*push, **named), True)
        self.assertIs(client.flush(TIMEOUT), True)
        return stub.take_all()

    def assertSecretFree(self, error):
        """Neither the error, nor its traceback, nor what it was made from tells."""
        texts = traceback.format_exception(type(error), error, error.__traceback__)
        while error is not None:
            texts += [str(error), repr(error)]
            error = error.__cause__ or error.__context__
        for text in texts:
            self.assertNotIn(SECRET, text)
            self.assertNotIn(KEY, text)


# -- Validation ------------------------------------------------------------------------


class Liar(str):
    """A str that lies about everything that it can be asked."""

    def _lie(self, *args):
        return "lie"

    __str__ = __repr__ = __format__ = __getitem__ = strip = lower = _lie
    __len__ = __hash__ = lambda self: 7
    __bool__ = isascii = lambda self: False
    __eq__ = __ne__ = __contains__ = lambda self, other: True
    encode = lambda self, *args: b"lie"
    __iter__ = lambda self: iter("lie")


class Hostile(collections.abc.Mapping):
    """A mapping that raises *error* when it is read."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, key):
        raise self.error

    def __iter__(self):
        return iter(["plan"])

    __len__ = __bool__ = __getitem__


class Bomb:
    """Whatever is asked of it raises."""

    def _explode(self, *args):
        raise SystemExit("boom")

    __len__ = __bool__ = __eq__ = __ne__ = __str__ = __repr__ = __iter__ = _explode
    __hash__ = __contains__ = __getitem__ = __getattr__ = __index__ = _explode


class ClassBomb:
    @property
    def __class__(self):
        raise SystemExit("boom")


class Pretender:
    """isinstance believes that it is a str."""

    __class__ = str


class FormsTest(Quiet):
    """The ways to call push."""

    MAP = {"plan": "premium", "country": "IN"}
    FORMS = [
        (("plan", "premium", "u-42"), {}),
        (("plan", "premium"), {"user_id": "u-42"}),
        (("plan",), {"custom_dimension_value": "premium", "user_id": "u-42"}),
        ((), {"custom_dimension_key": "plan", "custom_dimension_value": "premium",
              "user_id": "u-42"}),
        ((MAP, "u-42"), {}),
        ((MAP,), {"user_id": "u-42"}),
        ((), {"custom_dimension_map": MAP, "user_id": "u-42"}),
        ((types.MappingProxyType(MAP), "u-42"), {}),
        ((collections.OrderedDict(MAP), "u-42"), {}),
        ((collections.UserDict(MAP), "u-42"), {}),
        ((collections.ChainMap({"plan": "premium"}, {"country": "IN"}), "u-42"), {}),
        (({"plan": "premium"}, "u-42"), {}),
    ]

    def test_every_form_of_push_arrives(self):
        stub = self.stub()
        client = self.client(stub)
        for args, named in self.FORMS:
            with self.subTest(args=args, named=named):
                sent = [triple for received in self.deliver(stub, client, *args,
                                                            **named)
                        for triple in read_back(received)]
                plan = (uuid_of("u-42"), "plan", "premium")
                country = (uuid_of("u-42"), "country", "IN")
                whole = "country" in str(args) + str(named)
                self.assertCountEqual(sent, [plan, country] if whole else [plan])

    def test_requests_for_takes_every_form_of_push(self):
        client = self.client(transport=ok)
        for args, named in self.FORMS:
            with self.subTest(args=args, named=named):
                self.assertEqual(len(client.requests_for(*args, **named)), 1)
        self.assertStats(client, accepted=0, requests=0)

    def test_a_map_counts_as_one_push_and_as_its_dimensions_in_max_pending(self):
        client = self.client(transport=ok, max_pending=3)
        self.assertFalse(client.push(dict.fromkeys("abcd", "x"), "u"))
        self.assertTrue(client.push(dict.fromkeys("abc", "x"), "u"))
        self.assertTrue(client.flush(TIMEOUT))
        self.assertStats(client, accepted=1, delivered=1, dropped=1, invalid=0)

    WRONG = [
        ((), {}),
        (("plan",), {}),
        (("plan", "premium"), {}),
        (("plan", "premium", "u", "more"), {}),
        (("plan", "premium", "u", None), {}),
        ((MAP,), {}),
        ((MAP, "u", "u"), {}),
        ((MAP, "u", "u", "u"), {}),
        ((MAP, MAP), {}),
        ((), {"custom_dimension_map": MAP}),
        ((), {"custom_dimension_map": "plan", "user_id": "u"}),
        ((), {"custom_dimension_map": [("plan", "premium")], "user_id": "u"}),
        ((), {"custom_dimension_map": {}, "user_id": "u"}),
        (("plan", "premium", "u"), {"custom_dimension_map": MAP}),
        (("plan", "premium", "u"), {"custom_dimension_map": {}}),
        ((MAP, "u"), {"custom_dimension_map": MAP}),
        (("plan", "premium", "u"), {"tag_key": "plan"}),
        (("plan", "premium", "u"), {"customDimensionMap": None}),
        (({}, "u"), {}),
        (([("plan", "premium")], "u"), {}),
        (({"plan"}, "u"), {}),
        # Given twice: Python itself would raise.
        (("plan", "premium", "u"), {"user_id": "u"}),
        (("plan", "premium"), {"custom_dimension_key": "plan", "user_id": "u"}),
        ((MAP, "u"), {"custom_dimension_key": "plan"}),
        ((MAP, "u"), {"custom_dimension_value": "premium"}),
        (("plan", "premium", "u"), {"self": 1}),
        ((), {"self": 1}),
        ((), {"_self": 1, "args": 1}),
    ]

    def assertRefused(self, client, args, named):
        before = client.stats()["invalid"]
        self.assertIs(client.push(*args, **named), False)
        with self.assertRaises(ValueError):
            client.requests_for(*args, **named)
        self.assertStats(client, accepted=0, pending=0, dropped=0, invalid=before + 1)

    def test_wrong_arguments_are_refused(self):
        client = self.client(transport=ok)
        for args, named in self.WRONG:
            with self.subTest(args=args, named=named):
                self.assertRefused(client, args, named)


class ValidationTest(Quiet):
    """Which keys, values and user ids push takes."""

    WRONG_TYPES = [None, True, False, 0, 1, 1.5, b"plan", bytearray(b"plan"), [], ["x"],
                   ("x",), {"x"}, object(), str, 10 ** 30, float("nan"), Pretender()]
    WRONG_TEXTS = ["", "\ud800", "a\udfff", "\udc80b", Liar(), Liar("\ud800")]
    RIGHT = [" ", "0", "None", "a", "\0", "\n", "\x7f", "\ufeff", "\uffff", EMOJI,
             "%", "+", "VWO_FS_ENVIRONMENT", " vwo_fs_environment", "x" * 255,
             "\xe9" * 255, EMOJI * 255]

    def refusal(self, *push, **named):
        """Why *push* is refused, by requests_for; push must refuse it, too."""
        client = self.client(transport=ok)
        self.assertIs(client.push(*push, **named), False)
        self.assertStats(client, accepted=0, invalid=1, dropped=0)
        with self.assertRaises(ValueError) as caught:
            client.requests_for(*push, **named)
        self.assertSecretFree(caught.exception)
        return str(caught.exception)

    def assertAccepted(self, *push):
        client = self.client(transport=ok)
        self.assertIs(client.push(*push), True)
        self.assertIs(client.flush(TIMEOUT), True)
        self.assertStats(client, accepted=1, delivered=1, invalid=0)

    def test_any_text_of_up_to_255_code_points_is_accepted(self):
        for text in self.RIGHT:
            with self.subTest(text=ascii(text)):
                self.assertAccepted(text, "premium", "u")
                self.assertAccepted("plan", text, "u")
                self.assertAccepted({text: text}, text)

    def test_256_code_points_are_refused(self):
        for char in "x", "\xe9", EMOJI:
            text = char * 256
            for push in (text, "v", "u"), ({text: "v"}, "u"):
                self.assertEqual(self.refusal(*push),
                                 "custom_dimension_key is longer than 255 characters")
            for push in ("k", text, "u"), ({"k": text}, "u"), ("k", Liar(text), "u"):
                self.assertEqual(self.refusal(*push),
                                 "custom_dimension_value is longer than 255 characters")

    def test_a_user_id_may_be_of_any_length(self):
        self.assertAccepted("plan", "premium", "u" * 100000)
        self.assertAccepted("plan", "premium", EMOJI * 10000)

    def test_what_is_not_a_str_is_refused_and_the_reason_names_the_argument(self):
        for wrong in self.WRONG_TYPES:
            with self.subTest(wrong=repr(wrong)[:20]):
                self.assertIn("key", self.refusal(wrong, "premium", "u"))
                self.assertIn("value", self.refusal("plan", wrong, "u"))
                self.assertIn("value", self.refusal({"plan": wrong}, "u"))
                self.assertIn("user_id", self.refusal("plan", "premium", wrong))
                self.assertTrue(self.refusal({"plan": "premium"}, wrong))

    def test_empty_text_and_lone_surrogates_are_refused(self):
        for wrong in self.WRONG_TEXTS:
            with self.subTest(wrong=ascii(str.__str__(wrong))):
                self.assertIn("key", self.refusal(wrong, "premium", "u"))
                self.assertIn("key", self.refusal({wrong: "premium"}, "u"))
                self.assertIn("value", self.refusal("plan", wrong, "u"))
                self.assertIn("value", self.refusal({"plan": wrong}, "u"))
                self.assertIn("user_id", self.refusal("plan", "premium", wrong))

    def test_the_reserved_key_is_refused(self):
        for key in "vwo_fs_environment", Liar("vwo_fs_environment"):
            for push in (key, "v", "u"), ({key: "v"}, "u"), ({"a": "b", key: "v"}, "u"):
                self.assertIn("reserved", self.refusal(*push))
        self.assertAccepted("plan", "vwo_fs_environment", "vwo_fs_environment")

    def test_a_map_with_one_bad_entry_is_refused_whole(self):
        sent = []
        client = self.client(transport=lambda request, timeout: sent.append(1) or 200)
        bad = [(key, "v") for key in ["", 1, None, "x" * 256, "\ud800"]]
        bad += [("k", value) for value in ["", 1, None, True, "x" * 256, "\ud800",
                                           b"v"]]
        for key, value in bad:
            with self.subTest(key=ascii(key)[:9], value=ascii(value)[:9]):
                self.assertIs(
                    client.push({"good": "1", key: value, "fine": "2"}, "u"), False)
        self.assertTrue(client.flush(TIMEOUT))
        self.assertStats(client, accepted=0, invalid=len(bad), requests=0)
        self.assertEqual(sent, [])

    def test_a_map_that_is_changed_afterwards_is_sent_as_it_was(self):
        stub = self.stub()
        client = self.client(stub, max_workers=1)
        dimensions = {"plan": "premium"}
        stub.gate.clear()
        client.push("first", "1", "u")
        stub.take()
        self.assertTrue(client.push(dimensions, "u"))
        dimensions.clear()
        stub.gate.set()
        self.assertTrue(client.flush(TIMEOUT))
        self.assertEqual(read_back(stub.take())[0][1:], ("plan", "premium"))

    def test_a_str_subclass_that_lies_is_sent_as_what_it_is(self):
        stub, results = self.stub(), []
        client = self.client(stub, on_result=results.append)
        first, = self.deliver(stub, client, Liar("pl\xe4n"), Liar("premium"),
                              Liar("u-42"))
        self.assertEqual(read_back(first), [(uuid_of("u-42"), "pl\xe4n", "premium")])
        second, = self.deliver(
            stub, client, {Liar("a"): Liar("b"), "c": Liar("d")}, Liar("u-42"))
        self.assertEqual(read_back(second), [(uuid_of("u-42"), "a", "b"),
                                             (uuid_of("u-42"), "c", "d")])
        for result in results:
            self.assertIs(type(result.user_id), str)

    def test_a_mapping_that_raises_is_refused(self):
        for error in (KeyError("plan"), SystemExit(1), RecursionError(), MemoryError(),
                      GeneratorExit(), StopIteration(), ValueError()):
            with self.subTest(error=error):
                self.assertIn("map", self.refusal(Hostile(error), "u"))
                self.assertIn("map", self.refusal(
                    custom_dimension_map=Hostile(error), user_id="u"))

    def test_push_never_raises(self):
        client = self.client(transport=ok)
        for evil in Bomb(), ClassBomb(), Hostile(SystemExit()), Pretender():
            for push in ((evil, "v", "u"), ("k", evil, "u"), ("k", "v", evil),
                         (evil, "u"), ({"k": evil}, "u"), ({"k": "v"}, evil),
                         (evil,) * 4):
                with self.subTest(evil=type(evil).__name__, at=list(map(type, push))):
                    self.assertIs(client.push(*push), False)
                    self.assertRaises(ValueError, client.requests_for, *push)
            self.assertIs(client.push(custom_dimension_map=evil, user_id="u"), False)
            self.assertIs(client.push("k", "v", "u", custom_dimension_map=evil), False)
            self.assertIs(
                client.push(evil, evil, "u", custom_dimension_map={"a": "b"}), False)
            self.assertIs(client.push("k", "v", "u", evil=evil), False)
        self.assertStats(client, accepted=0, dropped=0)
        self.assertIs(client.push("plan", "premium", "u"), True)
        self.assertIs(client.flush(TIMEOUT), True)


class RefusalLogTest(Quiet):
    """The one line that says why a push was refused."""

    def test_a_refusal_is_logged_once_in_30_seconds_with_the_count(self):
        now, client = [1000.0], self.client(transport=ok)
        with mock.patch.object(vwo_push, "monotonic", lambda: now[0]), \
                self.assertLogs("vwo_push", "DEBUG") as logs:
            for seconds in 0, 10, 29.9, 30.1, 59, 60.2:
                now[0] = 1000 + seconds
                client.push("", "premium", "u")
        self.assertEqual(logs.output, [
            "WARNING:vwo_push:push refused: custom_dimension_key is empty (%d)" % count
            for count in (1, 3, 2)])

    def test_each_kind_of_refusal_has_a_line_of_its_own(self):
        client = self.client(transport=ok, max_pending=1)
        with self.assertLogs("vwo_push", "DEBUG") as logs:
            for _ in range(3):
                client.push("plan", 1, "u")
                client.push("plan", "premium", "")
                client.push({"a": "b", "c": "d"}, "u")
        self.assertEqual([record.getMessage() for record in logs.records], [
            "push refused: custom_dimension_value is not a str (1)",
            "push refused: user_id is empty (1)",
            "push refused: max_pending is reached (1)"])

    def test_each_client_counts_for_itself(self):
        with self.assertLogs("vwo_push", "DEBUG") as logs:
            for _ in range(2):
                self.client(transport=ok).push()
        self.assertEqual(len(logs.records), 2)

    def test_the_line_holds_nothing_of_the_push_and_no_key(self):
        secret, long = SECRET, SECRET * 40
        with self.assertLogs(None, "DEBUG") as logs:
            for push in [(secret, 1, secret), (long, secret, secret),
                         (secret, long, secret),
                         (secret, secret, secret + "\ud800"), ({secret: long}, secret),
                         (secret, secret + "\ud800", secret), ({secret}, secret),
                         (Hostile(ValueError(secret)), secret), (secret,) * 4]:
                client = vwo_push.Client(ACCOUNT, secret, transport=ok)
                self.assertIs(client.push(*push), False)
                self.assertIs(client.push(secret, secret, secret, **{secret: 1}), False)
                client.close()
        self.assertEqual(len(logs.records), 17)  # the last of them is one kind, twice
        for record in logs.records:
            self.assertNotIn(SECRET, repr(vars(record)))
            self.assertIsNone(record.exc_info)

    def test_a_push_after_close_says_so(self):
        client = self.client(transport=ok)
        client.close()
        with self.assertLogs("vwo_push", "WARNING") as logs:
            self.assertIs(client.push("plan", "premium", "u"), False)
        self.assertIn("closed", logs.output[0])
        self.assertStats(client, dropped=1, invalid=0)

    def test_a_broken_log_handler_does_not_reach_the_caller(self):
        class Broken(logging.Handler):
            def emit(self, record):
                raise ValueError("broken")
        handler = Broken()
        logging.getLogger("vwo_push").addHandler(handler)
        self.addCleanup(logging.getLogger("vwo_push").removeHandler, handler)
        self.assertIs(self.client(transport=ok).push(), False)

    def test_without_logging_one_line_goes_to_stderr(self):
        done = self.python("""
            import io, sys, vwo_push
            def client():
                return vwo_push.Client(1, "S3NTINEL", transport=lambda *args: 200)
            noisy = client()
            for _ in range(3):
                assert noisy.push("S3NTINEL" * 40, "S3NTINEL", "S3NTINEL") is False
            assert noisy.stats()["invalid"] == 3
            kept, closed = sys.stderr, io.StringIO()
            closed.close()
            for sys.stderr in None, closed, object():
                assert client().push() is False
            sys.stderr = kept
            assert "logging" not in sys.modules
        """, flags=["-S"])
        self.assertEqual((done.returncode, done.stdout), (0, b""), done.stderr)
        self.assertEqual(done.stderr.split(b"\n")[0].strip(), (
            b"vwo_push: push refused: custom_dimension_key is longer than 255 "
            b"characters (1)"))
        self.assertEqual(done.stderr.count(b"\n"), 1)


# -- Options ---------------------------------------------------------------------------


class OptionsTest(Quiet):
    """What Client takes."""

    WHOLE = [0, -1, 1.0, True, "1", None, b"1", float("inf")]
    SECONDS = [-1, -0.1, float("nan"), float("inf"), "5", None, True, b"5", 1j,
               10 ** 400]
    REFUSED = {
        "account_id": [0, -1, "0", "-1", "", " 1", "1 ", "1\n", "1.0", "1_0", "012345",
                       "\uff11", "\xb2", "x", 1.0, True, None, b"1", [1]],
        "sdk_key": ["", " ", " k", "k ", "k\n", "\tk", "k\tk", "k\x7f", "k\0",
                    "k\r\nX: y",
                    "k\xe9", "\u212a", "\ud800", b"k", None, 5, True, ["k"]],
        "collection_prefix": [".", "..", "/../", "a/b", "/a/b/", "a//b", "\xe9",
                              "\uff11",
                              "a b", " ", "a%2fb", "a?b", "a#b", "a\\b", "a@b", "a:b",
                              "\n",
                              "eu01\n", "eu01\r\nX: y", "\ud800", b"eu01", 1, True,
                              False],
        "event_arch": [0, 1, None, "", "true", "false", "False", [], b"1"],
        "base_url": ["", "h", "h:80", "//h", "/path", "ftp://h", "file:///etc",
                     "https://",
                     "https:///p", "http://:80", "https://h?", "https://h?a=1",
                     "https://h/?a", "https://h#", "https://h/#f", "https://u@h",
                     "https://u:p@h", "https://@h", "https://h/a b", " https://h",
                     "https://h ", "https://h\n", "https://h/\r\nX: y", "https://h/\t",
                     "https://h/\0", "https://h/\x7f", "https://h\\p", "https://h:0",
                     "https://h:65536", "https://h:x", "https://h:-1", "https://[::1",
                     "https://h/\xe9", "https://h/{p}", "https://h/\ud800",
                     "https://a..b", "https://" + "a" * 64, None, b"https://h", 5,
                     True],
        "timeout": [0, 0.0] + SECONDS,
        "exit_timeout": SECONDS,
        "max_attempts": WHOLE,
        "max_pending": WHOLE,
        "max_workers": WHOLE,
        "max_batch": WHOLE + [5001, 10 ** 9],
        "on_result": [1, "print", True, [], b""],
        "transport": [1, "print", True, [], b""],
        "ssl_context": [1, "x", True, object(), {}],
    }
    ACCEPTED = {
        "account_id": [1, 12345, "1", "12345", 2 ** 63],
        "sdk_key": ["k", "0", "a b", "a+b&c=d%/#?\"\\", "~" * 500],
        "collection_prefix": [None, "", "/", "///", "eu01", "/eu01/", "a-b._~9", "..."],
        "event_arch": [True, False],
        "base_url": ["https://h", "http://h", "HTTPS://H/", "http://h:1",
                     "http://h:65535/",
                     "http://h/a/b", "http://h/a%20b", "http://127.0.0.1",
                     "http://[::1]",
                     "http://[::1]:80/p", "http://b\xfccher.example"],
        "timeout": [1, 0.001, 5.0, 86400, 1e9],
        "exit_timeout": [0, 0.0, 2, 2.5, 1e9],
        "max_attempts": [1, 4, 10 ** 9],
        "max_pending": [1, 10 ** 9],
        "max_workers": [1, 64],
        "max_batch": [1, 2, 5000],
        "on_result": [None, print, lambda result: None],
        "transport": [ok, print],
        "ssl_context": [None],
    }

    def make(self, **options):
        options = dict({"account_id": ACCOUNT, "sdk_key": KEY, "transport": ok},
                       **options)
        if options["transport"] != ok:
            options.setdefault("base_url", "http://h")
        return vwo_push.Client(**options)

    def test_what_an_option_allows_is_accepted(self):
        for name, values in self.ACCEPTED.items():
            for value in values:
                with self.subTest(option=name, value=ascii(value)[:30]):
                    self.make(**{name: value})

    def test_what_an_option_does_not_allow_is_refused_by_its_name(self):
        for name, values in self.REFUSED.items():
            for value in values:
                with self.subTest(option=name, value=ascii(value)[:30]):
                    with self.assertRaisesRegex((TypeError, ValueError), name):
                        self.make(**{name: value})

    def test_a_wrong_ssl_context_is_refused_whatever_the_scheme(self):
        for base_url in "https://h", "http://h":
            with self.subTest(base_url=base_url):
                with self.assertRaisesRegex(TypeError, "ssl_context"):
                    vwo_push.Client(ACCOUNT, KEY, base_url=base_url, ssl_context="x")

    def test_every_option_of_the_constructor_is_in_both_tables(self):
        names = vwo_push.Client.__init__.__code__
        names = names.co_varnames[1:names.co_argcount + names.co_kwonlyargcount]
        self.assertCountEqual(names, self.REFUSED)
        self.assertCountEqual(names, self.ACCEPTED)

    def test_options_are_keywords_and_known(self):
        self.assertRaises(TypeError, vwo_push.Client, ACCOUNT, KEY, "eu01")
        with self.assertRaisesRegex(TypeError, "colection_prefix"):
            self.make(colection_prefix="eu01")

    def test_the_defaults_are_those_that_are_documented(self):
        defaults = vwo_push.Client.__init__.__kwdefaults__
        self.assertEqual(defaults, {
            "collection_prefix": None, "event_arch": False, "timeout": 5.0,
            "base_url": "https://dev.visualwebsiteoptimizer.com", "max_attempts": 4,
            "max_pending": 10000, "max_workers": 2, "max_batch": 100,
            "exit_timeout": 2.0,
            "on_result": None, "ssl_context": None, "transport": None})

    def test_base_url_and_collection_prefix_make_the_path(self):
        for base_url, prefix, expected in [
            ("https://h", None, "https://h"),
            ("https://h/", "", "https://h"),
            ("https://h", "///", "https://h"),
            ("https://h", "eu01", "https://h/eu01"),
            ("https://h/", "/eu01/", "https://h/eu01"),
            ("https://h", "//eu01", "https://h/eu01"),
            ("http://h:8080/a/b/", "eu01", "http://h:8080/a/b/eu01"),
            ("http://h/a%20b//", None, "http://h/a%20b"),
            ("http://[::1]:8080/x", None, "http://[::1]:8080/x"),
            ("http://[2001:db8::1]", "eu01", "http://[2001:db8::1]/eu01"),
            ("HTTP://h", None, "http://h"),
            ("http://b\xfccher.example/p", None, "http://xn--bcher-kva.example/p"),
        ]:
            with self.subTest(base_url=base_url, prefix=prefix):
                client = self.make(base_url=base_url, collection_prefix=prefix)
                url = client.requests_for("plan", "premium", "u")[0].url
                self.assertEqual(url.partition("?")[0], expected + "/server-side/push")

    def test_the_default_host_is_vwo(self):
        url = self.make().requests_for("plan", "premium", "u")[0].url
        self.assertTrue(url.startswith(
            "https://dev.visualwebsiteoptimizer.com/server-side/push?"), url)

    def test_the_path_of_base_url_is_on_the_wire(self):
        stub = self.stub()
        client = self.client(
            stub, base_url=stub.url + "/relay/one/", collection_prefix="/eu01/")
        received, = self.deliver(stub, client, "plan", "premium", "u")
        self.assertEqual(received.path, "/relay/one/eu01/server-side/push")
        self.assertEqual(received.headers["Host"], stub.url[len("http://"):])

    def test_an_account_id_is_the_same_as_its_digits(self):
        stub = self.stub()
        for account_id in 12345, "12345":
            client = vwo_push.Client(account_id, KEY, base_url=stub.url)
            received, = self.deliver(stub, client, "plan", "premium", "u")
            client.close()
            self.assertEqual((received.query["account_id"], received.query["u"]),
                             ("12345", uuid_of("u")))

    def test_an_sdk_key_of_any_printable_ascii_is_sent_as_it_is(self):
        stub = self.stub()
        key = "".join(map(chr, range(33, 127))) + " %2B x"
        with vwo_push.Client(ACCOUNT, key, base_url=stub.url) as client:
            single, = self.deliver(stub, client, "plan", "premium", "u")
            batch, = self.deliver(stub, client, {"a": "1", "b": "2"}, "u")
        self.assertEqual((single.query["env"], batch.query["env"]), (key, key))
        self.assertEqual(batch.headers["Authorization"], key)

    @unittest.skipUnless(hasattr(sys, "set_int_max_str_digits"), "writes out any int")
    def test_an_account_id_that_python_does_not_write_out_is_refused_by_its_name(self):
        for call in (lambda: vwo_push.Client(10 ** 5000, KEY, transport=ok),
                     lambda: vwo_push.visitor_uuid(10 ** 5000, "u"),
                     lambda: vwo_push.fetch_settings(10 ** 5000, KEY)):
            with self.assertRaisesRegex(ValueError, "account_id"):
                call()

    def test_a_context_is_welcome_where_a_transport_makes_it_useless(self):
        """Though nothing has imported ssl for us."""
        code = ("import ssl, vwo_push\n"
                "vwo_push.Client(1, 'k', transport=id, ssl_context=ssl.SSLContext("
                "ssl.PROTOCOL_TLS_CLIENT))")
        subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE,
                       timeout=TIMEOUT)

    def test_push_can_be_replaced_in_the_tests_of_a_user(self):
        client = self.client(transport=ok)
        with mock.patch.object(client, "push", return_value=True) as push:
            self.assertTrue(client.push("plan", "premium", "u"))
        push.assert_called_once_with("plan", "premium", "u")
        self.assertStats(client, accepted=0)

    def test_a_client_can_be_neither_pickled_nor_copied(self):
        client = self.make()
        for attempt in pickle.dumps, copy.copy, copy.deepcopy:
            with self.subTest(attempt=attempt.__name__):
                self.assertRaisesRegex(TypeError, "Client", attempt, client)

    def test_results_and_requests_are_tuples_that_can_be_pickled(self):
        result = vwo_push.PushResult("u", {"plan": "premium"}, True, 200, None, 1)
        request = self.make().requests_for("plan", "premium", "u")[0]
        for value, fields in (
                (result, "user_id dimensions delivered status error attempts"),
                (request, "method url headers body")):
            self.assertEqual(value._fields, tuple(fields.split()))
            again = pickle.loads(pickle.dumps(value))
            self.assertEqual((type(again), again), (type(value), value))


class SecretsTest(Quiet):
    """A secret never shows where it could be seen by accident."""

    def test_a_refused_option_does_not_show_its_value(self):
        for options in (
                {"sdk_key": SECRET + "\n"}, {"sdk_key": SECRET + "\xe9"},
                {"sdk_key": [SECRET]}, {"sdk_key": SECRET.encode()},
                {"sdk_key": SECRET + "\ud800"}, {"base_url": "https://%s@h" % SECRET},
                {"base_url": "https://u:%s@h/" % SECRET},
                {"base_url": "https://h/?key=" + SECRET}, {"max_batch": 0}):
            options = dict({"account_id": ACCOUNT, "sdk_key": SECRET}, **options)
            with self.subTest(options=options):
                with self.assertRaises((TypeError, ValueError)) as caught:
                    vwo_push.Client(**options)
                self.assertSecretFree(caught.exception)

    def test_no_repr_stats_or_log_line_shows_a_secret(self):
        stub, results = self.stub(400, 302, hang_up, 400), []

        def on_result(result):
            results.append(result)
            raise ValueError(SECRET)
        options = {"base_url": stub.url, "max_attempts": 1, "on_result": on_result}
        shown = []
        with self.assertLogs(None, "DEBUG") as logs:
            for event_arch in False, True:
                client = vwo_push.Client(ACCOUNT, SECRET, event_arch=event_arch,
                                         **options)
                for _ in range(2):
                    client.push(SECRET, SECRET, SECRET)
                    client.flush(TIMEOUT)
                client.push({SECRET: SECRET, "a": SECRET}, SECRET)
                shown += [repr(client), str(client), "%r" % client._config,
                          repr(client.stats()),
                          repr(list(vwo_push._processes.values()))]
                for push in (SECRET, SECRET, SECRET), ({SECRET: SECRET, "a": "b"},
                                                       SECRET):
                    for request in client.requests_for(*push):
                        self.assertIn(SECRET, request.url)
                        shown += [repr(request), str(request), "%s" % (request,)]
                self.assertIs(client.close(TIMEOUT), False)
        shown += [repr(vars(record)) for record in logs.records]
        shown += [show(result) for result in results for show in (repr, str)]
        self.assertEqual(len(results), 6)
        self.assertEqual(results[0][:2], (SECRET, {SECRET: SECRET}))
        for text in shown:
            self.assertNotIn(SECRET, text)

    def test_the_repr_of_a_client_says_whose_and_where(self):
        client = self.client(base_url="http://h:81/p", collection_prefix="eu01")
        self.assertEqual(repr(client),
                         "<Client of account 12345 at http://h:81/p/eu01>")


# -- Wire ------------------------------------------------------------------------------


class UuidTest(Case):
    """The visitor UUIDs that the official SDKs make."""

    PAIRS = [
        (12345, "Varun", "C4D95C097902569F9A2D2E87CD3201C8"),
        (12345, "Alice", "E3B732864F315FB6974BC3EF4E2FD920"),
        (12345, "__123__", "50A5B167FB6356A796F91D8951E480EE"),
        (12345, "We@#dcs3232.f3", "AAB4580A6BB3525FAA31DC341752D501"),
        (12345, "Xin", "8474AEC8B5D3528392606A265BB07F90"),
        (123456, "Ashley", "4C9BA81BAF53591488EB5FD5E66A98B9"),
        (123456, "Bill", "7E74487DBCC758E79CEAC4CD50C0458D"),
        (123456, "Emma", "881F627CD7FC5C97B0F3BE9D58A09DA6"),
        (123456, "Faizan", "6EA28F5D5CE25F5FA8B808E30039DE09"),
        (888888, "Ashley", "A46F7AA3A53150368683EE064793BAFD"),
        (88888888, "Bill", "A242AF8A71655251BA55F9EBB1FB326F"),
        (88888888, "Rohit", "78A6CEDE959A518491D7DCEDC0A01686"),
        (12345, "user-1", "053F6036A3FE5D47935E2061315256BB"),
        (12345, "", "7A691E678D6D5220A4B31A1F2861BC24"),
        (12345, "0", "611B8FA20C5F594BA2885DD4FE22F0F9"),
        (12345, "  padded  ", "4D20602ECD4E5FEBB2B9270BEF61C7CB"),
        (12345, "User-1", "A23D257F0BC75ABBB1FF5068D116B98B"),
        (12345, "f34c3d91-a66e-4389-92fb-595fa9874725",
         "AFE5AA1BE77156B9AACF6FC909F5D873"),
        (12345, 'a&b=c+d%20e#f"g\\h/i?j', "A7CD071FAFD158A1AD2584B6004892F7"),
        (12345, "<script>", "073B403B17E0536CA0EE0E4A977B277C"),
        (12345, "tab\there", "58D782E42EF0574BB3E3A2AD6977251A"),
        (12345, "\x7f", "9D52147F77125F7CA418EE00D1C6A77C"),
        (12345, "Jos\xe9", "7DC7F01CA223543397BD134D09656F9E"),
        (12345, "caf\xe9", "DFB2D1040CC857C6A45E5A14029C6B48"),
        (12345, "stra\xdfe", "F168ADF6CDB65F6596337A5C1B7F3233"),
        (12345, "\u30e6\u30fc\u30b6\u30fc", "EACF3CC3199C593B8C1345EB4CD516C8"),
        (12345, "\u0928\u092e\u0938\u094d\u0924\u0947",
         "D82C69B61C245467BBD328A2DEC71412"),
        (12345, "\U0001f600", "C8C113865E0C55008AA08BC556A86BAC"),
        (12345, "\U0001f1ee\U0001f1f3", "517F62426776589490243F1021C90716"),
        (12345, "\u200b", "9F9591BDFAC55AC1AC4FB5117E11A3B7"),
        (12345, "None", "5FD64D6FEC9F5504B7A9B3A28FDD2FD1"),
        (12345, "true", "B1639EA31F385C4DB1AADDA462B6E607"),
        (12345, "x" * 1000, "674471F7F6BC54D596E687F6D79A9808"),
        (0, "user-1", "D272C00E4C7654DC8792B69E52F83021"),
        (2147483647, "user-1", "0D1F834AA0615ECF836409DC7F27D3AC"),
        ("12345", "user-1", "053F6036A3FE5D47935E2061315256BB"),
        ("12345", "Jos\xe9", "7DC7F01CA223543397BD134D09656F9E"),
    ]

    def test_a_visitor_has_the_uuid_that_the_official_sdks_give_it(self):
        for account_id, user_id, uuid in self.PAIRS:
            with self.subTest(account_id=account_id, user_id=ascii(user_id)[:30]):
                self.assertEqual(vwo_push.visitor_uuid(account_id, user_id), uuid)

    def test_an_account_id_is_hashed_as_it_is_written(self):
        self.assertNotEqual(vwo_push.visitor_uuid("012345", "user-1"),
                            uuid_of("user-1"))

    def test_a_user_id_is_not_normalised(self):
        self.assertNotEqual(uuid_of("e\u0301"), uuid_of("\xe9"))

    def test_what_has_no_uuid_is_an_error(self):
        for account_id in -1, "", "x", "-1", "1.0", " 1", "\uff11":
            with self.assertRaisesRegex(ValueError, "account_id"):
                vwo_push.visitor_uuid(account_id, "u")
        for account_id in None, True, 1.0, b"1":
            with self.assertRaisesRegex(TypeError, "account_id"):
                vwo_push.visitor_uuid(account_id, "u")
        for user_id in None, 1, b"u":
            self.assertRaisesRegex(TypeError, "user_id", vwo_push.visitor_uuid, 1,
                                   user_id)
        self.assertRaisesRegex(ValueError, "user_id", vwo_push.visitor_uuid, 1,
                               "\ud800")


class RecordedTest(Quiet):
    """The same meaning as requests that were recorded from the official SDKs.

    Left out of the comparison: clock, random, the SDK's own name and flags.
    """

    # modes (get, batch, event), user id, uuid, what was pushed, the tags that were sent
    CASES = [
        ("gbe", "user-1", "053F6036A3FE5D47935E2061315256BB", {"browser": "chrome"},
         [r'{"u": {"browser": "chrome"}}']),
        ("gbe", "user 1", "24318B5415E95CA780FCB1D055933786",
         {"plan type": "free tier"},
         [r'{"u": {"plan type": "free tier"}}']),
        ("gbe", "we@#dcs&3232.f3", "BE877D5981215568AEFB86888213889A",
         {'a&b=c#d+e%f"g\\h': "v&w=x#y+z%20\"q\\r/s?t;u:v,w<x>{y}[z]|^~`!@$*()'"},
         [r'''{"u": {"a&b=c#d+e%f\"g\\h": "v&w=x#y+z%20\"q\\r/s?t;u:v,w<x>{y}[z]|^~'''
          r'''`!@$*()'"}}''']),
        ("be", "user-1", "053F6036A3FE5D47935E2061315256BB", {"q": 'say "hi"'},
         [r'{"u": {"q": "say \"hi\""}}']),
        ("gbe", "user-1", "053F6036A3FE5D47935E2061315256BB", {"path": r"C:\new\table"},
         [r'{"u": {"path": "C:\\new\\table"}}']),
        ("ge", "user-1", "053F6036A3FE5D47935E2061315256BB", {"discount": "100%"},
         [r'{"u": {"discount": "100%"}}']),
        ("ge", "user-1", "053F6036A3FE5D47935E2061315256BB", {"expr": "a+b"},
         [r'{"u": {"expr": "a+b"}}']),
        ("gbe", "Jos\xe9", "7DC7F01CA223543397BD134D09656F9E", {"cl\xe9": "caf\xe9"},
         [r'{"u": {"cl\u00e9": "caf\u00e9"}}']),
        ("gbe", "\u30e6\u30fc\u30b6\u30fc", "EACF3CC3199C593B8C1345EB4CD516C8",
         {"\u9375": "\u65e5\u672c"}, [r'{"u": {"\u9375": "\u65e5\u672c"}}']),
        ("gb", "\U0001f469\u200d\U0001f4bb", "FA5EA59454A4516C962F1FBDC5969247",
         {"mood": EMOJI}, [r'{"u": {"mood": "\ud83d\ude00"}}']),
        ("g", "user-1", "053F6036A3FE5D47935E2061315256BB", {"k": "\xe9" * 255},
         [r'{"u": {"k": "%s"}}' % (r"\u00e9" * 255)]),
        ("g", "user-1", "053F6036A3FE5D47935E2061315256BB", {"k" * 255: "v"},
         ['{"u": {"%s": "v"}}' % ("k" * 255)]),
        ("g", "user-1", "053F6036A3FE5D47935E2061315256BB", {" ": "v"},
         ['{"u": {" ": "v"}}']),
        ("gbe", "user-1", "053F6036A3FE5D47935E2061315256BB",
         {"plan": "pro", "browser": "chrome", "price": "20"},
         ['{"u": {"plan": "pro"}}', '{"u": {"browser": "chrome"}}',
          '{"u": {"price": "20"}}']),
    ]
    # What GETs hold in the seven SDKs besides sId, random, sdk, sdk-v, visitor_ua and
    # visitor_ip, for {"browser": "chrome"} of user-1.
    GETS = {
        "python": {"account_id", "u", "env", "ap", "tags"},
        "node": {"account_id", "u", "env", "ap", "tags"},
        "php": {"account_id", "u", "env", "tags"},
        "ruby": {"account_id", "u", "env", "ap", "tags"},
        "go": {"account_id", "u", "env", "ap", "tags"},
        "java": {"account_id", "u", "ap", "tags"},
        "dotnet": {"account_id", "u", "env", "ap", "tags"},
    }
    OURS = {"sId", "random", "sdk", "sdk-v"}
    # t of a batch event, for {"plan": "pro"}
    T_FORMS = {
        "python": '{"u": {"plan": "pro"}}', "ruby, dotnet, go": '{"u":{"plan":"pro"}}',
        "node, php, java": "%7B%22u%22%3A%7B%22plan%22%3A%22pro%22%7D%7D",
    }

    def cases(self, mode):
        return [case[1:] for case in self.CASES if mode in case[0]]

    def assertHeaders(self, received, **expected):
        """These and no others, apart from those that frame the message."""
        headers = {name.replace("-", "_"): value for name,
                   value in received.headers.items()}
        host, length = headers.pop("Host"), headers.pop("Content_Length", None)
        expected["User_Agent"] = "vwo-push-python/" + vwo_push.__version__
        self.assertEqual(headers, expected)
        self.assertRegex(host, r"^127\.0\.0\.1:\d+$")
        self.assertEqual(length, str(len(received.body)) if received.body else None)

    def test_a_get_means_what_the_official_one_means(self):
        stub = self.stub()
        for prefix in None, "eu01":
            client = self.client(stub, max_batch=1, max_workers=1,
                                 collection_prefix=prefix)
            for user_id, uuid, dimensions, tags in self.cases("g"):
                with self.subTest(prefix=prefix, dimensions=ascii(dimensions)[:40]):
                    received = self.deliver(stub, client, dimensions, user_id)
                    sent = [json.loads(each.query["tags"]) for each in received]
                    self.assertEqual(sent, [json.loads(text) for text in tags])
                    for each in received:
                        self.assertEqual((each.method, each.path), (
                            "GET", ("/eu01" if prefix else "") + "/server-side/push"))
                        self.assertEqual(dict(each.query, tags=0), {
                            "account_id": "12345", "ap": "server", "u": uuid, "tags": 0,
                            "env": "0123456789abcdef0123456789abcdef",
                            "sdk": "vwo-push-python", "sdk-v": vwo_push.__version__,
                            "sId": each.query["sId"], "random": each.query["random"]})
                        self.assertHeaders(each)

    def test_a_get_holds_whatever_any_of_the_seven_sdks_sends(self):
        stub = self.stub()
        received, = self.deliver(stub, self.client(stub), "browser", "chrome", "user-1")
        for sdk, names in self.GETS.items():
            self.assertLessEqual(names, set(received.query), sdk)
        self.assertEqual(set.union(self.OURS, *self.GETS.values()), set(received.query))

    def test_a_batch_means_what_the_official_one_means(self):
        stub = self.stub()
        for prefix in None, "eu01":
            client = self.client(stub, max_workers=1, collection_prefix=prefix)
            received, = self.backlog(stub, client, *[
                (dimensions, user_id) for user_id, _, dimensions, _ in self.cases("b")])
            self.assertEqual((received.method, received.path), (
                "POST", ("/eu01" if prefix else "") + "/server-side/batch-events"))
            self.assertEqual(received.query, {
                "a": "12345", "env": "0123456789abcdef0123456789abcdef",
                "sdk": "vwo-push-python", "sdk-v": vwo_push.__version__})
            self.assertHeaders(received, Content_Type="application/json",
                               Authorization="0123456789abcdef0123456789abcdef")
            body = json.loads(received.body.decode("ascii"))
            expected = [(uuid, json.loads(text)) for _, uuid, _, tags in self.cases("b")
                        for text in tags]
            self.assertEqual(list(body), ["ev"])
            self.assertEqual([(event["u"],
                               json.loads(event["t"])) for event in body["ev"]],
                             expected)
            for event in body["ev"]:
                self.assertEqual(set(event), {"u", "sId", "t", "eT"})
                self.assertEqual((event["eT"], type(event["sId"])), (3, int))

    def test_t_reads_as_it_does_in_all_seven_sdks(self):
        stub = self.stub()
        received, = self.deliver(stub, self.client(stub), {"plan": "pro", "a": "b"},
                                 "u")
        text = json.loads(received.body.decode())["ev"][0]["t"]
        for sdks, form in self.T_FORMS.items():
            self.assertEqual(json.loads(urllib.parse.unquote_plus(text)),
                             json.loads(urllib.parse.unquote_plus(form)), sdks)
        self.assertEqual(text, self.T_FORMS["python"])

    def test_an_event_means_what_the_official_one_means(self):
        stub, key = self.stub(), "0123456789abcdef0123456789abcdef"
        for prefix in None, "eu01":
            client = self.client(stub, event_arch=True, collection_prefix=prefix)
            for user_id, uuid, dimensions, _ in self.cases("e"):
                received, = self.deliver(stub, client, dimensions, user_id)
                self.assertEqual((received.method, received.path), (
                    "POST", ("/eu01" if prefix else "") + "/events/t"))
                self.assertHeaders(received, Content_Type="application/json")
                body = json.loads(received.body.decode("ascii"))
                seconds, ms = body["d"]["sessionId"], body["d"]["event"]["time"]
                self.assertEqual(received.query, {
                    "en": "vwo_syncVisitorProp", "a": "12345", "env": key, "p": "FS",
                    "eTime": str(ms), "random": received.query["random"],
                    "visitor_ua": "", "visitor_ip": ""})
                self.assertEqual((type(ms), ms // 1000), (int, seconds))
                self.assertEqual(body, {"d": {
                    "msgId": "%s-%d" % (uuid, ms), "visId": uuid, "sessionId": seconds,
                    "event": {
                        "props": {"vwo_sdkName": "vwo-push-python", "vwo_envKey": key,
                                  "vwo_sdkVersion": vwo_push.__version__,
                                  "isCustomEvent": True},
                        "name": "vwo_syncVisitorProp", "time": ms},
                    "visitor": {"props": dict(dimensions, vwo_fs_environment=key)}}})


class GoldenTest(Quiet):
    """One request of each kind, spelled out. S, M, R, V: clock, random and version."""

    GET = (
        "/server-side/push?account_id=12345&u=053F6036A3FE5D47935E2061315256BB&sId=S"
        "&random=R&env=0123456789abcdef0123456789abcdef&ap=server&sdk=vwo-push-python"
        "&sdk-v=V&tags=%7B%22u%22%3A%20%7B%22plan%20%5Cu00e9%22%3A%20%22a%5Cu002bb"
        "%20100%5Cu0025%20%26%20%5C%22c%5C%22%2F~%22%7D%7D")
    BATCH = (
        r'{"ev": [{"u": "053F6036A3FE5D47935E2061315256BB", "sId": S, '
        r'"t": "{\"u\": {\"plan \\u00e9\": '
        r'\"a\\u002bb 100\\u0025 & \\\"c\\\"/~\"}}", "eT": 3}, '
        r'{"u": "053F6036A3FE5D47935E2061315256BB", "sId": S, '
        r'"t": "{\"u\": {\"x\": \"y\"}}", "eT": 3}]}')
    EVENT = (
        r'{"d": {"msgId": "053F6036A3FE5D47935E2061315256BB-M", '
        r'"visId": "053F6036A3FE5D47935E2061315256BB", "sessionId": S, "event": {'
        r'"props": {"vwo_sdkName": "vwo-push-python", "vwo_sdkVersion": "V", '
        r'"vwo_envKey": "0123456789abcdef0123456789abcdef", "isCustomEvent": true}, '
        r'"name": "vwo_syncVisitorProp", "time": M}, "visitor": {"props": '
        r'{"vwo_fs_environment": "0123456789abcdef0123456789abcdef", '
        r'"plan \u00e9": "a+b 100% & \"c\"/~", "x": "y"}}}}')
    PLAN = ("plan \xe9", 'a+b 100% & "c"/~')

    def sent(self, *push, **options):
        """(target, body) of *push* as they are on the wire, without what changes."""
        targets = []

        def answer(handler):
            targets.append(handler.path)
            handler.reply(200)
        stub = self.stub(answer)
        received, = self.deliver(stub, self.client(stub, **options), *push)
        return [re.sub(
            r"random=0\.\d{16}&", "random=R&", re.sub(
                r"\b1\d{12}\b", "M", re.sub(r"\b1\d{9}\b", "S", text))).replace(
                    vwo_push.__version__, "V")
                for text in (targets[0], received.body.decode("ascii"))]

    def test_a_get_is_spelled_like_this(self):
        self.assertEqual(self.sent(*self.PLAN, "user-1"), [self.GET, ""])

    def test_a_batch_is_spelled_like_this(self):
        self.assertEqual(self.sent(dict([self.PLAN], x="y"), "user-1"), [
            "/server-side/batch-events?a=12345&sdk=vwo-push-python&sdk-v=V"
            "&env=0123456789abcdef0123456789abcdef", self.BATCH])

    def test_an_event_is_spelled_like_this(self):
        self.assertEqual(self.sent(dict([self.PLAN], x="y"), "user-1", event_arch=True),
                         [
            "/events/t?en=vwo_syncVisitorProp&a=12345"
            "&env=0123456789abcdef0123456789abcdef&eTime=M&random=R&p=FS"
            "&visitor_ua=&visitor_ip=", self.EVENT])

    def test_requests_for_shows_what_is_sent(self):
        for push, options, target, body in (
                (self.PLAN + ("user-1",), {}, self.GET, None),
                ((dict([self.PLAN], x="y"), "user-1"), {}, "/server-side/b",
                 self.BATCH),
                ((dict([self.PLAN], x="y"), "user-1"), {"event_arch": True},
                 "/events/t?",
                 self.EVENT)):
            client = self.client(base_url="http://h", **options)
            request, = client.requests_for(*push)
            url = re.sub(r"random=0\.\d{16}&", "random=R&", re.sub(
                r"\b1\d{9}\b", "S", request.url)).replace(vwo_push.__version__, "V")
            self.assertEqual(url[:len("http://h" + target)], "http://h" + target)
            self.assertEqual(request.method, "POST" if body else "GET")
            if body is None:
                self.assertIsNone(request.body)
                continue
            self.assertEqual(body, re.sub(r"\b1\d{12}\b", "M", re.sub(
                r"\b1\d{9}\b", "S", request.body.decode())).replace(
                    vwo_push.__version__, "V"))


class HostileTextTest(Quiet):
    """Any text is read back exactly, however often a server decodes it."""

    PIECES = ['"', "'", "%", "+", "%2B", "%25", "%u0041", "&", "#", "=", "?", ";", ":",
              "/",
              "\0", "\n", "\r\n", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff",
              "\uffff",
              EMOJI, "\U0010ffff", "e\u0301", "\u202e\u05e9\u05dc", "\u200d", "\\",
              "\\\\",
              "\\u0025", "\\u002b", '\\"', "{", "}", "[", "]", "</script>", "\xe9",
              "\u65e5",
              " ", "  ", "a", "Z9"]
    FIXED = [EMOJI * 255, "%" * 255, "+" * 255, "\\" * 255, '"' * 255, "\0", "\\u0025",
             "%2B", "%252B", "+%+", "&tags=x", "#", '"}}', "\r\nX-Evil: 1"]

    def setUp(self):
        super().setUp()
        pick = random.Random(20261123)
        texts = self.FIXED + ["".join(pick.choice(self.PIECES) for _ in range(
            pick.choice((1, 2, 3, 9, 40))))[:255] for _ in range(100)]
        values = texts[:]
        pick.shuffle(values)
        self.dimensions = dict(zip(texts, values))

    def assertReadsAs(self, text, dimensions):
        """*text* is tags that have been decoded once, plus as space."""
        once, decode = text, urllib.parse.unquote
        for text in (once, decode(once), urllib.parse.unquote_plus(once),
                     urllib.parse.unquote_plus(decode(once))):
            self.assertEqual(json.loads(text), {"u": dimensions})

    def test_any_text_in_a_get_is_read_back(self):
        targets = []

        def answer(handler):
            targets.append(handler.path)
            handler.reply(200)
        stub = self.stub(answer)
        client = self.client(stub, max_batch=1, max_workers=1)
        received = self.deliver(stub, client, self.dimensions, "\0 %2B+" + EMOJI)
        self.assertEqual(len(received), len(self.dimensions))
        for each, item in zip(received, self.dimensions.items()):
            self.assertReadsAs(each.query["tags"], dict([item]))
            self.assertEqual(each.query["u"], uuid_of("\0 %2B+" + EMOJI))
            self.assertRegex(each.query["random"], r"^0\.\d{16}$")
        for target in targets:
            self.assertRegex(target, r"^/server-side/push\?[\w.~%=&-]+$")
            plain = urllib.parse.unquote(target.partition("tags=")[2])
            self.assertEqual(plain, urllib.parse.unquote_plus(plain))

    def test_any_text_in_a_batch_is_read_back(self):
        stub = self.stub()
        client = self.client(stub, max_batch=5000)
        received, = self.deliver(stub, client, self.dimensions, "\\u0025")
        self.assertNotRegex(received.body, rb"[%+\x00-\x1f\x7f-\xff]")
        events = json.loads(received.body.decode())["ev"]
        self.assertEqual(len(events), len(self.dimensions))
        for event, item in zip(events, self.dimensions.items()):
            self.assertReadsAs(event["t"], dict([item]))
            self.assertEqual(event["u"], uuid_of("\\u0025"))

    def test_any_text_in_an_event_is_read_back(self):
        stub = self.stub()
        received, = self.deliver(
            stub, self.client(stub, event_arch=True), self.dimensions, EMOJI)
        self.assertNotRegex(received.body, rb"[\x00-\x1f\x7f-\xff]")
        self.assertEqual(read_back(received), [
            (uuid_of(EMOJI), key, value) for key, value in self.dimensions.items()])


class BatchingTest(Quiet):
    """What goes together, and what does not."""

    def shapes(self, requests):
        """Per request its method, its endpoint and its number of dimensions."""
        return [(each.method, each.path.rpartition("/")[2], len(read_back(each)))
                for each in requests]

    def pushes(self, number):
        return [("k%d" % n, "v", "u%d" % n) for n in range(number)]

    def test_a_backlog_goes_as_batches_of_up_to_max_batch(self):
        stub = self.stub()
        client = self.client(stub, max_workers=1, max_batch=3)
        received = self.backlog(stub, client, *self.pushes(7))
        self.assertEqual(self.shapes(received), [
            ("POST", "batch-events", 3), ("POST", "batch-events", 3),
            ("GET", "push", 1)])
        self.assertEqual([triple for each in received for triple in read_back(each)],
                         [(uuid_of(user), key, value)
                          for key, value, user in self.pushes(7)])
        self.assertStats(client, delivered=8, requests=4, retries=0)

    def test_the_default_batch_holds_a_hundred(self):
        stub = self.stub()
        received = self.backlog(stub, self.client(stub, max_workers=1),
                                *self.pushes(101))
        self.assertEqual([len(read_back(each)) for each in received], [100, 1])

    def test_a_map_that_fits_is_not_torn(self):
        stub = self.stub()
        client = self.client(stub, max_workers=1, max_batch=4)
        three = dict.fromkeys("abc", "x"), "u"
        received = self.backlog(stub, client, three, three, ("k", "v", "u"))
        self.assertEqual([len(read_back(each)) for each in received], [3, 4])

    def test_a_map_of_more_than_max_batch_is_split_by_count(self):
        stub, results = self.stub(), []
        client = self.client(stub, max_batch=2, on_result=results.append)
        dimensions = dict.fromkeys("abcde", "x")
        received = self.deliver(stub, client, dimensions, "u")
        self.assertEqual(self.shapes(received), [
            ("POST", "batch-events", 2), ("POST", "batch-events", 2),
            ("POST", "batch-events", 1)])
        self.assertEqual(results, [("u", dimensions, True, 200, None, 1)])
        self.assertStats(client, accepted=1, delivered=1, requests=3)

    def test_max_batch_1_never_uses_the_batch_endpoint(self):
        stub = self.stub()
        client = self.client(stub, max_workers=1, max_batch=1)
        long = EMOJI * 255
        received = self.backlog(stub, client, ("a", "b", "u"),
                                (dict.fromkeys("xyz", "1"), "u"), (long, long, "u"))
        self.assertEqual(self.shapes(received), [("GET", "push", 1)] * 5)
        self.assertEqual([read_back(each)[0][1:] for each in received], [
            ("a", "b"), ("x", "1"), ("y", "1"), ("z", "1"), (long, long)])

    def test_a_get_of_2000_bytes_is_sent_and_one_of_2001_goes_as_a_batch_of_one(self):
        stub = self.stub()
        client, gets = self.client(stub), self.client(stub, max_batch=1)
        plain = len(gets.requests_for("k", "v", "u")[0].url) - 1
        accents, letters = divmod(2000 - plain, len("%5Cu00e9"))
        for more, method in (0, "GET"), (1, "POST"):
            value = "\xe9" * accents + "a" * (letters + more)
            self.assertLess(len(value), 256)
            url = gets.requests_for("k", value, "u")[0].url
            self.assertEqual(len(url.encode()), 2000 + more)
            received, = self.deliver(stub, client, "k", value, "u")
            self.assertEqual(received.method, method)
            self.assertEqual(read_back(received), [(uuid_of("u"), "k", value)])

    def test_a_batch_is_split_by_size(self):
        stub = self.stub()
        client = self.client(stub)
        dimensions = {"key %d" % n: "x" * (3 * n) for n in range(1, 40)}
        with mock.patch.object(vwo_push, "MAX_BODY_BYTES", 1000):
            received = self.deliver(stub, client, dimensions, "u")
        self.assertEqual([triple for each in received for triple in read_back(each)],
                         [(uuid_of("u"), *item) for item in dimensions.items()])
        sizes = [len(each.body) for each in received]
        self.assertLessEqual(max(sizes), 1000)
        self.assertGreater(min(sizes[:-1]), 1000 - 250)  # and none is half empty

    def test_what_is_too_large_alone_is_sent_alone(self):
        stub = self.stub()
        with mock.patch.object(vwo_push, "MAX_BODY_BYTES", 10):
            received = self.deliver(stub, self.client(stub), dict.fromkeys("abc", "x"),
                                    "u")
        self.assertEqual([len(read_back(each)) for each in received], [1, 1, 1])

    def test_a_413_halves_the_batch_down_to_one_event(self):
        def answer(handler):
            body = sizes.get()
            handler.reply(413 if body > 1 else 200)
        stub, sizes, results = self.stub(answer), queue.Queue(), []
        put = stub.received.put

        def note(received):
            sizes.put(len(read_back(received)))
            put(received)
        stub.received.put = note
        client = self.client(stub, on_result=results.append)
        received = self.deliver(stub, client, dict.fromkeys("abcde", "x"), "u")
        self.assertEqual([[key for _, key, _ in read_back(each)] for each in received],
                         [list(keys) for keys in (
                             "abcde", "ab", "a", "b", "cde", "c", "de", "d", "e")])
        self.assertEqual(results,
                         [("u", dict.fromkeys("abcde", "x"), True, 200, None, 1)])
        self.assertStats(client, delivered=1, requests=9, retries=0)

    def test_a_413_for_a_single_event_is_a_failure(self):
        stub, results = self.stub(413), []
        client = self.client(stub, on_result=results.append)
        self.assertTrue(client.push("plan", "premium", "u"))
        self.assertFalse(client.flush(TIMEOUT))
        self.assertEqual(results, [("u", {"plan": "premium"}, False, 413, "http", 1)])

    def test_one_half_that_fails_fails_its_pushes_only(self):
        stub, results = self.stub(200, 413, 400, 200), []
        client = self.client(stub, max_workers=1, on_result=results.append)
        stub.gate.clear()
        client.push("first", "1", "u")
        stub.take()
        for push in self.pushes(2):
            client.push(*push)
        stub.gate.set()
        self.assertFalse(client.flush(TIMEOUT))
        self.assertEqual([result[2:] for result in results], [
            (True, 200, None, 1), (False, 400, "http", 1), (True, 200, None, 1)])

    def test_the_events_architecture_sends_one_request_per_push(self):
        stub = self.stub()
        client = self.client(stub, event_arch=True)
        received = self.deliver(stub, client, "a", "b", "u")
        received += self.deliver(stub, client, dict.fromkeys("abc", EMOJI * 255), "u")
        self.assertEqual(self.shapes(received), [("POST", "t", 1), ("POST", "t", 3)])

    def test_a_backlog_of_the_events_architecture_goes_as_a_batch(self):
        stub = self.stub()
        client = self.client(stub, event_arch=True, max_workers=1)
        received = self.backlog(stub, client, ("a", "b", "u"),
                                ({"c": "d", "e": "f"}, "u"))
        self.assertEqual(self.shapes(received), [("POST", "batch-events", 3)])

    def test_the_events_architecture_obeys_max_batch_1(self):
        stub = self.stub()
        client = self.client(stub, event_arch=True, max_workers=1, max_batch=1)
        received = self.backlog(stub, client, ("a", "b", "u"),
                                ({"c": "d", "e": "f"}, "u"))
        self.assertEqual(self.shapes(received), [("POST", "t", 1), ("POST", "t", 2)])

    def test_random_is_fresh_for_each_attempt_and_everything_else_stays(self):
        for options in {}, {"event_arch": True}:
            stub = self.stub(500, 503, 200)
            client = self.client(stub, **options)
            with mock.patch.object(vwo_push, "BACKOFF_SECONDS", 0.001):
                received = self.deliver(stub, client, "plan", "premium", "u")
            nonces = [each.query.pop("random") for each in received]
            self.assertEqual(len(set(nonces)), 3)
            for nonce, each in zip(nonces, received):
                self.assertRegex(nonce, r"^0\.\d{16}$")
                self.assertEqual(each[:3] + each[4:5],
                                 received[0][:3] + received[0][4:5])
            self.assertStats(client, requests=3, retries=2, delivered=1)

    def test_the_time_sent_is_that_of_the_push(self):
        for options in {}, {"event_arch": True}, {"max_batch": 1}:
            stub = self.stub()
            client = self.client(stub, max_workers=1, **options)
            stub.gate.clear()
            client.push("first", "1", "u")
            stub.take()
            with mock.patch.object(vwo_push, "time", lambda: 1500000000.789):
                client.push("plan", "premium", "u")
            if options.get("max_batch") != 1 and not options:
                client.push("later", "1", "u")  # so that it is a batch
            stub.gate.set()
            self.assertTrue(client.flush(TIMEOUT))
            received = stub.take()
            if options.get("event_arch"):
                self.assertEqual(received.query["eTime"], "1500000000789")
                data = json.loads(received.body.decode())["d"]
                self.assertEqual((data["sessionId"], data["event"]["time"]),
                                 (1500000000, 1500000000789))
            elif options:
                self.assertEqual(received.query["sId"], "1500000000")
            else:
                first, second = json.loads(received.body.decode())["ev"]
                self.assertEqual(first["sId"], 1500000000)
                self.assertGreater(second["sId"], 1700000000)


class AnswerTest(Quiet):
    """What an answer means."""

    def statuses(self, *statuses, **headers):
        """(delivered, status, error, attempts) of a push that is answered so, each."""
        stub, results = self.stub(*[
            lambda handler, status=status: handler.reply(status, b"", **headers)
            for status in statuses]), []
        client = self.client(stub, on_result=results.append)
        for _ in statuses:
            client.push("plan", "premium", "u")
            client.flush(TIMEOUT)
        self.assertEqual(len(stub.take_all()), len(statuses))
        return [result[2:] for result in results]

    def test_any_2xx_is_a_success(self):
        statuses = 200, 201, 202, 203, 204, 205, 206, 226, 299
        self.assertEqual(self.statuses(*statuses),
                         [(True, status, None, 1) for status in statuses])

    def test_a_redirect_is_a_failure_and_is_not_followed(self):
        other = self.stub()
        statuses = 300, 301, 302, 303, 304, 305, 307, 308, 399
        self.assertEqual(self.statuses(*statuses, Location=other.url + "/elsewhere"),
                         [(False, status, "http", 1) for status in statuses])
        self.assertEqual(other.take_all(), [])

    def test_a_cookie_is_never_sent_back(self):
        stub = self.stub(lambda handler: handler.reply(200, Set_Cookie="a=b; Path=/"))
        client = self.client(stub, max_workers=1)
        received = [self.deliver(stub, client, "plan", "premium",
                                 "u")[0] for _ in range(2)]
        self.assertEqual(len({each.port for each in received}), 1)
        for each in received:
            self.assertNotIn("Cookie", each.headers)

    def test_the_body_of_an_answer_is_ignored(self):
        stub = self.stub(lambda handler: handler.reply(200, b'{"error": "no"}' * 99))
        client = self.client(stub, max_workers=1)
        ports = {self.deliver(stub, client, "a", "b", "u")[0].port for _ in range(3)}
        self.assertEqual(len(ports), 1)


class RegionsTest(Quiet):
    """Clients share nothing."""

    def test_clients_of_different_regions_and_accounts_never_mix(self):
        stub = self.stub()
        clients = {}
        for account, prefix in (111, "eu01"), (222, None), (333, "as01"):
            clients[account, prefix] = vwo_push.Client(
                account, "key-%d" % account, collection_prefix=prefix,
                base_url=stub.url)
            self.addCleanup(clients[account, prefix].close, 0)
        for turn in range(30):
            for (account, prefix), client in clients.items():
                self.assertTrue(client.push("mine", "%d" % account, "u%d" % turn))
        for client in clients.values():
            self.assertTrue(client.flush(TIMEOUT))
        seen = collections.Counter()
        for received in stub.take_all():
            account = received.query.get("account_id") or received.query["a"]
            prefix = {"111": "/eu01", "222": "", "333": "/as01"}[account]
            self.assertRegex(received.path, "^%s/server-side/[a-z-]+$" % prefix)
            self.assertEqual(received.query["env"], "key-" + account)
            for uuid, _, value in read_back(received):
                self.assertEqual(value, account)
                seen[account, uuid] += 1
        self.assertEqual(seen, dict.fromkeys([
            (str(account), vwo_push.visitor_uuid(account, "u%d" % turn))
            for account, _ in clients for turn in range(30)], 1))


# -- Settings --------------------------------------------------------------------------


class FromSettingsTest(Quiet):
    """Client.from_settings."""

    SETTINGS = {"accountId": 12345, "sdkKey": KEY, "collectionPrefix": "eu01",
                "isEventArchEnabled": True, "version": 1, "campaigns": [], "groups": {}}

    def url(self, settings, **options):
        client = vwo_push.Client.from_settings(
            settings, **dict({"transport": ok, "base_url": "http://h"}, **options))
        return client.requests_for("plan", "premium", "u")[0].url

    def without(self, *names, **changed):
        settings = dict(self.SETTINGS, **changed)
        return {name: settings[name] for name in settings if name not in names}

    def test_settings_are_read_from_an_object_and_from_its_text(self):
        text = json.dumps(self.SETTINGS)
        for settings in (self.SETTINGS, text, text.encode(), text.encode("utf-8-sig"),
                         types.MappingProxyType(self.SETTINGS)):
            url = self.url(settings)
            self.assertTrue(url.startswith("http://h/eu01/events/t?"), url)
            self.assertIn("a=12345&env=%s&" % KEY, url)

    def test_what_is_missing_has_the_default(self):
        url = self.url(self.without("collectionPrefix", "isEventArchEnabled"))
        self.assertTrue(url.startswith("http://h/server-side/push?account_id=12345&"),
                        url)
        url = self.url(self.without("isEventArchEnabled", collectionPrefix=None))
        self.assertTrue(url.startswith("http://h/server-side/push?"), url)
        self.assertIn("/server-side/", self.url(self.without(isEventArchEnabled=False)))

    def test_an_account_id_may_be_text(self):
        self.assertIn("a=12345&", self.url(self.without(accountId="12345")))

    def test_options_win(self):
        url = self.url(self.SETTINGS, account_id=7, sdk_key="other", event_arch=False,
                       collection_prefix="as01")
        self.assertTrue(url.startswith("http://h/as01/server-side/push?account_id=7&"),
                        url)
        self.assertIn("&env=other&", url)

    def test_a_wrong_member_is_an_error_that_names_it(self):
        for name, values in {
            "accountId": [None, True, 1.0, "", "x", 0, -5, [12345]],
            "sdkKey": [None, "", 5, b"k", "k\n", "k\xe9"],
            "collectionPrefix": ["..", "a/b", 1, False, [], "\xe9"],
            "isEventArchEnabled": ["false", "true", "", 0, 1, None, []],
        }.items():
            for value in values:
                with self.subTest(member=name, value=value):
                    pattern = "(?i)" + re.sub("([A-Z])", r"_?\1", name)
                    with self.assertRaisesRegex((TypeError, ValueError),
                                                pattern) as caught:
                        self.url(self.without(**{name: value}))
                    self.assertSecretFree(caught.exception)
        for name in "accountId", "sdkKey":
            with self.assertRaisesRegex(ValueError, name):
                self.url(self.without(name))

    def test_what_is_not_settings_is_an_error(self):
        secret = '{"sdkKey": "%s", ' % SECRET
        for settings in ("", "x", "{", secret, secret.encode() + b"\xff", b"\xff\xfe",
                         "null",
                         "[]", '"text"', "[" * 100000, None, 5, [], [("accountId", 1)],
                         {"sdkKey"}, object()):
            with self.subTest(settings=repr(settings)[:30]):
                with self.assertRaisesRegex((TypeError, ValueError),
                                            "settings") as caught:
                    self.url(settings)
                texts = traceback.format_exception(
                    type(caught.exception), caught.exception, None)
                self.assertNotIn(SECRET, "".join(texts))

    def test_an_unknown_option_is_an_error(self):
        self.assertRaises(TypeError, self.url, self.SETTINGS, eventArch=True)


class FetchSettingsTest(Quiet):
    """fetch_settings."""

    def fetch(self, stub, **options):
        return vwo_push.fetch_settings(
            ACCOUNT, KEY, **dict({"base_url": stub.url}, **options))

    def assertFails(self, kind, pattern, *answers, **options):
        stub = self.stub(*answers)
        with self.assertRaisesRegex(kind, pattern) as caught:
            self.fetch(stub, **options)
        self.assertSecretFree(caught.exception)
        self.assertEqual(len(stub.take_all()), 1)

    def test_settings_are_fetched_as_the_official_sdk_does(self):
        settings = dict(FromSettingsTest.SETTINGS, name="caf\xe9")
        stub = self.stub(lambda handler: handler.reply(200,
                                                       json.dumps(settings).encode()))
        self.assertEqual(self.fetch(stub), settings)
        received = stub.take()
        self.assertRegex(received.query.pop("r"), r"^0\.\d{16}$")
        self.assertEqual((received.method, received.path, received.body,
                          received.query), (
            "GET", "/server-side/settings", b"", {
                "a": "12345", "i": "0123456789abcdef0123456789abcdef",
                "platform": "server", "api-version": "1", "sdk": "vwo-push-python",
                "sdk-v": vwo_push.__version__}))
        client = vwo_push.Client.from_settings(settings, base_url=stub.url)
        self.assertEqual(repr(client),
                         "<Client of account 12345 at %s/eu01>" % stub.url)

    def test_the_path_of_base_url_is_kept(self):
        stub = self.stub(lambda handler: handler.reply(200, b"{}"))
        self.assertEqual(self.fetch(stub, base_url=stub.url + "/relay/"), {})
        self.assertEqual(stub.take().path, "/relay/server-side/settings")

    def test_a_status_that_is_not_2xx_is_an_error(self):
        for status in 302, 400, 404, 429, 500, 503:
            with self.subTest(status=status):
                self.assertFails(ConnectionError, str(status),
                                 lambda handler: handler.reply(
                    status, json.dumps({"message": "Invalid api key " + KEY}).encode()))

    def test_a_redirect_is_not_followed(self):
        other = self.stub(lambda handler: handler.reply(200, b"{}"))
        self.assertFails(ConnectionError, "302", lambda handler: handler.reply(
            302, Location=other.url + "/server-side/settings"))
        self.assertEqual(other.take_all(), [])

    def test_a_body_that_is_not_a_json_object_is_an_error(self):
        for body in (b"", b"x" + KEY.encode(), b"[]", b"null", b'"%s"' % KEY.encode(),
                     b"{",
                     b"\xff{}", b"[" * 100000):
            with self.subTest(body=body[:30]):
                self.assertFails(ValueError, "JSON",
                                 lambda handler: handler.reply(200, body))

    def test_a_body_over_8_mib_is_an_error(self):
        self.assertEqual(vwo_push.MAX_SETTINGS_BYTES, 8 * 1024 * 1024)
        with mock.patch.object(vwo_push, "MAX_SETTINGS_BYTES", 64):
            stub = self.stub(lambda handler: handler.reply(200, b"{}" + b" " * 62))
            self.assertEqual(self.fetch(stub), {})
            self.assertFails(ValueError, "8 MiB", lambda handler: handler.reply(
                200, b"{}" + b" " * 63))

    def test_an_answer_that_is_cut_off_is_an_error(self):
        def cut(*headers, body=b'{"sdkKey": "'):
            def answer(handler):
                lines = (b"HTTP/1.1 200 OK\r\n",) + headers + (b"\r\n", body)
                handler.wfile.write(b"".join(lines))
                handler.wfile.flush()
                hang_up(handler)
            return answer
        for answer in (cut(b"Content-Length: 100\r\n"),
                       cut(b"Content-Length: 100\r\n", body=b"{}"),
                       cut(b"Transfer-Encoding: chunked\r\n", body=b"c\r\n{"), hang_up):
            self.assertFails(ConnectionError, "settings", answer)

    def test_a_server_that_does_not_answer_in_time_is_an_error(self):
        stub = self.stub()
        stub.gate.clear()
        with self.assertRaisesRegex(ConnectionError, "timeout") as caught:
            self.fetch(stub, timeout=0.05)
        self.assertSecretFree(caught.exception)

    def test_a_refused_port_is_an_error(self):
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            with self.assertRaisesRegex(ConnectionError, "connection") as caught:
                vwo_push.fetch_settings(
                    ACCOUNT, KEY,
                    base_url="http://127.0.0.1:%d" % unheard.getsockname()[1])
        self.assertSecretFree(caught.exception)

    def test_a_failure_complains_of_nothing_when_it_is_collected(self):
        seen = []
        for status in 400, 200:
            stub = self.stub(lambda handler: handler.reply(status, b"x" * 99))
            with mock.patch.object(sys, "unraisablehook", seen.append, create=True):
                try:
                    self.fetch(stub)
                except Exception as error:
                    cycle = [error]
                    cycle.append(cycle)
                del cycle
                gc.collect()
        self.assertEqual([str(each.exc_value) for each in seen], [])

    def test_the_arguments_are_checked_as_those_of_client(self):
        for name in "account_id", "sdk_key", "base_url", "timeout", "ssl_context":
            for value in OptionsTest.REFUSED[name]:
                arguments = dict({"account_id": ACCOUNT, "sdk_key": KEY},
                                 **{name: value})
                with self.subTest(argument=name, value=ascii(value)[:30]):
                    with self.assertRaisesRegex((TypeError, ValueError), name):
                        vwo_push.fetch_settings(**arguments)


# -- Module ----------------------------------------------------------------------------


class ModuleTest(Quiet):
    """What importing and constructing cost, and what is public."""

    def test_the_public_names_are_these(self):
        self.assertEqual(vwo_push.__all__, [
            "Client", "PushResult", "Request", "fetch_settings", "visitor_uuid"])
        for name in vwo_push.__all__:
            self.assertTrue(getattr(vwo_push, name).__doc__, name)
        self.assertRegex(vwo_push.__version__, r"^\d+\.\d+\.\d+$")

    def test_importing_is_cheap_and_constructing_pays_for_everything(self):
        done = self.python("""
            import sys
            sys.path.insert(0, sys.argv[1])
            before = set(sys.modules)
            import vwo_push
            dear = {"ssl", "http.client", "urllib.request", "logging", "typing",
                    "email", "argparse", "socket", "dataclasses", "json",
                    "hashlib", "random"}
            assert not dear & (set(sys.modules) - before), dear & set(sys.modules)
            vwo_push.Client(1, "k", transport=print)
            assert not {"ssl", "http.client"} & (set(sys.modules) - before)
            vwo_push.Client(1, "k", base_url="http://h")
            needed = {"encodings.idna", "http.client", "email.utils", "json", "hashlib",
                      "random", "select", "socket", "urllib.parse"}
            assert needed <= set(sys.modules), needed - set(sys.modules)
            spare = {"logging", "urllib.request", "argparse", "dataclasses"}
            assert not spare & (set(sys.modules) - before), spare & set(sys.modules)
            try:
                import ssl
            except ImportError:
                pass
            else:
                assert vwo_push.ssl is ssl
        """, HERE, flags=["-S", "-I"])
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def test_each_public_call_may_be_the_first(self):
        settings = {"accountId": 1, "sdkKey": "k"}
        for call, said in (
                ("Client(1, 'k', transport=print)", b"<Client of account 1"),
                ("Client.from_settings(%r)" % settings, b"<Client of account 1"),
                ("Client.from_settings(%r)" % json.dumps(settings), b"<Client of acc"),
                ("visitor_uuid(1, 'u')", vwo_push.visitor_uuid(1, "u").encode()),
                ("fetch_settings(1, 'k', base_url='%s')" % self.stub(
                    lambda handler: handler.reply(200, b"{}")).url, b"{}")):
            with self.subTest(call):
                done = self.python("import vwo_push; print(vwo_push.%s)" % call)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertEqual(done.stdout[:len(said)], said)

    def test_a_push_and_a_worker_import_nothing(self):
        def busy(handler):
            handler.reply(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")
        stub = self.stub(busy, 200, 413, 200, 200, hang_up, 302, 200)
        done = self.python("""
            import sys, vwo_push
            vwo_push.BACKOFF_SECONDS = 0.001
            results, imported = [], []
            clients = [vwo_push.Client(1, "k", base_url=sys.argv[1], event_arch=arch,
                                       on_result=results.append)
                       for arch in (False, True)]
            before = set(sys.modules)
            if hasattr(sys, "addaudithook"):
                sys.addaudithook(lambda event, arguments: event == "import"
                                 and imported.append(arguments[0]))
            for client in clients:
                for push in (("a", "b", "u"), ({"a": "\xe9", "c": "%"}, "\xe9"),
                             ("", "", "")):
                    client.push(*push)
                    client.flush(20)
                client.push("a", "b", "u")
                client.close(20)
            assert len(results) == 6, results
            assert not imported, imported
            assert set(sys.modules) == before, set(sys.modules) - before
        """, stub.url)
        self.assertEqual((done.returncode, done.stdout), (0, b""), done.stderr)
        self.assertGreater(len(stub.take_all()), 8)


# -- What becomes of a push: flush, close, threads, re-entrance, exit, fork ------------

PYPY = sys.implementation.name == "pypy"

# Self-signed, for localhost and 127.0.0.1, until the year 2120. It guards nothing.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgFM0xT8n7BVmABgoQ
Wj3NbPuayuaJcrYZp60eybMPei2hRANCAAQJ29VBHmQTmpWD60QNmIPhxFL/TbgM
6bmfhK424bjDqKg0atsyE1HBmVPCXfRqmsSXgoElTfOw3RSVgMHNnUoe
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAnb1UEeZBOalYPr
RA2Yg+HEUv9NuAzpuZ+ErjbhuMOoqDRq2zITUcGZU8Jd9GqaxJeCgSVN87DdFJWA
wc2dSh6jXjBcMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgKEMB0GA1Ud
DgQWBBTDjonSwS/7VYPYkI9D9EvcSHUUnzAaBgNVHREEEzARgglsb2NhbGhvc3SH
BH8AAAEwCgYIKoZIzj0EAwIDSQAwRgIhAOy1EjxNeV0W51YaIttQFq70TVm4I/X7
hWlAWmzupaqTAiEAvwlL4jTIO/LqyO8GPYEbF08g3yDMtQuL51hvhxnjDhg=
-----END CERTIFICATE-----
"""


def until(condition):
    """Wait for *condition*, where there is no event to wait for."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        threading.Event().wait(0.002)


def is_inside(thread, function):
    """Is *thread* executing a function of this name?"""
    frame = sys._current_frames().get(thread.ident)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False


def started(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "vwo_push"]


def after(gate):
    """A transport that delivers once *gate* is set."""
    return lambda request, timeout: 200 if gate.wait(TIMEOUT) else 0


class Life(Case):
    """All threads end, none with an exception; subprocesses can run side by side."""

    # Begins every script; ends[0]() is called after the module's own exit handler.
    PRELUDE = """
import atexit, gc, os, signal, socket, sys, threading, time
ends = []
atexit.register(lambda: [end() for end in ends])
import vwo_push
def client(**options):
    if "transport" not in options:
        options.setdefault("base_url", sys.argv[1])
    return vwo_push.Client(12345, "key", **options)
def push(client, values):
    return [client.push("n", str(value), "u") for value in values]
def totals(client):
    s = client.stats()
    assert s["accepted"] == s["delivered"] + s["failed"] + s["pending"], s
    return s
"""

    def setUp(self):
        self.crashes = []
        self.addCleanup(self.assertAllEnded)
        if hasattr(threading, "excepthook"):
            patch = mock.patch.object(threading, "excepthook", lambda args: (
                self.crashes.append(repr(args.exc_value))))
            patch.start()
            self.addCleanup(patch.stop)
            self.addCleanup(until, lambda: not workers())

    def assertAllEnded(self):
        until(lambda: not workers())
        self.assertEqual(self.crashes, [])

    def script(self, source, *args, flags=()):
        """Start *source* after the prelude in a fresh interpreter."""
        process = subprocess.Popen(
            [sys.executable] + list(flags) + [
                "-c", self.PRELUDE + textwrap.dedent(source)] + list(map(str, args)),
            env=dict(os.environ, PYTHONPATH=HERE), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(process.kill)
        return process

    def assertEnds(self, process, stdout="", code=0, quiet=True):
        """*process* ends in time, with nothing on stderr and *stdout* on stdout."""
        out, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual((out.decode().strip(), err.decode() if quiet else "",
                          process.returncode), (stdout, "", code), err.decode())

    def assertArrived(self, stub, values):
        """Each of *values* has arrived exactly once, and nothing else."""
        found = [value for received in stub.take_all()
                 for _, _, value in read_back(received)]
        self.assertEqual(sorted(found), sorted(map(str, values)))


class FlushTest(Life):

    def test_flush_is_false_once_for_a_lost_push_and_true_again_afterwards(self):
        client = self.client(self.stub(400, 200))
        client.push("plan", "premium", "u")
        self.assertIs(client.flush(TIMEOUT), False)
        self.assertIs(client.flush(TIMEOUT), True)
        client.push("plan", "premium", "u")
        self.assertIs(client.flush(TIMEOUT), True)

    def test_what_a_flush_out_of_time_leaves_counts_in_the_next_one(self):
        for status in (200, 400):
            with self.subTest(status):
                stub = self.stub(status)
                stub.gate.clear()
                client = self.client(stub)
                client.push("plan", "premium", "u")
                self.assertIs(client.flush(0.01), False)
                self.assertIs(client.flush(0), False)
                stub.gate.set()
                self.assertIs(client.flush(TIMEOUT), status == 200)
                self.assertIs(client.flush(TIMEOUT), True)

    def test_refused_pushes_do_not_count_in_flush(self):
        client = self.client(self.stub(), max_pending=1)
        with self.assertLogs("vwo_push", "WARNING"):
            self.assertIs(client.push("plan", 7, "u"), False)
            self.assertIs(client.push({"plan": "premium", "country": "IN"}, "u"), False)
        self.assertIs(client.flush(TIMEOUT), True)

    def test_pushes_made_during_a_flush_do_not_prolong_it(self):
        flushed = threading.Event()

        def transport(request, timeout):  # there is always one more
            if not flushed.is_set():
                client.push("plan", "premium", "u")
            return 200

        client = self.client(transport=transport)
        client.push("plan", "premium", "u")
        try:
            self.assertIs(client.flush(5), True)
        finally:
            flushed.set()
        self.assertIs(client.flush(TIMEOUT), True)

    def test_flush_without_a_timeout_waits_for_the_outcome(self):
        stub, flushed = self.stub(), []
        stub.gate.clear()
        client = self.client(stub)
        client.push("plan", "premium", "u")
        thread = started(lambda: flushed.append(client.flush(None)))
        until(lambda: flushed or is_inside(thread, "flush"))
        self.assertEqual(flushed, [])
        stub.gate.set()
        thread.join(TIMEOUT)
        self.assertEqual(flushed, [True])

    def test_flush_waits_for_on_result_to_return(self):
        entered, leave, order = threading.Event(), threading.Event(), []

        def on_result(result):
            entered.set()
            leave.wait(TIMEOUT)
            order.append("on_result")

        client = self.client(transport=ok, on_result=on_result)
        client.push("plan", "premium", "u")
        self.assertTrue(entered.wait(TIMEOUT))
        thread = started(lambda: order.append(client.flush(TIMEOUT)))
        until(lambda: order or is_inside(thread, "flush"))
        leave.set()
        thread.join(TIMEOUT)
        self.assertEqual(order, ["on_result", True])

    def test_flushes_of_several_threads_all_tell_the_truth(self):
        for status in (200, 400):
            with self.subTest(status):
                stub, flushed = self.stub(status), []
                stub.gate.clear()
                client = self.client(stub)
                client.push("plan", "premium", "u")
                threads = [started(lambda: flushed.append(client.flush(TIMEOUT)))
                           for _ in range(3)]
                until(lambda: all(is_inside(thread, "flush") for thread in threads))
                stub.gate.set()
                for thread in threads:
                    thread.join(TIMEOUT)
                self.assertEqual(flushed, [status == 200] * 3)
                self.assertIs(client.flush(TIMEOUT), True)

    def test_a_loss_that_another_flush_waits_with_is_told_to_both(self):
        stub, flushed, results = self.stub(400, 200), [], queue.Queue()
        client = self.client(stub, on_result=results.put, max_workers=1)
        client.push("plan", "premium", "lost")
        self.assertFalse(results.get(timeout=TIMEOUT).delivered)
        stub.gate.clear()
        client.push("plan", "premium", "late")
        first = started(lambda: flushed.append(client.flush(TIMEOUT)))
        until(lambda: is_inside(first, "_wait_for"))
        second = started(lambda: flushed.append(client.flush(TIMEOUT)))
        until(lambda: is_inside(second, "_wait_for"))
        stub.gate.set()
        first.join(TIMEOUT)
        second.join(TIMEOUT)
        self.assertEqual(flushed, [False, False])
        self.assertIs(client.flush(TIMEOUT), True)

    def test_the_wall_clock_may_jump_during_flush_and_retries(self):
        main = threading.main_thread()
        for jump in (86400, -86400):
            clock, statuses = [1.6e9], [503, 200]

            def transport(request, timeout):
                until(lambda: is_inside(main, "_wait_for"))
                clock[0] += jump
                return statuses.pop(0)

            client = self.client(transport=transport)
            with self.subTest(jump), \
                    mock.patch.object(vwo_push, "BACKOFF_SECONDS", 0.01), \
                    mock.patch.object(vwo_push, "time", lambda: clock[0]):
                self.assertTrue(client.push("plan", "premium", "u"))
                self.assertTrue(client.flush(TIMEOUT))
                self.assertStats(client, retries=1)

    def test_a_flush_that_is_interrupted_leaves_what_was_lost_to_the_next_one(self):
        class Windows(list):
            def append(self, window):
                if late:
                    super().append(window)
                raise KeyboardInterrupt
        client = self.client(self.stub(400, 200), max_batch=1)
        client.push("plan", "premium", "u")
        until(lambda: client.stats()["failed"])
        sender = client._sender()
        for late, broken in (
                (False, mock.patch.object(sender, "windows", Windows())),
                (True, mock.patch.object(sender, "windows", Windows())),
                (True, mock.patch.object(vwo_push._Sender, "_wait_for",
                                         side_effect=KeyboardInterrupt))):
            with broken, self.assertRaises(KeyboardInterrupt):
                client.flush(TIMEOUT)
        self.assertIs(client.flush(TIMEOUT), False)
        client.push("plan", "premium", "u")
        self.assertIs(client.flush(TIMEOUT), True)

    def test_a_timeout_that_is_no_time_is_refused(self):
        client = self.client(transport=ok)
        for wrong in float("nan"), "1", b"1", [], 1j, object():
            for call in client.flush, client.close:
                with self.subTest(wrong=wrong), \
                        self.assertRaisesRegex((TypeError, ValueError), "timeout"):
                    call(wrong)
        self.assertFalse(client._closed)  # which a forked child would go by
        for right in (None, 10 ** 400, -10 ** 400, float("inf"), -1, 0, -float("inf"),
                      fractions.Fraction(1, 2)):
            self.assertTrue(client.push("plan", "premium", "u"))
            client.flush(right)
        self.assertTrue(client.close(TIMEOUT))


class CloseTest(Life):

    def test_close_settles_what_a_worker_has_in_flight_once_and_for_all(self):
        stub, entered = self.stub(), threading.Event()

        def transport(request, timeout):  # unlike a socket, it cannot be cut off
            entered.set()
            return 200 if stub.gate.wait(TIMEOUT) else 0

        for own in (None, transport):
            with self.subTest(own is None):
                results = []
                stub.gate.clear()
                client = self.client(base_url=stub.url, transport=own, max_workers=1,
                                     on_result=results.append)
                client.push("plan", "premium", "u0")
                entered.wait(TIMEOUT) if own else stub.take()
                client.push("plan", "premium", "u1")
                self.assertIs(client.close(0), False)
                stub.gate.set()
                until(lambda: not workers())
                self.assertEqual(
                    sorted((r.user_id, r.delivered, r.error) for r in results),
                    [("u0", False, "closed"), ("u1", False, "closed")])
                self.assertStats(client, accepted=2, failed=2, pending=0)

    def test_what_was_delivered_before_the_close_stays_delivered(self):
        """Of a batch that was halved: of one request, the one half."""
        entered, early, last, gate = [threading.Event() for _ in range(4)]

        def transport(request, timeout):
            if request.body is None:
                entered.set()
                return 200 if early.wait(TIMEOUT) else 0
            size = len(json.loads(request.body)["ev"])
            if size == 2:
                last.set()
                gate.wait(TIMEOUT)
            return 413 if size == 3 else 200
        results = []
        client = self.client(transport=transport, max_workers=1, on_result=results.append)
        client.push("plan", "premium", "a")
        self.assertTrue(entered.wait(TIMEOUT))
        for user in "bcd":
            client.push("plan", "premium", user)
        early.set()
        self.assertTrue(last.wait(TIMEOUT))
        self.assertFalse(client.close(0))
        gate.set()
        until(lambda: not workers())
        self.assertEqual([tuple(result)[::2] for result in results], [
            ("a", True, None), ("b", True, None), ("c", False, "closed"),
            ("d", False, "closed")])
        self.assertStats(client, delivered=2, failed=2, pending=0)

    def test_close_ends_a_retry_that_waits(self):
        results = []
        stub = self.stub(lambda handler: handler.reply(503, Retry_After="30"))
        client = self.client(stub, max_workers=1, on_result=results.append)
        client.push("plan", "premium", "u")
        until(lambda: any(is_inside(worker, "pause") for worker in workers())
              and client._senders[os.getpid()].sleepers)
        self.assertIs(client.close(0), False)
        until(lambda: not workers())
        self.assertEqual([(r.error, r.attempts) for r in results], [("closed", 1)])

    def test_close_delivers_and_can_be_called_again(self):
        stub = self.stub()
        client = self.client(stub)
        client.push("plan", "premium", "u")
        self.assertEqual([client.close(TIMEOUT), client.close(0)], [True, True])
        self.assertEqual(len(stub.take_all()), 1)
        with self.assertLogs("vwo_push", "WARNING"):
            self.assertIs(client.push("plan", "premium", "u"), False)
        self.assertStats(client, accepted=1, delivered=1, dropped=1)

    def test_close_refuses_new_pushes_while_it_still_waits(self):
        stub, closed = self.stub(), []
        stub.gate.clear()
        client = self.client(stub)
        client.push("plan", "premium", "u")
        thread = started(lambda: closed.append(client.close(TIMEOUT)))
        until(lambda: is_inside(thread, "_wait_for"))
        with self.assertLogs("vwo_push", "WARNING"):
            self.assertIs(client.push("plan", "premium", "u"), False)
        stub.gate.set()
        thread.join(TIMEOUT)
        self.assertEqual(closed, [True])

    def test_close_ends_workers_that_have_nothing_to_do(self):
        patch = mock.patch.object(vwo_push, "IDLE_SECONDS", 3600)
        patch.start()
        self.addCleanup(patch.stop)
        client = self.client(transport=ok)
        client.push("plan", "premium", "u")
        until(lambda: client._senders[os.getpid()].idle)
        client.close(TIMEOUT)
        until(lambda: not workers())

    def test_leaving_a_with_block_delivers_and_closes(self):
        stub = self.stub()
        with self.client(stub) as client:
            client.push("plan", "premium", "u")
        self.assertEqual((len(stub.take_all()), workers()), (1, []))
        with self.assertLogs("vwo_push", "WARNING"):
            self.assertIs(client.push("plan", "premium", "u"), False)

    def test_a_push_that_races_close_is_settled_or_refused(self):
        logger = mock.patch("vwo_push._log")  # one line for each of these clients
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        self.addCleanup(sys.setswitchinterval, interval)
        with logger:
            for _ in range(30):
                self.race_close()

    def race_close(self):
        results, accepted, go = [], [], threading.Event()
        client = self.client(transport=ok, on_result=results.append, max_batch=3)

        def produce():
            go.wait(TIMEOUT)
            accepted.append(sum([client.push("n", "1", "u") for _ in range(40)]))

        threads = [started(produce) for _ in range(3)]
        go.set()
        client.close(0)
        for thread in threads:
            thread.join(TIMEOUT)
        self.assertStats(client, accepted=sum(accepted), pending=0,
                         dropped=120 - sum(accepted))
        self.assertEqual(len(results), sum(accepted))
        self.assertEqual(len(client._senders[os.getpid()].reserved), 0)


class InterleavingTest(Life):
    """Races that threads hit once in a million times, at exactly the wrong moment.

    The moments lie inside, so these tests use what is inside.
    """

    def setUp(self):
        super().setUp()
        for name, value in (("IDLE_SECONDS", 3600), ("_log", lambda *_: None)):
            patch = mock.patch.object(vwo_push, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        self.results = queue.Queue()

    def inner(self, **options):
        options.setdefault("transport", ok)
        client = self.client(max_workers=1, on_result=self.results.put, **options)
        return client, client._senders[os.getpid()]

    def once(self, *actions):
        """A function that does one of *actions* at each call, then nothing more."""
        left = list(actions)
        return lambda: left.pop(0)() if left else None

    def test_a_push_is_refused_whose_client_closes_after_its_first_look(self):
        client, sender = self.inner()
        close = self.once(lambda: client.close(0))

        class Reserved(collections.deque):
            def append(self, item):
                close()
                super().append(item)

        sender.reserved = Reserved()
        self.assertIs(client.push("plan", "premium", "u"), False)
        self.assertStats(client, accepted=0, dropped=1, pending=0)
        self.assertEqual(len(sender.reserved), 0)

    def test_a_push_is_settled_whose_client_closes_after_it_was_queued(self):
        client, sender = self.inner()
        close = self.once(lambda: client.close(0))
        with mock.patch.object(vwo_push._Sender, "hire", lambda _: close()):
            self.assertIs(client.push("plan", "premium", "u"), True)
        self.assertEqual(self.results.get_nowait().error, "closed")
        self.assertStats(client, accepted=1, failed=1)

    def test_an_interrupt_right_after_a_push_was_queued_costs_no_worker(self):
        class Waiting(collections.deque):
            def append(self, push):
                super().append(push)
                interrupt()

        threads = set()
        client, sender = self.inner(
            transport=lambda *_: threads.add(threading.current_thread()) or 200)
        interrupt = self.once(mock.Mock(side_effect=KeyboardInterrupt))
        sender.waiting = Waiting()
        with self.assertRaises(KeyboardInterrupt):
            client.push("plan", "premium", "queued")
        for _ in range(3):  # each finds the worker that the one before had
            self.assertTrue(client.push("plan", "premium", "u"))
            self.assertTrue(client.flush(TIMEOUT))
        self.assertEqual(len(threads), 1)
        self.assertEqual(len(sender.reserved), 0)
        self.assertStats(client, delivered=4)

    def test_an_interrupted_push_does_not_let_a_dropped_client_be_forgotten(self):
        gate = threading.Event()
        client, sender = self.inner(transport=after(gate))
        client.push("plan", "premium", "u")
        until(lambda: sender.batches)
        sender.unreserve(1)  # as an interrupt right after another push had been queued
        sender.orphan()
        self.assertIn(sender, vwo_push._process().senders)
        gate.set()
        self.assertTrue(self.results.get(timeout=TIMEOUT).delivered)

    def test_a_worker_that_is_listed_beyond_max_workers_does_not_work(self):
        client, sender = self.inner()
        first, second = threading.Thread(), threading.Thread()
        self.assertTrue(sender.enlist(first))
        sender.workers.append(second)  # as hire, which had looked before that
        self.assertFalse(sender.enlist(second))
        self.assertTrue(sender.enlist(first))
        self.assertEqual(sender.workers, [first])
        del sender.workers[:]

    def test_a_push_within_a_push_cannot_pass_max_pending(self):
        gate = threading.Event()
        client, sender = self.inner(max_pending=1, transport=after(gate))
        push = self.once(lambda: client.push("plan", "premium", "inner"))

        class Reserved(collections.deque):
            def append(self, item):
                push()
                super().append(item)

        sender.reserved = Reserved()
        self.assertIs(client.push("plan", "premium", "outer"), False)
        gate.set()
        self.assertEqual(self.results.get(timeout=TIMEOUT).user_id, "inner")
        self.assertStats(client, accepted=1, dropped=1)

    def test_a_push_that_withdraws_during_a_close_disturbs_nobody(self):
        gate, flushed = threading.Event(), []
        client, sender = self.inner(transport=after(gate))
        client.push("plan", "premium", "sent")
        until(lambda: sender.batches)

        class Waiting(collections.deque):
            def popleft(self):
                for push in list(self):
                    sender.withdraw(push, 1)
                return super().popleft()

        sender.waiting = Waiting()
        client.push("plan", "premium", "withdrawn")
        thread = started(lambda: flushed.append(client.flush(None)))
        until(lambda: is_inside(thread, "_wait_for"))
        self.assertIs(client.close(0), False)
        thread.join(TIMEOUT / 2)
        gate.set()
        self.assertEqual(flushed, [False])
        self.assertStats(client, accepted=1, failed=1, dropped=1)
        self.assertEqual(len(sender.reserved), 0)

    def test_close_does_not_mind_a_worker_that_is_just_starting(self):
        client, closed, real = self.inner()[0], [], threading.Thread.start

        def start(thread):
            if thread.name == "vwo_push":
                closed.append(client.close(0))
            real(thread)

        with mock.patch.object(threading.Thread, "start", start):
            self.assertTrue(client.push("plan", "premium", "u"))
        self.assertEqual(closed, [False])
        until(lambda: not workers())

    def test_close_waits_for_a_worker_that_is_on_its_way_out(self):
        client, sender = self.inner()
        leaving, gate = threading.Event(), threading.Event()
        main = threading.main_thread()

        class Waiting(collections.deque):
            def __bool__(self):
                if sys._getframe(1).f_code.co_name == "_work":
                    leaving.set()
                    gate.wait(TIMEOUT)
                return len(self) > 0

        def open_gate():
            until(lambda: gate.is_set() or is_inside(main, "join"))
            gate.set()

        sender.waiting = Waiting()
        with mock.patch.object(vwo_push, "IDLE_SECONDS", 0.001), \
                mock.patch.object(vwo_push, "JOIN_SECONDS", TIMEOUT):
            client.push("plan", "premium", "u")
            self.assertTrue(leaving.wait(TIMEOUT))
            worker, = workers()
            opener = started(open_gate)
            self.assertTrue(client.close(TIMEOUT))
            alive = worker.is_alive()
            gate.set()
        self.assertFalse(alive)
        opener.join(TIMEOUT)

    def test_ctrl_c_while_a_worker_is_started_costs_no_push(self):
        real = threading.Thread.start
        for early in (True, False):
            def start(thread):
                if not early:
                    real(thread)
                raise KeyboardInterrupt

            with self.subTest(early):
                client, sender = self.inner()
                with mock.patch.object(threading.Thread, "start", start):
                    self.assertRaises(KeyboardInterrupt, client.push, "plan", "v", "u0")
                self.assertTrue(client.push("plan", "premium", "u1"))
                names = {self.results.get(timeout=TIMEOUT).user_id for _ in range(2)}
                self.assertEqual(names, {"u0", "u1"})

    def test_a_worker_may_be_woken_twice(self):
        client, sender = self.inner()

        class Idle(collections.deque):
            def pop(self):
                wake = super().pop()
                wake.release()  # as a close does
                return wake

        sender.idle = Idle()
        for number in (1, 2):
            self.assertIs(client.push("plan", "premium", "u"), True)
            self.results.get(timeout=TIMEOUT)
            until(lambda: sender.idle)
        self.assertStats(client, accepted=2, dropped=0)

    def test_two_threads_that_hire_at_once_get_one_worker(self):
        gate, real = threading.Event(), vwo_push._Sender.hire
        client, sender = self.inner(transport=after(gate))
        with mock.patch.object(vwo_push._Sender, "hire", lambda s: [real(s), real(s)]):
            client.push("plan", "premium", "u")
        self.assertEqual(len(workers()), 1)
        gate.set()
        self.assertTrue(client.flush(TIMEOUT))

    def test_a_push_is_sent_whose_worker_is_just_about_to_park(self):
        client, sender = self.inner()
        real, push = vwo_push._taken_lock, self.once(
            lambda: client.push("plan", "premium", "late"))

        def taken_lock():
            push()
            return real()

        with mock.patch.object(vwo_push, "_taken_lock", taken_lock):
            client.push("plan", "premium", "early")
            names = [self.results.get(timeout=TIMEOUT / 2).user_id for _ in range(2)]
        self.assertEqual(names, ["early", "late"])

    def test_a_push_is_sent_whose_worker_is_just_about_to_end(self):
        real, start = vwo_push._Connection.close, threading.Thread.start
        for starter_is_slow in (False, True):
            with self.subTest(starter_is_slow):
                client, sender = self.inner()
                push = self.once(lambda: client.push("plan", "premium", "late"))

                def close(connection):
                    until(lambda: starter_is_slow or not sender.hiring.locked())
                    push()
                    real(connection)

                def start_slowly(thread):
                    start(thread)
                    if starter_is_slow:
                        thread.join()

                with mock.patch.object(vwo_push, "IDLE_SECONDS", 0.001), \
                        mock.patch.object(threading.Thread, "start", start_slowly), \
                        mock.patch.object(vwo_push._Connection, "close", close):
                    client.push("plan", "premium", "early")
                    names = [self.results.get(timeout=TIMEOUT / 2).user_id
                             for _ in range(2)]
                    until(lambda: not workers())
                self.assertEqual(names, ["early", "late"])

    def test_a_flush_within_a_flush_disturbs_neither(self):
        client, real = self.inner(transport=lambda *_: 400)[0], vwo_push._Window
        flush = self.once(lambda: client.flush(0))

        def window():
            flush()
            return real()

        with mock.patch.object(vwo_push, "_Window", window):
            client.flush(TIMEOUT)
        client.push("plan", "premium", "u")
        self.assertIs(client.flush(TIMEOUT), False)
        self.assertIs(client.flush(TIMEOUT), True)

    def test_openssl_is_called_only_while_no_fork_can_be_made(self):
        gate, held = threading.RLock(), []
        endpoint = types.SimpleNamespace(ssl_context=object())
        connection = vwo_push._Connection(endpoint, gate)
        connection._call(lambda: held.append(gate._is_owned()), False)
        self.assertEqual(held, [True])


class BoundTest(Life):

    def test_max_pending_is_exact_whatever_the_threads_do(self):
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        self.addCleanup(sys.setswitchinterval, interval)
        for size, room in ((1, 100), (3, 33)):
            with self.subTest(size), mock.patch("vwo_push._log"):
                gate = threading.Event()
                client = self.client(transport=after(gate), max_pending=100)
                dimensions = {"k%d" % number: "v" for number in range(size)}

                def produce():
                    for _ in range(100):
                        client.push(dimensions, "u")

                threads = [started(produce) for _ in range(6)]
                for thread in threads:
                    thread.join(TIMEOUT)
                self.assertStats(client, pending=room, dropped=600 - room)
                gate.set()
                self.assertTrue(client.flush(TIMEOUT))
                self.assertTrue(client.push(dimensions, "u"))

    def test_a_flood_of_refused_pushes_costs_two_log_lines_and_no_memory(self):
        stub = self.stub()
        stub.gate.clear()
        client = self.client(stub, max_pending=10)
        for _ in range(10):
            client.push("plan", "premium", "u")
        flood = 2_000 if PYPY else 30_000
        with self.assertLogs("vwo_push", "WARNING") as logs:
            client.push("plan", "premium", "u")
            before = sys.getallocatedblocks() if not PYPY else 0
            refused = [client.push("plan", "premium", "u") for _ in range(flood)]
            grown = sys.getallocatedblocks() - before if not PYPY else 0
        self.assertFalse(any(refused))
        self.assertLessEqual(len(logs.records), 2)
        self.assertLess(grown, 5_000)
        self.assertStats(client, dropped=flood + 1, pending=10)
        stub.gate.set()
        self.assertTrue(client.flush(TIMEOUT))

    def test_what_is_built_ahead_is_bounded(self):
        """Sixteen requests, and none of a map, of which each dimension takes memory."""
        for more in ({}, {"country": "IN"}):
            entered, gate, built, ahead = threading.Event(), threading.Event(), [], []

            def transport(request, timeout):
                if not entered.is_set():
                    entered.set()
                    return 200 if gate.wait(TIMEOUT) else 0
                ahead.append(len(built))
                return 200
            client = self.client(transport=transport, max_batch=1, max_workers=1)
            client.push("plan", "premium", "first")
            self.assertTrue(entered.wait(TIMEOUT))
            real = vwo_push._get_url
            with mock.patch.object(vwo_push, "_get_url", lambda config, *payload: (
                    built.append(payload) or real(config, *payload))):
                for number in range(20):
                    client.push(dict(more, plan="premium"), "u%d" % number)
                gate.set()
                self.assertTrue(client.flush(TIMEOUT))
            self.assertEqual(ahead, list(range(1, 41)) if more else [16] * 16 + [20] * 4)

    def test_push_is_false_where_there_is_no_memory(self):
        client = self.client(transport=ok)
        with mock.patch.object(vwo_push, "time", side_effect=MemoryError), \
                self.assertLogs("vwo_push", "WARNING"):
            self.assertIs(client.push("plan", "premium", "u"), False)
        with mock.patch.object(vwo_push, "time", side_effect=MemoryError), \
                mock.patch.object(vwo_push, "_log", side_effect=MemoryError):
            self.assertIs(client.push("plan", "premium", "u"), False)
        self.assertTrue(client.push("plan", "premium", "u"))
        self.assertTrue(client.flush(TIMEOUT))
        self.assertStats(client, dropped=2, delivered=1)


class ThreadsTest(Life):

    def test_a_worker_that_is_held_up_leaves_the_rest_to_the_other(self):
        gate, calls = threading.Event(), []

        def transport(request, timeout):
            calls.append(request)
            return 200 if len(calls) > 1 or gate.wait(TIMEOUT) else 0

        client = self.client(transport=transport, max_batch=1)
        for number in range(50):
            client.push("n", str(number), "u")
        until(lambda: client.stats()["delivered"] == 49)
        gate.set()
        self.assertTrue(client.flush(TIMEOUT))

    def test_what_one_worker_has_gathered_wakes_one_that_parked_meanwhile(self):
        """It looked while what was waiting had been taken, and was not yet ready."""
        parked = vwo_push._taken_lock()

        class Ready(collections.deque):
            def append(self, batch):
                if not self:
                    sender.idle.append(parked)
                super().append(batch)
        client = self.client(transport=ok, max_batch=1, max_workers=1)
        sender = client._sender()
        sender.ready = Ready()
        with sender.lock:  # the worker is started, and takes nothing until there are two
            for _ in range(2):
                client.push("plan", "premium", "u")
        self.assertTrue(parked.acquire(timeout=TIMEOUT))
        self.assertTrue(client.flush(TIMEOUT))

    def test_a_start_that_is_interrupted_leaves_no_worker_too_many(self):
        real = threading.Thread.start
        for late in False, True:
            gate, unstarted = threading.Event(), []

            def start(thread):
                unstarted.append(thread) if late else real(thread)
                raise KeyboardInterrupt
            client = self.client(transport=after(gate), max_workers=1, max_batch=1)
            with mock.patch.object(threading.Thread, "start", start):
                for _ in range(5):
                    with contextlib.suppress(KeyboardInterrupt):
                        client.push("plan", "premium", "u")
            for thread in unstarted:  # they had been on their way all the same
                real(thread)
            self.assertEqual(len(unstarted), 5 * late)
            until(lambda: len(workers()) == 1)
            self.assertEqual(client._sender().workers, workers())
            gate.set()
            self.assertTrue(client.close(TIMEOUT))
            until(lambda: not workers())

    def test_what_a_flush_had_no_time_for_wakes_a_worker(self):
        stub, parked = self.stub(), vwo_push._taken_lock()
        stub.gate.clear()
        client = self.client(stub)
        with self.refusing("start"):
            client.push("plan", "premium", "u")
            client._sender().idle.append(parked)
            self.assertIs(client.flush(0.3), False)
        self.assertTrue(parked.acquire(timeout=TIMEOUT))
        stub.gate.set()

    def test_a_worker_at_its_end_sees_what_another_thread_has_given_back(self):
        class Workers(list):
            def remove(self, worker):
                super().remove(worker)
                if given:
                    sender.ready.append(given.pop())
        client = self.client(transport=ok)
        sender = client._sender()
        sender.workers = Workers()
        sender.reserved.append(None)
        sender.taken += 1
        given = [vwo_push._Batch(0, [(0.0, "u", "plan", "premium")], 1)]
        sender.batches += given
        with mock.patch.object(vwo_push, "IDLE_SECONDS", 0.01):
            client.push("plan", "premium", "u")
            until(lambda: client.stats()["delivered"] == 2)

    def test_a_dropped_client_is_remembered_while_a_push_is_in_nobodys_list(self):
        class Waiting(collections.deque):
            def popleft(self):
                push = super().popleft()
                sender.orphan()
                known.append(sender in vwo_push._process().senders)
                return push
        known = []
        client = self.client(transport=ok)
        sender = client._sender()
        sender.waiting = Waiting()
        client.push("plan", "premium", "u")
        until(lambda: known)
        self.assertEqual(known, [True])
        until(lambda: sender not in vwo_push._process().senders)

    def test_pushes_outlive_a_worker_that_is_out_of_memory(self):
        def batch(*args):
            if refused:
                refused.pop()
                raise MemoryError
            return real(*args)
        real, refused = vwo_push._Batch, []
        for size in 1, 100:
            refused.append(None)
            client = self.client(transport=ok, max_batch=size)
            with mock.patch.object(vwo_push, "_Batch", batch), mock.patch.object(
                    threading, "excepthook", lambda *_: None, create=True), \
                    mock.patch.object(sys, "stderr", io.StringIO()):
                with client._sender().lock:
                    for _ in range(3):
                        client.push("plan", "premium", "u")
                self.assertTrue(client.flush(TIMEOUT))
                client.close(TIMEOUT)
                until(lambda: not workers())  # what the broken one prints goes nowhere
            self.assertStats(client, delivered=3, pending=0)

    def test_a_request_is_built_once_or_what_was_sent_of_it_would_be_sent_again(self):
        entered, go, built = threading.Event(), threading.Event(), []

        def parts(config, pushes):
            built.append(pushes)
            entered.set()
            go.wait(TIMEOUT)
            return real(config, pushes)
        sender, real = self.client(transport=ok)._sender(), vwo_push._parts
        batch = vwo_push._Batch(0, [(0.0, "u", "plan", "premium")], 1)
        with mock.patch.object(vwo_push, "_parts", parts):
            threads = [started(sender.build, batch)]
            self.assertTrue(entered.wait(TIMEOUT))
            threads.append(started(sender.build, batch))
            until(lambda: is_inside(threads[1], "build"))
            go.set()
            for thread in threads:
                thread.join(TIMEOUT)
        self.assertEqual(len(built), 1)

    def refusing(self, method, times=10 ** 9):
        """A patch: the next *times* of our threads cannot be had, as in threading."""
        real, left = getattr(threading.Thread, method), [times]

        def refusing(thread, *args, **options):
            if "vwo_push" in (options.get("name"), getattr(thread, "_name", "")):
                left[0] -= 1
                if left[0] >= 0:
                    raise RuntimeError("can't start new thread")
            return real(thread, *args, **options)

        return mock.patch.object(threading.Thread, method, refusing)

    def test_threads_are_daemons_and_none_too_many(self):
        stub = self.stub()
        stub.gate.clear()
        client = self.client(stub, max_workers=3, max_batch=1)
        self.assertEqual(workers(), [])
        for _ in range(20):
            client.push("plan", "premium", "u")
        for _ in range(3):
            stub.take()
        client.push("plan", "premium", "u")
        self.assertEqual([worker.daemon for worker in workers()], [True] * 3)
        stub.gate.set()
        self.assertTrue(client.close(TIMEOUT))
        self.assertEqual(workers(), [])

    def test_an_idle_worker_ends_and_a_later_push_has_a_new_one(self):
        patch = mock.patch.object(vwo_push, "IDLE_SECONDS", 0.01)
        patch.start()
        self.addCleanup(patch.stop)
        results = queue.Queue()
        client = self.client(transport=ok, on_result=results.put)
        for _ in range(20):
            self.assertTrue(client.push("plan", "premium", "u"))
            results.get(timeout=TIMEOUT)  # nobody flushes, so a worker has sent it
            until(lambda: not workers())

    def test_dropped_clients_leave_no_thread_and_lose_no_push(self):
        stub, results = self.stub(), queue.Queue()
        for number in range(200):
            transport = None if number < 5 else ok
            client = vwo_push.Client(ACCOUNT, KEY, base_url=stub.url,
                                     transport=transport, on_result=results.put)
            client.push("plan", "premium", "u%d" % number)
            del client
        gc.collect()
        found = [results.get(timeout=TIMEOUT) for _ in range(200)]
        self.assertEqual({(r.user_id, r.delivered) for r in found},
                         {("u%d" % number, True) for number in range(200)})
        self.assertEqual(len(stub.take_all()), 5)
        until(lambda: gc.collect() is None or not workers())
        until(lambda: gc.collect() is None or not vwo_push._process().senders)

    def test_pushes_are_sent_where_no_thread_can_be_had(self):
        for method in ("start", "__init__"):
            for finish in ("flush", "close"):
                with self.subTest(method=method, finish=finish), self.refusing(method):
                    threads = []
                    client = self.client(
                        transport=ok,
                        on_result=lambda _: threads.append(threading.current_thread()))
                    for _ in range(5):
                        self.assertTrue(client.push("plan", "premium", "u"))
                    self.assertEqual(threads, [])
                    self.assertIs(getattr(client, finish)(TIMEOUT), True)
                    self.assertEqual(threads, [threading.current_thread()] * 5)

    def test_push_tells_the_truth_where_there_is_no_stack(self):
        client = self.client(transport=ok)

        def push(frames):
            return push(frames - 1) if frames else client.push("plan", "premium", "u")
        answers = []
        quiet = mock.patch.object(logging.getLogger("vwo_push"), "disabled", True)
        with quiet, self.refusing("start"):  # so each of them tries to hire
            for frames in range(sys.getrecursionlimit()):
                try:
                    answers.append(push(frames))
                except RecursionError:  # raised for the very call of push, or before
                    break
            self.assertStats(client, pending=answers.count(True))
        self.assertTrue(client.flush(TIMEOUT))

    def test_a_flush_leaves_the_sending_to_a_worker_that_is_just_being_started(self):
        """Or both may send, because the flush has not the time to wait for the answer."""
        entered, go, real = threading.Event(), threading.Event(), threading.Thread.start

        def start(thread):
            if thread.name == "vwo_push":
                entered.set()
                sender.workers.remove(thread)  # not yet known
                go.wait(TIMEOUT)
                sender.workers.append(thread)
            real(thread)
        for late in False, True:
            threads = []
            client = self.client(transport=lambda request, timeout: (
                threads.append(threading.current_thread()) or 200))
            sender = client._sender()
            entered.clear()
            go.clear()
            with self.subTest(late=late), mock.patch.object(
                    threading.Thread, "start", start):
                pusher = threading.Thread(
                    target=client.push, args=("plan", "premium", "u"))
                real(pusher)
                self.assertTrue(entered.wait(TIMEOUT))
                # Later than a slice it has to be feared that there will be no worker.
                self.assertIs(client.flush(TIMEOUT if late else 0.05), late)
                self.assertEqual(threads, [threading.current_thread()] * late)
                go.set()
                pusher.join(TIMEOUT)
                self.assertTrue(client.flush(TIMEOUT))
            self.assertEqual(len(threads), 1)

    def test_attempts_are_bounded_where_every_flush_cuts_one_off(self):
        stub, results = self.stub(), []
        stub.gate.clear()
        client = self.client(stub, max_attempts=2, on_result=results.append)
        with self.refusing("start"):
            client.push("plan", "premium", "u")
            until(lambda: client.flush(0.02) or client.stats()["requests"] == 2)
            self.assertStats(client, pending=1)
            self.assertIs(client.flush(TIMEOUT), False)
            self.assertEqual([result[2:] for result in results],
                             [(False, None, "timeout", 2)])
            self.assertStats(client, failed=1, requests=2, retries=1)
            stub.gate.set()
            client.push("plan", "premium", "u")  # starts afresh
            self.assertIs(client.flush(TIMEOUT), True)

    def test_flush_without_threads_keeps_its_time_and_its_pushes(self):
        stub = self.stub()
        stub.gate.clear()
        client = self.client(stub)
        with self.refusing("start"):
            client.push("plan", "premium", "u")
            self.assertIs(client.flush(0.05), False)
            self.assertStats(client, pending=1)
            stub.gate.set()
            self.assertIs(client.flush(TIMEOUT), True)

    def test_a_later_push_tries_again_to_have_a_thread(self):
        results = queue.Queue()
        client = self.client(transport=ok, on_result=results.put)
        with self.refusing("start", times=3):
            for _ in range(3):
                self.assertTrue(client.push("plan", "premium", "u"))
            self.assertTrue(results.empty())
            client.push("plan", "premium", "u")
            for _ in range(4):  # nobody flushes
                self.assertTrue(results.get(timeout=TIMEOUT).delivered)


class OnResultTest(Life):

    def test_on_result_may_wait_for_a_thread_that_uses_the_client(self):
        def on_result(result):
            def use():
                client.stats()
                client.flush(0)
                client.push("", "", "")
                used.put(result)

            started(use).join(TIMEOUT)

        for error, answer in ((None, 200), ("http", 400)):
            used = queue.Queue()
            client = self.client(self.stub(answer), on_result=on_result)
            with self.subTest(answer), mock.patch("vwo_push._log"):
                client.push("plan", "premium", "u")
                self.assertEqual(used.get(timeout=TIMEOUT / 2).error, error)
                client.flush(TIMEOUT)

    def test_a_flush_in_on_result_is_false_at_once_whoever_calls_that(self):
        for call in "flush", "close":
            gate, answers = threading.Event(), []
            client = self.client(transport=after(gate), on_result=lambda _: (
                answers.append(getattr(client, call)(None))))
            for _ in range(3):
                client.push("plan", "premium", "u")
            closer = started(client.close, 0)  # settles them on its own thread
            closer.join(TIMEOUT)
            self.assertFalse(closer.is_alive())
            self.assertEqual(answers, [False] * 3)
            gate.set()

    def test_ctrl_c_in_on_result_or_a_transport_ends_what_the_main_thread_does(self):
        calls = []

        def interrupted(*args):
            calls.append(args)
            if len(calls) == 1:
                raise KeyboardInterrupt  # as Python's own handler does
            return 200
        for options in ({"transport": interrupted},
                        {"transport": ok, "on_result": interrupted}):
            del calls[:]
            with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError):
                client = self.client(**options)
                for _ in range(3):
                    client.push("plan", "premium", "u")
                with self.assertRaises(KeyboardInterrupt):
                    client.flush(TIMEOUT)
                self.assertTrue(client.flush(TIMEOUT))
            self.assertStats(client, delivered=3, pending=0)
            self.assertEqual(len(calls), 3 if "on_result" in options else 2)

    def test_ctrl_c_in_on_result_during_a_close_is_raised_when_all_is_settled(self):
        gate, errors = threading.Event(), []

        def on_result(result):
            errors.append(result.error)
            raise KeyboardInterrupt
        client = self.client(transport=after(gate), max_batch=1, on_result=on_result)
        for _ in range(5):
            client.push("plan", "premium", "u")
        with self.assertRaises(KeyboardInterrupt):
            client.close(0)
        self.assertEqual(errors, ["closed"] * 5)
        self.assertStats(client, failed=5, pending=0)
        gate.set()
        until(lambda: not workers())

    def test_on_result_comes_once_for_every_push_although_it_raises(self):
        for error in (ValueError, SystemExit, KeyboardInterrupt):
            with self.subTest(error.__name__):
                names, threads = [], set()

                def on_result(result):
                    names.append(result.user_id)
                    threads.add(threading.current_thread())
                    raise error

                client = self.client(transport=ok, on_result=on_result, max_workers=1)
                with mock.patch("vwo_push._log"):
                    for number in range(50):
                        client.push("plan", "premium", "u%d" % number)
                        if number % 10 == 0:
                            self.assertTrue(client.flush(TIMEOUT))
                    self.assertTrue(client.flush(TIMEOUT))
                self.assertEqual(names, ["u%d" % number for number in range(50)])
                self.assertEqual(len(threads), 1)

    def test_on_result_can_push(self):
        names = []

        def on_result(result):
            names.append(result.user_id)
            if len(names) < 5:
                client.push("plan", "premium", "u%d" % len(names))

        client = self.client(transport=ok, on_result=on_result)
        client.push("plan", "premium", "u0")
        until(lambda: len(names) == 5)
        self.assertTrue(client.flush(TIMEOUT))
        self.assertEqual(names, ["u%d" % number for number in range(5)])

    def test_flush_and_close_return_false_at_once_from_on_result(self):
        answers, results = queue.Queue(), []

        def on_result(result):
            results.append(result)
            if len(results) == 1:
                answers.put((client.flush(None), client.close(None)))

        accepted = threading.Event()
        client = self.client(transport=after(accepted), on_result=on_result,
                             max_workers=1, max_batch=1)
        for _ in range(3):
            client.push("plan", "premium", "u")
        accepted.set()
        self.assertEqual(answers.get(timeout=TIMEOUT / 2), (False, False))
        with mock.patch("vwo_push._log"):
            self.assertIs(client.push("plan", "premium", "u"), False)
        until(lambda: not workers())
        self.assertEqual([result.delivered for result in results], [True] * 3)


class ReentranceTest(Life):
    """Each storm runs for a while and prints nothing if every push is accounted for."""

    STORM = """
import logging
logging.getLogger("vwo_push").propagate = False
logging.getLogger("vwo_push").addHandler(logging.NullHandler())
calls, results, gate = [], [], threading.Event()
def answer(request, timeout):
    gate.wait(timeout)
    return 200
def storm(inside, seconds=0.3):
    # A signal every 0.2 ms, never nested: that would hide a deadlock behind a
    # RecursionError.
    busy = []
    def handler(*_):
        if not busy:
            busy.append(1)
            inside()
            busy.pop()
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
    signal.setitimer(signal.ITIMER_REAL, 0)
def call(*args):
    calls.append(c.push(*args))
def balance(client):
    client.flush(20)
    s = totals(client)
    assert s["accepted"] == calls.count(True) == len(results), (s, len(results))
    assert s["accepted"] + s["dropped"] + s["invalid"] == len(calls), (s, len(calls))
    assert s["pending"] == 0, s
"""

    def test_pushes_within_pushes_neither_hang_nor_get_lost(self):
        signals = hasattr(signal, "setitimer")
        storms = {
            "signals": signals and """
                gate.set()
                c = client(transport=answer, max_pending=500, on_result=results.append)
                def inside():
                    call("k", "v", "u")
                    call({"k": "v", "l": "w"}, "u")
                    call("k", 7, "u")
                for _ in storm(inside):
                    for _ in range(20):
                        call("k", "v", "u")
                    call("k", 7, "u")
                balance(c)
                """,
            "signals during flush": signals and """
                gate.set()
                c = client(transport=answer, max_pending=500, on_result=results.append)
                def inside():
                    call("k", "v", "u")
                    c.stats()
                    c.flush(0)
                for _ in storm(inside):
                    call("k", "v", "u")
                    c.flush(1)
                balance(c)
                lost = c = client(transport=lambda *_: 400)
                c.push("k", "v", "u")
                assert c.flush(20) is False and c.flush(20) is True
                """,
            "signals during close": signals and """
                gate.set()
                def inside():
                    call("k", "v", "u")
                    c.stats()
                    c.flush(0)
                    if len(calls) % 7 == 0:
                        c.close(0)
                c = client(transport=answer, on_result=results.append)
                for number, _ in enumerate(storm(inside)):
                    mine, calls, results = c, [], []
                    c = client(transport=answer, on_result=results.append)
                    mine.close(1)
                    c.push("k", "v", "u")
                    c.close(1)
                    assert totals(c)["pending"] == 0 == totals(mine)["pending"]
                """,
            "finalisers": """
                gate.set()
                class Garbage:
                    def __init__(self):
                        self.me = self
                    def __del__(self):
                        call("k", "v", "u")
                c = client(transport=answer, max_pending=100, on_result=results.append)
                if hasattr(gc, "set_threshold"):
                    gc.set_threshold(1)
                for _ in range(700):
                    Garbage()
                    call("k", "v", "u")
                    call("k", 7, "u")
                    c.stats()
                    c.flush(0)
                gc.collect()
                assert len(calls) > 2000, len(calls)
                balance(c)
                """,
            "logging": """
                class Pusher(logging.Handler):
                    def emit(self, record):
                        call("k", "v", "u")
                        records.append(record.name)
                records = []
                vwo_push.LOG_SECONDS = 0
                logging.getLogger().addHandler(Pusher())
                logging.getLogger("vwo_push").propagate = True
                c = client(transport=answer, max_pending=1, on_result=results.append)
                for _ in range(300):
                    call("k", "v", "u")
                    call("k", 7, "u")
                    logging.getLogger("mine").warning("hello")
                gate.set()
                assert records.count("mine") == 300
                assert 500 < records.count("vwo_push") <= 600, len(records)
                balance(c)
                """,
        }
        running = {name: self.script(self.STORM + textwrap.dedent(source))
                   for name, source in storms.items() if source}
        for name, process in running.items():
            with self.subTest(name):
                self.assertEnds(process)


class ExitTest(Life):

    def test_what_is_pending_at_the_end_is_sent(self):
        scripts = {
            "the program just ends": "push(client(base_url=U), range(20))",
            "sys.exit": "push(client(base_url=U), range(20)); sys.exit()",
            "several clients": """
                for number in range(20):
                    push(client(base_url=U), [number])
                """,
            "a thread goes on when the program has ended": """
                c = client(base_url=U)
                threading.Thread(target=lambda: (
                    threading.main_thread().join(), push(c, range(20)))).start()
                """,
            "in an exit handler registered after the import": """
                c = client(base_url=U)
                atexit.register(push, c, range(20))
                """,
            "by a client made in an exit handler": """
                atexit.register(lambda: push(client(base_url=U), range(20)))
                """,
            "without threads": """
                def start(thread):
                    raise RuntimeError("can't start new thread")
                threading.Thread.start = start
                push(client(base_url=U), range(20))
                """,
            "without threads at first, and none is started at the exit": """
                real, started = threading.Thread.start, []
                def refuse(thread):
                    raise RuntimeError("can't start new thread")
                def record(thread):
                    started.append(thread)
                    real(thread)
                threading.Thread.start = refuse
                push(client(base_url=U), range(20))
                threading.Thread.start = record
                ends.append(lambda: started and print(started))
                """,
        }
        running = []
        for name, source in scripts.items():
            stub = self.stub()
            running.append((name, stub, self.script(
                "U = sys.argv[1]\n" + textwrap.dedent(source), stub.url)))
        for name, stub, process in running:
            with self.subTest(name):
                self.assertEnds(process)
                self.assertArrived(stub, range(20))

    def test_exit_is_silent_and_in_time_whatever_the_server_does(self):
        stub = self.stub()
        stub.gate.clear()
        full = socket.socket()
        self.addCleanup(full.close)
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        closed = socket.socket()
        closed.bind(("127.0.0.1", 0))
        self.addCleanup(closed.close)  # bound and not listening: refused
        settled = """
            results = []
            o = dict(timeout=60.0, exit_timeout=0.3, on_result=results.append)
            def sure():
                found = sorted((r.user_id, r.delivered, r.error) for r in results)
                assert found == [("u", False, "exit")] * 20, found
                assert mine.stats()["pending"] == 0
            ends.append(sure)
            """
        scripts = {
            "stalled": (stub, "mine = client(**o); push(mine, range(20))"),
            "refused": (closed, """
                o["max_attempts"] = 50  # four may be over in time, with luck
                mine = client(**o); push(mine, range(20))
                """),
            "backlog full": (full, "mine = client(**o); push(mine, range(20))"),
            "retry far away": (self.stub(lambda handler: handler.reply(
                503, Retry_After="30")), "mine = client(**o); push(mine, range(20))"),
            "name server hangs": (stub, """
                socket.getaddrinfo = lambda *_: time.sleep(3600)
                other = client()
                push(other, range(3))
                assert (other.flush(0.05), other.close(0.05)) == (False, False)
                assert totals(other)["failed"] == 3
                mine = client(**o); push(mine, range(20))
                """),
            "no time at all": (stub, """
                o["exit_timeout"] = 0
                mine = client(**o); push(mine, range(20))
                """),
            "no thread, and stalled": (stub, """
                def start(thread):
                    raise RuntimeError("can't start new thread")
                threading.Thread.start = start
                mine = client(**o); push(mine, range(20))
                """),
            "daemon threads that go on pushing": (stub, """
                ends.clear()
                c = client(max_pending=10 ** 6, **o)
                def produce():
                    while True:
                        c.push("n", "1", "u")
                        time.sleep(0.0001)
                for _ in range(4):
                    threading.Thread(target=produce, daemon=True).start()
                """),
        }
        running = []
        for name, (server, source) in scripts.items():
            where = server.url if server is not full and server is not closed else (
                "http://127.0.0.1:%d" % server.getsockname()[1])
            running.append((name, self.script(
                textwrap.dedent(settled) + textwrap.dedent(source), where)))
        for name, process in running:
            with self.subTest(name):
                self.assertEnds(process)

    def test_all_clients_share_the_time_for_the_exit(self):
        for count, seconds in ((10, 0.4), (1, 0)):
            stub = self.stub()
            stub.gate.clear()
            with self.subTest(count):
                self.assertEnds(self.script("""
                    clients = [client(timeout=60.0, exit_timeout=float(sys.argv[3]))
                               for _ in range(int(sys.argv[2]))]
                    for each in clients:
                        push(each, [1])
                    ends.append(lambda: took() < 1.5 or print(took()))
                    began = []
                    took = lambda: time.monotonic() - began[0]
                    atexit.register(lambda: began.append(time.monotonic()))
                    """, stub.url, count, seconds))

    def test_after_the_exit_a_push_is_refused_and_starts_no_thread(self):
        self.assertEnds(self.script("""
            c = client(transport=lambda *_: 200)
            def late():
                assert push(c, [1]) == [False]
                assert push(client(transport=lambda *_: 200), [1]) == [False]
                assert threading.active_count() == 1
                assert c.flush() is True
                assert c.close() is True
                print("late")
            ends.append(late)
            """), "late", quiet=False)

    @unittest.skipIf(os.name == "nt", "POSIX signals")
    def test_ctrl_c_during_the_exit_ends_it_at_once(self):
        stub = self.stub()
        stub.gate.clear()
        self.assertEnds(self.script("""
            results = []
            c = client(timeout=3600.0, exit_timeout=3600.0, on_result=results.append)
            push(c, range(3))
            ends.append(lambda: print(*[result.error for result in results]))
            def interrupt():
                while True:
                    frame = sys._current_frames()[threading.main_thread().ident]
                    while frame is not None:
                        if frame.f_code.co_name == "flush":
                            os.kill(os.getpid(), signal.SIGINT)
                            return
                        frame = frame.f_back
                    time.sleep(0.01)
            threading.Thread(target=interrupt, daemon=True).start()
            """, stub.url), "exit exit exit")

    def test_ctrl_c_in_on_result_settles_the_rest_without_a_word(self):
        self.assertEnds(self.script("""
            def on_result(result):
                os.write(1, result.error.encode() + b" ")
                raise KeyboardInterrupt
            stuck = threading.Event()
            mine = client(transport=lambda *_: stuck.wait() and 200, exit_timeout=0,
                          max_batch=1, on_result=on_result)
            push(mine, range(3))
            """), "exit exit exit")

    @unittest.skipIf(os.name == "nt", "POSIX signals")
    def test_sigterm_is_left_alone_and_the_recipe_delivers(self):
        stub = self.stub()
        stub.gate.clear()
        process = self.script("""
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            c = client(exit_timeout=60.0, max_workers=1)
            push(c, range(5))
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            print("ready", flush=True)
            while True:
                time.sleep(0.01)
            """, stub.url)
        self.assertEqual(process.stdout.readline().strip(), b"ready")
        process.terminate()
        first = stub.take()
        stub.received.put(first)
        stub.gate.set()
        self.assertEnds(process, code=143)
        self.assertArrived(stub, range(5))


@unittest.skipUnless(hasattr(os, "fork"), "there is no fork here")
class ForkTest(Life):

    # Children are killed after a while; wait() is true where all of them were content.
    FORK = """
def child(work, fork=os.fork):
    pid = fork()
    if pid:
        return pid
    signal.alarm(15)
    status = 1
    try:
        status = 0 if work() else 2
    finally:
        os._exit(status)
def wait(*pids):
    return [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)
def bare_fork():
    # As uWSGI does it, without Python's hooks. While a thread waits for the GIL that
    # would wedge any child, so the others have to stand still for a while.
    import ctypes
    before, still = None, 0
    while still < 10:
        frames = sys._current_frames()
        now = [(ident, id(frame), frame.f_lasti) for ident, frame in frames.items()
               if ident != threading.get_ident()]
        before, still = now, still + 1 if now == before else 0
        time.sleep(0.002)
    return ctypes.PyDLL(None).fork()
signal.alarm(18)
"""

    def fork(self, source, *args):
        return self.script(self.FORK + textwrap.dedent(source), *args,
                           flags=["-W", "ignore"])

    def test_a_fork_in_a_callback_of_a_flush_returns_from_that_in_the_child(self):
        self.assertEnds(self.fork("""
            def on_result(result):
                if not pids:
                    pids.append(os.fork() or signal.alarm(15))
            pids = []
            def start(self):
                raise RuntimeError("can't start new thread")
            threading.Thread.start = start
            c = client(transport=lambda *_: 200, max_batch=1, on_result=on_result)
            push(c, range(3))
            delivered = c.flush(None)
            if not pids[0]:
                os._exit(delivered)  # the child was to deliver nothing
            assert delivered and wait(*pids)
            """))

    def test_a_fork_in_a_callback_leaves_the_child_nothing_to_send(self):
        stub = self.stub(400, 200)
        self.assertEnds(self.fork("""
            def on_result(result):
                if pids:
                    return
                held, done = threading.Event(), threading.Event()
                def hold():
                    with sender.lock:
                        held.set()
                        done.wait()
                threading.Thread(target=hold, daemon=True).start()
                held.wait()
                # The child, too, goes back to the worker.
                pids.append(os.fork() or signal.alarm(15))
                done.set()
            pids = []
            c = client(max_workers=1, max_batch=1, on_result=on_result)
            sender = c._sender()
            push(c, range(10))
            assert not c.flush(10)
            assert wait(*pids)
            """, stub.url))
        self.assertArrived(stub, range(10))

    def test_a_fork_neither_loses_nor_doubles_a_push(self):
        stubs = [self.stub(), self.stub()]
        running = []
        for stub, how in zip(stubs, ["os.fork"] + ["bare_fork"] * (not PYPY)):
            stub.gate.clear()
            running.append((how, stub, self.fork("""
                c = client(max_workers=1, exit_timeout=20)
                push(c, range(50))
                ready = os.dup(1)
                def work():
                    fresh = c.stats()
                    began = time.monotonic()
                    empty = c.flush(10)
                    quick = time.monotonic() - began < 5
                    push(c, range(100, 105))
                    os.write(ready, b"ready")
                    return (c.flush(10) and empty and quick and not any(fresh.values())
                            and totals(c)["accepted"] == 5)
                pid = child(work, %s)
                push(c, range(50, 55))
                assert wait(pid)
                assert c.flush(10), c.stats()
                assert totals(c)["accepted"] == 55
                """ % how, stub.url)))
        for how, stub, process in running:
            with self.subTest(how):
                self.assertEqual(process.stdout.read(5), b"ready")
                stub.gate.set()
                self.assertEnds(process)
                self.assertArrived(stub, list(range(55)) + list(range(100, 105)))

    def test_a_child_needs_no_lock_that_was_held_at_the_fork(self):
        for how in ["os.fork"] + ["bare_fork"] * (not PYPY):
            stub = self.stub()
            with self.subTest(how):
                self.assertEnds(self.fork("""
                    c = client()
                    push(c, range(3))
                    assert c.flush(10)
                    sender = c._senders[os.getpid()]
                    held = [sender.lock, sender.hiring, sender.draining]
                    if %r == "bare_fork":  # os.fork waits for this one, a while
                        held.append(sender.process.gate)
                    holding, done = threading.Event(), threading.Event()
                    def hold():
                        for lock in held:
                            lock.acquire()
                        holding.set()
                        done.wait()
                        for lock in held:
                            lock.release()
                    threading.Thread(target=hold, daemon=True).start()
                    holding.wait()
                    work = lambda: push(c, [3]) and c.flush(10) and c.close(10)
                    assert wait(child(work, %s))
                    done.set()
                    push(c, [4])
                    assert c.flush(10)
                    """ % (how, how), stub.url))
                self.assertArrived(stub, range(5))

    def test_a_fork_waits_until_no_thread_is_inside_openssl(self):
        self.assertEnds(self.fork("""
            c = client(transport=lambda *_: 200)
            gate = c._senders[os.getpid()].process.gate
            holding, released = threading.Event(), []
            def hold():
                with gate:
                    holding.set()
                    names = []
                    while "_before_fork" not in names:
                        frame, names = sys._current_frames()[main], []
                        while frame is not None:
                            names.append(frame.f_code.co_name)
                            frame = frame.f_back
                        time.sleep(0.001)
                    released.append(True)
            main = threading.get_ident()
            threading.Thread(target=hold, daemon=True).start()
            holding.wait()
            assert wait(child(lambda: released and push(c, [1]) and c.flush(10)))
            with gate:
                pass
            """))

    def test_parent_and_child_do_not_share_a_connection(self):
        stub = self.stub()
        self.assertEnds(self.fork("""
            c = client(max_workers=1)
            push(c, [0])
            assert c.flush(10)
            def connected():
                found = []
                for number in range(3, 64):
                    try:
                        s = socket.socket(fileno=os.dup(number))
                    except OSError:
                        continue
                    try:
                        s.getpeername()
                        found.append(number)
                    except OSError:
                        pass
                    s.close()
                return found
            assert len(connected()) == 1
            def work():
                if connected():
                    return False
                push(c, [1])
                return c.flush(10)
            assert wait(child(work))
            push(c, [2])
            assert c.flush(10)
            """, stub.url))
        ports = [received.port for received in stub.take_all()]
        self.assertEqual(ports[0], ports[2])
        self.assertNotEqual(ports[0], ports[1])

    def test_a_fork_right_after_the_first_push_works(self):
        plain, tls = self.stub(), self.stub()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "certificate.pem")
            with open(path, "w") as file:
                file.write(CERTIFICATE)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(path)
            tls.socket = context.wrap_socket(
                tls.socket, server_side=True, do_handshake_on_connect=False)
            running = [(stub, self.fork("""
                import ssl
                context = None
                if sys.argv[1].startswith("https"):
                    context = ssl.create_default_context(cafile=sys.argv[2])
                for number in range(20):
                    c = client(ssl_context=context)
                    push(c, [number])
                    pid = child(lambda: push(c, [100 + number]) and c.flush(10))
                    assert wait(pid), number
                    assert c.close(10)
                """, url, path)) for stub, url in (
                    (plain, plain.url), (tls, tls.url.replace("http", "https")))]
            for stub, process in running:
                with self.subTest(stub.url):
                    self.assertEnds(process)
                    self.assertArrived(
                        stub, list(range(20)) + list(range(100, 120)))

    @unittest.skipUnless(os.path.exists("/proc/thread-self"), "Linux only")
    def test_a_fork_waits_for_a_worker_that_only_python_is_done_with(self):
        # Its OpenSSL state is cleared away that late, under a lock; here it is a nap.
        self.assertEnds(self.fork("""
            import ctypes
            library, key = ctypes.CDLL(None), ctypes.c_uint()
            assert not library.pthread_key_create(ctypes.byref(key), library.usleep)
            tasks = []
            def transport(request, timeout):
                tasks.append("/proc/" + os.readlink("/proc/thread-self"))
                return library.pthread_setspecific(key, ctypes.c_void_p(300000)) or 200
            c = client(transport=transport)
            push(c, [0])
            assert c.flush(10)
            del c
            gc.collect()
            while any(t.name == "vwo_push" for t in threading.enumerate()):
                time.sleep(0.001)
            assert os.path.exists(tasks[0])
            assert wait(child(lambda: not os.path.exists(tasks[0])))
            # Seen gone, it is forgotten: its number may be another's the next time.
            assert not vwo_push._process().leaving
            """))

    def test_a_child_that_just_ends_delivers_and_a_closed_client_stays_closed(self):
        stub = self.stub()
        self.assertEnds(self.fork("""
            shut, c = client(), client()
            shut.close()
            push(c, [0])
            if os.fork():
                assert os.wait()[1] == 0
            else:
                signal.alarm(15)
                assert shut.push("n", "7", "u") is False
                push(c, range(1, 4))
                sys.exit()
            """, stub.url), quiet=False)
        self.assertArrived(stub, range(4))


class MultiprocessingTest(Life):

    SCRIPT = """
        import multiprocessing, os, sys
        import vwo_push

        client = None
        if __name__ == "__mp_main__":  # imported by a child that was not forked from us
            client = vwo_push.Client(12345, "key", base_url=sys.argv[1])

        def main(url):
            for number in range(3):
                assert client.push("n", str(number), "u")

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[2])
            client = vwo_push.Client(12345, "key", base_url=sys.argv[1])
            client.push("n", "parent", "u")
            client.flush()
            child = context.Process(target=main, args=(sys.argv[1],))
            child.start()
            child.join(18)
            sys.exit(child.exitcode)
        """

    def test_children_of_multiprocessing_deliver_at_their_end(self):
        import multiprocessing
        running = []
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "script.py")
            with open(path, "w") as file:
                file.write(textwrap.dedent(self.SCRIPT))
            for method in multiprocessing.get_all_start_methods():
                stub = self.stub()
                process = subprocess.Popen(
                    [sys.executable, "-W", "ignore", path, stub.url, method],
                    env=dict(os.environ, PYTHONPATH=HERE), stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE)
                self.addCleanup(process.__exit__, None, None, None)
                self.addCleanup(process.kill)
                running.append((method, stub, process))
            for method, stub, process in running:
                with self.subTest(method):
                    self.assertEnds(process)
                    self.assertArrived(stub, ["parent", 0, 1, 2])


class InterpretersTest(Life):

    INSIDE = """
        import vwo_push
        client = vwo_push.Client(12345, "key", base_url=%r)
        assert [client.push("n", str(number), "u") for number in range(3)] == [True] * 3
        if %r == "flush":
            assert client.flush(10) is True
        elif %r == "close":
            assert client.close(10) is True
        """
    SOURCE = """
        try:
            import _interpreters as lib
        except ImportError:
            import _xxsubinterpreters as lib
        isolated = sys.argv[2] == "isolated"
        if sys.version_info >= (3, 13):
            made = lib.create("isolated" if isolated else "legacy")
        elif sys.version_info >= (3, 9):
            made = lib.create(isolated=isolated)
        else:
            made = lib.create()  # there is one kind only
        failed = lib.run_string(made, sys.argv[3])
        assert failed is None, failed
        if isolated and sys.version_info[:2] == (3, 12):
            os._exit(0)  # after an import of hashlib, 3.12 itself would crash here
        lib.destroy(made)
        """

    def test_a_sub_interpreter_delivers_and_ends(self):
        try:
            __import__("_interpreters" if sys.version_info >= (3, 13)
                       else "_xxsubinterpreters")
        except ImportError:
            self.skipTest("there are no sub-interpreters here")
        ways = [("legacy", "close"), ("isolated", "close")]
        if sys.version_info >= (3, 12):  # before, one with a thread cannot be destroyed
            ways = [("legacy", "exit"), ("isolated", "flush")]
        if sys.version_info >= (3, 13):
            ways.append(("isolated", "exit"))
        running = []
        for kind, finish in ways:
            stub = self.stub()
            inside = textwrap.dedent(self.INSIDE) % (stub.url, finish, finish)
            running.append((kind, finish, stub, self.script(
                self.SOURCE, stub.url, kind, inside, flags=["-W", "ignore"])))
        for kind, finish, stub, process in running:
            with self.subTest(kind=kind, finish=finish):
                self.assertEnds(process)
                self.assertArrived(stub, range(3))


class CopiesTest(Life):

    def test_the_file_works_zipped_renamed_twice_and_reloaded(self):
        source = os.path.join(HERE, "vwo_push.py")
        with tempfile.TemporaryDirectory() as folder:
            with zipfile.ZipFile(os.path.join(folder, "app.zip"), "w") as archive:
                archive.write(source, "tagging.py")
                archive.write(source, "app/vendored/vwo_push.py")
                archive.writestr("app/__init__.py", "")
                archive.writestr("app/vendored/__init__.py", "")
            script = textwrap.dedent("""
                import sys
                sys.path.insert(0, sys.argv[2])
                import importlib
                import tagging
                from app.vendored import vwo_push
                if vwo_push is tagging or ".zip" not in vwo_push.__file__:
                    sys.exit("that is not the copy in the zip")
                def make(module):
                    return module.Client(12345, "key", base_url=sys.argv[1],
                                         max_workers=1, max_batch=1)
                def push(client, values):
                    for value in values:
                        client.push("n", str(value), "u")
                push(make(vwo_push), range(0, 20))
                before = make(tagging)
                push(before, range(20, 40))
                importlib.reload(tagging)
                push(before, range(40, 60))
                push(make(tagging), range(60, 80))
                """)
            running = []
            for flags in ([], ["-O", "-I", "-S", "-bb", "-W", "error"]):
                stub = self.stub()
                process = subprocess.Popen(
                    [sys.executable] + flags + ["-c", script, stub.url,
                                                os.path.join(folder, "app.zip")],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                self.addCleanup(process.__exit__, None, None, None)
                self.addCleanup(process.kill)
                running.append((flags, stub, process))
            for flags, stub, process in running:
                with self.subTest(" ".join(flags)):
                    self.assertEnds(process)
                    self.assertArrived(stub, range(80))


# -- The network, as badly as it can behave --------------------------------------------

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
NETWORK_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy",
                     "request_method", "ssl_cert_file", "ssl_cert_dir", "sslkeylogfile")


class Peer:
    """The server's end of one connection of a `Raw`."""

    def __init__(self, server, sock):
        self.server, self.sock = server, sock

    def read(self):
        """Read one request and return its head; b"" where there is none."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(b"(?i)content-length: ([0-9]+)", head)
        while length and len(body) < int(length.group(1)):
            body += self.sock.recv(65536)
        self.server.requests.put(head)
        self.server.bodies.append(body)
        return head

    def send(self, data):
        self.sock.sendall(data)

    def wait(self, seconds=TIMEOUT):
        """Do nothing until the test is over. True: it is."""
        return self.server.stopping.wait(seconds)

    def drip(self, data, seconds=0.05):
        """Send *data* byte by byte, over and over, until the test is over."""
        while True:
            for index in range(len(data)):
                self.send(data[index:index + 1])
                if self.wait(seconds):
                    return

    def flood(self, data):
        """Send *data* over and over, as fast as it goes, until the test is over."""
        while not self.wait(0):
            self.send(data * 1000)

    def hang_up(self):
        self.sock.close()

    def reset(self):
        at_once = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        socket.socket.close(self.sock)


def answering(*answers):
    """A script: answer requests with these bytes in turn, then hang up."""
    def script(peer):
        for answer in answers:
            if not peer.read():
                break
            peer.send(answer)
    return script


def always(answer):
    def script(peer):
        while peer.read():
            peer.send(answer)
    return script


def too_large(peer):
    """A script: answer a body that has only begun to come, and hang up."""
    peer.sock.recv(100)
    peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")


class Raw:
    """A server that runs a script, a callable of a `Peer`, for every connection: the
    first script for the first connection and so on, the last one for all others."""

    def __init__(self, *scripts, host="127.0.0.1", tls=None):
        self.scripts, self.tls = collections.deque(scripts), tls
        self.connections = 0
        self.requests, self.bodies = queue.Queue(), []
        self.stopping = threading.Event()
        self.errors, self.threads, self.socks = [], [], []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(family)
        self.listener.bind((host, 0))
        self.listener.listen(128)
        self.host, self.port = self.listener.getsockname()[:2]
        self.url = "%s://%s:%d" % ("https" if tls else "http", (
            "[%s]" if ":" in host else "%s") % host, self.port)
        self.threads.append(threading.Thread(target=self._accept))
        self.threads[0].start()

    def _accept(self):
        while True:
            sock = self.listener.accept()[0]
            if self.stopping.is_set():
                return sock.close()
            self.connections += 1
            script = self.scripts[0]
            if len(self.scripts) > 1:
                self.scripts.popleft()
            self.socks.append(sock)
            thread = threading.Thread(target=self._run, args=(script, sock))
            self.threads.append(thread)
            thread.start()

    def _run(self, script, sock):
        try:
            sock.settimeout(TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self.socks.append(sock)
            script(Peer(self, sock))
        except OSError:  # clients hang up in some tests
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            sock.close()

    def take(self):
        return self.requests.get(timeout=TIMEOUT)

    def stop(self):
        self.stopping.set()
        socket.create_connection((self.host, self.port)).close()  # wakes the listener
        self.threads[0].join(TIMEOUT)
        self.listener.close()
        for sock in self.socks:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads[1:]:
            thread.join(TIMEOUT)
        assert not any(thread.is_alive() for thread in self.threads)
        assert not self.errors, self.errors


class EdgeCase(Case):
    """Cases whose backoff takes no time, and that no proxy of this machine disturbs."""

    def setUp(self):
        self.put("BACKOFF_SECONDS", 0.0)
        gone = [name for name in os.environ if name.lower() in NETWORK_VARIABLES]
        self.environ(**dict.fromkeys(gone))
        if hasattr(threading, "excepthook"):  # from 3.8 on
            died = []
            self.put("excepthook", died.append, threading)
            self.addCleanup(self.assertEqual, died, [])

    def put(self, name, value, where=vwo_push):
        """Set an attribute for the length of this test."""
        self.addCleanup(setattr, where, name, getattr(where, name))
        setattr(where, name, value)

    def environ(self, **variables):
        """Set variables, or remove those that are None, for the length of this test."""
        def put(name, value):
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        for name, value in variables.items():
            self.addCleanup(put, name, os.environ.get(name))
            put(name, value)

    def raw(self, *scripts, **options):
        server = Raw(*scripts, **options)
        self.addCleanup(server.stop)
        return server

    def dice(self, uniform):
        """Let *uniform* draw the random waits of clients that exist already."""
        class Dice(random.SystemRandom):
            def uniform(self, low, high):
                return uniform(low, high)
        self.put("random", types.SimpleNamespace(SystemRandom=Dice, Random=random.Random))

    def reporting(self, server, **options):
        """A client of *server*, and a queue of its results."""
        results = queue.Queue()
        return self.client(server, on_result=results.put, **options), results

    def outcome(self, server, **options):
        """Push once: (delivered, status, error, attempts), and the client."""
        client, results = self.reporting(server, **options)
        self.assertTrue(client.push("plan", "premium", "u-42"))
        flushed = client.flush(TIMEOUT)
        result = results.get(timeout=TIMEOUT)
        self.assertEqual(flushed, result.delivered)
        self.assertTrue(results.empty(), "a push was reported twice")
        return tuple(result[2:]), client

    def deliver(self, client, times=1):
        """Push, and see it delivered, *times* times, one after the other."""
        for _ in range(times):
            self.assertTrue(client.push("plan", "premium", "u-42"))
            self.assertTrue(client.flush(TIMEOUT))

    def names_lead_to(self, *sockets):
        """Let every host name have these addresses, the numbers of ports included."""
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
                 for address in sockets]
        before = socket.getaddrinfo

        def getaddrinfo(host, port, *args, **options):
            return found or before("127.0.0.1", port, *args, **options)
        self.put("getaddrinfo", getaddrinfo, socket)

    def full_listener(self):
        """The address of a listener that lets nobody connect any more."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        probe = socket.socket()
        self.addCleanup(probe.close)
        probe.settimeout(0.05)
        try:
            probe.connect(listener.getsockname())
        except socket.timeout:
            return listener.getsockname()
        except OSError:
            pass
        self.skipTest("this system does not let a full backlog wait")


class RetryTest(EdgeCase):
    """What is tried again, how often, and when."""

    def failures(self):
        """(name, script, (status, error)) of everything that is worth another try."""
        for status in (408, 429, 500, 502, 503, 504, 599):
            yield str(status), always(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n"
                                      % status), (status, "http")

        def reset(peer):
            peer.read()
            peer.reset()
        yield "reset", reset, (None, "connection")
        yield "hang-up", Peer.read, (None, "connection")
        yield "hang-up before the request", Peer.hang_up, (None, "connection")
        for garbage in (b"H", b"HTTP/1.1 2", b"SSH-2.0-OpenSSH_9.6\r\n", b"\0" * 70000,
                        b"HTTP/1.1 two hundred\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n"):
            yield garbage[:20], answering(garbage), (None, "response")

    def test_a_passing_failure_is_tried_again_and_delivered(self):
        for name, script, (status, error) in self.failures():
            with self.subTest(name):
                alone, _ = self.outcome(self.raw(script), max_attempts=1)
                self.assertEqual(alone, (False, status, error, 1))
                outcome, client = self.outcome(self.raw(script, script, always(OK))
                                               if status is None else
                                               self.stub(status, status, 200))
                self.assertEqual(outcome, (True, 200, None, 3))
                self.assertStats(client, delivered=1, failed=0, requests=3, retries=2)

    def test_a_refused_connection_is_tried_again(self):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            outcome, client = self.outcome(
                None, base_url="http://127.0.0.1:%d" % nobody.getsockname()[1])
        self.assertEqual(outcome, (False, None, "connection", 4))
        self.assertStats(client, failed=1, requests=4, retries=3)

    def test_attempts_end_at_max_attempts(self):
        for most in (1, 2, 5):
            stub = self.stub(503)
            outcome, client = self.outcome(stub, max_attempts=most)
            self.assertEqual(outcome, (False, 503, "http", most))
            self.assertStats(client, failed=1, requests=most, retries=most - 1)
            self.assertEqual(len(stub.take_all()), most)

    def test_the_last_failure_is_the_one_reported(self):
        server = self.raw(answering(NO), answering(b"garbage"))
        outcome, _ = self.outcome(server, max_attempts=2)
        self.assertEqual(outcome, (False, None, "response", 2))

    def test_other_statuses_are_final(self):
        for status in (400, 401, 403, 404, 405, 407, 410, 413, 414, 422, 425, 451,
                       300, 304):
            with self.subTest(status):
                outcome, client = self.outcome(self.stub(status, 200))
                self.assertEqual(outcome, (False, status, "http", 1))
                self.assertStats(client, failed=1, requests=1, retries=0)

    def test_every_2xx_is_delivered(self):
        for status in (200, 201, 202, 206, 299):
            outcome, _ = self.outcome(self.stub(status))
            self.assertEqual(outcome, (True, status, None, 1))

    def test_a_redirect_is_never_followed(self):
        elsewhere = self.stub()
        for status in (301, 302, 303, 307, 308):
            with self.subTest(status):
                stub = self.stub(lambda handler: handler.reply(
                    status, Location=elsewhere.url + "/server-side/push"))
                outcome, client = self.outcome(stub)
                self.assertEqual(outcome, (False, status, "http", 1))
                self.assertStats(client, requests=1)
                self.assertEqual(len(stub.take_all()), 1)
        self.assertEqual(elsewhere.take_all(), [])

    def test_waits_double_up_to_8_seconds_and_begin_at_any_point_down_to_0(self):
        self.put("BACKOFF_SECONDS", 0.5)
        client, drawn = self.client(self.stub(503), max_attempts=8), []
        self.dice(lambda low, high: drawn.append((low, high)) or 0.0)
        client.push("plan", "premium", "u-42")
        self.assertFalse(client.flush(TIMEOUT))
        self.assertEqual(drawn[:7], [(0, 0.5), (0, 1), (0, 2), (0, 4), (0, 8), (0, 8),
                                     (0, 8)])

    def test_the_wait_that_was_drawn_is_kept(self):
        times = []
        stub = self.stub(*[lambda handler: (times.append(time.monotonic()),
                                            handler.reply(503))] * 2)
        client = self.client(stub, max_attempts=2)
        self.dice(lambda low, high: 0.1)
        client.push("plan", "premium", "u-42")
        client.flush(TIMEOUT)
        self.assertGreater(times[1] - times[0], 0.09)

    def test_close_ends_a_wait_between_attempts(self):
        client, results = self.reporting(self.stub(503))
        drawn, threads = threading.Event(), set(threading.enumerate())
        self.dice(lambda low, high: drawn.set() or TIMEOUT * 3)
        client.push("plan", "premium", "u-42")
        self.assertTrue(drawn.wait(TIMEOUT))
        self.assertIs(client.close(0), False)
        self.assertEqual(tuple(results.get(timeout=TIMEOUT)[2:]),
                         (False, None, "closed", 1))
        for thread in set(threading.enumerate()) - threads:
            if thread.name == "vwo_push":
                thread.join(TIMEOUT)
                self.assertFalse(thread.is_alive(), "a worker sleeps on")

    def test_cookies_are_not_kept(self):
        stub = self.stub(lambda handler: handler.reply(200, Set_Cookie="a=b; Path=/"))
        self.deliver(self.client(stub, max_workers=1), 2)
        self.assertEqual([received.headers["Cookie"] for received in stub.take_all()],
                         [None, None])


class RetryAfterTest(EdgeCase):
    """The server asks to be left alone for a while."""

    def test_retry_after_is_read_as_seconds_or_a_date_from_0_to_30(self):
        def date(seconds):
            return email.utils.formatdate(time.time() + seconds, usegmt=True)
        for text, low, high in (
                (None, 0, 0), ("", 0, 0), ("1", 1, 1), (" 7 ", 7, 7), ("0", 0, 0),
                ("86400", 30, 30), ("9" * 400, 30, 30), ("-5", 0, 0), ("nan", 0, 0),
                ("inf", 0, 0), ("1e3", 0, 0), ("1.5", 0, 0), ("soon", 0, 0),
                ("\u0663", 0, 0), ("\u00b2", 0, 0), (date(20), 15, 21),
                (date(-20), 0, 0), (date(86400), 30, 30),
                ("Mon, 99 Foo 2020 99:99:99 GMT", 0, 0),
                ("Wed, 21 Oct 2015", 0, 0), ("Fri, 31 Dec 99999 23:59:59 GMT", 0, 30)):
            with self.subTest(text):
                self.client()
                answer = types.SimpleNamespace(getheader=lambda name: text)
                seconds = vwo_push._retry_after(answer)
                self.assertTrue(low <= seconds <= high, seconds)

    def asking(self, status, header):
        """A stub that asks for quiet once; when it did, and when requests came."""
        times = []

        def ask(handler):
            times.append(time.monotonic())
            handler.reply(status, Retry_After=header)

        def take(handler):
            times.append(time.monotonic())
            handler.reply(200)
        return self.stub(ask, take), times

    def test_retry_after_is_waited_for(self):
        self.put("MAX_RETRY_AFTER_SECONDS", 0.05)
        soon = email.utils.formatdate(time.time() + 60, usegmt=True)
        for status, header in ((429, "86400"), (503, "60"), (408, soon), (500, "1")):
            with self.subTest((status, header)):
                stub, times = self.asking(status, header)
                outcome, client = self.outcome(stub)
                self.assertEqual(outcome, (True, 200, None, 2))
                self.assertGreaterEqual(times[1] - times[0], 0.05)

    def test_a_useless_retry_after_holds_nothing_up(self):
        for header in ("-5", "nan", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"):
            held = []
            stub, _ = self.asking(503, header)
            client = self.client(stub)
            self.dice(lambda low, high: held.append(low) or low)
            self.deliver(client)
            self.assertEqual(held, [0])  # the backoff, and nothing else

    def test_retry_after_with_a_final_status_holds_nothing_up(self):
        stub = self.stub(lambda handler: handler.reply(400, Retry_After="60"), 200)
        _, client = self.outcome(stub)
        self.deliver(client)

    def test_retry_after_is_stretched_by_up_to_a_tenth(self):
        drawn = []
        self.put("MAX_RETRY_AFTER_SECONDS", 0.01)
        stub, _ = self.asking(503, "1")
        client = self.client(stub)
        self.dice(lambda low, high: drawn.append((low, high)) or low)
        self.deliver(client)
        self.assertIn((1.0, 1.1), drawn)

    def test_no_server_is_left_alone_for_longer_than_30_seconds(self):
        client = self.client(self.stub())
        self.dice(lambda low, high: high)
        sender = client._sender()
        for seconds, most in ((10.0, 11.0), (29.0, 30.0), (30.0, 30.0)):
            before = time.monotonic()
            sender.hold(seconds)
            after = time.monotonic()
            self.assertTrue(before + most <= sender.not_before <= after + most)

    def test_a_worker_in_a_backoff_keeps_the_quiet_that_another_was_asked_for(self):
        self.put("MAX_RETRY_AFTER_SECONDS", 0.3)
        backing_off, times = threading.Event(), []

        def asking(handler):  # while the other worker is in a short backoff
            self.assertTrue(backing_off.wait(TIMEOUT))
            times.append(time.monotonic())
            handler.reply(429, Retry_After="60")

        def late(handler):
            times.append(time.monotonic())
            handler.reply(200)
        stub = self.stub(503, asking, late)
        stub.gate.clear()
        client = self.client(stub, max_batch=1)

        def uniform(low, high):
            if low:
                return low
            backing_off.set()
            return 0.15 if high == 0.01 else 0.0
        self.put("BACKOFF_SECONDS", 0.01)
        self.dice(uniform)
        for user in "ab":
            client.push("plan", "premium", user)
            stub.take()
        stub.gate.set()
        self.assertTrue(client.flush(TIMEOUT))
        self.assertEqual(len(times), 3)
        self.assertGreaterEqual(min(times[1:]) - times[0], 0.3)


class DeadlineTest(EdgeCase):
    """One deadline over everything, however the server drips."""

    def test_an_attempt_ends_at_its_deadline_whatever_the_server_sends(self):
        def after_request(act, *args):
            return lambda peer: (peer.read(), act(peer, *args))
        ok, early = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"
        modes = {
            "mute": Peer.wait,
            "mute after the request": after_request(Peer.wait),
            "dripping status line": after_request(Peer.drip, ok),
            "dripping 1xx": after_request(Peer.drip, early, 0.001),
            "flood of 103": after_request(Peer.flood, early),
            "flood of 100": after_request(Peer.flood, b"HTTP/1.1 100 Continue\r\n\r\n"),
            "endless header": lambda peer: (peer.read(), peer.send(ok + b"A: "),
                                            peer.drip(b"a")),
            "endless headers": lambda peer: (peer.read(), peer.send(ok),
                                             peer.drip(b"A: b\r\n")),
        }
        healthy = self.client(self.stub())
        running = [(name, self.reporting(self.raw(script), timeout=0.3, max_attempts=1))
                   for name, script in modes.items()]
        for _, (client, _) in running:
            client.push("plan", "premium", "u-42")
        self.deliver(healthy, 3)
        for name, (client, results) in running:
            with self.subTest(name):
                self.assertFalse(client.flush(TIMEOUT))
                error = results.get(timeout=TIMEOUT).error
                # http.client of 3.14 counts them.
                self.assertIn(error, ("timeout", "response") if name == "flood of 100"
                              else ("timeout",))

    def test_a_flood_of_headers_is_cut_off(self):
        for flood in (b"A: b\r\n", b"A"):
            def floods(peer, flood=flood):
                peer.read()
                peer.send(b"HTTP/1.1 200 OK\r\n")
                peer.flood(flood)
            server = self.raw(floods)
            self.assertEqual(self.outcome(server, max_attempts=1, timeout=TIMEOUT)[0],
                             (False, None, "response", 1))

    def test_a_timeout_is_tried_again(self):
        server = self.raw(Peer.wait, always(OK))
        outcome, client = self.outcome(server, timeout=0.1)
        self.assertEqual(outcome, (True, 200, None, 2))
        self.assertStats(client, requests=2, retries=1)

    def test_the_other_worker_goes_on_while_one_is_stalled(self):
        def one_stalls(peer):
            while b"u=%s" % uuid_of("stalls").encode() not in peer.read():
                peer.send(OK)
            peer.wait()
        client = self.client(self.raw(one_stalls), max_batch=1)
        client.push("plan", "premium", "stalls")
        for number in range(5):
            client.push("plan", "premium", "u-%d" % number)
        deadline = time.monotonic() + TIMEOUT
        while client.stats()["delivered"] < 5 and time.monotonic() < deadline:
            client.flush(0.01)
        self.assertStats(client, delivered=5, pending=1)
        client.close(0)

    def test_a_push_is_delivered_while_the_body_of_its_answer_drips(self):
        def drips(peer):
            peer.read()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
            peer.wait()
        outcome, client = self.outcome(self.raw(drips), timeout=TIMEOUT * 2)
        self.assertEqual(outcome, (True, 200, None, 1))
        client.close(0)

    def test_an_endless_body_costs_its_connection_only(self):
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        long = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
        bodies = {
            "dripping": (Peer.drip, long, b"x"),
            "stalled": (lambda peer, _: peer.wait(), long, b""),
            "huge": (Peer.flood, long, b"x" * 100),
            "endless chunks": (Peer.flood, chunked, b"1\r\nx\r\n"),
            "dripping chunks": (Peer.drip, chunked, b"1\r\nx\r\n"),
            "not a chunk": (Peer.flood, chunked, b"chunk\r\n"),
            "endless trailer": (Peer.flood, chunked + b"0\r\n", b"A: b\r\n"),
            "until the end": (Peer.flood, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100),
            "cut off": (lambda peer, _: None, long, b""),
        }
        running = []
        for name, (act, head, data) in bodies.items():
            def script(peer, act=act, head=head, data=data):
                peer.read()
                peer.send(head)
                act(peer, data)
            server = self.raw(script, always(OK))
            client = self.client(server, timeout=0.3, max_workers=1)
            running.append((name, server, client))
            client.push("plan", "premium", "u-42")
        for name, server, client in running:
            with self.subTest(name):
                self.assertTrue(client.flush(TIMEOUT))
                self.deliver(client)
                self.assertStats(client, delivered=2, requests=2, retries=0)
                self.assertEqual(server.connections, 2)

    def test_a_name_look_up_without_an_end_holds_up_nobody(self):
        found, asked = threading.Event(), threading.Event()
        self.addCleanup(found.set)

        over = []

        def getaddrinfo(*args, **options):
            asked.set()
            found.wait(TIMEOUT)
            over.append(True)
            raise socket.gaierror("no such name")
        client, results = self.reporting(None)
        self.put("getaddrinfo", getaddrinfo, socket)
        self.put("JOIN_SECONDS", 0.01)
        client.push("plan", "premium", "u-42")
        self.assertTrue(asked.wait(TIMEOUT))
        self.assertFalse(client.flush(0.01))
        self.assertFalse(client.close(0.01))
        self.assertEqual(over, [])
        self.assertEqual(results.get(timeout=TIMEOUT).error, "closed")

    def test_an_unknown_name_is_a_connection_failure(self):
        def getaddrinfo(*args, **options):
            raise socket.gaierror("no such name")
        self.put("getaddrinfo", getaddrinfo, socket)
        self.assertEqual(self.outcome(None, base_url="http://nowhere.test")[0],
                         (False, None, "connection", 4))


class KeepAliveTest(EdgeCase):
    """One worker, one connection, for as long as it can be trusted."""

    def results_of(self, server, pushes, **options):
        client, results = self.reporting(server, max_workers=1, **options)
        self.deliver(client, pushes)
        return client, [tuple(results.get(timeout=TIMEOUT)[2:]) for _ in range(pushes)]

    def test_pushes_in_a_row_share_one_connection(self):
        stub = self.stub()
        self.deliver(self.client(stub, max_workers=1), 10)
        self.assertEqual(len({received.port for received in stub.take_all()}), 1)

    @unittest.skipIf(PYPY, "counts no references")
    def test_an_exchange_leaves_nothing_to_the_garbage_collector(self):
        """A cycle in each would keep its buffer, 8 KiB, until the collector comes."""
        client = self.client(self.stub(200, 200, 404, 200), max_workers=1)
        self.deliver(client)
        gc.collect()
        self.addCleanup(gc.enable)
        gc.disable()
        self.addCleanup(gc.garbage.clear)
        self.addCleanup(gc.set_debug, gc.get_debug())
        gc.set_debug(gc.DEBUG_SAVEALL)
        for _ in range(3):
            client.push("plan", "premium", "u-42")
            client.flush(TIMEOUT)
        gc.collect()
        left = {type(each).__name__ for each in gc.garbage
                if type(each).__module__ in ("http.client", "io", "_io", "vwo_push")}
        self.assertEqual(left, set())

    def test_answers_of_all_shapes_are_understood_and_end_where_they_end(self):
        def sized(size, more=b""):
            return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (
                more, size, b"x" * size)
        for name, answer, connections in (
                ("empty", sized(0), 1),
                ("10 kB", sized(10000), 1),
                ("64 KiB", sized(65536), 1),
                ("64 KiB and 1", sized(65537), 3),
                ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                 b"2;x=y\r\nok\r\n0\r\nTrailer: x\r\n\r\n", 1),
                ("close", sized(2, b"Connection: close\r\n"), 3),
                ("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 3),
                ("204", b"HTTP/1.1 204 No Content\r\n\r\n", 1),
                ("100 first", b"HTTP/1.1 100 Continue\r\n\r\n" + sized(2), 1),
                ("103 first", b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" * 2
                 + sized(2), 1),
                ("no reason", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 1),
                ("bare newlines", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 1)):
            with self.subTest(name):
                server = self.raw(always(answer))
                client, results = self.results_of(server, 3)
                self.assertEqual({result[2:] for result in results}, {(None, 1)})
                self.assertStats(client, delivered=3, requests=3, retries=0)
                self.assertEqual(server.connections, connections)

    def test_an_answer_is_read_to_its_end_before_the_next_request(self):
        """Or the rest of it is taken for the next answer: of a map, or of a retry."""
        def late(peer):
            for status in statuses:
                if not peer.read():
                    break
                peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\n" % status)
                self.assertTrue(heard.wait(TIMEOUT))
                peer.send(b"body")
        for statuses, dimensions in (([200] * 3, {"a": "1", "b": "2", "c": "3"}),
                                     ([503, 503, 200], {"a": "1"})):
            heard = threading.Event()
            server = self.raw(late)
            client, results = self.reporting(server, max_workers=1, max_batch=1)
            self.hear(heard)
            client.push(dimensions, "u-42")
            self.assertTrue(client.flush(TIMEOUT))
            self.assertStats(client, delivered=1, requests=3,
                             retries=statuses.count(503))
            self.assertEqual((server.connections, server.requests.qsize()), (1, 3))

    def test_an_answer_that_is_a_failure_leaves_the_connection_in_use(self):
        stub = self.stub(503, 404, 200)
        client = self.client(stub, max_workers=1)
        client.push("plan", "premium", "u-42")
        self.assertFalse(client.flush(TIMEOUT))
        self.deliver(client)
        self.assertEqual(len({received.port for received in stub.take_all()}), 1)

    def test_a_connection_that_was_closed_while_idle_is_not_used_again(self):
        def half_close(peer):  # and see whether a request comes all the same
            peer.sock.shutdown(socket.SHUT_WR)
            gone.set()
            peer.read()
        for hang_up in (half_close, Peer.hang_up, Peer.reset):
            gone, go = threading.Event(), threading.Event()

            def idle_close(peer):
                peer.read()
                peer.send(OK)
                go.wait(TIMEOUT)
                hang_up(peer)
                gone.set()
            server = self.raw(idle_close, always(OK))
            client, results = self.reporting(server, max_workers=1)
            self.deliver(client)
            go.set()
            self.assertTrue(gone.wait(TIMEOUT))
            self.deliver(client)
            self.assertStats(client, delivered=2, requests=2, retries=0)
            self.assertEqual((server.connections, server.requests.qsize()), (2, 2))

    def test_a_kept_connection_that_dies_under_a_request_is_replaced_uncounted(self):
        def twice(end):
            return lambda peer: (peer.read(), peer.send(OK), peer.read(), end(peer))
        for end in (Peer.hang_up, Peer.reset):
            server = self.raw(twice(end), always(OK))
            client, results = self.results_of(server, 2)
            self.assertEqual(results, [(True, 200, None, 1)] * 2)
            self.assertStats(client, delivered=2, requests=2, retries=0)
            self.assertEqual((server.connections, server.requests.qsize()), (2, 3))

    def test_only_one_replacement_goes_uncounted(self):
        server = self.raw(answering(OK, b""), Peer.read, always(OK))
        client, results = self.results_of(server, 2)
        self.assertEqual(results, [(True, 200, None, 1), (True, 200, None, 2)])
        self.assertStats(client, requests=3, retries=1)
        self.assertEqual((server.connections, server.requests.qsize()), (3, 4))

    def test_nothing_is_resent_uncounted_once_a_byte_of_an_answer_came(self):
        for start, reset in ((b"H", False), (b"HTTP/1.1 2", False), (b"H", True)):
            def cut(peer):
                peer.read()
                peer.send(OK)
                peer.read()
                peer.send(start)
                if reset:
                    self.assertTrue(heard.wait(TIMEOUT))
                    peer.reset()
            heard = threading.Event()
            server = self.raw(cut, always(OK))
            client, results = self.reporting(server, max_workers=1, max_attempts=1)
            self.deliver(client)
            self.hear(heard)
            client.push("plan", "premium", "u-42")
            self.assertFalse(client.flush(TIMEOUT))
            self.assertStats(client, delivered=1, failed=1, requests=2, retries=0)
            self.assertEqual((server.connections, server.requests.qsize()), (1, 2))

    def hear(self, heard):
        """Set *heard* as soon as a client has read something."""
        before = vwo_push._Connection.receive

        def receive(connection, buffer):
            received = before(connection, buffer)
            heard.set()
            return received
        self.put("receive", receive, vwo_push._Connection)

    def test_a_timeout_on_a_kept_connection_counts_as_an_attempt(self):
        server = self.raw(lambda peer: (peer.read(), peer.send(OK), peer.read(),
                                        peer.wait()), always(OK))
        client, results = self.results_of(server, 2, timeout=0.2)
        self.assertEqual(results[1], (True, 200, None, 2))
        self.assertStats(client, requests=3, retries=1)
        self.assertEqual((server.connections, server.requests.qsize()), (2, 3))

    def test_a_connection_is_not_used_after_5_idle_seconds_by_either_clock(self):
        for clock in ("time", "monotonic"):
            for later, connections in ((3, 1), (5.1, 2)):
                with self.subTest((clock, later)):
                    server = self.raw(always(OK))
                    client = self.client(server, max_workers=1)
                    self.deliver(client)
                    real = getattr(time, clock)
                    setattr(vwo_push, clock, lambda: real() + later)
                    try:
                        self.deliver(client)
                    finally:
                        setattr(vwo_push, clock, real)
                    self.assertEqual(server.connections, connections)

    def bulk(self):
        """Dimensions that make 7 MB: more than the kernel keeps for a slow reader."""
        return {"%04d" % n + "\u00e9" * 251: "\u00e9" * 255 for n in range(2000)}

    def test_an_answer_that_comes_before_the_body_is_sent_is_heard(self):
        server = self.raw(too_large, always(OK))
        client, results = self.reporting(server, max_batch=2000, max_workers=1)
        self.assertTrue(client.push(self.bulk(), "u-42"))
        self.assertTrue(client.flush(TIMEOUT))
        self.assertEqual(tuple(results.get(timeout=TIMEOUT)[2:]), (True, 200, None, 1))
        self.assertStats(client, delivered=1, requests=3, retries=0)
        got = [event for body in server.bodies for event in json.loads(body)["ev"]]
        self.assertEqual(len(got), 2000)

    def test_an_early_answer_on_a_kept_connection_is_heard_too(self):
        def refuse(peer):
            peer.read()
            peer.send(OK)
            peer.sock.recv(100)
            peer.send(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
        server = self.raw(refuse, always(OK))
        client, results = self.reporting(server, max_batch=2000, max_workers=1)
        self.deliver(client)
        client.push(self.bulk(), "u-42")
        self.assertFalse(client.flush(TIMEOUT))
        self.assertStats(client, failed=1, requests=2, retries=0)
        self.assertEqual(server.connections, 1)

    def test_the_answer_is_read_before_the_clock_is_looked_at(self):
        waiting, answered, jump = threading.Event(), threading.Event(), [0]

        def script(peer):
            peer.read()
            waiting.wait(TIMEOUT)
            peer.send(OK)
            answered.set()
            peer.wait()
        client, results = self.reporting(self.raw(script), max_attempts=1)
        before = vwo_push._Connection._wait

        def wait(connection, writing, *share):
            if not writing:  # nothing has come yet; now it does, and 100 seconds pass
                waiting.set()
                answered.wait(TIMEOUT)
                jump[0] = 100
            before(connection, writing, *share)
        self.put("_wait", wait, vwo_push._Connection)
        self.put("monotonic", lambda: time.monotonic() + jump[0])
        client.push("plan", "premium", "u-42")
        self.assertTrue(results.get(timeout=TIMEOUT).delivered)

    @unittest.skipUnless(hasattr(signal, "SIGSTOP"), "no way to freeze a process here")
    def test_a_frozen_process_delivers_what_was_in_flight_exactly_once(self):
        """As Lambda freezes one: the kernel goes on, the process does not."""
        frozen, thawed, closing = [threading.Event() for _ in range(3)]
        closed = queue.Queue()
        at_once = {uuid_of("early"): len(OK), uuid_of("half"): 20, uuid_of("late"): 0}

        def script(peer):
            user = re.search(b"[?&]u=([0-9A-F]+)", peer.read()).group(1).decode()
            frozen.wait(TIMEOUT)
            peer.send(OK[:at_once[user]])
            thawed.wait(TIMEOUT)
            peer.send(OK[at_once[user]:])
            closing.wait(TIMEOUT)
            peer.hang_up()
            closed.put(user)
        server = self.raw(script, script, script, always(OK))
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
            import sys, vwo_push
            vwo_push.FROZEN_SECONDS = 0.2
            client = vwo_push.Client(%d, "key", base_url=sys.argv[1], timeout=0.8,
                                     max_batch=1, max_workers=3)
            for user_id in "early", "half", "late":
                client.push("plan", "premium", user_id)
            print(client.flush(20.0), client.stats()["retries"], flush=True)
            sys.stdin.readline()
            client.push("plan", "premium", "u-42")
            print(client.flush(20.0), client.stats()["retries"], flush=True)
            """ % ACCOUNT), server.url], env=dict(os.environ, PYTHONPATH=HERE),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            for _ in at_once:
                server.take()
            threading.Event().wait(0.1)  # nothing tells when all three wait for answers
            self.freeze(child)
            frozen.set()  # answers, or parts, lie in the sockets as the deadline passes
            threading.Event().wait(1.0)
            child.send_signal(signal.SIGCONT)
            threading.Event().wait(0.1)  # so that half an answer is read by itself
            thawed.set()
            self.assertEqual(child.stdout.readline().split(), [b"True", b"0"])
            self.assertEqual(server.requests.qsize(), 0)
            self.freeze(child)
            closing.set()
            for _ in at_once:
                closed.get(timeout=TIMEOUT)
            child.send_signal(signal.SIGCONT)
            out, _ = child.communicate(b"go\n", TIMEOUT)
            self.assertEqual(out.split(), [b"True", b"0"])
            self.assertEqual(server.requests.qsize(), 1)
        finally:
            child.kill()
            child.communicate()

    def freeze(self, child):
        child.send_signal(signal.SIGSTOP)
        self.assertTrue(os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1]))


class ConnectTest(EdgeCase):
    """The way to the server."""

    def test_connecting_to_a_full_backlog_ends_at_the_deadline(self):
        url = "http://%s:%d" % self.full_listener()
        outcome, client = self.outcome(None, base_url=url, timeout=0.1, max_attempts=2)
        self.assertEqual(outcome, (False, None, "timeout", 2))

    def test_an_address_that_swallows_connections_leaves_time_for_the_next(self):
        black_hole, server = self.full_listener(), self.raw(always(OK))
        self.names_lead_to(black_hole, (server.host, server.port))
        outcome, client = self.outcome(None, base_url="http://two.test", timeout=0.6,
                                       max_attempts=1)
        self.assertEqual(outcome, (True, 200, None, 1))

    def test_the_address_after_one_that_refuses_is_tried(self):
        server = self.raw(always(OK))
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            self.names_lead_to(nobody.getsockname(), (server.host, server.port))
            outcome, _ = self.outcome(None, base_url="http://two.test", max_attempts=1)
        self.assertEqual(outcome, (True, 200, None, 1))

    def test_an_ipv6_address_works(self):
        try:
            server = self.raw(always(OK), host="::1")
        except OSError:
            self.skipTest("no IPv6 here")
        self.assertEqual(self.outcome(server)[0], (True, 200, None, 1))
        self.assertIn(b"\r\nHost: [::1]:%d\r\n" % server.port, server.take())

    def test_descriptors_beyond_1024_work(self):
        try:
            import resource
        except ImportError:
            self.skipTest("no such limit here")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 1400
        if soft != resource.RLIM_INFINITY and soft < wanted:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (ValueError, OSError):
                self.skipTest("this many descriptors are not allowed")
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        stub = self.stub()
        fillers = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        try:
            client = self.client(stub, max_workers=1)
            self.deliver(client, 3)
            client.close(0)
        finally:
            for filler in fillers:
                os.close(filler)
        self.assertEqual(len({received.port for received in stub.take_all()}), 1)


class TlsCase(EdgeCase):
    """Cases with a server that has a certificate, and a context that trusts it."""

    def setUp(self):
        super().setUp()
        with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
            file.write(CERTIFICATE)
        self.file = file.name
        self.addCleanup(os.remove, self.file)
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.load_cert_chain(self.file)
        self.trusting = ssl.create_default_context(cafile=self.file)

    def secure(self, *scripts):
        return self.raw(*scripts or (always(OK),), tls=self.server_context)


class TlsTest(TlsCase):
    """https: verified always, kept alive, and never a hang."""

    def test_an_answer_that_comes_before_the_body_is_sent_is_heard(self):
        client = self.client(self.secure(too_large, always(OK)), max_batch=2000,
                             max_workers=1, ssl_context=self.trusting)
        value = "\u00e9" * 255
        self.assertTrue(client.push({"%04d" % n: value for n in range(2000)}, "u-42"))
        self.assertTrue(client.flush(TIMEOUT))
        self.assertStats(client, delivered=1, requests=3, retries=0)

    def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(self):
        def twice(peer):  # the second one waits in OpenSSL, where no poll sees it
            peer.read()
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 7000\r\n\r\n"
            size = 8192 - len(head)  # our buffer is full at the end of the first
            peer.send(head.replace(b"7000", b"%d" % size) + b"x" * size + OK)
            peer.read()
            peer.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
        server = self.secure(twice, always(OK))
        client = self.client(server, ssl_context=self.trusting, max_workers=1)
        self.deliver(client, 2)
        self.assertEqual((server.connections, server.requests.qsize()), (2, 2))

    def test_pushes_in_a_row_share_one_tls_connection(self):
        server = self.secure()
        client = self.client(server, ssl_context=self.trusting, max_workers=1)
        self.deliver(client, 3)
        self.environ(SSL_CERT_FILE=self.file)
        self.deliver(self.client(server, max_workers=1), 3)
        self.assertEqual((server.connections, server.requests.qsize()), (2, 6))

    def test_a_name_in_the_certificate_is_accepted(self):
        server = self.secure()
        self.names_lead_to()
        outcome, _ = self.outcome(None, base_url="https://localhost:%d" % server.port,
                                  ssl_context=self.trusting)
        self.assertEqual(outcome, (True, 200, None, 1))

    def test_an_unknown_authority_is_refused_at_once(self):
        server = self.secure()
        strange = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
        outcome, client = self.outcome(server, ssl_context=strange)
        self.assertEqual(outcome, (False, None, "tls", 1))
        self.assertStats(client, requests=1, retries=0)
        self.assertEqual(server.requests.qsize(), 0)

    def test_a_name_that_is_not_in_the_certificate_is_refused_at_once(self):
        server = self.secure()
        self.names_lead_to()
        outcome, client = self.outcome(
            None, base_url="https://wrong.test:%d" % server.port,
            ssl_context=self.trusting)
        self.assertEqual(outcome, (False, None, "tls", 1))
        self.assertEqual((server.connections, server.requests.qsize()), (1, 0))

    def test_verification_cannot_be_switched_off(self):
        self.environ(SSL_CERT_FILE=self.file, PYTHONHTTPSVERIFY="0")
        unverified = ssl._create_unverified_context
        self.put("_create_default_https_context", unverified, ssl)
        context = self.client(base_url="https://x.test")._config.endpoint.ssl_context
        self.assertEqual((context.verify_mode, context.check_hostname),
                         (ssl.CERT_REQUIRED, True))
        for wrong in (False, 0, "", {"verify": False}):
            with self.assertRaisesRegex(TypeError, "ssl_context"):
                self.client(base_url="https://x.test", ssl_context=wrong)
        for option in ("verify", "verify_ssl", "insecure", "cert_reqs"):
            with self.assertRaises(TypeError):
                self.client(**{option: False})

    def test_a_peer_that_speaks_no_tls_is_a_clear_failure(self):
        def says(data):
            return lambda peer: (peer.send(data), peer.sock.recv(65536))
        def resets(peer):
            peer.sock.recv(65536)
            peer.reset()
        gone = ("connection",)
        if sys.version_info < (3, 8):  # it does not know what OpenSSL 3 calls the end
            gone += ("tls",)
        for script, errors in (
                (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("tls", "connection")),
                (says(b"\x15\x03\x01\x00\x02\x02\x28"), ("tls",)),  # handshake_failure
                (lambda peer: peer.sock.recv(65536), gone), (resets, gone),
                (Peer.hang_up, gone)):
            server = self.raw(script)
            outcome, _ = self.outcome(
                None, base_url=server.url.replace("http", "https"), max_attempts=1,
                ssl_context=self.trusting)
            self.assertIn(outcome, [(False, None, error, 1) for error in errors])

    def test_a_handshake_ends_at_the_deadline(self):
        for script in (Peer.wait, lambda peer: peer.drip(b"\x16\x03\x03\x40\x00\x02")):
            server = self.raw(script)
            outcome, _ = self.outcome(
                None, base_url=server.url.replace("http", "https"), max_attempts=1,
                ssl_context=self.trusting, timeout=0.1)
            self.assertEqual(outcome, (False, None, "timeout", 1))

    def test_a_tls_connection_that_was_closed_while_idle_is_not_used_again(self):
        gone, go = threading.Event(), threading.Event()

        def idle_close(peer):
            peer.read()
            peer.send(OK)
            go.wait(TIMEOUT)
            peer.hang_up()
            gone.set()
        server = self.secure(idle_close, always(OK))
        client = self.client(server, ssl_context=self.trusting, max_workers=1)
        self.deliver(client)
        go.set()
        self.assertTrue(gone.wait(TIMEOUT))
        self.deliver(client)
        self.assertStats(client, delivered=2, requests=2, retries=0)

    def test_a_kept_tls_connection_that_dies_is_replaced_uncounted(self):
        server = self.secure(answering(OK, b""), always(OK))
        client = self.client(server, ssl_context=self.trusting, max_workers=1)
        self.deliver(client, 2)
        self.assertStats(client, delivered=2, requests=2, retries=0)
        self.assertEqual((server.connections, server.requests.qsize()), (2, 3))

    def test_a_useless_ssl_cert_file_is_named_at_construction(self):
        def file(text):
            with tempfile.NamedTemporaryFile("w", delete=False) as file:
                file.write(text)
            self.addCleanup(os.remove, file.name)
            return file.name
        for path in (self.file + ".missing", file(""), file("garbage\n"),
                     file(CERTIFICATE[:40]), file(CERTIFICATE.replace("MIIBeD", "")),
                     tempfile.gettempdir()):
            self.environ(SSL_CERT_FILE=path)
            with self.assertRaisesRegex(ValueError, "SSL_CERT_FILE"):
                self.client(base_url="https://x.test")
        self.client(base_url="http://x.test")
        self.client(transport=lambda request, timeout: 200)
        self.client(base_url="https://x.test", ssl_context=self.trusting)

    def test_a_python_without_ssl_speaks_http_and_refuses_https(self):
        stub = self.stub()
        done = self.python("""
            import sys
            sys.modules["ssl"] = sys.modules["_ssl"] = None
            import vwo_push
            for options in {}, {"base_url": "https://x.test"}:
                try:
                    vwo_push.Client(1, "key", **options)
                except ValueError as error:
                    assert "ssl" in str(error), error
                else:
                    raise SystemExit("https without ssl")
            for options in ({"base_url": sys.argv[1]}, {"transport": lambda *_: 200}):
                client = vwo_push.Client(1, "key", **options)
                assert client.push("plan", "premium", "u-42")
                assert client.flush(20.0)
            """, stub.url)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(len(stub.take_all()), 1)


class ProxyTest(TlsCase):
    """What the environment says about proxies."""

    LOGIN = b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p@ss")

    def relay(self, peer):
        """The script of a proxy: what a CONNECT names is on this machine."""
        port = int(peer.read().split()[1].rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as server:
            peer.send(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")

            def back():
                try:
                    while True:
                        data = server.recv(65536)
                        if not data:
                            break
                        peer.send(data)
                    peer.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
            thread = threading.Thread(target=back)
            thread.start()
            try:
                while True:
                    data = peer.sock.recv(65536)
                    if not data:
                        break
                    server.sendall(data)
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join(TIMEOUT)

    def through(self, *scripts, login="", **options):
        """A proxy for https, and the outcome of one push through it."""
        proxy = self.raw(*scripts)
        self.environ(https_proxy="http://%s127.0.0.1:%d" % (login, proxy.port))
        options.setdefault("base_url", "https://x.test")
        outcome, client = self.outcome(
            None, ssl_context=self.trusting, **options)
        return proxy, outcome, client

    def test_https_goes_through_a_tunnel_of_the_proxy(self):
        server = self.secure()
        proxy, outcome, client = self.through(
            self.relay, login="me:p%40ss@", base_url=server.url, max_workers=1)
        self.deliver(client, 2)
        self.assertEqual(outcome, (True, 200, None, 1))
        self.assertEqual((proxy.connections, server.connections), (1, 1))
        head = proxy.take()
        target = b"127.0.0.1:%d" % server.port
        self.assertEqual(head.split(b"\r\n"), [
            b"CONNECT %s HTTP/1.1" % target, b"Host: " + target, self.LOGIN])
        for _ in range(3):
            request = server.take()
            self.assertTrue(request.startswith(b"GET /server-side/push?"), request)
            self.assertNotIn(b"Proxy-", request)

    def test_the_proxy_is_asked_for_host_and_port(self):
        refuse = answering(b"HTTP/1.1 403 No\r\n\r\n")
        for url, target in (("https://x.test", b"x.test:443"),
                            ("https://x.test:8443/prefix", b"x.test:8443"),
                            ("https://[::1]", b"[::1]:443"),
                            ("https://[::1]:8443", b"[::1]:8443")):
            proxy, _, _ = self.through(refuse, base_url=url)
            self.assertIn(b"CONNECT %s HTTP/1.1\r\nHost: %s" % (target, target),
                          proxy.take())

    def test_a_proxy_that_fails_is_reported_as_such(self):
        for script, outcome in (
                (answering(b"HTTP/1.1 407 Login\r\n\r\n"), (False, 407, "proxy", 1)),
                (answering(b"HTTP/1.1 403 No\r\n\r\n"), (False, 403, "proxy", 1)),
                (answering(b"HTTP/1.1 302 No\r\nLocation: http://x.test/\r\n\r\n"),
                 (False, 302, "proxy", 1)),
                (answering(b"HTTP/1.1 502 No\r\n\r\n"), (False, 502, "proxy", 4)),
                (answering(b"SSH-2.0-OpenSSH_9.6\r\n"), (False, None, "proxy", 4)),
                (Peer.read, (False, None, "proxy", 4))):
            self.assertEqual(self.through(script)[1], outcome)
        mute = self.through(Peer.wait, timeout=0.1, max_attempts=2)[1]
        self.assertEqual(mute, (False, None, "timeout", 2))
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            self.environ(https_proxy="127.0.0.1:%d" % nobody.getsockname()[1])
            outcome = self.outcome(None, base_url="https://x.test",
                                   ssl_context=self.trusting, max_attempts=2)[0]
        self.assertEqual(outcome, (False, None, "proxy", 2))

    def test_a_proxy_that_fails_in_passing_is_tried_again(self):
        server = self.secure()
        refuse = answering(b"HTTP/1.1 502 No\r\n\r\n")
        _, outcome, _ = self.through(refuse, self.relay, base_url=server.url)
        self.assertEqual(outcome, (True, 200, None, 2))

    def test_a_certificate_is_verified_behind_a_proxy_too(self):
        server = self.secure()
        _, outcome, _ = self.through(
            self.relay, base_url="https://wrong.test:%d" % server.port)
        self.assertEqual(outcome, (False, None, "tls", 1))
        self.assertEqual(server.requests.qsize(), 0)

    def test_http_goes_to_the_proxy_in_absolute_form(self):
        proxy = self.raw(always(OK))
        self.environ(http_proxy="http://me:p%%40ss@127.0.0.1:%d" % proxy.port)
        client = self.client(base_url="http://x.test:81/prefix", max_workers=1)
        self.deliver(client, 2)
        head = proxy.take()
        self.assertIn(b"GET http://x.test:81/prefix/server-side/push?", head)
        self.assertIn(b"\r\nHost: x.test:81\r\n", head)
        self.assertIn(self.LOGIN, head)
        self.assertEqual(proxy.connections, 1)

    def test_a_407_to_an_http_request_is_the_proxys(self):
        proxy = self.raw(always(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n"))
        self.environ(HTTP_PROXY="http://127.0.0.1:%d" % proxy.port)
        self.assertEqual(self.outcome(None, base_url="http://x.test")[0],
                         (False, 407, "proxy", 1))

    def way(self, stub, host="api.example.test"):
        """"proxy" or "direct": which way a push to *host* goes."""
        proxy = self.raw(always(OK))
        for name in ("http_proxy", "HTTP_PROXY"):
            if os.environ.get(name) == "here":
                self.environ(**{name: "http://127.0.0.1:%d" % proxy.port})
        self.deliver(self.client(base_url="http://%s:%d" % (
            host, stub.server_address[1])))
        self.assertEqual(proxy.requests.qsize() + len(stub.take_all()), 1)
        return "proxy" if proxy.requests.qsize() else "direct"

    def test_no_proxy_matches_whole_labels_ports_and_a_star(self):
        stub = self.stub()
        port = stub.server_address[1]
        self.names_lead_to()
        for text, way in (
                ("", "proxy"), ("api.example.test", "direct"), ("*", "direct"),
                ("example.test", "direct"), (".example.test", "direct"),
                ("EXAMPLE.test", "direct"), ("le.test", "proxy"),
                ("pi.example.test", "proxy"), ("example.test.evil", "proxy"),
                ("other.test, api.example.test ,x", "direct"),
                ("other.test,x", "proxy"),
                ("api.example.test:%d" % port, "direct"),
                ("api.example.test:1", "proxy"), ("api.example", "proxy"),
                ("a.*", "proxy"), ("api?example.test", "proxy"),
                ("apixexample.test", "proxy")):
            with self.subTest(text):
                self.environ(HTTP_PROXY="here", NO_PROXY=text)
                self.assertEqual(self.way(stub), way)

    def test_lower_case_names_win_and_a_cgi_header_is_no_proxy(self):
        stub = self.stub()
        self.names_lead_to()
        wrong = "http://127.0.0.1:9"
        for variables, way in (
                (dict(http_proxy="here", HTTP_PROXY=wrong), "proxy"),
                (dict(http_proxy="", HTTP_PROXY=wrong), "direct"),
                (dict(HTTPS_PROXY=wrong, all_proxy=wrong), "direct"),
                (dict(http_proxy="", all_proxy=wrong), "direct"),
                (dict(HTTP_PROXY=wrong, REQUEST_METHOD="GET"), "direct"),
                (dict(http_proxy="here", REQUEST_METHOD="GET"), "proxy"),
                (dict(HTTP_PROXY="here", NO_PROXY="*", no_proxy="other.test"), "proxy"),
                (dict(HTTP_PROXY="here", NO_PROXY="other.test", no_proxy="*"),
                 "direct")):
            names = ("http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "no_proxy",
                     "NO_PROXY", "REQUEST_METHOD")
            with self.subTest(variables):
                self.environ(**dict(dict.fromkeys(names), **variables))
                self.assertEqual(self.way(stub), way)

    def test_the_system_is_not_asked_for_its_proxies(self):
        def crash():
            raise AssertionError("getproxies: it crashes forked children on macOS")
        self.put("getproxies", crash, urllib.request)
        self.environ(HTTP_PROXY="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9")
        self.client(base_url="http://x.test")
        self.client(base_url="https://x.test", ssl_context=self.trusting)

    def test_a_proxy_that_cannot_work_is_named_without_its_password(self):
        for text in (
                "socks5://me:hunter2@127.0.0.1:9", "https://me:hunter2@127.0.0.1:9",
                "http://me:hunter2@127.0.0.1:99999", "http://me:hunter2@",
                "http://me:hunter2@[::1", "ftp://me:hunter2@x", "//me:hunter2@:1",
                "http://me:hunter2@127.0.0.1:port"):
            self.environ(HTTP_PROXY=text)
            with self.subTest(text), self.assertRaises(ValueError) as caught:
                self.client(base_url="http://x.test")
            told = "".join(traceback.format_exception(
                ValueError, caught.exception, caught.exception.__traceback__))
            self.assertIn("HTTP_PROXY", told)
            self.assertNotIn("hunter2", told)


class TransportTest(EdgeCase):
    """A transport of the caller's own in place of the network."""

    def custom(self, transport, **options):
        return self.outcome(None, transport=transport, **options)

    def test_a_status_of_a_transport_means_what_it_means_on_the_wire(self):
        for status, outcome in (
                (200, (True, 200, None, 1)), (204, (True, 204, None, 1)),
                (302, (False, 302, "http", 1)), (404, (False, 404, "http", 1)),
                (407, (False, 407, "http", 1)), (199, (False, 199, "http", 1)),
                (503, (False, 503, "http", 4)), (429, (False, 429, "http", 4))):
            self.assertEqual(self.custom(lambda request, timeout: status)[0], outcome)

    def test_a_transport_that_raises_is_tried_again(self):
        for error in (OSError(), SystemExit(), KeyError("x"), GeneratorExit()):
            answers = [error, error, 200, 200]

            def transport(request, timeout):
                answer = answers.pop(0)
                if isinstance(answer, BaseException):
                    raise answer
                return answer
            outcome, client = self.custom(transport)
            self.assertEqual(outcome, (True, 200, None, 3))
            self.assertStats(client, requests=3, retries=2)
            self.deliver(client)

            def always_raises(request, timeout):
                raise error
            self.assertEqual(self.custom(always_raises)[0],
                             (False, None, "transport", 4))

    def test_a_transport_that_returns_no_int_is_a_failure_at_once(self):
        for answer in (None, "200", 200.0, b"", (200,)):
            self.assertEqual(self.custom(lambda request, timeout: answer)[0],
                             (False, None, "transport", 1))

    def test_a_transport_gets_a_request_and_the_seconds_it_has(self):
        calls = []
        self.custom(lambda *args: calls.append(args) or 503, timeout=1.5)
        self.assertEqual(len(calls), 4)
        for request, timeout in calls:
            self.assertIs(type(request), vwo_push.Request)
            self.assertEqual((request.method, request.body), ("GET", None))
            self.assertTrue(0 < timeout <= 1.5, timeout)

    def test_every_attempt_has_a_random_of_its_own(self):
        urls = []
        self.custom(lambda request, timeout: urls.append(request.url) or 503)
        randoms = {re.search("random=([0-9.]+)", url).group(1) for url in urls}
        self.assertEqual(len(randoms), 4)

    def test_a_transport_needs_neither_certificates_nor_proxies(self):
        self.environ(SSL_CERT_FILE="/nowhere", HTTPS_PROXY="socks5://x")
        self.assertEqual(self.custom(lambda request, timeout: 200)[0],
                         (True, 200, None, 1))


class SecrecyTest(TlsCase):
    """What only the caller and VWO may know."""

    SECRETS = dict(
        sdk_key="s3ntinelSdkKey", user="s3ntinelUser", key="s3ntinelDimension",
        value="s3ntinelValue", login="s3ntinelLogin", password="s3ntinelPass")

    def test_no_secret_is_in_a_log_a_repr_an_exception_or_on_stderr(self):
        secret, told, results = self.SECRETS, [], []
        logger, handler = logging.getLogger("vwo_push"), logging.Handler()
        handler.emit = lambda record: told.append(
            logging.Formatter().format(record) + repr(record.__dict__))
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.addCleanup(logger.setLevel, logger.level)
        logger.setLevel(logging.DEBUG)
        stderr = io.StringIO()
        self.put("stderr", stderr, sys)
        garbage, secure = self.raw(answering(b"garbage")), self.secure()

        def raises(request, timeout):
            raise RuntimeError(request.url)
        proxy = self.raw(answering(b"HTTP/1.1 407 Login\r\n\r\n"))
        for number, options in enumerate((
                dict(base_url=self.stub(503).url), dict(base_url=self.stub(400).url),
                dict(base_url="http://127.0.0.1:9"), dict(base_url=garbage.url),
                dict(base_url=secure.url,
                     ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
                dict(transport=raises), dict(transport=lambda *_: None),
                dict(base_url=self.stub(400).url, event_arch=True),
                dict(base_url="https://x.test", ssl_context=self.trusting))):
            self.environ(https_proxy=None if "x.test" not in str(options) else
                         "http://%s:%s@127.0.0.1:%d" % (
                             secret["login"], secret["password"], proxy.port))

            def on_result(result):
                results.append(result)
                raise RuntimeError(result.user_id)
            client = vwo_push.Client(ACCOUNT, secret["sdk_key"], max_attempts=2,
                                     on_result=on_result, **options)
            self.addCleanup(client.close, 0)
            triple = secret["key"], secret["value"], secret["user"]
            client.push(*triple)
            self.assertFalse(client.flush(TIMEOUT))
            client.push({secret["key"]: secret["value"], "other": "x"}, secret["user"])
            client.flush(TIMEOUT)
            refused = [(secret["key"] * 99, secret["value"], secret["user"]),
                       (secret["key"], secret["value"] + "\ud800", secret["user"]),
                       (secret["key"], secret["value"], secret["user"] + "\ud800")]
            for arguments in refused:
                self.assertFalse(client.push(*arguments))
                try:
                    client.requests_for(*arguments)
                except ValueError:
                    told.append(traceback.format_exc())
            requests = client.requests_for(*triple)
            told += [repr(client), str(client), repr(client.stats()), repr(client.push),
                     repr(requests), str(requests[0])]
            try:
                client.__reduce__()
            except TypeError:
                told.append(traceback.format_exc())
            client.close(0)
            self.assertFalse(client.push(*triple))
        told += [repr(results), str(results), stderr.getvalue()]
        self.assertEqual({result.error for result in results}, {
            "http", "connection", "response", "tls", "transport", "proxy"})
        self.assertGreater(sum("pushes not delivered" in text for text in told), 5)
        self.assertGreater(sum("push refused" in text for text in told), 5)
        visitor = vwo_push.visitor_uuid(ACCOUNT, secret["user"])
        for name, text in list(secret.items()) + [("uuid", visitor)]:
            for said in told:
                self.assertNotIn(text, said, name)
        self.assertNotIn("s3ntinel", stderr.getvalue())

    def test_a_constructor_does_not_tell_the_secret_that_it_refuses(self):
        for options in (dict(base_url="https://me:s3ntinel@x.test"),
                        dict(base_url="https://x.test/?key=s3ntinel"),
                        dict(sdk_key="s3ntinel\n"), dict(sdk_key=" s3ntinel"),
                        dict(sdk_key="s3ntinel\u00e9"), dict(sdk_key=b"s3ntinel")):
            with self.assertRaises((TypeError, ValueError)) as caught:
                vwo_push.Client(**dict(dict(account_id=1, sdk_key="key"), **options))
            self.assertNotIn("s3ntinel", str(caught.exception))
            self.assertIn(list(options)[0], str(caught.exception))


# -- The command line ------------------------------------------------------------------

Ran = collections.namedtuple("Ran", "status out err")
POSIX = os.name == "posix"
WIDE = "user_id,plan,city\nu-1,free,Bern\nu-2,pro,\nu-3,\"a,\n\"\"b\"\"\",\u00fc +%\n"
LONG = ("user_id,key,value\nu-1,plan,free\nu-1,city,Bern\nu-2,plan,pro\n"
        "u-3,plan,\"a,\n\"\"b\"\"\"\nu-3,city,\u00fc +%\n")
USERS = {"u-1": {"plan": "free", "city": "Bern"}, "u-2": {"plan": "pro"},
         "u-3": {"plan": 'a,\n"b"', "city": "\u00fc +%"}}
JSONL = "".join(json.dumps({"user_id": user, "dimensions": dimensions}) + "\n"
                for user, dimensions in USERS.items())
CREDENTIALS = ("--account-id", str(ACCOUNT), "--sdk-key", KEY)
# Has a backfill say on stderr that it waits, and after how many interrupts.
WAITING = ("real = vwo_push._Backfill._wait\n"
           "def wait(self, client):\n"
           "    os.write(2, b'%d' % self.interrupts)\n"
           "    real(self, client)\n"
           "vwo_push._Backfill._wait = wait\n")
SPAWN = "import os, sys, vwo_push\n%s\nsys.exit(vwo_push.main())"


def triples(users):
    return sorted((uuid_of(user), key, value) for user, dimensions in users.items()
                  for key, value in dimensions.items())


def numbered(*numbers):
    return {"u-%d" % number: {"n": str(number)} for number in numbers}


def long_rows(*numbers):
    return "user_id,n\n" + "".join("u-%d,%d\n" % (number, number) for number in numbers)


class CommandCase(Case):
    """Runs the command line, in this process or in one of its own."""

    def setUp(self):
        patch = mock.patch.dict(os.environ)
        patch.start()
        self.addCleanup(patch.stop)
        for name in list(os.environ):
            if name.startswith(("VWO_", "PYTHON")) or name.lower().endswith("_proxy"):
                del os.environ[name]
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, content, name="in"):
        if isinstance(content, str):
            content = content.encode("utf-8")
        with open(self.path(name), "wb") as file:
            file.write(content)
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def main(self, *argv):
        out, err = io.StringIO(), io.StringIO()
        if POSIX:  # the wait for room has no bound of its own
            before = signal.signal(signal.SIGALRM, lambda *_: self.fail("it hangs"))
            signal.alarm(TIMEOUT)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = vwo_push.main(list(argv))
        finally:
            if POSIX:
                signal.alarm(0)
                signal.signal(signal.SIGALRM, before)
        return Ran(status, out.getvalue(), err.getvalue())

    def send(self, stub, *argv):
        return self.main("--base-url", stub.url, *CREDENTIALS + argv)

    def backfill(self, stub, content, *argv):
        return self.send(stub, "--from", self.file(content), "--rejects",
                         self.path("rejects"), *argv)

    def spawn(self, argv, prelude="", closed="", **options):
        """Start the command line in a process of its own, some descriptors closed."""
        command = [sys.executable, "-c", SPAWN % prelude] + list(argv)
        if closed:
            command = ["sh", "-c", 'exec "$@" ' + closed, "sh"] + command
        for name in ("stdin", "stdout", "stderr"):
            options.setdefault(name, subprocess.PIPE)
        env = dict(os.environ, PYTHONPATH=HERE, **options.pop("env", {}))
        child = subprocess.Popen(command, env=env, **options)
        watch = threading.Timer(TIMEOUT, child.kill)  # ends every read from its pipes
        watch.start()
        self.addCleanup(self.reap, child, watch)
        return child

    def reap(self, child, watch):
        watch.cancel()
        watch.join(TIMEOUT)
        if child.poll() is None:
            child.kill()
        child.wait(TIMEOUT)
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe:
                pipe.close()

    def finish(self, child, content=b""):
        out, err = child.communicate(content, TIMEOUT)
        return Ran(child.returncode, (out or b"").decode(), (err or b"").decode())

    def assertArrived(self, stub, users):
        found = [triple for received in stub.take_all()
                 for triple in read_back(received)]
        self.assertEqual(sorted(found), triples(users))

    def assertNothingArrived(self, stub):
        self.assertEqual(stub.take_all(), [])

    def assertSaid(self, ran, status, text):
        """One line on stderr, with *text* in it."""
        self.assertEqual((ran.status, ran.err.count("\n")), (status, 1), ran)
        self.assertTrue(ran.err.startswith("vwo_push: "), ran)
        self.assertIn(text, ran.err)

    def assertSummary(self, ran, status, *counts):
        line = "read %d, delivered %d, rejected %d, skipped %d\n" % counts
        self.assertEqual((ran.status, ran.out), (status, line), ran)


class DemoTest(CommandCase):

    def test_the_demo_shows_what_arrived_and_what_it_means(self):
        for env in ({"LC_ALL": "C", "HTTP_PROXY": "http://127.0.0.1:9"},
                    {"PYTHONIOENCODING": "ascii", "http_proxy": "nonsense://"}):
            env = dict(os.environ, PYTHONPATH=HERE, **env)
            done = subprocess.run([sys.executable, "-m", "vwo_push", "--demo"], env=env,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  timeout=TIMEOUT)
            with self.subTest(env=env):
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                for text in ("GET /server-side/push?", "POST /events/t?",
                             "POST /server-side/batch-events?",
                             '"plan": "premium"', "100%", '"delivered": 2'):
                    self.assertIn(text.encode(), done.stdout)
                for user in ("user-42", "user-7", "user-8"):
                    self.assertIn(("read back: user %s, visitor %s" % (
                        user, vwo_push.visitor_uuid(1, user))).encode(), done.stdout)

    def test_the_demo_leaves_the_environment_as_it_was(self):
        for before in ({}, {"no_proxy": "example.org"}):
            with self.subTest(before), mock.patch.dict(os.environ, before):
                expected = dict(os.environ)
                self.assertEqual(self.main("--demo").status, 0)
                self.assertEqual(dict(os.environ), expected)

    @unittest.skipUnless(POSIX, "needs sh")
    def test_the_demo_into_a_closed_pipe_is_one_line(self):
        child = self.spawn(["--demo"])
        child.stdout.close()
        child.stdout = None
        self.assertSaid(self.finish(child), 1, "the output")


class OnePushTest(CommandCase):

    def test_a_push_prints_true_and_arrives(self):
        stub = self.stub()
        self.assertEqual(self.send(stub, "plan", "pro", "u-1"), (0, "true\n", ""))
        self.assertArrived(stub, {"u-1": {"plan": "pro"}})

    def test_a_push_of_the_events_architecture_goes_there(self):
        stub = self.stub()
        ran = self.send(stub, "--event-arch", "--collection-prefix", "eu01",
                        "plan", "pro", "u-1")
        self.assertEqual((ran.status, stub.take().path), (0, "/eu01/events/t"))

    def test_a_push_that_is_not_delivered_prints_false_and_says_why(self):
        ran = self.send(self.stub(400), "plan", "pro", "u-1")
        self.assertEqual(ran.out, "false\n")
        self.assertSaid(ran, 1, "http 400, attempts: 1")

    def test_a_refused_push_prints_false_and_says_why(self):
        stub = self.stub()
        child = self.spawn(["--base-url", stub.url, *CREDENTIALS, "k" * 256, "v", "u"])
        ran = self.finish(child)
        self.assertEqual(ran.out, "false\n")
        self.assertSaid(ran, 1, "longer than 255")
        self.assertNothingArrived(stub)

    def test_help_and_version_are_no_errors(self):
        self.assertEqual(self.main("--version"),
                         (0, "vwo_push %s\n" % vwo_push.__version__, ""))
        ran = self.main("--help")
        self.assertEqual((ran.status, ran.err), (0, ""))
        for option in ("--demo", "--dry-run", "--from", "--rejects", "--skip",
                       "--settings", "VWO_SDK_KEY"):
            self.assertIn(option, ran.out)

    def test_a_usage_error_is_one_line_and_status_2(self):
        rows, link = self.file(long_rows(1), "rows"), self.path("missing")
        push = ("plan", "pro", "u-1")
        for argv, text in (
                ((), "--from"), (push[:2], "KEY VALUE USER_ID"),
                (push + ("more",), "KEY VALUE USER_ID"), (("--demo",) + push, "--demo"),
                (("--skip", "1") + push, "--skip"),
                (("--rejects", "x") + push, "--rejects"),
                (("--from", rows, "--skip", "-1"), "--skip"),
                (("--from", rows, "--skip", "x"), "--skip"),
                (("--nonsense",), "--nonsense"),
                (("--account-id", "12x") + push, "account_id"),
                (("--sdk-key", "") + push, "sdk_key"),
                (("--timeout", "0") + push, "timeout"),
                (("--base-url", "ftp://x") + push, "base_url"),
                (("--collection-prefix", "a/b") + push, "collection_prefix"),
                (("--settings", link) + push, "missing"),
                (("--settings", self.folder) + push, os.path.basename(self.folder)),
                (("--settings", rows) + push, "not JSON"),
                (("--settings", self.file("{}", "empty")) + push, "accountId"),
                (("--from", link), "missing"), (("--from", "no\nfile"), "no file")):
            with self.subTest(argv):
                ran = self.main(*CREDENTIALS + argv)
                self.assertEqual(ran.out, "")
                self.assertSaid(ran, 2, text)

    def test_missing_credentials_are_named(self):
        push = ("plan", "pro", "u-1")
        self.assertSaid(self.main(*push), 2, "VWO_ACCOUNT_ID")
        self.assertSaid(self.main("--account-id", "1", *push), 2, "VWO_SDK_KEY")
        self.assertSaid(self.main("--dry-run", *push), 2, "VWO_ACCOUNT_ID")

    def test_options_win_over_settings_and_those_over_the_environment(self):
        stub = self.stub()
        settings = ("--settings", self.file('{"accountId": 2, "sdkKey": "two"}'))
        os.environ.update(VWO_ACCOUNT_ID="1", VWO_SDK_KEY="one")
        for argv, expected in (
                ((), ("1", "one")), (("--sdk-key", "3"), ("1", "3")),
                (settings, ("2", "two")),
                (settings + ("--account-id", "3"), ("3", "two")),
                (settings + ("--sdk-key", "three"), ("2", "three"))):
            with self.subTest(argv):
                self.main("--base-url", stub.url, *argv + ("plan", "pro", "u-1"))
                query = stub.take().query
                self.assertEqual((query["account_id"], query["env"]), expected)

    def test_settings_name_the_prefix_and_the_architecture(self):
        stub = self.stub()
        path = self.file(b"\xef\xbb\xbf" + json.dumps({
            "accountId": "7", "sdkKey": "k", "collectionPrefix": "eu01",
            "isEventArchEnabled": True}).encode())
        ran = self.main("--settings", path, "--base-url", stub.url,
                        "plan", "pro", "u-1")
        self.assertEqual((ran.status, stub.take().path), (0, "/eu01/events/t"))


class DryRunTest(CommandCase):

    def test_a_dry_run_shows_the_request_and_sends_nothing(self):
        stub = self.stub()
        argv = ("--dry-run", "--base-url", stub.url) + CREDENTIALS
        # In processes of their own, which do not end before what they push is sent.
        ran = self.finish(self.spawn(argv + ("plan", "pro", "u-1")))
        self.assertEqual((ran.status, ran.err), (0, ""))
        self.assertIn("GET %s/server-side/push?" % stub.url, ran.out)
        self.assertIn("u=" + uuid_of("u-1"), ran.out)
        ran = self.finish(self.spawn(argv + ("--from", self.file(WIDE))))
        self.assertEqual((ran.status, ran.err), (0, ""))
        for user in USERS:
            self.assertIn(uuid_of(user), ran.out)
        self.assertNothingArrived(stub)

    def test_a_dry_run_never_shows_the_key(self):
        for key in (KEY, "s%cr+t/&=k y", '"q"\\k'):
            settings = self.file(
                json.dumps({"accountId": 1, "sdkKey": key}), "settings")
            forms = {key, urllib.parse.quote(key), urllib.parse.quote(key, ""),
                     urllib.parse.quote_plus(key), json.dumps(key)[1:-1]}
            for argv in (("plan", "pro", "u-1"), ("--event-arch", "plan", "pro", "u-1"),
                         ("--from", self.file(WIDE)), ("plan", "\u20ac" * 255, "u-1")):
                with self.subTest(key=key, argv=argv):
                    ran = self.main("--settings", settings, "--dry-run", *argv)
                    self.assertEqual((ran.status, ran.err), (0, ""))
                    self.assertRegex(ran.out, "env=X+")
                    self.assertEqual([f for f in forms if f in ran.out], [])

    def test_a_dry_run_needs_no_certificates_and_no_proxy(self):
        with mock.patch.dict(os.environ, SSL_CERT_FILE=self.path("missing"),
                             HTTPS_PROXY="nonsense://"):
            ran = self.main("--dry-run", "plan", "pro", "u-1", *CREDENTIALS)
            self.assertEqual((ran.status, ran.err), (0, ""))
            ran = self.main("plan", "pro", "u-1", *CREDENTIALS)
            self.assertEqual((ran.status, ran.out), (2, ""))

    def test_a_dry_run_says_what_a_push_would_be_refused_for(self):
        ran = self.main("--dry-run", "plan", "v" * 256, "u-1", *CREDENTIALS)
        self.assertSaid(ran, 2, "longer than 255")
        ran = self.main("--dry-run", "--from", self.file("user_id,a\nu,\nu,b\n"),
                        *CREDENTIALS)
        self.assertSaid(ran, 1, "1 rejected: custom_dimension_map is empty")


class OutputTest(CommandCase):

    def closed_pipe(self):
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        return writer

    def test_a_closed_pipe_is_one_line_and_status_1(self):
        big = self.file(long_rows(*range(300)))
        for argv in (("--dry-run", "--from", big), ("--help",), ("--version",),
                     ("--dry-run", "plan", "pro", "u-1")):
            for env in {}, {"PYTHONUNBUFFERED": "1"}:
                with self.subTest(argv, **env):
                    child = self.spawn(CREDENTIALS + argv, stdout=self.closed_pipe(),
                                       env=env)
                    self.assertSaid(self.finish(child), 1, "the output")

    @unittest.skipUnless(POSIX, "needs sh")
    def test_head_gets_its_line_and_the_rest_is_one_line(self):
        argv = CREDENTIALS + ("--dry-run", "--from", self.file(long_rows(*range(2000))))
        child = self.spawn(argv)
        self.assertTrue(child.stdout.readline().startswith(b"GET https://"))
        child.stdout.close()
        child.stdout = None
        self.assertSaid(self.finish(child), 1, "the output")

    @unittest.skipUnless(POSIX, "needs sh")
    def test_output_and_errors_into_one_closed_pipe_end_with_status_1(self):
        child = self.spawn(CREDENTIALS + ("--dry-run", "plan", "pro", "u-1"),
                           closed="2>&1", stdout=self.closed_pipe())
        self.assertEqual(self.finish(child), (1, "", ""))
        child = self.spawn(["plan"], stderr=self.closed_pipe())
        self.assertEqual(self.finish(child), (2, "", ""))

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_a_full_disk_is_one_line(self):
        with open("/dev/full", "wb") as full:
            child = self.spawn(CREDENTIALS + ("--dry-run", "plan", "pro", "u-1"),
                               stdout=full)
        self.assertSaid(self.finish(child), 1, "No space left")

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_rejects_on_a_full_disk_are_said_after_the_summary(self):
        for bad in (1, 9000):
            rows = self.file("user_id,a\n" + "u,\n" * bad + "v,w\n")
            ran = self.send(self.stub(), "--from", rows, "--rejects", "/dev/full")
            self.assertEqual(ran.status, 1)
            self.assertRegex(ran.out, r"^read \d+, delivered \d, rejected \d+, ")
            self.assertIn("the rejects cannot be written: ", ran.err)
            self.assertNotIn("read 9001", ran.out)  # it stops when it notices

    @unittest.skipUnless(POSIX, "needs sh")
    def test_streams_that_were_closed_at_the_start_do_no_harm(self):
        stub = self.stub()
        argv = ("--base-url", stub.url) + CREDENTIALS
        push = ("plan", "pro", "u-1")
        self.assertSaid(self.finish(self.spawn(argv + ("--from", "-"), closed="<&-")),
                        2, "stdin")
        self.assertEqual(self.finish(self.spawn(argv + push, closed=">&-")),
                         (0, "", ""))
        self.assertEqual(self.finish(self.spawn(argv + push[:2], closed="2>&-")),
                         (2, "", ""))
        self.assertArrived(stub, {"u-1": {"plan": "pro"}})


class FormatTest(CommandCase):

    def test_the_same_users_arrive_from_all_formats(self):
        bom = "\ufeff"
        for name, content, rows in (
                ("wide", WIDE, 3), ("long", LONG, 5), ("json", JSONL, 3),
                ("byte order mark", bom + WIDE, 3), ("with json", bom + JSONL, 3),
                ("blank lines", "\n\n" + WIDE.replace("\nu-2", "\n\n\nu-2") + "\n", 3),
                ("in json", "\n \n" + JSONL.replace("\n", "\n\n"), 3),
                ("no last line end", JSONL[:-1], 3), ("nor in csv", WIDE[:-1], 3),
                ("fed back", "user_id,plan,city,vwo_push_error\n"
                 "u-1,free,Bern,x\nu-2,pro,,\"y\nz\"\n"
                 "u-3,\"a,\n\"\"b\"\"\",\u00fc +%,\n", 3),
                ("other columns first", "city,user_id,plan\nBern,u-1,free\n,u-2,pro\n"
                 "\u00fc +%,u-3,\"a,\n\"\"b\"\"\"\n", 3),
                ("CRLF in json", JSONL.replace("\n", "\r\n"), 3)):
            with self.subTest(name):
                stub = self.stub()
                self.assertSummary(self.backfill(stub, content), 0, rows, rows, 0, 0)
                self.assertArrived(stub, USERS)
                self.assertEqual(self.read("rejects"), b"")

    def test_line_ends_of_windows_are_no_part_of_a_value(self):
        stub = self.stub()
        content = '"user_id","n"\r\n"u-1","1"\r\nu-2,2\r\n'
        self.assertSummary(self.backfill(stub, content), 0, 2, 2, 0, 0)
        self.assertArrived(stub, numbered(1, 2))

    def test_standard_input_is_read_like_a_file(self):
        stub = self.stub()
        with open(self.file(WIDE), "rb") as source, mock.patch("sys.stdin", source):
            self.assertSummary(self.send(stub, "--from", "-"), 0, 3, 3, 0, 0)
            self.assertFalse(source.closed)
        self.assertArrived(stub, USERS)

    def test_a_file_that_cannot_be_used_is_one_line(self):
        stub = self.stub()
        for content, text in (
                ("user_id;plan\nu;v\n", "comma"), ("id,plan\nu,v\n", "user_id"),
                ("user_id,a,a\nu,1,2\n", "twice"), ("user_id\nu\n", "beside user_id"),
                ("user_id,vwo_push_error\nu,x\n", "beside user_id"),
                ("[1]\n", "user_id"), (b"\xff\xfeu\0s\0", "user_id"),
                ('user_id,"' + "a" * 1000001 + '"\nu,v\n', "header")):
            with self.subTest(content[:30]):
                self.file("kept", "rejects")
                ran = self.backfill(stub, content)
                self.assertEqual(ran.out, "")
                self.assertSaid(ran, 2, text)
                self.assertEqual(self.read("rejects"), b"kept")
        self.assertSaid(self.send(stub, "--from", self.folder), 2, self.folder)
        self.assertNothingArrived(stub)

    def test_an_input_that_breaks_off_is_settled_and_said(self):
        class Broken(io.RawIOBase):
            def readable(self):
                return True

            def readinto(self, buffer):
                if not self.pieces:
                    raise OSError(errno.EIO, "Input/output error")
                buffer[:len(self.pieces[0])] = self.pieces[0]
                return len(self.pieces.pop())
        for status, rejected in (400, 3), (200, 0):
            Broken.pieces = [long_rows(1, 2, 3).encode()]
            with mock.patch.object(vwo_push, "_open_source",
                                   lambda name: io.BufferedReader(Broken())):
                ran = self.send(self.stub(status), "--from", "-",
                                "--rejects", self.path(str(status)))
            self.assertSummary(ran, 1, 3, 3 - rejected, rejected, 0)
            self.assertIn("cannot be read after row 3: Input/output error", ran.err)
            self.assertEqual(self.read(str(status)).count(b"http 400"), rejected)

    def test_rows_that_are_kept_nowhere_are_not_lost_in_silence(self):
        rows = self.file(long_rows(1, 2))
        ran = self.send(self.stub(400), "--from", rows)
        self.assertSummary(ran, 1, 2, 0, 2, 0)
        self.assertIn("--rejects FILE", ran.err)
        ran = self.backfill(self.stub(400), long_rows(1, 2))
        self.assertNotIn("--rejects FILE", ran.err)

    def test_no_row_is_no_error(self):
        """The rejects of a run that had none, fed back."""
        for content in ("user_id,plan\n", "", "\n \n", "\ufeff"):
            with self.subTest(content):
                self.file("old", "rejects")
                ran = self.backfill(self.stub(), content)
                self.assertSummary(ran, 0, 0, 0, 0, 0)
                self.assertEqual(ran.err, "")
                self.assertEqual(self.read("rejects"), b"")

    def test_skip_passes_over_rows_of_every_format(self):
        for content, skip, read, users in (
                (WIDE, 2, 3, {"u-3": USERS["u-3"]}),
                (JSONL, 2, 3, {"u-3": USERS["u-3"]}),
                (LONG, 3, 5, {"u-3": USERS["u-3"]}),
                ("user_id,n\nragged\n\nu-1,1\n", 1, 2, numbered(1)),
                ("{\n\n" + JSONL[:JSONL.index("\n")], 1, 2, {"u-1": USERS["u-1"]}),
                (WIDE, 9, 3, {}), (WIDE, 0, 3, USERS)):
            with self.subTest(content=content, skip=skip):
                stub, skipped = self.stub(), min(skip, read)
                ran = self.backfill(stub, content, "--skip", str(skip))
                self.assertSummary(ran, 0, read, read - skipped, 0, skipped)
                self.assertArrived(stub, users)


class RejectsTest(CommandCase):

    def assertRejectedForGood(self, content, *whys):
        """All of *content* is rejected, for *whys*, and so is what was rejected."""
        stub = self.stub()
        number = len(whys)
        ran = self.backfill(stub, content)
        self.assertSummary(ran, 1, number, 0, number, 0)
        rejects = self.read("rejects")
        for why in whys:
            self.assertTrue(why.encode() in rejects, (why, rejects[:300]))
            self.assertIn(why, ran.err)
        self.assertSummary(self.backfill(stub, rejects), 1, number, 0, number, 0)
        self.assertTrue(self.read("rejects") == rejects, rejects[:300])
        self.assertNothingArrived(stub)
        return rejects

    def test_a_bad_row_is_rejected_again_and_never_shifted(self):
        for row, why in (
                ("u", "1 cells instead of 3"), ("u,a", "2 cells instead of 3"),
                ("u,a,b,c", "4 cells instead of 3"), ("u,a,\"x\ry\",c", "4 cells"),
                ("u,\"x\ry\"", "2 cells"), ("u,,", "custom_dimension_map is empty"),
                (",a,b", "user_id is empty"),
                ("u,%s,b" % ("v" * 256), "longer than 255"),
                ("u,%s,b" % ("v" * 200000), "longer than 255"), ("u,a\0,b", "NUL"),
                ("u,a,b,\"\0\"", "4 cells"), ("u,\"\n\",\"a,\"\"b\",c", "4 cells"),
                ("u,\"never closed", "2 cells")):
            with self.subTest(row=row[:20]):
                self.assertRejectedForGood("user_id,plan,city\n" + row, why)

    def test_a_byte_that_is_not_utf_8_is_kept_as_it_was(self):
        rejects = self.assertRejectedForGood(
            b"user_id,plan\nu,\xff\n\xe9,x\nu,y\xc3", "cannot be encoded as UTF-8",
            "custom_dimension_value", "user_id cannot")
        self.assertIn(b"u,\xff,", rejects)
        self.assertRejectedForGood(b'{"user_id": "u", "dimensions": {"a": "\xff"}}\n'
                                   b'{"user_id": "\\ud800", "dimensions": {"a": "b"}}',
                                   "custom_dimension_value cannot", "user_id cannot")

    def test_a_bad_row_of_a_long_file_is_rejected_again(self):
        self.assertRejectedForGood(
            "user_id,key,value\nu,plan,\nu,,v\nu,vwo_fs_environment,v\nu,k",
            "custom_dimension_value is empty", "custom_dimension_key is empty",
            "reserved", "2 cells instead of 3")

    def test_a_bad_line_of_json_is_rejected_again(self):
        for line, why in (
                ("{", "not JSON"), ("{'user_id': 1}", "not JSON"),
                ("nonsense", "not JSON"),
                ("[1]", "not a JSON object"), ("7", "not a JSON object"),
                ("{}", "dimensions is not an object"),
                ('{"user_id": "u"}', "dimensions is not an object"),
                ('{"user_id": "u", "dimensions": []}', "dimensions is not an object"),
                ('{"user_id": "u", "dimensions": {}}', "custom_dimension_map is empty"),
                ('{"dimensions": {"a": "b"}}', "user_id is not a str"),
                ('{"user_id": null, "dimensions": {"a": "b"}}', "user_id is not a str"),
                ('{"user_id": 7, "dimensions": {"a": "b"}}', "user_id is not a str"),
                ('{"user_id": "u", "dimensions": {"a": 1}}', "value is not a str"),
                ('{"user_id": "u", "dimensions": {"a": NaN}}', "value is not a str"),
                ('{"vwo_push_line": "{"}', "not JSON"),
                ('{"user_id": "u\0", "dimensions": {}}', "not JSON"),
                ("[" * 100000, "")):
            with self.subTest(line[:50]):
                self.assertRejectedForGood(" {\n%s\n" % line, "not JSON", why)
        rejects = self.assertRejectedForGood("{1}\r\n", "not JSON")
        self.assertEqual([json.loads(line) for line in rejects.splitlines()],
                         [{"vwo_push_line": "{1}", "vwo_push_error": "not JSON"}])

    def test_a_line_that_was_no_json_is_pushed_once_it_is_mended(self):
        stub = self.stub()
        line = JSONL.splitlines()[0]
        content = json.dumps({"vwo_push_line": line, "vwo_push_error": "x"})
        self.assertSummary(self.backfill(stub, content), 0, 1, 1, 0, 0)
        self.assertArrived(stub, {"u-1": USERS["u-1"]})

    def test_a_quote_that_is_never_closed_takes_no_row_in_silence(self):
        stub = self.stub()
        rows = ["u-%d,%s" % (number, "x" * 50) for number in range(20)]
        with mock.patch.object(vwo_push, "MAX_LINE_CHARS", 300):
            ran = self.backfill(stub, "user_id,plan\nu,\"" + "\n".join(rows))
        arrived = [triple[0] for received in stub.take_all()
                   for triple in read_back(received)]
        rejects = self.read("rejects").decode()
        self.assertEqual(ran.status, 1)
        self.assertIn("longer than 300 characters", ran.err)
        for number in range(20):
            missing = "u-%d,xxx" % number not in rejects
            self.assertEqual(uuid_of("u-%d" % number) in arrived, missing, number)
        self.assertNotIn(uuid_of("u"), arrived)

    def test_the_end_of_an_over_long_line_is_no_row(self):
        stub = self.stub()
        with mock.patch.object(vwo_push, "MAX_LINE_CHARS", 300):
            ran = self.backfill(stub, "user_id,n\nu,%s,x\nu-1,1\n" % ("a" * 300))
        self.assertSummary(ran, 1, 3, 1, 2, 0)
        self.assertArrived(stub, numbered(1))

    def test_a_value_of_255_characters_is_delivered_and_one_of_256_is_not(self):
        stub, fits = self.stub(), "\U0001f600" * 255
        ran = self.backfill(stub, "user_id,a\nu-1,%s\nu-2,%s\xe9\n" % (fits, fits))
        self.assertSummary(ran, 1, 2, 1, 1, 0)
        self.assertArrived(stub, {"u-1": {"a": fits}})
        self.assertIn(b"u-2,", self.read("rejects"))

    def test_what_the_server_refused_is_delivered_when_it_is_fed_back(self):
        cells = WIDE.replace("Bern", '"B\rn"')
        users = dict(USERS, **{"u-1": {"plan": "free", "city": "B\rn"}})
        for name, content, rows, expected in (
                ("wide", cells, 3, users), ("long", LONG, 5, USERS),
                ("json", JSONL, 3, USERS)):
            with self.subTest(name):
                stub = self.stub(400)
                self.assertSummary(self.backfill(stub, content), 1, rows, 0, rows, 0)
                self.assertIn(b"http 400, attempts: 1", self.read("rejects"))
                stub.take_all()
                stub.answers.append(200)
                stub.answers.popleft()
                ran = self.backfill(stub, self.read("rejects"))
                self.assertSummary(ran, 0, rows, rows, 0, 0)
                self.assertArrived(stub, expected)
                self.assertEqual(self.read("rejects"), b"")

    def test_the_reasons_are_counted_on_stderr(self):
        ran = self.backfill(self.stub(), "user_id,a\nu,\nu,\nu\n")
        self.assertEqual(ran.err,
                         "vwo_push: 2 rejected: custom_dimension_map is empty\n"
                         "vwo_push: 1 rejected: 1 cells instead of 2\n")

    def test_rejects_must_not_be_the_file_that_is_read(self):
        stub, path = self.stub(), self.file(long_rows(1))
        names = [path]
        if POSIX:
            os.symlink(path, self.path("symbolic"))
            os.link(path, self.path("hard"))
            names += [self.path("symbolic"), self.path("hard")]
        for name in names:
            with self.subTest(name), open(path, "rb") as stdin:
                with mock.patch("sys.stdin", stdin):
                    for source in (path, "-"):
                        ran = self.send(stub, "--from", source, "--rejects", name)
                        self.assertSaid(ran, 2, "--rejects")
        self.assertEqual(self.read("in").decode(), long_rows(1))
        self.assertNothingArrived(stub)

    def test_rejects_are_kept_where_an_option_is_wrong(self):
        self.file("kept", "rejects")
        ran = self.backfill(self.stub(), WIDE, "--timeout", "-1")
        self.assertSaid(ran, 2, "timeout")
        self.assertEqual(self.read("rejects"), b"kept")

    def test_rejects_that_cannot_be_opened_are_said_before_anything_is_sent(self):
        stub = self.stub()
        self.assertSaid(self.send(stub, "--from", self.file(WIDE), "--rejects",
                                  self.folder), 2, self.folder)
        self.assertNothingArrived(stub)


class RoomTest(CommandCase):

    def test_waiting_for_room_drops_nothing(self):
        stub = self.stub()
        stub.gate.clear()
        opener = threading.Thread(target=lambda: (stub.take(), stub.gate.set()))
        opener.start()
        self.addCleanup(opener.join, TIMEOUT)
        with mock.patch.object(vwo_push, "MAX_BACKFILL_PENDING", 5):
            ran = self.backfill(stub, long_rows(*range(40)))
        self.assertSummary(ran, 0, 40, 40, 0, 0)
        self.assertEqual(ran.err, "")

    def test_no_more_rows_are_read_than_there_is_room_for(self):
        stub = self.stub()
        stub.gate.clear()
        child = self.spawn(
            ("--base-url", stub.url, "--from", "-") + CREDENTIALS,
            "vwo_push.MAX_BACKFILL_PENDING = 5\n"
            "real = vwo_push._Backfill._wait\n"
            "def wait(self, client):\n"
            "    os.write(2, b'%d %d,' % (self.read, client.stats()['pending']))\n"
            "    real(self, client)\n"
            "vwo_push._Backfill._wait = wait")
        child.stdin.write(long_rows(*range(40)).encode())
        child.stdin.close()
        child.stdin = None
        self.assertEqual(os.read(child.stderr.fileno(), 4), b"6 5,")
        stub.gate.set()
        ran = self.finish(child, None)
        self.assertSummary(ran, 0, 40, 40, 0, 0)
        self.assertArrived(stub, numbered(*range(40)))

    def test_a_row_with_more_dimensions_than_room_is_rejected(self):
        stub = self.stub()
        with mock.patch.object(vwo_push, "MAX_BACKFILL_PENDING", 2):
            ran = self.backfill(stub, "user_id,a,b,c\nu-1,1,2,3\nu-2,1,,3\n")
        self.assertSummary(ran, 1, 2, 1, 1, 0)
        self.assertArrived(stub, {"u-2": {"a": "1", "c": "3"}})
        self.assertIn(b"u-1,1,2,3,more than 2 dimensions", self.read("rejects"))

    def test_a_backfill_needs_no_thread(self):
        stub = self.stub()
        child = self.spawn(
            ("--base-url", stub.url, "--from", "-") + CREDENTIALS,
            "vwo_push.MAX_BACKFILL_PENDING = 5\n"
            "def start(self): raise RuntimeError(\"can't start new thread\")\n"
            "vwo_push.threading.Thread.start = start")
        ran = self.finish(child, long_rows(*range(12)).encode())
        self.assertSummary(ran, 0, 12, 12, 0, 0)
        self.assertEqual(ran.err, "")
        self.assertArrived(stub, numbered(*range(12)))

    @unittest.skipUnless(POSIX, "needs getrusage")
    def test_a_long_stream_is_read_in_constant_memory(self):
        child = self.spawn(
            ("--from", "-", "--skip", "1000000") + CREDENTIALS,
            "import atexit, resource\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "vwo_push._load(True)\n"
            "before = peak()\n"
            "atexit.register(lambda: sys.stderr.write(str(peak() - before)))")
        ran = self.finish(child, b"user_id,n\n" + (b"u," + b"x" * 400 + b"\n") * 60000)
        self.assertSummary(ran, 0, 60000, 0, 0, 60000)
        scale = 1 if sys.platform == "darwin" else 1024
        self.assertLess(int(ran.err) * scale, 20000000)


class ProgressTest(CommandCase):

    def test_plain_lines_come_at_intervals_where_stderr_is_no_terminal(self):
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            progress = vwo_push._Progress(100, lambda: 50)
            progress.show(1, 0)
            with mock.patch("vwo_push.monotonic", lambda: progress._began + 10.5):
                progress.show(21, 2)
                progress.show(22, 2)
        self.assertEqual(err.getvalue(),
                         "vwo_push: 21 done, 2/s, 2 failed, 10 s left\n")

    @unittest.skipUnless(POSIX, "needs a pseudo-terminal")
    def test_a_terminal_shows_count_rate_failures_and_time_left(self):
        import pty
        stub = self.stub()
        stub.gate.clear()
        content = "user_id,n\n" + "".join(
            "u-%d,%s\n" % (number, "x" * 250) for number in range(80))
        terminal, slave = pty.openpty()
        self.addCleanup(os.close, terminal)
        child = self.spawn(("--base-url", stub.url, "--from", self.file(content))
                           + CREDENTIALS, "vwo_push.MAX_BACKFILL_PENDING = 9",
                           stderr=slave)
        os.close(slave)
        shown = b""
        while b"done" not in shown:
            shown += os.read(terminal, 1000)
        stub.gate.set()
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while True:
                shown += os.read(terminal, 1000) or self.fail("the end")
        self.assertSummary(self.finish(child), 0, 80, 80, 0, 0)
        text = shown.decode()
        self.assertRegex(text, r"\r\x1b\[K\d+ done, \d+/s, 0 failed, \d+ s left")
        self.assertRegex(text, r"\r\x1b\[K80 done, \d+/s, 0 failed\r\n$")
        self.assertEqual(text.count("\n"), 1)


@unittest.skipUnless(POSIX, "needs signals")
class InterruptTest(CommandCase):
    """Ctrl-C at any moment: delivered + rejected + skipped == read, and the rest is
    delivered by a second run with the --skip that the first one named."""

    def interrupted(self, ran):
        """The numbers that an interrupted run printed, checked."""
        self.assertEqual(ran.status, 130, ran)
        read, delivered, rejected, skipped = map(int, re.findall(r"\d+", ran.out))
        self.assertEqual(read, delivered + rejected + skipped)
        self.assertTrue(ran.err.endswith(
            "vwo_push: interrupted; resume with --skip %d\n" % read), ran)
        return read, delivered, rejected, skipped

    def interrupting(self, number):
        """Answers of which the one with this number comes after a Ctrl-C."""
        def answer(handler):
            os.kill(os.getpid(), signal.SIGINT)
            handler.reply(200)
        return [200] * number + [answer, 200]

    def interrupt_the_wait(self, child):
        """Press Ctrl-C once it waits; return when it has noticed."""
        self.assertEqual(child.stderr.read(1), b"0")
        child.send_signal(signal.SIGINT)
        while child.stderr.read(1) == b"0":
            pass

    def test_a_resumed_backfill_delivers_every_row_exactly_once(self):
        for number in (0, 1, 4, 9):
            for content in (long_rows(*range(60)), "".join(
                    json.dumps({"user_id": user, "dimensions": dimensions}) + "\n"
                    for user, dimensions in numbered(*range(60)).items())):
                with self.subTest(number=number, content=content[:10]):
                    stub = self.stub(*self.interrupting(number))
                    before = signal.getsignal(signal.SIGINT)
                    with mock.patch.object(vwo_push, "MAX_BACKFILL_PENDING", 4):
                        first = self.backfill(stub, content)
                        read, delivered, rejected, _ = self.interrupted(first)
                        self.assertEqual((delivered, rejected), (read, 0))
                        self.assertLess(read, 60)
                        second = self.backfill(stub, content, "--skip", str(read))
                    self.assertSummary(second, 0, 60, 60 - read, 0, read)
                    self.assertArrived(stub, numbered(*range(60)))
                    self.assertIs(signal.getsignal(signal.SIGINT), before)

    def test_ctrl_c_ends_the_wait_for_input(self):
        stub = self.stub()
        child = self.spawn(("--base-url", stub.url, "--from", "-") + CREDENTIALS)
        child.stdin.write(long_rows(1, 2, 3).encode() + b"u-4,")
        child.stdin.flush()
        seen = 0
        while seen < 3:
            seen += len(read_back(stub.take()))
        child.send_signal(signal.SIGINT)
        child.wait(TIMEOUT)
        self.assertEqual(self.interrupted(self.finish(child, None)), (3, 3, 0, 0))

    def test_ctrl_c_just_before_a_read_ends_it_too(self):
        child = self.spawn(("--from", "-") + CREDENTIALS,
                           "def set(self, name, value):\n"
                           "    if name == '_reading' and value:\n"
                           "        os.kill(os.getpid(), 2)\n"
                           "        for _ in range(1000): pass  # it comes in here\n"
                           "    object.__setattr__(self, name, value)\n"
                           "vwo_push._Backfill.__setattr__ = set")
        child.stdin.write(b"user_id,n\n")
        child.stdin.flush()
        child.wait(TIMEOUT)
        self.assertEqual(self.interrupted(self.finish(child, None)), (0, 0, 0, 0))

    def test_ctrl_c_before_the_header_is_one_line(self):
        child = self.spawn(("--from", "-") + CREDENTIALS,
                           "real = vwo_push._open_rows\n"
                           "def open_rows(text):\n"
                           "    os.write(1, b'x')\n"
                           "    return real(text)\n"
                           "vwo_push._open_rows = open_rows")
        child.stdout.read(1)
        child.send_signal(signal.SIGINT)
        child.wait(TIMEOUT)
        self.assertSaid(self.finish(child, None), 130, "interrupted")

    def test_ctrl_c_while_waiting_for_room_leaves_the_row_to_the_next_run(self):
        stub = self.stub()
        stub.gate.clear()
        content = long_rows(*range(20))
        child = self.spawn(
            ("--base-url", stub.url, "--from", self.file(content)) + CREDENTIALS,
            WAITING + "vwo_push.MAX_BACKFILL_PENDING = 5")
        self.interrupt_the_wait(child)
        stub.gate.set()
        self.assertEqual(self.interrupted(self.finish(child)), (5, 5, 0, 0))
        self.assertSummary(self.backfill(stub, content, "--skip", "5"), 0, 20, 15, 0, 5)
        self.assertArrived(stub, numbered(*range(20)))

    def test_ctrl_c_while_the_last_rows_are_settled_adds_up(self):
        stub = self.stub()
        stub.gate.clear()
        rows = self.file(long_rows(1, 2))
        child = self.spawn(("--base-url", stub.url, "--from", rows) + CREDENTIALS,
                           WAITING)
        self.interrupt_the_wait(child)
        stub.gate.set()
        self.assertEqual(self.interrupted(self.finish(child)), (2, 2, 0, 0))

    def test_a_second_ctrl_c_ends_at_once_and_rejects_what_is_left(self):
        stub = self.stub()
        stub.gate.clear()
        content = long_rows(*range(9))
        child = self.spawn(
            ("--base-url", stub.url, "--from", self.file(content), "--rejects",
             self.path("rejects")) + CREDENTIALS,
            "vwo_push.MAX_BACKFILL_PENDING = 5\n"
            "real = vwo_push._Backfill.on_interrupt\n"
            "def on_interrupt(self, *args):\n"
            "    os.write(2, b'x')\n"
            "    real(self, *args)\n"
            "vwo_push._Backfill.on_interrupt = on_interrupt")
        stub.take()
        child.send_signal(signal.SIGINT)
        child.stderr.read(1)
        child.send_signal(signal.SIGINT)
        child.wait(8)  # less than the 10 s that one Ctrl-C grants
        read, delivered, rejected, _ = self.interrupted(self.finish(child))
        self.assertEqual((delivered, rejected), (0, read))
        rejects = self.read("rejects").decode()
        self.assertEqual(rejects.count("closed, attempts: "), read)
        stub.gate.set()
        stub.take_all()
        self.assertSummary(self.backfill(stub, rejects), 0, read, read, 0, 0)
        ran = self.backfill(stub, content, "--skip", str(read))
        self.assertSummary(ran, 0, 9, 9 - read, 0, read)


# -- The README ------------------------------------------------------------------------

class ReadmeTest(Case):
    """What the README shows is run; what it lists is what there is."""

    @classmethod
    def setUpClass(cls):
        with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
            cls.text = file.read()

    def run_block(self, block, stub):
        made, connected = [], []
        celery = types.SimpleNamespace(worker_process_shutdown=types.SimpleNamespace(
            connect=connected.append))

        class Client(vwo_push.Client):
            def __init__(self, *args, **options):
                super().__init__(*args, base_url=stub.url, **options)
                made.append(self)

        with mock.patch.object(vwo_push, "Client", Client), \
                mock.patch.object(signal, "signal"), \
                mock.patch.dict(sys.modules, {"celery": None, "celery.signals": celery}):
            scope = {"client": Client(ACCOUNT, KEY)}
            exec(block, scope)
            if "handler" in scope:
                event = {"plan": "premium", "user": "u-1"}
                self.assertEqual(scope["handler"](event, None), {"tagged": True})
            for hook in connected:
                hook()
        for client in made:
            self.assertTrue(client.flush(TIMEOUT))
            client.close()
        return sum(client.stats()["delivered"] for client in made)

    def test_every_python_block_runs_against_a_collector(self):
        delivered = [self.run_block(block, self.stub())
                     for block in re.findall(r"```python\n(.*?)```", self.text, re.S)]
        self.assertEqual(delivered, [2, 1, 0, 0])  # the last two are hooks

    def test_the_table_of_options_is_the_signature(self):
        table = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", self.text, re.M))
        parameters = inspect.signature(vwo_push.Client).parameters
        options = {name: parameter.default for name, parameter in parameters.items()
                   if parameter.kind is parameter.KEYWORD_ONLY}
        for name, default in options.items():
            shown = table[name]
            if shown.startswith("`"):
                self.assertEqual(eval(shown.strip("`")), default, name)

    def test_every_public_name_and_test_it_claims_is_there(self):
        for name in vwo_push.__all__:
            self.assertIn("`" + name + "(", self.text.replace("with `", "`"))
        for name in set(re.findall(r"`(\w+Test)`", self.text)):
            self.assertTrue(issubclass(globals()[name], unittest.TestCase))

    def test_the_version_is_in_the_changes(self):
        changes = self.text.partition("## Changes")[2]
        self.assertIn("**%s**" % vwo_push.__version__, changes)


if __name__ == "__main__":
    unittest.main()
