"""Tests of vwo_push: ``python3 -m unittest``. Nothing leaves this machine.

The stub collector is a real HTTP server on a real loopback socket. Tests wait for it
through gates and events, never by sleeping; what needs a fresh interpreter runs in a
subprocess and is bounded from outside.

What is shown where:

    PushTest                                a push arrives, and the ways to make one
    ValidationTest RefusalTest              what push takes, and how it says why not
    OptionsTest SecretsTest                 what Client takes, and what nothing shows
    UuidTest FmeTest GoldenTest             what is sent: as the official SDKs send it,
    HostileTextTest                         as 1.0.1 sent it, and whatever the text
    BatchingTest                            what goes together, where to, and the answer
    FromSettingsTest FetchSettingsTest      the settings file
    ModuleTest                              what an import and a construction cost
    FlushTest CloseTest BoundTest           waiting, ending, memory
    ThreadsTest OnResultTest RacesTest      workers and callbacks
    InterruptsTest ReentranceTest           signal handlers that raise, or that push
    ExitTest ForkTest                       the ends and the children of processes
    CopiesTest                              in sub-interpreters; zipped, renamed, twice
    RetryTest RetryAfterTest DeadlineTest   when an attempt ends, and another begins
    KeepAliveTest ConnectTest TlsTest       the connection of a worker
    ProxyTest TransportTest ClockTest       what stands between it and the server
    WhyTest                                 each way to fail says why
    CommandTest CheckTest                   the command line: one push, and a check
    FilesTest BackfillTest                  many pushes: read, written, and left over
    ReadmeTest                              the README is true
"""

import ast
import collections
import contextlib
import copy
import decimal
import enum
import errno
import fractions
import functools
import gc
import gzip
import http.server
import importlib.util
import inspect
import io
import itertools
import json
import locale
import logging
import multiprocessing
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
import weakref
import zipfile
from unittest import mock

import vwo_push

TIMEOUT = 60  # seconds; only a failing test ever waits as long, even under qemu
ACCOUNT = 12345
KEY = "0123456789abcdef0123456789abcdef"  # made up
HERE = os.path.dirname(os.path.abspath(vwo_push.__file__))
FILE = vwo_push.Client.push.__code__.co_filename
SECRET = "S3NTINEL"  # what must never show, wherever it is put in
EMOJI = "\U0001f600"
PYPY = sys.implementation.name == "pypy"
POSIX = os.name == "posix"
PYTHON = sys.executable, "-S"  # what is installed on this machine has no say, nor a cost

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

Received = collections.namedtuple("Received", "method path query headers body port target")
Ran = collections.namedtuple("Ran", "status out err")


def setUpModule():
    # A shell that starts us in the background has Ctrl-C ignored, also in our children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # No proxy and no certificate of this machine has a say.
    for name in list(os.environ):
        if re.search("(?i)_proxy$|^request_method$|^ssl", name):
            del os.environ[name]


def strict(text):
    """Read JSON; refuse NaN, and a member that comes twice."""
    def once(pairs):
        assert len(dict(pairs)) == len(pairs), "a member came twice"
        return dict(pairs)
    return json.loads(text, object_pairs_hook=once, parse_constant=int)


def read_back(received):
    """The (visitor UUID, key, value) triples that a strict server reads."""
    if received.path.endswith("/server-side/push"):
        tags = strict(received.query["tags"])
        return [(received.query["u"], key, value) for key, value in tags["u"].items()]
    body = strict(received.body.decode("ascii"))
    if received.path.endswith("/server-side/batch-events"):
        return [(event["u"], key, value) for event in body["ev"]
                for key, value in strict(event["t"])["u"].items()]
    events = body["ev"] if received.path.endswith("/batch-events-v2") else [body]
    for event in events:
        assert event["d"]["msgId"].startswith(event["d"]["visId"] + "-")
        del event["d"]["visitor"]["props"]["vwo_fs_environment"]
    return [(event["d"]["visId"], key, value) for event in events
            for key, value in event["d"]["visitor"]["props"].items()]


class Stub(socketserver.ThreadingTCPServer):
    """A collector: ``received`` is a queue of what came; answers are scripted.

    ``answers`` holds callables of the handler, or ints (statuses); the last one stays.
    While ``gate`` is shut nothing is answered; what came is in ``received`` already.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *answers):
        self.received = queue.Queue()
        self.answers = collections.deque(answers or [200])
        self.gate = threading.Event()
        self.gate.set()
        self.errors, self.sockets, self.stopping = [], [], False
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        self.thread = started(self.serve)

    def serve(self):  # serve_forever looks around now and then, and a stop waits for that
        while not self.stopping:
            self.handle_request()

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
        return [self.received.get() for _ in range(self.received.qsize())]

    def stop(self):
        self.gate.set()
        self.stopping = True
        with socket.create_connection(self.server_address):  # wakes the thread
            self.thread.join(TIMEOUT)
        self.server_close()
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


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
                                     body, self.client_address[1], self.path))
        assert server.gate.wait(TIMEOUT)
        answers = server.answers
        answer = answers[0] if len(answers) == 1 else answers.popleft()
        if callable(answer):
            answer(self)
        else:
            self.reply(answer)

    do_POST = do_GET
    log_message = lambda *_: None

    def reply(self, status, body=b"ok", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def ok(request, timeout):
    """A transport."""
    return 200


def hang_up(handler):
    """An answer of a stub: none."""
    handler.close_connection = True


def uuid_of(user_id):
    return vwo_push.visitor_uuid(ACCOUNT, user_id)


def printed(data):
    """What a process wrote to a standard stream, as text. Windows has line ends and,
    until 3.15, an encoding of its own."""
    return data.decode(locale.getpreferredencoding(False)).replace(os.linesep, "\n")


def until(condition):
    """Wait for *condition*, where there is no event to wait for."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        threading.Event().wait(0.0005)


def started(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def cases(*rows):
    """A test that is run with each of *rows* as its arguments, in a subtest of its own."""
    def decorate(test):
        @functools.wraps(test)
        def run(self):
            for row in rows:
                with self.subTest(ascii(row)[:99]):
                    test(self, *row)
        return run
    return decorate


class Case(unittest.TestCase):
    """The vocabulary of the tests below. No thread ends with an exception."""

    def setUp(self):
        crashes = []
        self.addCleanup(self.assertEqual, crashes, [])
        self.put("excepthook", lambda args: crashes.append(repr(args.exc_value)), threading)

    def stub(self, *answers, shut=False):
        """A stub with these answers, none of which it gives while its gate is *shut*."""
        stub = Stub(*answers)
        shut and stub.gate.clear()
        self.addCleanup(self.assertEqual, stub.errors, [])
        self.addCleanup(stub.stop)
        return stub

    def client(self, stub=None, **options):
        """A client of *stub* (or of nowhere) whose counters must add up in the end."""
        if "transport" not in options:
            options.setdefault("base_url", stub.url if stub else "http://127.0.0.1:9")
        client = vwo_push.Client(**{"account_id": ACCOUNT, "sdk_key": KEY, **options})
        self.addCleanup(self.assertAddsUp, client)
        self.addCleanup(client.close, 0)
        return client

    def use(self, patch):
        patch.start()
        self.addCleanup(patch.stop)

    def put(self, name, value, where=vwo_push):
        """Set an attribute for the length of this test."""
        self.use(mock.patch.object(where, name, value))

    def written(self, text):
        """The path of a file that holds *text*."""
        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.write(text)
        self.addCleanup(os.remove, file.name)
        return file.name

    def assertAddsUp(self, client):
        stats = client.stats()
        self.assertEqual(stats["pending"], 0, stats)
        self.assertEqual(stats["accepted"], stats["delivered"] + stats["failed"], stats)

    def assertStats(self, client, **expected):
        stats = client.stats()
        self.assertEqual({name: stats[name] for name in expected}, expected)

    def served(self, *answers, shut=False, **options):
        """A stub with these answers, and a client of it with one worker."""
        stub = self.stub(*answers, shut=shut)
        return stub, self.client(stub, max_workers=1, **options)

    def start(self, command, *argv, stub=None):
        """Start a fresh interpreter with *command*; sys.argv[1] is the URL of a stub."""
        stub = stub or self.stub()
        process = self.popen(*PYTHON, *command, stub.url, *map(str, argv))
        process.stub = stub
        return process

    def popen(self, *command, env=(), **options):
        """Start *command* with pipes for its streams. It finds vwo_push, and has an end."""
        for name in ("stdin", "stdout", "stderr"):
            options.setdefault(name, subprocess.PIPE)
        process = subprocess.Popen(
            command, env=dict(os.environ, PYTHONPATH=HERE, **dict(env)), **options)
        watch = threading.Timer(2 * TIMEOUT, process.kill)  # ends every read from its pipes
        watch.start()
        self.addCleanup(process.__exit__, None, None, None)  # closes its pipes
        self.addCleanup(process.kill)
        self.addCleanup(watch.join, TIMEOUT)
        self.addCleanup(watch.cancel)
        return process

    def finish(self, process, content=None, within=TIMEOUT):
        """Wait until *process* has read *content* and ended; return what came of it."""
        if process.stdin and process.stdin.closed:
            process.stdin = None
        out, err = process.communicate(content, within)
        return Ran(process.returncode, printed(out or b""), printed(err or b""))

    def assertRuns(self, source, *args, flags=(), out="", err=""):
        """*source* runs in a fresh interpreter, and writes this. Returns its stderr."""
        ran = self.finish(self.popen(*PYTHON, *flags, "-c", textwrap.dedent(source), *args))
        self.assertEqual((ran.out, ran.status), (out, 0), ran.err)
        self.assertEqual(ran.err, ran.err if err is None else err)
        return ran.err

    def assertNames(self, name, call, *args, **named):
        """The call raises an error that names this, and shows no secret."""
        with self.assertRaisesRegex((TypeError, ValueError), name) as caught:
            call(*args, **named)
        self.assertSecretFree(caught.exception)

    def assertSecretFree(self, error):
        """Neither the error, nor its traceback, nor what it was made from tells."""
        texts = traceback.format_exception(type(error), error, error.__traceback__)
        while error is not None:
            texts += [str(error), repr(error)]
            error = error.__cause__ or error.__context__
        for text in texts:
            self.assertNotIn(SECRET, text)
            self.assertNotIn(KEY, text)


class Quiet(Case):
    """Refused pushes are part of the test and not for the terminal."""

    def setUp(self):
        super().setUp()
        self.put("handlers", [logging.NullHandler()], logging.getLogger("vwo_push"))

    @contextlib.contextmanager
    def held(self, stub, client, flushed=True):
        """What is pushed inside waits together, behind a first push that is with the
        stub. The client has one worker."""
        stub.gate.clear()
        self.assertTrue(client.push("first", "1", "u"))
        stub.take()
        yield
        stub.gate.set()
        self.assertIs(client.flush(TIMEOUT), flushed)

    def backlog(self, stub, client, *pushes):
        """Let *pushes* wait together; return the requests they became."""
        with self.held(stub, client):
            for push in pushes:
                self.assertTrue(client.push(*push))
        return stub.take_all()

    def reporting(self, stub=None, **options):
        """A client, and a list of its results."""
        results = []
        return self.client(stub, on_result=results.append, **options), results

    def deliver(self, stub, client, *push, **named):
        """Make one push; return the requests it became."""
        self.assertIs(client.push(*push, **named), True)
        self.assertIs(client.flush(TIMEOUT), True)
        return stub.take_all()


# -- Push: what it takes, what it refuses, and why -------------------------------------


class Liar(str):
    """A str that lies about everything that it can be asked."""

    __str__ = __repr__ = __format__ = lambda self, *args: "lie"
    __getitem__ = strip = lower = __str__
    __len__ = __hash__ = lambda self: 7
    __bool__ = isascii = lambda self: False
    __eq__ = __ne__ = __contains__ = lambda self, other: True
    encode = lambda self, *args: b"lie"
    __iter__ = lambda self: iter("lie")


class Hostile(collections.UserDict):
    """A mapping that raises its *error* when it is read."""

    def __iter__(self):
        raise self.data["error"]


class Bomb:
    """Whatever is asked of it raises, its class included."""

    def _explode(self, *args):
        raise SystemExit("boom")

    __len__ = __bool__ = __eq__ = __ne__ = __str__ = __repr__ = __iter__ = _explode
    __hash__ = __contains__ = __getitem__ = __getattr__ = __index__ = _explode
    __class__ = property(_explode)


class Masked(type):
    __hash__ = lambda self: 1 / 0
    __name__ = property(__hash__)


Pretender = type("Pretender", (), {"__class__": str})  # isinstance believes it
Series = type("Series", (collections.UserList,), {})  # as pandas' rows: no mapping
Float64 = type("float64", (float,), {})  # as numpy's
Color = enum.IntEnum("Color", "RED")


class PushTest(Quiet):
    MAP = {"plan": "premium", "country": "IN"}
    FORMS = [
        (("plan", "premium", "u-42"), {}), (("plan", "premium"), {"user_id": "u-42"}),
        (("plan",), {"custom_dimension_value": "premium", "user_id": "u-42"}),
        ((), {"custom_dimension_key": "plan", "custom_dimension_value": "premium",
              "user_id": "u-42"}),
        ((MAP, "u-42"), {}), ((MAP,), {"user_id": "u-42"}),
        ((), {"custom_dimension_map": MAP, "user_id": "u-42"}),
        # As from a wrapper that hands on its defaults.
        (("plan", "premium", "u-42"), {"custom_dimension_map": None}),
        ((), {"custom_dimension_map": MAP, "user_id": "u-42",
              "custom_dimension_key": None, "custom_dimension_value": None}),
        ((types.MappingProxyType(MAP), "u-42"), {}),
        ((collections.OrderedDict(MAP), "u-42"), {}),
        ((collections.UserDict(MAP), "u-42"), {}),
        ((collections.ChainMap({"plan": "premium"}, {"country": "IN"}), "u-42"), {}),
        (({"plan": "premium"}, "u-42"), {})]

    def test_a_push_returns_at_once_and_arrives_as_one_get(self):
        stub, client = self.served(shut=True)
        self.assertIs(client.push("plan", "premium", "u-42"), True)
        received = stub.take()  # it is not answered yet, and push has returned
        self.assertStats(client, accepted=1, pending=1, delivered=0)
        stub.gate.set()
        self.assertIs(client.flush(TIMEOUT), True)
        self.assertEqual((received.method, received.path), ("GET", "/server-side/push"))
        self.assertEqual(read_back(received), [(uuid_of("u-42"), "plan", "premium")])
        self.assertStats(client, accepted=1, delivered=1, requests=1, retries=0)

    def test_every_form_of_push_arrives(self):
        for fme in False, True:
            stub, client = self.served(fme=fme)
            for args, named in self.FORMS:
                with self.subTest(fme=fme, args=args, named=named):
                    self.assertEqual(len(client.requests_for(*args, **named)), 1)
                    received, = self.deliver(stub, client, *args, **named)
                    whole = "country" in str(args) + str(named)
                    self.assertCountEqual(read_back(received), [
                        (uuid_of("u-42"), key, value) for key, value in self.MAP.items()
                        if whole or key == "plan"])

    def test_a_map_that_is_changed_afterwards_is_sent_as_it_was(self):
        dimensions, (stub, client) = {"plan": "premium"}, self.served()
        with self.held(stub, client):
            self.assertTrue(client.push(dimensions, "u"))
            dimensions.clear()
        self.assertEqual(read_back(stub.take())[0][1:], ("plan", "premium"))


class ValidationTest(Quiet):
    WRONG = [(text, "must not be empty") for text in ("", Liar())] + [
        (text, "cannot be encoded as UTF-8")
        for text in ("\ud800", "a\udfff", SECRET + "\udc80b", Liar("\ud800"))] + [
        (wrong, "must be a str, not " + type(wrong).__name__)
        for wrong in (None, True, False, 0, 1, 1.5, SECRET.encode(), bytearray(b"plan"),
                      [], [SECRET], ("x",), {"x"}, object(), str, 10 ** 30, Pretender(),
                      Bomb())]
    TOO_LONG = [(text, "must have at most 255 characters, not 256")
                for text in (SECRET * 32, "\xe9" * 256, EMOJI * 256, Liar("x" * 256))]
    FME_WRONG = [  # values of a type that JSON does not have, or too large
        (wrong, "must be a str, bool, int or float, not " + type(wrong).__name__)
        for wrong in (None, [1], {"a": 1}, (1,), b"v", 1j, decimal.Decimal(1),
                      fractions.Fraction(1), Color.RED, Float64(1.5), Liar("v"),
                      Pretender(), Bomb())] + [
        (whole, "must be between -2**53 and 2**53")
        for whole in (2 ** 53 + 1, -2 ** 53 - 1, 10 ** 5000)] + [
        (float("nan"), "must be finite, not nan"), ("", "must not be empty"),
        (float("inf"), "must be finite, not inf"),
        (float("-inf"), "must be finite, not inf"),
        ("\ud800", "cannot be encoded as UTF-8"),
        ("x" * 256, "must have at most 255 characters, not 256")]
    MAP, NAMED = {"plan": SECRET}, {"custom_dimension_map": {"plan": SECRET}}
    EMPTY = "custom_dimension_map must not be empty"
    RESERVED = "custom_dimension_key must not be vwo_fs_environment, which VWO reserves"
    CASES = [
        (("vwo_fs_environment", SECRET, "u"), {}, RESERVED),
        (({"a": "b", Liar("vwo_fs_environment"): SECRET}, "u"), {}, RESERVED),
        (({}, SECRET), {}, EMPTY),
        ((), {"custom_dimension_map": {}, "user_id": SECRET}, EMPTY),
        ((Hostile(error=KeyError(SECRET)), SECRET), {},
         "custom_dimension_map cannot be read: KeyError"),
        ((MAP, "u", "u"), {}, "custom_dimension_key must be a str, not dict"),
        (("plan", SECRET), {"user_id": 5}, "user_id must be a str, not int"),
        (("plan", SECRET), {"user_id": None}, "user_id must be a str, not NoneType")]
    FORM = "push takes (key, value, user_id) or (map, user_id), not (%s)"
    FORMS = [  # that push does not have, and what it says it was given
        ((Series(["a"]), SECRET), {}, "Series, str"),
        (([("plan", SECRET)], "u"), {}, "list, str"), (({SECRET}, "u"), {}, "set, str"),
        ((), {"custom_dimension_map": SECRET, "user_id": "u"}, "str, str"),
        (("u", MAP), {}, "str, dict"), ((), {}, ""), (("plan",), {}, "str"),
        (("k",), {"user_id": SECRET}, "str, str"), (("k", SECRET), {}, "str, str"),
        ((MAP,), {}, "dict"), ((), NAMED, "dict"), (("u",) * 4, {}, "str, str, str, str"),
        (("plan", SECRET, "u", None), {}, "str, str, str, NoneType"),
        ((MAP, "u", "u", "u"), {}, "dict, str, str, str"),
        ((MAP, "u"), NAMED, "dict, str, dict"),
        (("plan", SECRET, "u"), NAMED, "str, str, str, dict"),
        (("plan", SECRET, "u"), {"custom_dimension_map": {}}, "str, str, str, dict"),
        ((MAP, "u"), {"custom_dimension_key": "plan"}, "dict, str, str"),
        ((MAP, "u"), {"custom_dimension_value": "premium"}, "dict, str, str"),
        (("plan", SECRET, "u"), {"user_id": "u"}, "str, str, str, str"),  # given twice
        (("k", SECRET), {"custom_dimension_key": "k"}, "str, str, str"),
        (("plan", SECRET, "u"), {"tag_key": "plan"}, "str, str, str, str"),
        (("plan", SECRET, "u"), {"customDimensionMap": None}, "str, str, str, NoneType"),
        ((), {"self": 1}, "int"), (("k", SECRET, "u"), {"self": 1}, "str, str, str, int")]

    def assertRefused(self, reason, *args, fme=False, named=()):
        """This push is refused; the log and requests_for say why, and no secret."""
        named = dict(named)
        with self.subTest(reason, arguments=len(args)), vwo_push.Client(
                ACCOUNT, SECRET, transport=ok, fme=fme) as client:
            with self.assertRaises(ValueError) as caught:
                client.requests_for(*args, **named)
            self.assertEqual(str(caught.exception), reason)
            with self.assertLogs(None, "DEBUG") as logs:
                self.assertIs(client.push(*args, **named), False)
                self.assertIs(client.push(*args, **named), False)
            self.assertStats(client, accepted=0, dropped=0, invalid=2)
            self.assertEqual(logs.output, [
                "WARNING:vwo_push:push refused: %s (1)" % reason])
            self.assertNotIn(SECRET, repr(vars(logs.records[0])))
            self.assertIsNone(logs.records[0].exc_info)

    def test_what_is_no_text_or_value_is_refused_by_its_name(self):
        """A map with one bad entry is refused whole."""
        key, value = "custom_dimension_key ", "custom_dimension_value "
        for wrong, words in self.WRONG + self.TOO_LONG:
            self.assertRefused(key + words, wrong, "premium", "u")
            self.assertRefused(key + words, wrong, 30, "u", fme=True)
            self.assertRefused(value + words, "plan", wrong, "u")
            self.assertRefused(value + words, {"a": "b", "plan": wrong}, "u")
            if type(wrong) not in (bytearray, list, set, Bomb):
                self.assertRefused(key + words, {"a": "b", wrong: "premium"}, "u")
            if "255" not in words:
                self.assertRefused("user_id " + words, "plan", "premium", wrong)
                self.assertRefused("user_id " + words, {"plan": "premium"}, wrong)
        for wrong, words in self.FME_WRONG:
            self.assertRefused(value + words, "plan", wrong, "u", fme=True)
            self.assertRefused(value + words, {"a": 1, "b": wrong}, "u", fme=True)

    def test_what_fits_no_form_is_refused_with_the_form_that_was_meant(self):
        for args, named, reason in self.CASES + [
                (*form, self.FORM % given) for *form, given in self.FORMS]:
            self.assertRefused(reason, *args, named=named)
            self.assertRefused(reason, *args, named=named, fme=True)

    def test_a_str_subclass_that_lies_is_sent_as_what_it_is(self):
        stub = self.stub()
        client, results = self.reporting(stub)
        for push, triples in (
                ((Liar("pl\xe4n"), Liar("x"), Liar("u")), [("pl\xe4n", "x")]),
                (({Liar("a"): Liar("b"), "c": Liar("d")}, Liar("u")),
                 [("a", "b"), ("c", "d")])):
            received, = self.deliver(stub, client, *push)
            self.assertEqual(read_back(received), [(uuid_of("u"), *t) for t in triples])
        for result in results:
            for text in [result.user_id, *result.dimensions.values()]:
                self.assertIs(type(text), str)

    def test_push_never_raises_for_what_it_is_given(self):
        evils = [Hostile(error=error) for error in (
            KeyError("plan"), RecursionError(), MemoryError(), StopIteration())]
        for fme in False, True:
            client = self.client(transport=ok, fme=fme)
            for evil in [Bomb(), Pretender(), Masked("", (), {})()] + evils:
                by_name = {"custom_dimension_map": evil}
                for push, named in (
                        ((evil, "v", "u"), {}), (("k", evil, "u"), {}),
                        (("k", "v", evil), {}), ((evil, "u"), {}), ((evil,) * 4, {}),
                        (({"k": evil}, "u"), {}), (({"k": "v"}, evil), {}),
                        ((), {**by_name, "user_id": "u"}), (("k", "v", "u"), by_name),
                        ((evil, evil, "u"), {"custom_dimension_map": {"a": "b"}}),
                        (("k", "v", "u"), {"evil": evil})):
                    self.assertIs(client.push(*push, **named), False)
                    self.assertRaises(ValueError, client.requests_for, *push, **named)
            self.assertStats(client, accepted=0, dropped=0)
            self.assertIs(client.push("plan", "premium", "u"), True)
            self.assertIs(client.flush(TIMEOUT), True)


class RefusalTest(Quiet):

    def test_one_line_in_30_seconds_stands_for_all_of_its_kind(self):
        """Of one kind are those that differ in what came."""
        self.assertEqual(vwo_push.LOG_SECONDS, 30)
        client = self.client(transport=ok, max_pending=1)
        with self.assertLogs("vwo_push", "DEBUG") as logs:
            for _ in range(3):
                for value in 1, 1.5, "x" * 256, "x" * 257:
                    client.push("plan", value, "u")
                client.push("plan", "premium", "")
                client.push({"a": "b", "c": "d"}, "u")
            with mock.patch.object(vwo_push, "LOG_SECONDS", 0):
                for _ in range(2):
                    client.push("plan", b"", "u")
            client.close()
            client.push("plan", "premium", "u")
        self.assertEqual([record.getMessage() for record in logs.records], [
            "push refused: " + reason for reason in (
                "custom_dimension_value must be a str, not int (1)",
                "custom_dimension_value must have at most 255 characters, not 256 (1)",
                "user_id must not be empty (1)", "max_pending is reached (1)",
                "custom_dimension_value must be a str, not bytes (6)",
                "custom_dimension_value must be a str, not bytes (1)",
                "the client is closed (1)")])
        self.assertStats(client, invalid=17, dropped=4)

    def test_a_broken_log_handler_does_not_reach_the_caller(self):
        with mock.patch.object(logging.NullHandler, "handle", lambda *_: 1 / 0):
            self.assertIs(self.client(transport=ok).push(), False)

    def test_without_logging_one_line_goes_to_stderr(self):
        self.assertRuns("""
            import io, sys, vwo_push
            def client():
                return vwo_push.Client(1, "S3NTINEL", transport=lambda *args: 200)
            noisy = client()
            for _ in range(3):
                assert noisy.push("S3NTINEL" * 40, "S3NTINEL", "S3NTINEL") is False
                assert noisy.push({"S3NTINEL": 1}, "S3NTINEL") is False
            assert noisy.stats()["invalid"] == 6
            kept, closed = sys.stderr, io.StringIO()
            closed.close()
            for sys.stderr in None, closed, object():
                assert client().push() is False
            sys.stderr = kept
            assert "logging" not in sys.modules
        """, err="".join(
            "vwo_push: push refused: custom_dimension_%s (1)\n" % reason for reason in (
                "key must have at most 255 characters, not 320",
                "value must be a str, not int")))


# -- Options ---------------------------------------------------------------------------


class OptionsTest(Quiet):
    WHOLE = [0, -1, 1.0, True, "1", None, b"1", float("inf")]
    SECONDS = [-1, -0.1, float("nan"), float("inf"), "5", None, True, b"5", 1j, 10 ** 400]
    FLAG = [0, 1, None, "", "true", "false", "False", [], b"1"]
    CALL = [1, "print", True, [], b""]
    REFUSED = {
        "account_id": [0, -1, "0", "-1", "", " 1", "1 ", "1\n", "1.0", "1_0", "012345",
                       "\uff11", "\xb2", "x", 1.0, True, None, b"1", [1]],
        "sdk_key": ["", " ", " k", "k ", "k\n", "\tk", "k\tk", "k\x7f", "k\0", "k\xe9",
                    "k\r\nX: y", "\u212a", SECRET + "\ud800", SECRET.encode(), None, 5,
                    True, [SECRET], SECRET + "\n", SECRET + "\xe9"],
        "collection_prefix": [
            ".", "..", "/../", "a/b", "/a/b/", "a//b", "\xe9", "\uff11", "a b", " ",
            "a%2fb", "a?b", "a#b", "a\\b", "a@b", "a:b", "\n", "eu01\n", "eu01\r\nX: y",
            "\ud800", b"eu01", 1, True, False],
        "event_arch": FLAG, "fme": FLAG, "base_url": [
            "", "h", "h:80", "//h", "/path", "ftp://h", "file:///etc", b"https://h", 5,
            True, None, " https://h"] + ["https://" + rest for rest in (
                "", "/p", ":80", "h?", "h?a=" + SECRET, "h/?a", "h#", "h/#f", "@h",
                SECRET + "@h", "u:%s@h" % SECRET, "h/a b", "h ", "h\n", "h/\r\nX: y",
                "h/\t", "h/\0", "h/\x7f", "h\\p", "h:0", "h:65536", "h:x", "h:-1",
                "[::1", "h/\xe9", "h/{p}", "h/\ud800", "a..b", "a" * 64)] + [
            "http://b\xfccher.test", "http://a\uff5cb.test", "http://a\u3000b.test"],
        "timeout": [0, 0.0] + SECONDS, "exit_timeout": SECONDS,
        "max_attempts": WHOLE, "max_pending": WHOLE, "max_workers": WHOLE,
        "max_batch": WHOLE + [5001, 10 ** 9], "on_result": CALL, "transport": CALL,
        "ssl_context": [1, "x", True, object(), {}]}
    ACCEPTED = {
        "account_id": [1, 12345, "1", "12345", 2 ** 63],
        "sdk_key": ["k", Liar("0"), "a b", "a+b&c=d%/#?\"\\", "~" * 500],
        "collection_prefix": [None, "", "/", "///", "eu01", "/eu01/", "a-b._~9", "..."],
        "timeout": [1, 0.001, 5.0, 86400, 1e9], "exit_timeout": [0, 0.0, 2, 2.5, 1e9],
        "max_attempts": [1, 4, 10 ** 9], "max_pending": [1, 10 ** 9],
        "max_workers": [1, 64], "max_batch": [1, 2, 5000], "transport": [ok, print],
        "on_result": [None, print, lambda result: None], "ssl_context": [None]}
    DEFAULTS = {
        "collection_prefix": None, "event_arch": False, "fme": False,
        "base_url": "https://dev.visualwebsiteoptimizer.com", "timeout": 5.0,
        "max_attempts": 4, "max_pending": 10000, "max_workers": 2, "max_batch": 1000,
        "exit_timeout": 2.0, "on_result": None, "ssl_context": None, "transport": None}

    def make(self, **options):
        return self.client(**{"transport": ok, **options})

    def test_an_option_takes_what_it_allows_and_refuses_the_rest_by_its_name(self):
        """And without its value."""
        for name in self.DEFAULTS.keys() | {"account_id", "sdk_key"}:
            for value in self.ACCEPTED.get(name, ()):
                with self.subTest(option=name, value=value):
                    self.make(**{name: value})
            for value in self.REFUSED[name]:
                with self.subTest(option=name, value=value):
                    self.assertNames(name, self.make, **{name: value})
        with self.assertRaisesRegex(ValueError, "leave out event_arch for"):
            self.make(fme=True, event_arch=True)

    def test_the_options_and_their_defaults_are_those_that_are_documented(self):
        parameters = inspect.signature(vwo_push.Client).parameters
        self.assertEqual({name: each.default for name, each in parameters.items()
                          if each.kind is each.KEYWORD_ONLY}, self.DEFAULTS)
        self.assertRaises(TypeError, vwo_push.Client, ACCOUNT, KEY, "eu01")
        self.assertNames("colection_prefix", self.make, colection_prefix="eu01")

    def test_the_constructor_raises_only_errors_with_a_text(self):
        """Also where a company replaces ssl.SSLContext, as pip-system-certs does."""
        def no(*args, **options):
            raise NotImplementedError
        with mock.patch.object(ssl.SSLContext, "cert_store_stats", no):
            vwo_push.Client(ACCOUNT, KEY)
        with mock.patch.object(ssl.SSLContext, "load_default_certs", no):
            self.assertNames("certificates", vwo_push.Client, ACCOUNT, KEY)

    @cases(
        ("https://h", None, "https://h"), ("https://h/", "", "https://h"),
        ("https://h", "///", "https://h"), ("https://h", "eu01", "https://h/eu01"),
        ("https://h/", "/eu01/", "https://h/eu01"), ("HTTPS://H/", "", "https://h"),
        ("https://h", "//eu01", "https://h/eu01"),
        ("http://h:65535/a/b/", "eu01", "http://h:65535/a/b/eu01"),
        ("http://h/a%20b//", None, "http://h/a%20b"),
        ("http://[::1]:8080/x", None, "http://[::1]:8080/x"),
        ("http://[2001:db8::1]", "eu01", "http://[2001:db8::1]/eu01"),
        ("http://xn--bcher-kva.example/p", None, "http://xn--bcher-kva.example/p"),
        (DEFAULTS["base_url"], None, "https://dev.visualwebsiteoptimizer.com"))
    def test_base_url_and_collection_prefix_make_the_path(self, base_url, prefix, expected):
        for fme, path in (False, "/server-side/push?"), (True, "/events/t?"):
            client = self.make(base_url=base_url, collection_prefix=prefix, fme=fme)
            url = client.requests_for("plan", "premium", "u")[0].url
            self.assertEqual(url[:len(expected + path)], expected + path)
            self.assertEqual(repr(client), "<Client of account 12345 at %s>" % expected)

    @cases(*itertools.product((12345, "12345"), (False, True)))
    def test_path_account_id_and_any_sdk_key_are_sent_as_they_are(self, account_id, fme):
        stub, key = self.stub(), "".join(map(chr, range(33, 127))) + " %2B x"
        client = self.client(account_id=account_id, sdk_key=key, fme=fme,
                             base_url=stub.url + "/relay/a/", max_workers=1)
        single, = self.deliver(stub, client, "plan", "premium", "u")
        batch, = self.backlog(stub, client, *[("a", "1", "u")] * 2)
        for each in single, batch:
            self.assertEqual((each.path[:9], each.headers["Host"]),
                             ("/relay/a/", stub.url[len("http://"):]))
            self.assertNotIn("+", each.target)  # a blank is %20
        self.assertEqual(read_back(single), [(uuid_of("u"), "plan", "premium")])
        self.assertEqual((single.query["env"], batch.query["env"]), (key, key))
        self.assertEqual(single.query["a" if fme else "account_id"], "12345")
        self.assertEqual(batch.headers["Authorization"], key)

    def test_a_client_can_be_patched_not_copied_and_results_and_requests_can(self):
        client = self.make()
        with mock.patch.object(client, "push", return_value=True):
            self.assertTrue(client.push("plan", "premium", "u"))
        self.assertStats(client, accepted=0)
        for attempt in pickle.dumps, copy.copy, copy.deepcopy:
            self.assertRaisesRegex(TypeError, "Client", attempt, client)
        result = vwo_push.PushResult("u", {"plan": "premium"}, True, 200, None, 1, None)
        for value, fields in (
                (result, "user_id dimensions delivered status error attempts detail"),
                (client.requests_for("a", "b", "u")[0], "method url headers body")):
            self.assertEqual(value._fields, tuple(fields.split()))
            again = pickle.loads(pickle.dumps(value))
            self.assertEqual((type(again), again), (type(value), value))


class SecretsTest(Quiet):

    def test_no_repr_stats_or_log_line_shows_a_secret(self):
        def on_result(result):
            results.append(result)
            raise ValueError(SECRET)
        shown, results = [], []
        with self.assertLogs(None, "DEBUG") as logs:
            for options in {}, {"event_arch": True}, {"fme": True}:
                client = self.client(self.stub(400, hang_up), sdk_key=SECRET,
                                     max_attempts=1, on_result=on_result, **options)
                for push in (SECRET,) * 3, ({SECRET: SECRET, "a": "b"}, SECRET):
                    client.push(*push)
                    client.flush(TIMEOUT)
                    for request in client.requests_for(*push):
                        self.assertIn(SECRET, request.url)
                        shown += [repr(request), str(request), "%s" % (request,)]
                shown += [repr(client), str(client), repr(client.stats())]
        shown += [repr(vars(record)) for record in logs.records]
        self.assertEqual([result[0] for result in results], [SECRET] * 6)
        for result in results:
            shown += [repr(result), str(result), repr(result[2:])]
        self.assertNotIn(SECRET, "".join(shown))


# -- The wire --------------------------------------------------------------------------


class UuidTest(Quiet):
    PAIRS = [(12345, "Varun", "C4D95C097902569F9A2D2E87CD3201C8"),
             (123456, "Ashley", "4C9BA81BAF53591488EB5FD5E66A98B9"),
             (88888888, "Bill", "A242AF8A71655251BA55F9EBB1FB326F"),
             (12345, "user-1", "053F6036A3FE5D47935E2061315256BB"),
             (12345, "", "7A691E678D6D5220A4B31A1F2861BC24"),
             (12345, "  padded  ", "4D20602ECD4E5FEBB2B9270BEF61C7CB"),
             (12345, "User-1", "A23D257F0BC75ABBB1FF5068D116B98B"),
             (12345, 'a&b=c+d%20e#f"g\\h/i?j', "A7CD071FAFD158A1AD2584B6004892F7"),
             (12345, "user 1", "24318B5415E95CA780FCB1D055933786"),
             (12345, "we@#dcs&3232.f3", "BE877D5981215568AEFB86888213889A"),
             (12345, "\U0001f469\u200d\U0001f4bb", "FA5EA59454A4516C962F1FBDC5969247"),
             (12345, "Jos\xe9", "7DC7F01CA223543397BD134D09656F9E"),
             (12345, "\u30e6\u30fc\u30b6\u30fc", "EACF3CC3199C593B8C1345EB4CD516C8"),
             (12345, "\U0001f1ee\U0001f1f3", "517F62426776589490243F1021C90716"),
             (12345, "x" * 1000, "674471F7F6BC54D596E687F6D79A9808"),
             (0, "user-1", "D272C00E4C7654DC8792B69E52F83021"),
             (2147483647, "user-1", "0D1F834AA0615ECF836409DC7F27D3AC"),
             ("12345", "user-1", "053F6036A3FE5D47935E2061315256BB")]

    def test_a_visitor_has_the_uuid_that_the_official_sdks_give_it(self):
        for account_id, user_id, uuid in self.PAIRS:
            with self.subTest(account_id=account_id, user_id=ascii(user_id)[:30]):
                self.assertEqual(vwo_push.visitor_uuid(account_id, user_id), uuid)
        # Both are hashed as they are written.
        self.assertNotEqual(vwo_push.visitor_uuid("012345", "u"), uuid_of("u"))
        self.assertNotEqual(uuid_of("e\u0301"), uuid_of("\xe9"))

    def test_what_has_no_uuid_is_an_error(self):
        for error, accounts, users in (
                (ValueError, [-1, "", "x", "-1", "1.0", " 1", "\uff11"], ["\ud800"]),
                (TypeError, [None, True, 1.0, b"1"], [None, 1, b"u"])):
            for account_id in accounts:
                self.assertRaisesRegex(
                    error, "account_id", vwo_push.visitor_uuid, account_id, "u")
            for user_id in users:
                self.assertRaisesRegex(error, "user_id", vwo_push.visitor_uuid, 1, user_id)
        for huge in [10 ** 5000, -10 ** 5000] * hasattr(sys, "set_int_max_str_digits"):
            for call in vwo_push.visitor_uuid, vwo_push.Client, vwo_push.fetch_settings:
                self.assertNames("account_id", call, huge, KEY)


class FmeTest(Quiet):
    """FME accounts: what is sent means what was recorded from FME's own SDKs. GoldenTest
    spells what is around it."""

    ACCOUNT = {"account_id": 123456, "fme": True}
    USER = "user-42", "1590AE793778516397DB9E363F5C63C1"
    WEB = "D7E2EAA667909A2DB8A6371FF0975C2A5"  # the web tag's own UUID
    RECORDED = [(*USER, {"plan": "premium"}), (*USER, {"plan": "pro", "country": "IN"}),
                (*USER, {"age": 30}), (*USER, {"score": 1.5}), (*USER, {"vip": True}),
                (*USER, {"s": "t", "i": 1, "f": 2.5, "b": True}), (WEB, WEB, {"k": "v"}),
                ("user-0", "79039E5EF1405C97B6090A92BDE2DCEA", {"k0": "v"}),
                ("user-1", "D8E56BFF89A75539B46C1FECD3C97D7C", {"k1": "v"})]
    NUMBERS = [True, False, 0, 1, -1, 30, 30.0, 0.1, -1.5, 1e300, 5e-324, 2 ** 53,
               -2 ** 53, float(2 ** 80)]

    def test_a_request_means_what_the_official_one_means(self):
        pushes = [(dimensions, user_id) for user_id, _, dimensions in self.RECORDED]
        triples = [(uuid, *item) for _, uuid, dimensions in self.RECORDED
                   for item in dimensions.items()]
        for prefix in "", "/eu01":
            stub, client = self.served(**self.ACCOUNT, collection_prefix=prefix)
            singles = [self.deliver(stub, client, *push)[0] for push in pushes]
            for received, path in ((singles, "/events/t"), (self.backlog(
                    stub, client, *pushes), "/server-side/batch-events-v2")):
                self.assertEqual({each.path for each in received}, {prefix + path})
                # As text, because True == 1 == 1.0.
                self.assertEqual(repr(triples), repr([
                    triple for each in received for triple in read_back(each)]))

    def test_a_value_arrives_as_json_of_its_type(self):
        results = []
        stub, client = self.served(**self.ACCOUNT, on_result=results.append)
        pushes = [("k", value, "u") for value in self.NUMBERS]
        received, = self.backlog(stub, client, *pushes)
        self.assertEqual(repr([value for _, _, value in read_back(received)]),
                         repr(self.NUMBERS))
        self.assertEqual(repr([result.dimensions["k"] for result in results[1:]]),
                         repr(self.NUMBERS))
        for push in pushes:
            single, = self.deliver(stub, client, *push)
            self.assertEqual(repr(read_back(single)[0][2]), repr(push[1]))

    def test_the_uuid_of_the_web_tag_is_sent_verbatim_and_nothing_like_it_is(self):
        digits, client = self.WEB[1:], self.client(transport=ok, fme=True)
        verbatim = ["D" + digits, "J" + digits, "J" + digits.lower()]
        for user_id in verbatim + [
                "D" + digits + "\n", "D" + digits[1:], "D" + digits + "0", "d" + digits,
                "E" + digits, "D" + digits[1:] + "G", " D" + digits, digits,
                "D" + digits[1:] + "\uff11"]:
            request, = client.requests_for("k", "v", user_id)
            self.assertEqual(strict(request.body)["d"]["visId"], (
                user_id if user_id in verbatim else uuid_of(user_id)))
        request, = self.client(transport=ok).requests_for("k", "v", self.WEB)
        self.assertIn("&u=%s&" % uuid_of(self.WEB), request.url)


class GoldenTest(Quiet):
    """Requests to the byte: those of FullStack as 1.0.1 sent them, those of FME as its own
    SDKs do, but for the name; theirs write the text None for the visitor's agent and
    address, and empty is right.

    H, K, L, M, R, S, U, V: host, SDK key, length, milliseconds, random, seconds, the
    UUID of user-1, version.
    """

    PLAN = ("plan \xe9", 'a+b 100% & "c"/~')
    BOTH = dict([PLAN], x="y")
    AGENT = "Host: H\nUser-Agent: vwo-push-python/V\n"
    JSON = AGENT + "Content-Type: application/json\n"
    BATCH = (
        "POST /server-side/batch-events?a=12345&sdk=vwo-push-python&sdk-v=V&env=K "
        "HTTP/1.1\n" + JSON + "Authorization: K\nContent-Length: L\n\n" '{"ev": [%s]}')
    EVENT = r'{"u": "U", "sId": S, "t": "{\"u\": {%s}}", "eT": 3}'
    GET = (
        "GET %s/server-side/push?account_id=12345&u=U&sId=S&random=R&env=K&ap=server&sdk="
        "vwo-push-python&sdk-v=V&tags=%%7B%%22u%%22%%3A%%20%%7B%s%%7D%%7D HTTP/1.1\n"
        + AGENT + "\n")
    TAGS = ("%22plan%20%5Cu00e9%22%3A%20%22a%5Cu002bb%20100%5Cu0025%20%26%20%5C%22c%5C"
            "%22%2F~%22")
    SN = "&sn=vwo-push-python&sv=V"
    POST = ("POST /events/t?en=vwo_syncVisitorProp&a=12345&env=K&eTime=M&random=R&p=FS"
            "&visitor_ua=&visitor_ip=%s HTTP/1.1\n" + JSON + "Content-Length: L\n\n%s")
    DATA = ('{"d": {"msgId": "U-M", "visId": "U", "sessionId": S, "event": {"props": '
            '{"vwo_sdkName": "vwo-push-python", "vwo_sdkVersion": "V", "vwo_envKey": "K", '
            '"isCustomEvent": true%s}, "name": "vwo_syncVisitorProp", "time": M}, '
            '"visitor": {"props": {"vwo_fs_environment": "K", %s}}}}')
    ENV = ', "vwo_fs_environment": "K"'
    TEXTS = r'"plan \u00e9": "a+b 100% & \"c\"/~", "x": "y"'
    CASES = [  # options, what is pushed for user-1, what is sent
        ({}, [PLAN], [GET % ("", TAGS)]),
        ({"max_batch": 1, "collection_prefix": "eu01"}, [(BOTH,)],
         [GET % ("/eu01", TAGS), GET % ("/eu01", "%22x%22%3A%20%22y%22")]),
        ({}, [(BOTH,)], [BATCH % ", ".join([
            EVENT % r'\"plan \\u00e9\": \"a\\u002bb 100\\u0025 & \\\"c\\\"/~\"',
            EVENT % r'\"x\": \"y\"'])]),
        ({}, [("k", EMOJI * 200)], [
            BATCH % (EVENT % (r'\"k\": \"%s\"' % (r"\\ud83d\\ude00" * 200)))]),
        ({"event_arch": True}, [(BOTH,)], [POST % ("", DATA % ("", TEXTS))]),
        ({"fme": True}, [(BOTH,)], [POST % (SN, DATA % (ENV, TEXTS))]),
        ({"fme": True, "collection_prefix": "eu01"}, [("n", 1.5), ("v", True)], [
            "POST /eu01/server-side/batch-events-v2?a=12345&env=K%s HTTP/1.1\n" % SN + JSON
            + "Authorization: K\nContent-Length: L\n\n"
            '{"ev": [%s, %s]}' % (DATA % (ENV, '"n": 1.5'), DATA % (ENV, '"v": true'))])]

    def spelled(self, method, target, headers, body):
        """A request as text, without what differs each time."""
        lines = ["%s: %s\n" % item for item in headers.items()]
        text = "%s %s HTTP/1.1\n%s\n%s" % (method, target, "".join(lines),
                                          (body or b"").decode("ascii"))
        for pattern, letter in (
                (r"127\.0\.0\.1:\d+", "H"), (r"random=0\.\d{16}&", "random=R&"),
                (r"\b1\d{12}\b", "M"), (r"\b1\d{9}\b", "S"), (r"(?<=Length: )\d+", "L"),
                (re.escape(vwo_push.__version__), "V"), (KEY, "K"),
                ("053F6036A3FE5D47935E2061315256BB", "U")):
            text = re.sub(pattern, letter, text)
        return text

    @cases(*CASES)
    def test_requests_are_these_and_requests_for_shows_them(self, options, pushes, sent):
        stub, client = self.served(**options)
        pushes = [(*push, "user-1") for push in pushes]
        self.assertEqual([
            self.spelled(each.method, each.target, each.headers, each.body)
            for each in self.backlog(stub, client, *pushes)], sent)
        for push in pushes * (len(pushes) == 1):
            self.assertEqual([self.spelled(
                each.method, each.url[len(stub.url):],
                dict({"Host": "H"}, **each.headers), each.body)
                for each in client.requests_for(*push)
            ], [text.replace("Content-Length: L\n", "") for text in sent])


class HostileTextTest(Quiet):
    """Any text of up to 255 code points is read back exactly, however often a server
    decodes it; of a user id, any text. The tags are json.dumps' text, as in the official
    SDK of Python, without % and plus."""

    PIECES = [
        '"', "'", "%", "+", "%2B", "%25", "%u0041", "&", "#", "=", "?", ";", ":", "/",
        "\0", "\n", "\r\n", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff", "\uffff",
        EMOJI, "\U0010ffff", "e\u0301", "\u202e\u05e9\u05dc", "\u200d", "\\", "\\\\",
        "\\u0025", "\\u002b", '\\"', "{", "}", "[", "]", "</script>", "\xe9", "\u65e5",
        " ", "  ", "a", "Z9"]
    FIXED = [EMOJI * 255, "%" * 255, "+" * 255, "\\" * 255, '"' * 255, "x" * 255,
             "\xe9" * 255, "%252B", "+%+", "&tags=x", '"}}', "\r\nX-Evil: 1", "0", "None",
             "VWO_FS_ENVIRONMENT", " vwo_fs_environment"]
    TEXTS = [*FIXED, *PIECES, "".join(PIECES),
             *map("".join, zip(PIECES, PIECES[7:], PIECES[20:]))]
    DIMENSIONS = dict(zip(TEXTS, reversed(TEXTS)), reserved="vwo_fs_environment")
    USER = "".join(TEXTS)

    def test_any_text_in_tags_is_read_back_however_often_they_are_decoded(self):
        decode, plus = urllib.parse.unquote, urllib.parse.unquote_plus
        for options in {"max_batch": 1}, {"max_batch": 5000}:
            stub, client = self.served(**options)
            found = []
            for each in self.deliver(stub, client, self.DIMENSIONS, self.USER):
                self.assertRegex(each.target, r"^/server-side/[\w?.~%=&-]+$")
                self.assertNotRegex(each.body, rb"[%+\x00-\x1f\x7f-\xff]")
                found += [(event["u"], event["t"]) for event in strict(each.body)["ev"]
                          ] if each.body else [(each.query["u"], each.query["tags"])]
            self.assertEqual(len(found), len(self.DIMENSIONS))
            for (uuid, once), item in zip(found, self.DIMENSIONS.items()):
                self.assertEqual(uuid, uuid_of(self.USER))
                self.assertEqual(once, json.dumps({"u": dict([item])}).replace(
                    "%", "\\u0025").replace("+", "\\u002b"))
                for text in once, decode(once), plus(once), plus(decode(once)):
                    self.assertEqual(json.loads(text), {"u": dict([item])})

    def test_any_text_in_an_event_is_read_back(self):
        triples = [(uuid_of(self.USER), *item) for item in self.DIMENSIONS.items()]
        for options in {"event_arch": True}, {"fme": True}:
            stub, client = self.served(**options)
            received = self.deliver(stub, client, self.DIMENSIONS, self.USER)
            if "fme" in options:
                received += self.backlog(stub, client, *[
                    (*item, self.USER) for item in self.DIMENSIONS.items()])
            for each, end in zip(received, ("/events/t", "/batch-events-v2")):
                self.assertTrue(each.path.endswith(end), each.path)
                self.assertNotRegex(each.body, rb"[\x00-\x1f\x7f-\xff]")
                self.assertEqual(read_back(each), triples)


class BatchingTest(Quiet):
    ONE = "a", "b", "u"
    THREE, FIVE = [(dict.fromkeys(keys, "x"), "u") for keys in ("abc", "abcde")]
    LONG = EMOJI * 255, EMOJI * 255, "u"
    GET, BATCH, EVENT, V2 = "push", "batch-events", "t", "batch-events-v2"
    # What waits together, and the requests that it becomes, with their dimensions.
    BACKLOGS = [
        ({}, [THREE], [(BATCH, 3)]), ({}, [LONG], [(BATCH, 1)]),
        ({}, 1001, [(BATCH, 1000), (GET, 1)]),
        ({"max_batch": 3}, 7, [(BATCH, 3), (BATCH, 3), (GET, 1)]),
        ({"max_batch": 2}, [FIVE], [(BATCH, 2), (BATCH, 2), (BATCH, 1)]),
        ({"max_batch": 4}, [THREE, THREE, ONE], [(BATCH, 3), (BATCH, 4)]),
        ({"max_batch": 1}, [ONE, THREE, LONG], [(GET, 1)] * 5),
        ({"event_arch": True}, [ONE], [(EVENT, 1)]),
        ({"event_arch": True}, [(dict.fromkeys("ab", LONG[0]), "u")], [(EVENT, 2)]),
        ({"event_arch": True}, [ONE, THREE], [(BATCH, 4)]),
        ({"event_arch": True, "max_batch": 1}, [ONE, THREE], [(EVENT, 1), (EVENT, 3)]),
        ({"fme": True}, [LONG], [(EVENT, 1)]),
        ({"fme": True}, 1001, [(V2, 1000), (EVENT, 1)]),
        ({"fme": True, "max_batch": 2}, [FIVE], [(EVENT, 5)]),
        ({"fme": True, "max_batch": 2}, [FIVE, ONE, FIVE], [(V2, 6), (EVENT, 5)]),
        ({"fme": True, "max_batch": 1}, [ONE, THREE], [(EVENT, 1), (EVENT, 3)])]

    def assertBecame(self, received, pushes, shapes):
        """*pushes*, in order, in requests to these endpoints of as many dimensions."""
        self.assertEqual([(each.path.rpartition("/")[2], len(read_back(each)))
                          for each in received], shapes)
        self.assertEqual([triple for each in received for triple in read_back(each)],
            [(uuid_of(push[-1]), key, value) for push in pushes
             for key, value in (push[0].items() if len(push) == 2 else [push[:2]])])

    def numbered(self, number):
        return [("k%04d" % n, "v", "u%d" % n) for n in range(number)]

    @cases(*BACKLOGS)
    def test_what_waits_goes_together_up_to_max_batch(self, options, pushes, expected):
        pushes = self.numbered(pushes) if type(pushes) is int else pushes
        stub = self.stub()
        client, results = self.reporting(stub, max_workers=1, **options)
        self.assertBecame(self.backlog(stub, client, *pushes), pushes, expected)
        self.assertEqual([result[2:] for result in results],
                         [(True, 200, None, 1, None)] * (len(pushes) + 1))
        self.assertStats(client, requests=len(expected) + 1, retries=0)

    def test_a_get_of_2000_bytes_is_sent_and_one_of_2001_goes_as_a_batch_of_one(self):
        stub, client = self.served()
        gets = self.client(stub, max_batch=1)
        plain = len(gets.requests_for("k", "v", "u")[0].url) - 1
        accents, letters = divmod(2000 - plain, len("%5Cu00e9"))
        for more, endpoint in (0, "push"), (1, "batch-events"):
            push = "k", "\xe9" * accents + "a" * (letters + more), "u"
            self.assertEqual(len(gets.requests_for(*push)[0].url), 2000 + more)
            received = self.deliver(stub, client, *push)
            self.assertBecame(received, [push], [(endpoint, 1)])

    def test_a_batch_is_split_by_size_separators_included(self):
        self.assertEqual(vwo_push.MAX_BODY_BYTES, 10_000_000)
        pushes = self.numbered(40)
        for fme in False, True:
            stub, client = self.served(fme=fme)
            whole, = self.backlog(stub, client, *pushes)
            for limit, number in (len(whole.body) + 64, 1), (len(whole.body) - 1, 2):
                with mock.patch.object(vwo_push, "MAX_BODY_BYTES", limit):
                    received = self.backlog(stub, client, *pushes)
                self.assertEqual(len(received), number)
                self.assertEqual(sum((read_back(each) for each in received), []),
                                 read_back(whole))
                self.assertLessEqual(max(len(each.body) for each in received), limit)
            # What is too large alone is sent alone, and FME's map is not torn.
            with mock.patch.object(vwo_push, "MAX_BODY_BYTES", 10):
                received = self.backlog(stub, client, self.THREE, self.THREE)
            self.assertEqual([len(read_back(each)) for each in received],
                             [3, 3] if fme else [1] * 6)

    def test_a_413_halves_a_batch_down_to_one_and_each_half_has_its_own_end(self):
        five = [(key, "x", "u") for key in "abcde"]
        good = (True, 200, None, 1, None)
        bad, too_large = [(False, status, "http", 1, "HTTP status %d" % status)
                          for status in (400, 413)]
        down = [413, 413, 200, 200, 413, 200, 413, 200, 200]
        for options in {}, {"event_arch": True}, {"fme": True}:
            for pushes, statuses, sent, ends in (
                    (five, down, "abcde ab a b cde c de d e", [good] * 5),
                    ([self.FIVE], down, "abcde ab a b cde c de d e", [good]),
                    (five[:2], [413, 400, 200], "ab a b", [bad, good]),
                    (five[:1], [413], "a", [too_large])):
                if pushes == [self.FIVE] and options:
                    continue  # one event, which is never torn
                stub = self.stub(200, *statuses)
                client, results = self.reporting(stub, max_workers=1, **options)
                with self.held(stub, client, flushed={*ends} == {good}):
                    for push in pushes:
                        client.push(*push)
                self.assertEqual(sent, " ".join([
                    "".join(key for _, key, _ in read_back(each))
                    for each in stub.take_all()]))
                self.assertEqual([result[2:] for result in results], [good, *ends])
                self.assertStats(client, requests=len(statuses) + 1, retries=0)

    def test_random_is_fresh_for_each_attempt_and_everything_else_stays(self):
        for options in {}, {"event_arch": True}, {"fme": True}:
            stub, client = self.served(500, 503, 200, **options)
            with mock.patch.object(vwo_push, "BACKOFF_SECONDS", 0.001):
                received = self.deliver(stub, client, "plan", "premium", "u")
            nonces = {each.query.pop("random") for each in received}
            self.assertRegex(" ".join(nonces), r"^0\.\d{16} 0\.\d{16} 0\.\d{16}$")
            self.assertEqual([each[1:3] + each[4:5] for each in received],
                             [received[0][1:3] + received[0][4:5]] * 3)
            self.assertStats(client, requests=3, retries=2, delivered=1)

    def test_the_time_sent_is_that_of_the_push(self):
        seconds, both = {"1500000000"}, {"1500000000", "1500000000789"}
        for options, number, expected in (
                ({}, 1, seconds), ({}, 2, seconds), ({"event_arch": True}, 1, both),
                ({"fme": True}, 1, both), ({"fme": True}, 2, both)):
            stub, client = self.served(**options)
            with self.held(stub, client):
                with mock.patch.object(time, "time", lambda: 1500000000.789):
                    for push in [("k", "\xe9", "u"), ("k", "v", "u")][:number]:
                        client.push(*push)
            received = stub.take()
            self.assertEqual(len(read_back(received)), number)
            self.assertEqual(set(re.findall(r"\b1[5-9]\d{8}(?:\d{3})?\b", "%s %s" % (
                received.query, received.body.decode()))), expected)

    def test_clients_of_different_regions_accounts_and_kinds_never_mix(self):
        stub, kinds = self.stub(), {
            "111": ("eu01", False, "/eu01/server-side/(push|batch-events)"),
            "222": ("", False, "/server-side/(push|batch-events)"),
            "333": ("as01", True, "/as01/(events/t|server-side/batch-events-v2)")}
        clients = {account: self.client(
            stub, account_id=account, sdk_key="key-" + account, fme=fme,
            collection_prefix=prefix) for account, (prefix, fme, _) in kinds.items()}
        for turn in range(30):
            for account, client in clients.items():
                self.assertTrue(client.push("mine", account, "u%d" % turn))
        found = []
        for client in clients.values():
            self.assertTrue(client.close(TIMEOUT))
        for received in stub.take_all():
            account = received.query.get("account_id") or received.query["a"]
            self.assertRegex(received.path, "^%s$" % kinds[account][2])
            self.assertEqual(received.query["env"], "key-" + account)
            found += [(account, value, uuid) for uuid, _, value in read_back(received)]
        self.assertCountEqual(found, [
            (account, account, vwo_push.visitor_uuid(account, "u%d" % turn))
            for account in kinds for turn in range(30)])

    def test_any_2xx_is_a_success_and_no_redirect_is_followed_and_no_cookie_kept(self):
        other = self.stub()
        statuses = [*range(200, 207), 226, 299, *range(300, 306), 307, 308, 399]
        stub = self.stub(*[lambda handler, status=status: handler.reply(
            status, b"", Location=other.url, Set_Cookie="a=b; Path=/")
            for status in statuses])
        client, results = self.reporting(stub)
        for _ in statuses:
            client.push("plan", "premium", "u")
            client.flush(TIMEOUT)
        self.assertEqual([result[2:] for result in results], [
            (True, status, None, 1, None) if status < 300 else
            (False, status, "http", 1, "HTTP status %d" % status)
            for status in statuses])
        self.assertEqual([each.headers["Cookie"] for each in stub.take_all()],
                         [None] * len(statuses))
        self.assertEqual(other.take_all(), [])


# -- Settings --------------------------------------------------------------------------


class FromSettingsTest(Quiet):
    SETTINGS = {"accountId": 12345, "sdkKey": KEY, "collectionPrefix": "eu01",
                "isEventArchEnabled": True, "version": 1, "campaigns": [], "groups": {}}
    FME = {"accountId": 12345, "sdkKey": KEY, "version": 1, "campaigns": [],
           "features": [], "collectionPrefix": "as01"}

    def make(self, settings, **options):
        options = {"transport": ok, "base_url": "http://h", **options}
        return vwo_push.Client.from_settings(settings, **options)

    def assertUrl(self, url, settings, **options):
        """The URL begins so that a push is sent to."""
        request, = self.make(settings, **options).requests_for("plan", "premium", "u")
        self.assertEqual(request.url[:len(url)], url)
        return request.url

    def test_settings_are_read_from_an_object_and_from_its_text(self):
        """A Byte Order Mark is passed over."""
        for given, url, more in (
                (self.SETTINGS, "http://h/eu01/events/t?", {"a=12345", "env=" + KEY}),
                (self.FME, "http://h/as01/events/t?",
                 {"a=12345", "env=" + KEY, "sn=vwo-push-python"})):
            text = json.dumps(given)
            for settings in (given, text, text.encode(), "\ufeff" + text,
                             text.encode("utf-8-sig"), types.MappingProxyType(given)):
                query = self.assertUrl(url, settings).partition("?")[2]
                self.assertLessEqual(more, set(query.split("&")))

    def test_what_is_missing_has_the_default_and_options_win(self):
        without = {name: self.SETTINGS[name] for name in ("accountId", "sdkKey")}
        for url, settings, options in [
                ("/server-side/push?account_id=12345&", without, {}),
                ("/server-side/push?", dict(without, collectionPrefix=None), {}),
                ("/server-side/push?", dict(without, isEventArchEnabled=False), {}),
                ("/eu01/events/t?en=vwo_syncVisitorProp&a=12345&",
                 dict(self.SETTINGS, accountId="12345"), {}),
                ("/events/t?", dict(without, features={}), {}),
                ("/as01/server-side/push?account_id=7&", self.SETTINGS, {
                    "account_id": 7, "sdk_key": "other", "event_arch": False,
                    "collection_prefix": "as01"}),
                ("/as01/server-side/push?", self.FME, {"fme": False}),
                ("/as01/events/t?", dict(self.FME, isEventArchEnabled=True), {}),
                ("/eu01/events/t?en=vwo_syncVisitorProp&a=12345&", self.SETTINGS,
                 {"fme": True})]:
            url = self.assertUrl("http://h" + url, settings, **options)
            self.assertIn("env=" + options.get("sdk_key", KEY), url)
            self.assertEqual("&sn=" in url, options.get("fme", "features" in settings))
        self.assertRaises(TypeError, self.make, self.SETTINGS, eventArch=True)

    def test_web_connectivity_that_is_off_hashes_the_uuid_of_the_web_tag(self):
        for on, changed in (False, {"isWebConnectivityEnabled": False}), (
                True, {"isWebConnectivityEnabled": True}), (True, {}):
            client = self.make(dict(self.FME, **changed))
            self.assertTrue(client.push("age", 30, FmeTest.WEB))
            self.assertTrue(client.flush(TIMEOUT))
            request, = client.requests_for("age", 30, FmeTest.WEB)
            self.assertEqual(strict(request.body)["d"]["visId"],
                             FmeTest.WEB if on else uuid_of(FmeTest.WEB))

    def test_a_wrong_member_is_an_error_that_names_it(self):
        for member, option in {
                "accountId": "account_id", "sdkKey": "sdk_key",
                "collectionPrefix": "collection_prefix",
                "isEventArchEnabled": "event_arch",
                "isWebConnectivityEnabled": "fme"}.items():
            settings = self.FME if option == "fme" else self.SETTINGS
            for value in OptionsTest.REFUSED[option]:
                with self.subTest(member=member, value=value):
                    self.assertNames("%s|%s" % (member, option), self.make,
                                     dict(settings, **{member: value}))
            if option in ("account_id", "sdk_key"):
                with self.assertRaisesRegex(ValueError, member):
                    self.make({name: settings[name] for name in settings if name != member})

    def test_what_is_not_settings_is_an_error(self):
        secret = '{"sdkKey": "%s", ' % SECRET
        for settings in ("", "x", "{", secret, secret.encode() + b"\xff", b"\xff\xfe",
                         "null", "[]", '"text"', "[" * 100000, None, 5, [],
                         [("accountId", 1)], {"sdkKey"}, object()):
            with self.subTest(settings=repr(settings)[:30]):
                self.assertNames("settings", self.make, settings)


class FetchSettingsTest(Quiet):

    def setUp(self):
        super().setUp()
        complaints = []
        self.put("unraisablehook", lambda args: complaints.append(str(args.exc_value)), sys)
        self.addCleanup(self.assertEqual, complaints, [])
        self.addCleanup(gc.collect)

    def fetch(self, *answers, **options):
        """(what comes of it, what the stub received)"""
        stub = self.stub(*answers)
        try:
            found = vwo_push.fetch_settings(
                ACCOUNT, KEY, **{"base_url": stub.url + "/relay/", **options})
        except (ConnectionError, ValueError) as error:
            self.assertSecretFree(error)
            found = [error]
            found.append(found)  # collected in the end, of which nothing complains
            found = "%s: %s" % (type(error).__name__, error)
        return found, stub.take_all()

    def test_settings_are_fetched_as_the_official_sdks_do(self):
        for fme, path, settings in ((False, "settings", FromSettingsTest.SETTINGS),
                                    (True, "v2-settings", FromSettingsTest.FME)):
            body = json.dumps(dict(settings, name="caf\xe9")).encode()
            for start in b"", b"\xef\xbb\xbf":
                found, (received,) = self.fetch(
                    lambda handler: handler.reply(200, start + body), fme=fme)
                self.assertEqual(found, dict(settings, name="caf\xe9"))
                vwo_push.Client.from_settings(found, transport=ok)
                self.assertEqual((received.method, received.path, received.body),
                                 ("GET", "/relay/server-side/" + path, b""))
                self.assertRegex(received.query.pop("r"), r"^0\.\d{16}$")
                self.assertEqual(received.query, {
                    "a": "12345", "i": "0123456789abcdef0123456789abcdef",
                    "platform": "server", "api-version": "1",
                    **dict(zip(("sn", "sv", "s") if fme else ("sdk", "sdk-v"),
                               ("vwo-push-python", vwo_push.__version__, "prod")))})

    def test_what_is_no_whole_2xx_with_a_json_object_is_an_error_that_says_so(self):
        other = self.stub()
        def status(number, body=b""):
            return lambda handler: handler.reply(number, body, Location=other.url)
        def cut(text, hold=False):
            def answer(handler):
                handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + text)
                handler.wfile.flush()
                handler.close_connection = not hold or over.wait(TIMEOUT)
            return answer
        over = threading.Event()
        self.addCleanup(over.set)
        self.assertEqual(vwo_push.MAX_SETTINGS_BYTES, 8 * 1024 * 1024)
        self.put("MAX_SETTINGS_BYTES", 64)
        invalid = json.dumps({"message": "Invalid api key " + KEY}).encode()
        for words, answers in {
            "ConnectionError: .*HTTP status ": [
                status(number, invalid) for number in (302, 400, 404, 429, 500, 503)],
            "ValueError: .*JSON": [status(200, body) for body in (
                b"", b"x" + KEY.encode(), b"[]", b"null", b'"%s"' % KEY.encode(), b"{",
                b"\xff{}", b"[" * 64)],
            "ConnectionError: .*8 MiB": [status(200, b"{}" + b" " * 63),
                                    cut(b"\r\n" + b" " * 65, hold=True)],
            "ConnectionError: .*settings": [
                cut(b"Content-Length: 100\r\n\r\n{"), hang_up,
                cut(b"Content-Length: 50\r\n\r\n{}"),
                cut(b"Transfer-Encoding: chunked\r\n\r\nc\r\n{")],
        }.items():
            for answer in answers:
                found, received = self.fetch(answer)
                self.assertRegex(found, words)
                self.assertEqual(len(received), 1)
        self.assertEqual(other.take_all(), [])
        self.assertEqual(self.fetch(status(200, b"{}" + b" " * 62))[0], {})
        for begun in b"", b"\r\n":  # before its head has ended, and after
            self.assertRegex(self.fetch(cut(begun, hold=True), timeout=0.05)[0],
                             "ConnectionError: .*no answer within 0.05 s")

    def test_the_arguments_are_checked_as_those_of_client(self):
        for name in ("account_id", "sdk_key", "base_url", "timeout", "ssl_context", "fme"):
            for value in OptionsTest.REFUSED[name]:
                arguments = {"account_id": ACCOUNT, "sdk_key": KEY,
                             "base_url": "http://127.0.0.1:9", name: value}
                with self.subTest(argument=name, value=value):
                    self.assertNames(name, vwo_push.fetch_settings, **arguments)


# -- The module ------------------------------------------------------------------------


class ModuleTest(Quiet):
    """What importing and constructing cost, and what is public."""

    def test_the_public_names_are_these(self):
        self.assertEqual(vwo_push.__all__, [
            "Client", "PushResult", "Request", "fetch_settings", "visitor_uuid"])
        for name in vwo_push.__all__:
            self.assertTrue(getattr(vwo_push, name).__doc__, name)
        self.assertRegex(vwo_push.__version__, r"^2\.\d+\.\d+$")

    def test_the_example_at_the_top_runs(self):
        code = re.search(r"\n((?: {4}.*\n|\n)+)", vwo_push.__doc__).group(1)
        scope, stub = {}, self.stub()
        self.put("Client", functools.partial(vwo_push.Client, base_url=stub.url))
        exec(textwrap.dedent(code), scope)
        scope["client"].close()
        self.assertEqual(scope["client"].stats()["delivered"], 2)

    def test_importing_is_cheap_and_constructing_pays_for_everything(self):
        self.assertRuns("""
            import sys
            sys.path.insert(0, sys.argv[1])
            before = set(sys.modules)
            def check(needed, *spare):
                loaded = set(sys.modules) - before
                assert needed <= set(sys.modules), needed - set(sys.modules)
                assert not loaded & set(spare), loaded & set(spare)
            import vwo_push
            dear = ("logging", "urllib.request", "argparse", "dataclasses", "typing")
            check(set(), "ssl", "http.client", "email", "socket", "json", "hashlib",
                  "random", *dear)
            vwo_push.Client(1, "k", transport=print)
            check({"json", "hashlib", "random"}, "ssl", "http.client", *dear)
            vwo_push.Client(1, "k", base_url="http://h")
            check({"encodings.idna", "http.client", "email.utils", "select", "socket",
                   "ssl", "urllib.parse"}, *dear)
        """, HERE, flags=["-I"])

    def test_each_public_call_may_be_the_first(self):
        url = self.stub(lambda handler: handler.reply(200, b"{}")).url
        settings, options = {"accountId": 1, "sdkKey": "k"}, {"transport": ok}
        for call, said in (
                (lambda it: it.Client(1, "k", **options), "<Client of"),
                (lambda it: it.Client(1, "k", ssl_context=ssl.SSLContext(
                    ssl.PROTOCOL_TLS_CLIENT), **options), "<Client of"),
                (lambda it: it.Client.from_settings(settings), "<Client of"),
                (lambda it: it.Client.from_settings(json.dumps(settings), **options),
                 "<Client"),
                (lambda it: it.visitor_uuid(0, "user-1"), "'D272C00E4C7654DC8792B69E"),
                (lambda it: it.fetch_settings(1, "k", base_url=url), "{}")):
            spec = importlib.util.spec_from_file_location("again", vwo_push.__file__)
            again = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(again)
            self.assertEqual(repr(call(again))[:len(said)], said)

    def test_a_push_and_a_worker_import_nothing(self):
        stub = self.stub(lambda handler: handler.reply(
            503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
            200, 413, 200, 200, hang_up, 302, 200)
        said = self.assertRuns("""
            import sys, vwo_push
            vwo_push.BACKOFF_SECONDS = 0.001
            results, imported = [], []
            clients = [vwo_push.Client(1, "k", base_url=sys.argv[1], max_workers=1,
                                       on_result=results.append, **options)
                       for options in ({}, {"event_arch": True}, {"fme": True})]
            before = set(sys.modules)
            sys.addaudithook(lambda event, arguments: event == "import"
                             and imported.append(arguments[0]))
            for client in clients:
                for push in (("a", "b", "u"), ({"a": "\xe9", "c": "%"}, "\xe9"),
                             ("a", 1, "u"), ("", "", "")):
                    client.push(*push)
                    client.flush(20)
                for _ in range(5):
                    client.push("a", "b", "u")
                client.close(20)
            assert len(results) == 22, results
            assert not imported, imported
            assert set(sys.modules) == before, set(sys.modules) - before
        """, stub.url, err=None)
        self.assertIn("\nvwo_push: pushes not delivered: http, HTTP status 302 (", said)
        self.assertGreater(len(stub.take_all()), 9)


# -- What becomes of a push: flush, close, threads, on_result --------------------------


def waits_in(thread, function):
    """Does *thread* stand still, at several looks, in a call of *function*?"""
    seen, names = set(), set()
    for _ in range(4):
        frame = sys._current_frames().get(thread.ident)
        seen.add((id(frame), frame and frame.f_lasti))
        names.update(each.f_code.co_name for each, _ in traceback.walk_stack(frame))
        threading.Event().wait(0.002)
    return len(seen) == 1 and function in names


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "vwo_push"]


def gone():
    """Are there no workers? The client of some can only be collected."""
    return not workers() or (gc.collect(), False)[1]


def push(client, *users):
    """Push something for each of *users*, or for one; return the answers."""
    return [client.push("plan", "premium", user) for user in users or ("u",)]


class Gate(threading.Event):
    """A transport that delivers once it is set; ``entered``: it was called."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()

    def __call__(self, *_):
        self.entered.set()
        return 200 if self.wait(2 * TIMEOUT) else 0  # longer than any test waits


class Life(Quiet):
    """All threads end; subprocesses can run side by side."""

    # Begins every script; ends[0]() is called after the module's own exit handler.
    PRELUDE = """
import atexit, gc, logging, os, queue, signal, socket, sys, threading, time
ends = []
atexit.register(lambda: [end() for end in ends])
logging.getLogger("vwo_push").addHandler(logging.NullHandler())
import vwo_push
FILE = vwo_push.Client.push.__code__.co_filename
def ok(*_):
    return 200
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
def no_threads():
    def start(thread):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = start
"""

    def setUp(self):
        super().setUp()
        until(gone)  # an earlier test may have left its clients to the collector
        self.addCleanup(until, gone)

    def held(self, **options):
        """A client whose pushes are delivered once a gate is set, and the gate."""
        gate = Gate()
        return self.client(transport=gate, **options), gate

    def refusing(self, times=10 ** 9, method="start"):
        """A patch: the next *times* of our threads cannot be had, as in threading."""
        real, left = getattr(threading.Thread, method), [times]
        def refusing(thread, *args, **options):
            if "vwo_push" in (options.get("name"), getattr(thread, "_name", "")):
                left[0] -= 1
                if left[0] >= 0:
                    raise RuntimeError("can't start new thread")
            return real(thread, *args, **options)
        return mock.patch.object(threading.Thread, method, refusing)

    def rounds(self, least):
        """1, 2, 3 and so on, until a round does not set `more`; more than *least*."""
        number, self.more = 0, True
        while self.more:
            number, self.more = number + 1, False
            yield number
        self.assertGreater(number, least)

    def switching_fast(self):
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(2e-6)  # of 1e-6 the floats of i386 leave nothing

    def script(self, source, *argv, flags=(), stub=None):
        """Start *source* after the prelude in a fresh interpreter."""
        source = self.PRELUDE + textwrap.dedent(source)
        return self.start([*flags, "-c", source], *argv, stub=stub)

    def assertEnds(self, process, stdout="", code=0, arrived=None):
        """*process* ends in time, with nothing on stderr and *stdout* on stdout. Each of
        *arrived* has arrived at its stub exactly once, and nothing else."""
        status, out, err = self.finish(process)
        self.assertEqual((out.strip(), err, status), (stdout, "", code), err)
        if arrived is not None:
            found = [value for received in process.stub.take_all()
                     for _, _, value in read_back(received)]
            self.assertEqual(sorted(found), sorted(map(str, arrived)))

    def assertAllEnd(self, processes, **expected):
        """So do those of {name: process}, which run side by side."""
        for name, process in processes.items():
            with self.subTest(name):
                self.assertEnds(process, **expected)


class FlushTest(Life):

    @cases([200], [400])
    def test_what_a_flush_out_of_time_leaves_counts_in_the_next_one(self, status):
        """What was refused does not."""
        stub, client = self.served(status, shut=True, max_pending=1)
        self.assertEqual(push(client, "u", "dropped", ""), [True, False, False])
        self.assertIs(client.flush(0.01), False)
        self.assertIs(client.flush(0), False)
        stub.gate.set()
        self.assertIs(client.flush(TIMEOUT), status == 200)
        self.assertIs(client.flush(TIMEOUT), True)

    def test_pushes_made_during_a_flush_do_not_prolong_it(self):
        first, late = [None], Gate()
        def transport(*_):
            if not first:
                return late()
            first.pop()
            until(lambda: waits_in(threading.main_thread(), "flush"))
            push(client)
            return 200 if late.entered.wait(TIMEOUT) else 0
        client = self.client(transport=transport, max_batch=1)
        push(client)
        began = time.monotonic()
        self.assertIs(client.flush(TIMEOUT), True)
        self.assertLess(time.monotonic() - began, TIMEOUT / 2)
        late.set()

    def test_flush_without_a_timeout_waits_for_the_outcome_and_for_on_result(self):
        leave, order = Gate(), []
        client, gate = self.held(on_result=lambda _: (leave(), order.append("on_result")))
        push(client)
        thread = started(lambda: order.append(client.flush(None)))
        until(lambda: order or waits_in(thread, "flush"))
        gate.set()
        self.assertTrue(leave.entered.wait(TIMEOUT))
        until(lambda: order or waits_in(thread, "flush"))
        leave.set()
        thread.join(TIMEOUT)
        self.assertEqual(order, ["on_result", True])

    @cases((200, 200), (200, 400), (400, 200))
    def test_flushes_of_several_threads_all_tell_the_truth(self, first, then):
        """Also of a push that was lost before the first, and that none has told yet."""
        stub, flushed, results = self.stub(first, then), [], queue.Queue()
        client = self.client(stub, on_result=results.put, max_workers=1)
        push(client)
        results.get(timeout=TIMEOUT)
        stub.gate.clear()
        push(client)
        for _ in range(3):
            thread = started(lambda: flushed.append(client.flush(TIMEOUT)))
            until(lambda: waits_in(thread, "flush"))
        stub.gate.set()
        until(lambda: len(flushed) == 3)
        self.assertEqual(flushed, [first == then] * 3)
        self.assertIs(client.flush(TIMEOUT), True)

    def test_a_timeout_that_is_no_time_is_refused(self):
        client = self.client(transport=ok)
        for wrong in float("nan"), "1", b"1", [], 1j, object():
            for call in client.flush, client.close:
                with self.subTest(wrong=wrong), \
                        self.assertRaisesRegex((TypeError, ValueError), "timeout"):
                    call(wrong)
        for right in (None, 10 ** 400, -10 ** 400, float("inf"), -1, 0, -float("inf"),
                      fractions.Fraction(1, 2)):
            self.assertEqual(push(client), [True])  # no close of those has closed it
            client.flush(right)
        self.assertTrue(client.close(TIMEOUT))


class CloseTest(Life):

    @cases(["transport"], ["answer"], ["retry"])
    def test_close_settles_what_a_worker_has_in_flight_once_and_for_all(self, waits_for):
        self.put("JOIN_SECONDS", 0.01)
        self.put("SLICE_SECONDS", 0.01)
        gate = Gate()
        def answer(handler):
            handler.reply(503, Retry_After="30") if waits_for == "retry" else gate()
            gate.entered.set()
        client, results = self.reporting(
            base_url=self.stub(answer).url, max_workers=1, timeout=3600,
            transport=gate if waits_for == "transport" else None)
        push(client, "u0")
        self.assertTrue(gate.entered.wait(TIMEOUT))
        until(lambda: waits_in(workers()[0], "run"))
        push(client, "u1")
        self.assertIs(client.close(0), False)
        waits_for == "transport" and gate.set()  # unlike a socket, it cannot be cut off
        until(lambda: not workers())
        gate.set()
        self.assertEqual(
            sorted((r.user_id, r.delivered, r.error, r.attempts) for r in results),
            [("u0", False, "closed", 1), ("u1", False, "closed", 0)])
        self.assertStats(client, accepted=2, failed=2, pending=0)

    def test_what_a_halved_batch_delivered_before_the_close_stays_delivered(self):
        gate = Gate()
        stub = self.stub(200, 413, 200, lambda it: gate() and hang_up(it), shut=True)
        client, results = self.reporting(stub, max_workers=1)
        push(client, "a")
        stub.take()
        push(client, "b", "c", "d")
        stub.gate.set()
        self.assertTrue(gate.entered.wait(TIMEOUT))
        self.assertFalse(client.close(0))
        gate.set()
        self.assertEqual([(r.user_id, r.delivered, r.error) for r in results], [
            ("a", True, None), ("b", True, None), ("c", False, "closed"),
            ("d", False, "closed")])
        self.assertStats(client, delivered=2, failed=2, pending=0)

    @cases(["close"], ["with"], ["close without a push"])
    def test_close_delivers_ends_all_threads_and_can_be_called_again(self, how):
        stub, client = self.served()
        how == "close without a push" or push(client)
        with client if how == "with" else contextlib.nullcontext():
            how == "with" or self.assertIs(client.close(TIMEOUT), True)
        self.assertEqual(workers(), [])
        self.assertIs(client.close(0), True)
        with self.assertLogs("vwo_push", "WARNING") as logs:
            self.assertEqual(push(client), [False])
        self.assertIn("the client is closed", logs.output[0])
        self.assertStats(client, dropped=1, failed=0, pending=0)
        self.assertEqual(len(stub.take_all()), how != "close without a push")

    def test_close_refuses_new_pushes_while_it_still_waits(self):
        closed, (client, gate) = [], self.held()
        push(client)
        thread = started(lambda: closed.append(client.close(TIMEOUT)))
        until(lambda: waits_in(thread, "close"))
        self.assertEqual(push(client), [False])
        gate.set()
        thread.join(TIMEOUT)
        self.assertEqual(closed, [True])

    def test_a_close_while_on_result_runs_neither_repeats_nor_counts_it_twice(self):
        self.put("JOIN_SECONDS", 0.01)
        gate, results = Gate(), []
        client = self.client(transport=ok, on_result=lambda result: (
            results.append(result), gate()))
        push(client)
        self.assertTrue(gate.entered.wait(TIMEOUT))
        client.close(0)
        gate.set()
        until(lambda: not workers())
        self.assertStats(client, accepted=1, pending=0)
        self.assertEqual(len(results), 1)

    def test_each_push_gets_its_call_although_on_result_is_slower_than_the_close(self):
        self.put("JOIN_SECONDS", 0.01)
        names = []
        def on_result(result):
            threading.Event().wait(0.01)  # longer than close may take in all
            names.append((result.user_id, result.error))
        client, gate = self.held(max_batch=1, on_result=on_result)
        push(client, *"abcdefghij")
        self.assertIs(client.close(0.005), False)
        self.assertStats(client, failed=10, pending=0)
        self.assertEqual(sorted(names), [(user, "closed") for user in "abcdefghij"])
        gate.set()


class BoundTest(Life):

    @cases((1, 100, True), (3, 33, False), (3, 33, True))
    def test_max_pending_is_exact_whatever_the_threads_do(self, size, room, fme):
        """A map is one push, and as many pending dimensions as it has."""
        self.switching_fast()
        most, (client, gate) = [], self.held(max_pending=100, fme=fme)
        dimensions = {"k%d" % number: "v" for number in range(size)}
        def produce():
            for _ in range(100):
                client.push(dimensions, "u")
                most.append(client.stats()["pending"])
        for thread in [started(produce) for _ in range(6)]:
            thread.join(TIMEOUT)
        self.assertLessEqual(max(most), room)
        self.assertStats(client, pending=room, dropped=600 - room, invalid=0)
        gate.set()
        self.assertTrue(client.flush(TIMEOUT))
        self.assertTrue(client.push(dimensions, "u"))

    def test_room_is_not_free_before_a_push_is_settled(self):
        with self.refusing():
            for number in self.rounds(50):
                most, client = [0], self.client(transport=ok, max_pending=1)
                trace, left = at_line(number, lambda: (
                    push(client), most.append(client.stats()["pending"])))
                push(client)
                sys.settrace(trace)
                client.flush(TIMEOUT)
                sys.settrace(None)
                self.more = left[0] <= 0
                self.assertLessEqual(max(most), 1, number)

    def test_a_flood_of_refused_pushes_costs_two_log_lines_and_no_memory(self):
        client, gate = self.held(max_pending=10)
        push(client, *"abcdefghij")
        flood, blocks = 2_000 if PYPY else 10_000, getattr(
            sys, "getallocatedblocks", lambda: 0)
        with self.assertLogs("vwo_push", "WARNING") as logs:
            push(client)
            before = blocks()
            refused = push(client, *["u"] * flood)
            self.assertLess(blocks() - before, 5_000)
        self.assertFalse(any(refused))
        self.assertLessEqual(len(logs.records), 2)
        self.assertStats(client, dropped=flood + 1, pending=10)
        gate.set()

    def test_push_is_false_where_there_is_no_memory_but_not_once_it_is_accepted(self):
        client = self.client(transport=ok)
        with mock.patch.object(time, "time", side_effect=MemoryError):
            self.assertEqual(push(client), [False])
        for method in "start", "__init__":
            with mock.patch.object(threading.Thread, method, side_effect=MemoryError):
                self.assertEqual(push(client), [True])
                self.assertTrue(client.flush(TIMEOUT))
        self.assertStats(client, dropped=1, delivered=2)


class ThreadsTest(Life):

    def test_threads_are_daemons_and_never_more_than_max_workers(self):
        self.switching_fast()
        counts = []
        for _ in range(10):
            client, gate = self.held(max_workers=2, max_batch=1)
            self.assertEqual(workers(), [])
            go = threading.Barrier(8)
            def produce():
                go.wait(TIMEOUT)
                for _ in range(5):
                    push(client)
                    counts.append(len(workers()))
            for thread in [started(produce) for _ in range(8)]:
                thread.join(TIMEOUT)
            until(lambda: len(workers()) == 2)
            self.assertTrue(all(worker.daemon for worker in workers()))
            gate.set()
            self.assertTrue(client.close(TIMEOUT))
            self.assertEqual(workers(), [])
        self.assertEqual(max(counts), 2)

    @cases(["name"], ["answer"], ["backoff"], ["transport"], ["on_result"], ["log"])
    def test_a_worker_that_is_held_up_leaves_the_rest_to_the_other(self, where):
        gate, armed, look_up = threading.Event(), [], socket.getaddrinfo
        def is_now(place):
            return armed[:] == [place] and bool(armed.pop())
        def hold(place, result=None):
            if is_now(place):
                gate.wait(2 * TIMEOUT)
            return result
        self.put("BACKOFF_SECONDS", 1e9)
        self.put("MAX_BACKOFF_SECONDS", 1e9)
        self.put("handle", lambda *_: gate.wait(2 * TIMEOUT), logging.NullHandler)
        self.put("getaddrinfo", lambda *args: (hold("name"), look_up(*args))[1], socket)
        stub = self.stub(lambda handler: handler.reply(
            503 if is_now("backoff") else 400 if is_now("log") else hold("answer", 200)))
        client = self.client(base_url=stub.url, timeout=9e5, max_batch=1,
            on_result=lambda _: hold("on_result"),
            transport=(lambda *_: hold("transport", 200)) if where == "transport" else None)
        if where != "name":  # on a connection that is there, the worker hopes to go on
            push(client)
            self.assertTrue(client.flush(TIMEOUT))
        armed.append(where)
        for texts in "abc", "def":  # accepted before that, or after; and nobody flushes
            push(client, *texts)
            until(lambda: not armed and client.stats()["pending"] == 1)
        gate.set()

    def test_a_worker_that_is_just_being_started_can_have_another_one_started(self):
        gate, begun, real = Gate(), [], threading.Thread.start
        first = iter([gate])
        client = self.client(transport=lambda *args: next(first, ok)(*args))
        def start(thread):
            real(thread)
            begun.append(thread)
            if len(begun) == 1:
                self.assertTrue(gate.entered.wait(TIMEOUT))
                started(push, client, "b").join(TIMEOUT)  # does not wait for this start
        with mock.patch.object(threading.Thread, "start", start):
            push(client, "a")
            until(lambda: len(workers()) == 2)
        gate.set()

    def test_where_the_second_worker_cannot_be_started_the_first_one_sends(self):
        self.put("IDLE_SECONDS", 9e5)
        (client, gate), real = self.held(), threading.Thread.start
        def start(thread):
            if gate.entered.is_set():
                gate.set()
                until(lambda: waits_in(*workers(), "park"))  # it relies on the second
                raise RuntimeError
            real(thread)
        with mock.patch.object(threading.Thread, "start", start):
            push(client, "a")
            self.assertTrue(gate.entered.wait(TIMEOUT))
            push(client, "b")
        until(lambda: client.stats()["delivered"] == 2)

    def test_one_worker_goes_on_alone_as_long_as_answers_come_at_once(self):
        """The other one stays parked, and ends when nothing is left."""
        self.put("IDLE_SECONDS", 9e5)
        stub = self.stub(shut=True)
        client = vwo_push.Client(ACCOUNT, KEY, base_url=stub.url, max_batch=1)
        push(client, *"ab")
        until(lambda: len(workers()) == 2)
        stub.gate.set()
        self.assertTrue(client.flush(TIMEOUT))
        until(lambda: all(waits_in(worker, "park") for worker in workers()))
        self.put("SLOW_SECONDS", 9e9)
        stub.gate.clear()
        push(client, "c")
        port = [stub.take().port for _ in "abc"][-1]
        push(client, *"def")
        del client
        gc.collect()
        stub.gate.set()
        self.assertEqual([stub.take().port for _ in "def"], [port] * 3)
        until(gone)

    @cases((1, True), (7, True), (1, False))
    def test_one_worker_keeps_the_order_of_pushes_retries_included(self, most, threads):
        self.put("BACKOFF_SECONDS", 0.002)
        sent, statuses = [], itertools.cycle([503, 200, 503, 503, 200, 200])
        def transport(request, timeout):
            text = urllib.parse.unquote(request.url) + str(request.body)
            sent.append(re.findall(r"\bn\W+(\d+)", text))
            return next(statuses)
        client = self.client(
            transport=transport, max_workers=1, max_batch=most, max_attempts=99)
        with self.refusing(0 if threads else 10 ** 9):
            for number in range(30):
                client.push("n", str(number), "u")
            # Without threads each flush gives back what it has no time for.
            until(lambda: client.flush(TIMEOUT if threads else 0.005))
        once = [values for values, before in zip(sent, [None] + sent) if values != before]
        self.assertEqual(sum(once, []), [str(number) for number in range(30)])
        self.assertGreater(len(sent), len(once))

    def test_idle_workers_stay_and_close_their_connection(self):
        self.put("IDLE_SECONDS", 0.05)
        left = threading.Event()
        stub, client = self.served(lambda handler: (
            handler.reply(200), handler.rfile.peek(1),  # until the client hangs up
            left.set()), 200)
        push(client)
        self.assertTrue(left.wait(TIMEOUT))
        worker, = workers()
        push(client)
        self.assertTrue(client.flush(TIMEOUT))
        self.assertEqual(workers(), [worker])
        self.assertEqual(len({received.port for received in stub.take_all()}), 2)

    def test_dropped_clients_leave_no_thread_nor_memory_and_lose_no_push(self):
        finishes = (vwo_push.Client.flush, vwo_push.Client.close, lambda client: None)
        left, results = weakref.WeakSet(), queue.Queue()
        for number in range(99):
            transport = lambda request, timeout: 200
            left.add(transport)
            client = vwo_push.Client(
                ACCOUNT, KEY, transport=transport, on_result=results.put)
            push(client, "u%d" % number)
            finishes[number % 3](client)
        del client, transport
        gc.collect()
        found = [results.get(timeout=TIMEOUT) for _ in range(99)]
        self.assertEqual({(r.user_id, r.delivered) for r in found},
                         {("u%d" % number, True) for number in range(99)})
        until(lambda: (gc.collect(), gone() and not left)[1])

    @cases(*itertools.product(("start", "__init__"), ("flush", "close")))
    def test_pushes_are_sent_where_no_thread_can_be_had(self, method, finish):
        with self.refusing(method=method):
            threads = []
            client = self.client(transport=ok,
                on_result=lambda _: threads.append(threading.current_thread()))
            push(client, *"abcde")
            self.assertEqual(threads, [])
            self.assertIs(getattr(client, finish)(TIMEOUT), True)
            self.assertEqual(threads, [threading.current_thread()] * 5)

    def test_what_a_flush_has_no_time_for_is_left_to_the_worker_of_a_later_push(self):
        gate, results = Gate(), queue.Queue()
        stub, client = self.served(
            lambda handler: (gate(), hang_up(handler)), 200, on_result=results.put)
        with self.refusing():
            push(client, "u0")
            started(client.flush, 0.3)
            stub.take()  # the flush sends it
        push(client, "u1")  # has a worker, which is parked when the flush gives up
        names = [results.get(timeout=TIMEOUT).user_id for _ in range(2)]  # no flush
        self.assertEqual(names, ["u1", "u0"])
        gate.set()

    def test_attempts_are_bounded_where_every_flush_cuts_one_off(self):
        stub = self.stub(shut=True)
        client, results = self.reporting(stub, max_attempts=2)
        with self.refusing():
            push(client)
            until(lambda: client.flush(0.02) or client.stats()["requests"] == 2)
            self.assertStats(client, pending=1)
            self.assertIs(client.flush(TIMEOUT), False)
            self.assertEqual([result[2:6] for result in results],
                             [(False, None, "timeout", 2)])
            self.assertStats(client, failed=1, requests=2, retries=1)
            stub.gate.set()
            push(client)  # starts afresh
            self.assertIs(client.flush(TIMEOUT), True)

    @cases(["premium"], [7])
    def test_push_tells_the_truth_where_there_is_no_stack(self, value):
        client, answers = self.client(transport=ok), []
        def deep(frames, call):
            return deep(frames - 1, call) if frames else call()
        def frames_until_it_raises(call):
            for frames in range(sys.getrecursionlimit()):
                try:
                    answers.append(deep(frames, call))
                except RecursionError:
                    return frames
        self.put("LOG_SECONDS", 0)
        self.addCleanup(sys.setrecursionlimit, sys.getrecursionlimit())
        sys.setrecursionlimit(len(inspect.stack(0)) + 150)  # what needs more needs it all
        with self.refusing():  # so each of them tries to log, or to hire
            least = frames_until_it_raises(lambda: (lambda: None)())
            found = frames_until_it_raises(lambda: client.push("plan", value, "u"))
            self.assertStats(client, pending=answers.count(True))
        self.assertTrue(PYPY or found >= least, (found, least))  # there the end is vague
        self.assertTrue(client.flush(TIMEOUT))

    @cases((TIMEOUT, False, True), (0.03, False, False), (0.05, True, False))
    def test_a_flush_leaves_the_sending_to_a_worker_that_is_just_being_started(
            self, within, steps, late):
        """Or both may send: the flush has not the time to wait for the answer."""
        go, threads, real = Gate(), [], threading.Thread.start
        def start(thread):
            thread.name == "vwo_push" and go()
            real(thread)
        client = self.client(transport=lambda request, timeout: (
            threads.append(threading.current_thread()) or 200))
        now, step = vwo_push._now, 0.0156  # as far as Windows' clocks are apart
        with mock.patch.object(threading.Thread, "start", start), mock.patch.object(
                vwo_push, "_now", (lambda: now() // step * step) if steps else now):
            pusher = started(push, client)
            self.assertTrue(go.entered.wait(TIMEOUT))
            # Later than a slice it has to be feared that there will be no worker.
            self.assertIs(client.flush(within), late)
            self.assertEqual(threads, [threading.current_thread()] * late)
            go.set()
            pusher.join(TIMEOUT)
            self.assertTrue(client.flush(TIMEOUT))
        self.assertEqual(len(threads), 1)

    def test_an_interrupted_start_costs_no_push_and_leaves_no_worker_too_many(self):
        real = threading.Thread.start
        for late in False, True, None:
            unstarted, results = [], queue.Queue()
            def start(thread):  # None: what the interrupt broke, it never begins to work
                thread.run = bool if late is None else thread.run
                unstarted.append(thread) if late else real(thread)
                raise KeyboardInterrupt
            client, gate = self.held(max_workers=1, max_batch=1, on_result=results.put)
            with mock.patch.object(threading.Thread, "start", start):
                for _ in range(5):
                    with contextlib.suppress(KeyboardInterrupt):
                        push(client)
            for thread in unstarted:  # they had been on their way all the same
                real(thread)
            push(client)
            until(lambda: len(workers()) == 1)
            gate.set()
            for _ in range(6):  # nobody flushes
                self.assertTrue(results.get(timeout=TIMEOUT).delivered)
            self.assertEqual((len(workers()), client.close(TIMEOUT)), (1, True))


class OnResultTest(Life):

    @cases((200, None), (400, "http"))
    def test_on_result_may_wait_for_a_thread_that_uses_the_client(self, answer, error):
        used = queue.Queue()
        def use(result):
            client.stats()
            client.flush(0)
            client.push("", "", "")
            used.put(result)
        client = self.client(self.stub(answer), on_result=lambda result: (
            started(use, result).join(TIMEOUT)))
        push(client)
        self.assertEqual(used.get(timeout=TIMEOUT / 2).error, error)
        client.flush(TIMEOUT)

    @cases(*itertools.product(
        ("worker", "flush", "close", "another close"), ("flush", "close")))
    def test_flush_and_close_are_false_at_once_in_on_result(self, caller, call):
        """In each of several calls: one that returned does not count as the last."""
        self.put("IDLE_SECONDS", 3600)  # no worker looks around by itself
        self.put("JOIN_SECONDS", 0.01)
        answers, threads = [], caller in ("worker", "another close")
        client, gate = self.held(max_batch=1, on_result=lambda _: answers.append(
            getattr(client, call)(None)))
        with self.refusing(0 if threads else 10 ** 9):
            push(client, *"abc")
            if caller == "another close":  # it settles on its own thread
                started(client.close, 0).join(TIMEOUT)
            gate.set()
            if not threads:
                getattr(client, caller)(TIMEOUT)
            until(lambda: len(answers) == 3)
        self.assertEqual(answers, [False] * 3)
        until(lambda: client.stats()["pending"] == 0)
        self.assertStats(client, failed=3 * (caller == "another close"))
        if call == "flush":  # outside of on_result it works again
            client.flush(TIMEOUT)
            self.assertTrue(client.flush(TIMEOUT))
            client.close(TIMEOUT)
        else:  # what was pending was delivered, and the threads end
            self.assertEqual(push(client), [False])
            until(lambda: not workers())

    @cases([ValueError], [SystemExit], [KeyboardInterrupt])
    def test_on_result_may_push_and_raise_on_a_worker_and_comes_once_for_each(self, error):
        names, threads = [], set()
        def on_result(result):
            names.append(result.user_id)
            threads.add(threading.current_thread())
            len(names) < 50 and push(client, str(len(names)))
            raise error
        client = self.client(transport=ok, on_result=on_result, max_workers=1)
        push(client, "0")
        until(lambda: len(names) == 50)
        self.assertTrue(client.flush(TIMEOUT))
        self.assertEqual(names, [str(number) for number in range(50)])
        self.assertEqual(len(threads), 1)

    @cases([0], [10 ** 9])
    def test_what_on_result_raises_is_logged_with_type_file_and_line(self, times):
        def on_result(result):
            raise ValueError(SECRET)
        client = self.client(transport=ok, on_result=on_result)
        with self.refusing(times), self.assertLogs("vwo_push", "WARNING") as logs:
            client.push("plan", SECRET, SECRET)
            self.assertTrue(client.flush(TIMEOUT))
        code = on_result.__code__
        self.assertEqual([record.getMessage() for record in logs.records], [
            "on_result raised ValueError at %s:%d (1)" % (
                code.co_filename, code.co_firstlineno + 1)])


# -- Interrupts and re-entrance --------------------------------------------------------


def signal_at(moment, handler, call, *files):
    """Call *call*; at moment number *moment* in it a signal comes. False: it has fewer.

    A moment is the start of a function in *files*, or the return of C code to one of
    them: there Python runs the handlers of signals. Only for the main thread.
    """
    left, generator = [moment], 0x20
    def profile(frame, event, arg):
        code = frame.f_code
        if (event in ("call", "c_return") and code.co_filename in files
                and not code.co_flags & generator):  # "called" once more to be closed
            left[0] -= 1
            if not left[0]:
                signal.raise_signal(signal.SIGINT)
    before = signal.signal(signal.SIGINT, handler)
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, before)
    return left[0] <= 0


def at_line(number, act):
    """A trace function: *act* is called at line *number* that vwo_push.py runs. And in
    a list, how many lines are left until then."""
    left = [number]
    def trace(frame, event, arg):
        if frame.f_code.co_filename != FILE:
            return None
        left[0] -= event == "line"
        if event == "line" and not left[0]:
            act()
        return trace
    return trace, left


class Limit(Exception):
    """What a soft time limit raises."""


class InterruptsTest(Life):
    """A signal handler raises an exception, at each moment of a call in turn."""

    def setUp(self):
        super().setUp()
        self.put("JOIN_SECONDS", 0)  # some workers are stuck in a transport
        self.put("IDLE_SECONDS", 9e5)  # nobody wakes up by chance

    def interrupted(self, moment, call, error=Limit):
        """Interrupt *call* there. There are no more rounds if it has no such moment."""
        def handler(*_):
            raise error
        try:
            self.assertFalse(signal_at(moment, handler, call, FILE),
                             "swallowed at moment %d" % moment)
        except error:
            self.more = True

    def pending(self, alone, status=200):
        """A client with four pushes pending, the gate that lets its one worker deliver
        them, and the results. *alone*: it has no worker."""
        gate = Gate()
        client, results = self.reporting(
            transport=(lambda *_: status) if alone else gate, max_workers=1, max_batch=2)
        push(client, *"abcd")
        until(lambda: alone or client.stats()["requests"])
        return client, gate, results

    def assertSettled(self, client, results, moment):
        """All is, and had its call, but for one at most: its own may be interrupted."""
        self.assertStats(client, accepted=4, pending=0)
        names = {result.user_id for result in results}
        self.assertEqual(len(names), len(results), moment)
        self.assertGreaterEqual(len(names), 3, moment)

    @cases((False, 0), (False, 0.001), (True, TIMEOUT))
    def test_nothing_vanishes_where_close_is_interrupted(self, alone, seconds):
        with self.refusing(10 ** 9 if alone else 0):
            for moment in self.rounds(20):
                client, gate, results = self.pending(alone)
                self.interrupted(moment, lambda: client.close(seconds))
                self.assertStats(client, accepted=4)
                if results and not alone:  # it has begun to settle: then it has settled all
                    self.assertStats(client, pending=0)
                gate.set()
                began = time.monotonic()
                client.flush(TIMEOUT)
                client.close(TIMEOUT)
                self.assertLess(time.monotonic() - began, TIMEOUT / 2, moment)
                self.assertSettled(client, results, moment)

    @cases((False, 0.001, 200), (True, TIMEOUT, 200), (True, TIMEOUT, 400))
    def test_nothing_vanishes_where_flush_is_interrupted(self, alone, seconds, status):
        """And what was lost is still to be told."""
        with self.refusing(10 ** 9 if alone else 0):
            for moment in self.rounds(10):
                answers, (client, gate, results) = [], self.pending(alone, status)
                self.interrupted(moment, lambda: answers.append(client.flush(seconds)))
                self.assertStats(client, accepted=4)
                gate.set()
                answers.append(client.flush(TIMEOUT))
                self.assertEqual(all(answers[0 if alone else -1:]), status == 200, moment)
                self.assertTrue(client.flush(TIMEOUT), moment)
                self.assertSettled(client, results, moment)
                self.assertStats(client, delivered=4 * (status == 200))
                client.close(TIMEOUT)

    GOOD = "plan", "premium", "u"
    PUSHES = {  # how many pushes were made before, and what is pushed
        "the first": (0, GOOD), "one worker is parked": (1, GOOD),
        "one worker is parked; flush": (1, GOOD),
        "there is no room": (2, GOOD), "it is not valid": (0, ("plan", 7, "u")),
        "a map": (0, ({"plan": "premium"}, "u"))}

    @cases(*itertools.product(PUSHES, (Limit, KeyboardInterrupt, SystemExit)))
    def test_an_interrupted_push_is_accepted_or_not_and_never_half(self, name, error):
        for moment in self.rounds(5):
            (pushed, arguments), results = self.PUSHES[name], queue.Queue()
            client, gate = self.held(
                max_pending=2, max_workers=1, max_batch=1, on_result=results.put)
            pushed and push(client, *"ab"[:pushed])
            if pushed < 2:
                gate.set()
                client.flush(TIMEOUT)
            self.interrupted(moment, lambda: client.push(*arguments), error)
            accepted = client.stats()["accepted"] - pushed
            self.assertIn(accepted, (0, 1), moment)
            gate.set()
            if "flush" in name:  # it wakes the worker where the push was kept from it
                self.assertTrue(client.flush(TIMEOUT), moment)
            if pushed < 2:
                pushed += sum(push(client))  # it finds a worker, or starts one
            for _ in range(pushed + accepted):  # nobody flushes
                results.get(timeout=TIMEOUT)
            self.assertTrue(client.flush(TIMEOUT), moment)
            gate.clear()  # no room was lost, and none was won
            gate.entered.clear()
            self.assertEqual(push(client), [True], moment)
            self.assertTrue(gate.entered.wait(TIMEOUT))  # the lock is free again
            self.assertEqual(push(client, *"bc"), [True, False], moment)
            until(lambda: len(workers()) == 1)  # that of the client before may still end
            gate.set()
            self.assertTrue(client.close(TIMEOUT), moment)

    def test_no_room_is_lost_where_a_push_is_interrupted_that_another_one_outran(self):
        with self.refusing():
            for line, moment in itertools.product(range(1, 45), range(1, 25)):
                client = self.client(transport=ok, max_pending=1)
                trace, _ = at_line(line, lambda: push(client))
                sys.settrace(trace)
                self.interrupted(moment, lambda: push(client))
                sys.settrace(None)
                client.flush(TIMEOUT)
                self.assertEqual(push(client), [True], (line, moment))

    def test_exceptions_of_signal_handlers_leave_on_result_and_transport(self):
        """On the main thread; ordinary ones of the callback itself do not."""
        def function(*_):
            Handlers().method()
        class Handlers:
            def method(self, *_):
                raise Limit
        handlers = {"function": (function, Limit), "method": (Handlers().method, Limit),
                    "recipe": (lambda *_: sys.exit(143), SystemExit),
                    "Ctrl-C": (signal.default_int_handler, KeyboardInterrupt),
                    "its own": (None, None)}
        self.put("BACKOFF_SECONDS", 0)
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        for (name, (handler, error)), (where, call, seconds) in itertools.product(
                handlers.items(), (("on_result", "flush", TIMEOUT),
                                   ("on_result", "close", TIMEOUT),
                                   ("on_result", "close", 0),  # the sweep calls it
                                   ("transport", "flush", TIMEOUT),
                                   ("transport", "close", TIMEOUT))):
            with self.subTest(name=name, where=where, call=call), self.refusing():
                calls, results = [], []
                def act(here):
                    if here == where and not calls:
                        calls.append(here)
                        if handler is None:
                            raise ValueError
                        signal.signal(signal.SIGINT, handler)
                        signal.raise_signal(signal.SIGINT)
                    return 200
                client = self.client(
                    transport=lambda *_: act("transport"), max_batch=1,
                    on_result=lambda result: results.append(result) or act("on_result"))
                push(client, *"abc")
                with self.assertRaises(error) if error else contextlib.nullcontext():
                    self.assertIs(getattr(client, call)(seconds), seconds > 0)
                self.assertStats(client, accepted=3)
                client.flush(TIMEOUT)
                client.close(TIMEOUT)
                self.assertEqual(sorted(result.user_id for result in results), [*"abc"])
                self.assertStats(client, pending=0)


class ReentranceTest(Life):
    """A signal handler uses the client, at each moment of a call in turn."""

    SCRIPT = inspect.getsource(signal_at) + """
vwo_push.LOG_SECONDS = 0
def at_each_moment(make, call, handler, files=(FILE, threading.__file__)):
    for moment in range(1, 2000):
        made = make()
        more = signal_at(moment, lambda *_: handler(made), lambda: call(made), *files)
        yield made
        if not more:
            break
    assert moment > 2, moment
"""

    def test_whatever_a_signal_interrupts_its_handler_can_use_the_client(self):
        interrupted = {
            "stats": "assert totals(c)['invalid'] >= 1",
            "push": "push()", "the first push": "push()",
            "a refused push": "calls.append(c.push('k', 7, 'u'))", "flush": "c.flush(1)",
            "flush, with pushes pending": "push(); c.flush(1)",
            "close": "push(); c.close(1)",
            "flush without threads": "no_threads(); push(); c.flush(1)",
            "Thread.start": "t = threading.Thread(target=ok); t.start(); t.join()",
            "threading.enumerate": "threading.enumerate()",
            "logging": "logging.getLogger('vwo_push').warning('hello')",
            "queue": "queue.Queue().put(1)",
        }
        self.assertAllEnd({finish: self.script(self.SCRIPT + textwrap.dedent("""
            def make():
                results = []
                c = client(transport=ok, on_result=results.append)
                calls = [c.push("k", 7, "u")]
                if name != "the first push":  # there is a worker
                    calls.append(c.push("k", "v", "u") and c.flush(10))
                return c, calls, results
            def use(made):
                c, calls, results = made
                time.sleep(0.003 * (name == "the first push"))  # it may begin, or get stuck
                began, s = time.monotonic(), totals(c)
                more = s["invalid"] + s["dropped"] - calls.count(False)
                assert more == 0 or more == 1 and name != "stats", (name, s)
                calls.append(c.push("k", "v", "u"))
                calls.append(c.push("k", 7, "u"))
                getattr(c, sys.argv[2])(3)
                assert time.monotonic() - began < 1, "it stalled"
                c.flush(None)
            def call(made):
                c, calls, results = made
                push = lambda: calls.append(c.push("k", "v", "u"))
                exec(source, dict(globals(), c=c, calls=calls, push=push))
            real = threading.Thread.start
            for name, source in eval(sys.argv[3]).items():
                files = [FILE, threading.__file__, logging.__file__, queue.__file__]
                for c, calls, results in at_each_moment(make, call, use, files):
                    c.flush(10)
                    c.close(10)
                    threading.Thread.start = real
                    s = totals(c)
                    assert s["accepted"] == calls.count(True) == len(results), name
                    assert (s["invalid"] + s["dropped"] == calls.count(False)
                            and s["pending"] == 0), (name, s, calls)
            """), finish, interrupted) for finish in ("flush", "close")})

    def test_a_refused_push_and_a_log_handler_that_pushes_do_not_deadlock(self):
        """One thread holds its lock, and wants ours; the other may log under ours."""
        self.assertEnds(self.script(self.SCRIPT + textwrap.dedent("""
            class Pusher(logging.Handler):
                def emit(self, record):
                    current.push("k", 7, "u")  # which logs nothing, or it never ends
                    if record.msg == "mine":
                        entered.set()
                        go.wait()
                        current.push("k", "v", "u")
                        current.flush(0)
                        done.set()
            logging.getLogger().addHandler(Pusher())
            def make():
                global current, entered, go, done
                entered, go, done = [threading.Event() for _ in range(3)]
                current = client(transport=ok)
                threading.Thread(target=logging.warning, args=("mine",)).start()
                entered.wait()
                return current
            def refused(c):
                go.set()
                done.wait(0.005)  # it does not come where the other thread is stuck
                c.push("k", 7, "u")
            for call in (lambda c: c.stats(), lambda c: c.flush(1),
                         lambda c: c.push("k", "v", "u"), lambda c: c.close(1)):
                for c in at_each_moment(make, call, refused):
                    go.set()
                    done.wait()
                    c.close(10)
            """)))

    def test_pushes_of_finalisers_neither_hang_nor_get_lost(self):
        self.assertEnds(self.script("""
            class Garbage:
                def __del__(self):
                    call("k", "v", "u")
                    c.flush(0.001)
            def call(*args):
                calls.append(c.push(*args))
            calls, results = [], []
            c = client(transport=ok, max_pending=100, on_result=results.append)
            getattr(gc, "set_threshold", bool)(1)  # PyPy has none
            for _ in range(300):
                each = Garbage()
                each.me = each
                call("k", "v", "u")
                call("k", 7, "u")
                c.stats()
                c.flush(0)
            each = gc.collect()
            c.flush(20)
            s = totals(c)
            assert s["accepted"] == calls.count(True) == len(results) > 0, s
            assert s["invalid"] + s["dropped"] == calls.count(False) >= 300, s
            assert s["pending"] == 0 and len(calls) > 880, s
            """))


class RacesTest(Life):
    """At each line of a call in turn, another thread uses the client."""

    def setUp(self):
        super().setUp()
        self.put("JOIN_SECONDS", 0.005)

    def met_at_line(self, number, act, *args, here=False):
        """As at_line, but *act* runs on another thread, and we wait for it; or *here*, as a
        signal handler does. And an event and a list of one: that thread."""
        met, others = threading.Event(), []
        def meet():
            here and act(*args)
            others.append(started(bool) if here else started(act, *args))
            self.more = True
            met.set()
            others[0].join(0.005)  # it may have to wait for this very thread
        return (*at_line(number, meet), met, others)

    @cases((push, 1), (push, 9), (push, 9, True), (lambda client: [client.close(0)], 1))
    def test_whatever_comes_at_whatever_line_of_a_push_it_is_whole(
            self, act, room, here=False):
        real = threading.Thread.start
        for number in self.rounds(5):
            inner, results, begun = [], [], []
            client, gate = self.held(
                max_pending=room, max_workers=1, on_result=results.append)
            trace, *_, others = self.met_at_line(
                number, lambda: inner.extend(act(client)), here=here)
            with mock.patch.object(threading.Thread, "start", lambda thread: (
                    begun.append(thread.name), real(thread))):
                sys.settrace(trace)
                accepted = client.push("plan", "premium", "u")
                sys.settrace(None)
                for other in others:
                    other.join(TIMEOUT)
            self.assertLessEqual(begun.count("vwo_push"), 1, number)
            self.assertLessEqual(client.stats()["pending"], room, number)
            gate.set()
            if act is push:
                self.assertTrue(client.flush(TIMEOUT), number)
                accepted += sum(inner) + sum(push(client))
                self.assertGreaterEqual(accepted, 2, number)  # there is room again
            elif others:
                self.assertStats(client, pending=0)
            client.close(TIMEOUT)
            self.assertStats(client, accepted=accepted, pending=0)
            self.assertEqual(len(results), accepted, number)

    def test_a_push_that_is_lost_at_whatever_line_of_a_flush_is_told_once(self):
        for number in self.rounds(20):
            client = self.client(transport=lambda *_: 400)
            trace, *_, others = self.met_at_line(number, lambda: (
                push(client), until(lambda: client.stats()["failed"])))
            sys.settrace(trace)
            told = [client.flush(TIMEOUT)]
            sys.settrace(None)
            for other in others:
                other.join(TIMEOUT)
            told += [client.flush(TIMEOUT), client.flush(TIMEOUT)]
            self.assertEqual(told.count(False), len(others), (number, told))
            client.close(TIMEOUT)

    @cases((1, ["early", "late"], lambda box: push(box[0], "late")),
           (5, ["early", "late"], lambda box: push(box[0], "late"), True),
           (3, ["early"], lambda box: box[0].close(0)),
           (3, ["early"], lambda box: box[0].flush(0)),
           (3, ["early"], lambda box: (box.pop(), PYPY and gc.collect())))
    def test_whatever_comes_at_whatever_line_of_a_worker_is_not_lost(
            self, step, users, act, wire=False):
        """Nobody flushes; so it is the worker, or a new one, who sees it."""
        options = {"base_url": self.stub().url} if wire else {"transport": ok}
        missed, number = 0, 1 - step
        while missed < 2 and number < 999:
            number += step
            results = queue.Queue()
            box = [vwo_push.Client(ACCOUNT, KEY, max_workers=1 + wire,
                                   on_result=results.put, **options)]
            trace, left, met, others = self.met_at_line(number, act, box)
            threading.settrace(trace)
            try:
                accepted = push(box[0], "early")  # False: the close came first
            finally:
                threading.settrace(None)
            found = [results.get(timeout=TIMEOUT).user_id for each in accepted if each]
            until(lambda: met.wait(0.01) or all(  # it has parked
                waits_in(worker, "run") for worker in workers() * 9) and left[0] > 0)
            # Now and then 3.13t does not trace a new thread.
            missed = 0 if others else missed + (left[0] < number)
            for other in others:
                other.join(TIMEOUT)
                found += [results.get(timeout=TIMEOUT).user_id for _ in users[1:]]
            self.assertEqual(sorted(found), users[:len(found)], number)
            for client in box:
                client.close(TIMEOUT)
                self.assertAddsUp(client)
            until(gone)
            self.assertTrue(results.empty(), number)
        self.assertGreater(number, 20)


# -- Exit, fork, interpreters, copies --------------------------------------------------


class ExitTest(Life):

    def test_what_is_pending_at_the_end_is_sent(self):
        scripts = {
            "the program just ends": "push(c, range(20))",
            "several clients": "[push(client(), [number]) for number in range(20)]",
            "a thread goes on when the program has ended": """
                threading.Thread(target=lambda: (
                    threading.main_thread().join(), push(c, range(20)))).start()
                """,
            "in an exit handler registered after the import":
                "atexit.register(push, c, range(20))",
            "by a client made in an exit handler":
                "atexit.register(lambda: push(client(), range(20)))",
            "a dropped client": "push(c, range(20)); del c; gc.collect()",
            "without threads, and none is started at the exit": """
                real = threading.Thread.start
                no_threads()
                push(c, range(20))
                threading.Thread.start = lambda t: (print(t), real(t))
                """,
        }
        self.assertAllEnd({
            name: self.script("c = client()\n" + textwrap.dedent(source))
            for name, source in scripts.items()}, arrived=range(20))

    def test_exit_is_silent_and_in_time_whatever_the_server_does(self):
        stub = self.stub(shut=True)
        scripts = {
            "stalled": "",
            "refused": """
                closed = socket.socket()
                closed.bind(("127.0.0.1", 0))  # and does not listen
                o["base_url"] = "http://127.0.0.1:%d" % closed.getsockname()[1]
                o["max_attempts"] = 50  # four may be over in time
                """,
            "name server hangs": """
                socket.getaddrinfo = lambda *_: time.sleep(3600)
                other = client()
                push(other, range(3))
                assert (other.flush(0.05), other.close(0.05)) == (False, False)
                assert totals(other)["failed"] == 3
                """,
            "no time at all": 'o["exit_timeout"] = 0',
            "many clients": """
                others = [client(**dict(o, on_result=None)) for _ in range(9)]
                [push(each, [1]) for each in others]
                """,
            "no thread, and stalled": "no_threads()",
            "a slow on_result": """
                # Each push gets its call all the same.
                o["on_result"] = lambda r: (time.sleep(0.02), results.append(r))
                """,
            "daemon threads that go on pushing": """
                c = client(max_pending=10 ** 6, **dict(o, on_result=None))
                def produce():
                    while push(c, [1]):
                        time.sleep(0.0001)
                for _ in range(4):
                    threading.Thread(target=produce, daemon=True).start()
                """,
            "retry far away": "",
        }
        stubs = {"retry far away": self.stub(
            lambda handler: handler.reply(503, Retry_After="30"))}
        self.assertAllEnd({name: self.script("""
            results, began = [], []
            o = dict(timeout=60.0, exit_timeout=0.1, on_result=results.append)
            exec(sys.argv[2])
            mine = client(**o)
            push(mine, range(20))
            def sure():
                took = time.monotonic() - began[0]
                assert took < 2.5, took  # on a busy machine
                found = [(r.user_id, r.delivered, r.error) for r in results]
                assert found == [("u", False, "exit")] * 20, found
                assert mine.stats()["pending"] == 0
            ends.append(sure)
            atexit.register(lambda: began.append(time.monotonic()))
            """, textwrap.dedent(source), stub=stubs.get(name, stub))
            for name, source in scripts.items()})

    def test_after_the_exit_a_push_is_refused_and_starts_no_thread(self):
        self.assertEnds(self.script("""
            c = client(transport=ok)
            def late():
                assert push(c, [1]) + push(client(transport=ok), [1]) == [False, False]
                assert threading.active_count() == 1
                assert c.flush() is c.close() is True
                print("late")
            ends.append(late)
            """), "late")

    @cases(("exit", "seconds, act = 0, lambda: signal.raise_signal(signal.SIGINT)"),
           *[("exit exit exit", """
        def interrupt():  # while it waits
            import traceback
            while "flush" not in str(traceback.extract_stack(sys._current_frames()[main])):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
        main = threading.get_ident()
        threading.Thread(target=interrupt, daemon=True).start()
        """)] * POSIX)  # elsewhere os.kill ends a process, and no signal ends a wait
    def test_ctrl_c_during_the_exit_ends_it_at_once(self, out, source):
        self.assertEnds(self.script("""
            def on_result(result):
                os.write(1, result.error.encode() + b" ")
                act()
            seconds, act = 3600, bool
            exec(sys.argv[2])
            c = client(timeout=3600.0, exit_timeout=seconds, on_result=on_result)
            push(c, range(3))
            """, textwrap.dedent(source), stub=self.stub(shut=True)), out)

    @unittest.skipUnless(POSIX, "Windows ends a process without a signal")
    def test_sigterm_is_left_alone_and_the_recipe_delivers(self):
        process = self.script("""
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            c = client(exit_timeout=60.0, max_workers=1)
            push(c, range(5))
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            os.write(1, b"ready")
            while True:
                time.sleep(0.01)
            """, stub=self.stub(shut=True))
        self.assertEqual(process.stdout.read(5), b"ready")
        process.terminate()
        process.stub.gate.set()
        self.assertEnds(process, code=143, arrived=range(5))

    def test_children_of_multiprocessing_deliver_at_their_end(self):
        path = self.written(textwrap.dedent("""
            import multiprocessing, sys, vwo_push
            def main():
                for number in range(3):
                    assert client.push("n", str(number), "u")
            # Also where this file is imported by a child that was not forked from us.
            client = vwo_push.Client(12345, "key", base_url=sys.argv[1])
            if __name__ == "__main__":
                client.push("n", "parent", "u")
                client.flush()
                child = multiprocessing.get_context(sys.argv[2]).Process(target=main)
                child.start()
                child.join(18)
                sys.exit(child.exitcode)
            """))
        self.assertAllEnd({method: self.start(["-W", "ignore", path], method)
                           for method in multiprocessing.get_all_start_methods()},
                          arrived=["parent", 0, 1, 2])


@unittest.skipUnless(hasattr(os, "fork"), "there is no fork here")
class ForkTest(Life):

    # Children are killed after a while; wait() is true where all of them were content.
    FORK = """
def child(work, fork=os.fork):
    pid = fork()
    if pid:
        return pid
    signal.alarm(45)
    status = 1
    try:
        status = 0 if work() else 2
    finally:
        os._exit(status)
def wait(*pids):
    return [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)
def bare_fork():
    # As uWSGI does it, without Python's hooks. While a thread waits for the GIL that
    # would wedge any child, so the others have to stand still for a while, and none may be
    # about to begin.
    import ctypes
    before, still = None, 0
    while still < 10 or threading._limbo:
        time.sleep(0.002)
        frames = sys._current_frames()
        now = [(ident, id(frame), frame.f_lasti) for ident, frame in frames.items()
               if ident != threading.get_ident()]
        before, still = now, still + 1 if now == before else 0
    return ctypes.PyDLL(None).fork()
signal.alarm(58)
"""
    # Without a GIL a bare fork crashes CPython itself now and then.
    FORKS = ["os.fork"] + ["bare_fork"] * (
        not PYPY and getattr(sys, "_is_gil_enabled", lambda: True)())

    def fork(self, source, *argv, stub=None):
        return self.script(self.FORK + textwrap.dedent(source), *argv,
                           flags=["-W", "ignore"], stub=stub)

    def tls_stub(self):
        """A stub that speaks TLS, and the path of its certificate."""
        stub, path = self.stub(), self.written(CERTIFICATE)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        stub.socket = context.wrap_socket(
            stub.socket, server_side=True, do_handshake_on_connect=False)
        stub.url = stub.url.replace("http", "https")
        return stub, path

    def test_a_fork_in_on_result_leaves_the_child_nothing_to_send(self):
        self.assertAllEnd({threads: self.fork("""
            def on_result(result):
                if not pids:  # the child, too, goes back into the flush
                    real(threading.Thread(target=hold, daemon=True))
                    held.wait()
                    pids.append(os.fork() or signal.alarm(45))
                    done.set()
            def hold():
                with c._sender().lock:
                    held.set()
                    done.wait()
            pids, held, done = [], threading.Event(), threading.Event()
            real = threading.Thread.start
            sys.argv[2] == "threads" or no_threads()
            c = client(max_workers=1, max_batch=1, on_result=on_result)
            push(c, range(5))
            delivered = c.flush(10)
            pids[0] or os._exit(delivered)  # it was to deliver nothing
            assert delivered and wait(*pids)
            """, threads) for threads in ("threads", "no threads")}, arrived=range(5))

    def test_a_fork_neither_loses_nor_doubles_a_push(self):
        running = {how: self.fork("""
            c = client(max_workers=1, exit_timeout=20)
            push(c, range(50))
            def work():
                began = time.monotonic()
                empty = not any(c.stats().values()) and c.flush(10)
                quick = time.monotonic() - began < 5
                push(c, range(100, 105))
                os.write(1, b"ready")
                assert quick and empty and c.flush(10)
                return totals(c)["accepted"] == 5
            pid = child(work, %s)
            push(c, range(50, 55))
            assert wait(pid)
            assert c.flush(10), c.stats()
            assert totals(c)["accepted"] == 55
            """ % how, stub=self.stub(shut=True)) for how in self.FORKS}
        for process in running.values():
            self.assertEqual(process.stdout.read(5), b"ready")
            process.stub.gate.set()
        self.assertAllEnd(running, arrived=[*range(55), *range(100, 105)])

    def test_a_fork_at_whatever_line_another_thread_is_leaves_a_child_that_works(self):
        """It needs no lock that was held, and takes nothing from the parent."""
        at_each_line = inspect.getsource(at_line) + textwrap.dedent("""
            vwo_push.END_SECONDS = 0  # no thread here has used OpenSSL
            def run(call, number):
                # Call it on a thread that stops at this line until the fork is done.
                there, go = threading.Event(), threading.Event()
                trace, left = at_line(number, lambda: there.set() or go.wait())
                def work():
                    sys.settrace(trace)
                    call()
                    sys.settrace(None)
                    there.set()
                thread = threading.Thread(target=work)
                thread.start()
                there.wait()
                return thread, go, left[0] <= 0
            for name, least in {"stats": 3, "flush": 9, "close": 9, "push": 5}.items():
                for number in range(1, 1000, 6):
                    c = client(transport=ok)
                    call = {"push": lambda: push(c, [1])}.get(name, getattr(c, name))
                    if name != "push":
                        push(c, [0])
                    thread, go, more = run(call, number)
                    def work():
                        return name == "close" or (
                            push(c, [2, 3]) == [True] * 2 and c.flush(10)
                            and totals(c)["accepted"] == 2 and c.close(10))
                    pid = child(work, %s)
                    go.set()
                    assert wait(pid), (name, number)
                    thread.join()
                    assert c.close(10) or name == "flush"
                    assert totals(c)["delivered"] == 1, (name, number, c.stats())
                    if not more:
                        break
                assert number > least, (name, number)
            """)
        self.assertAllEnd({how: self.fork(at_each_line % how) for how in self.FORKS})

    def test_openssl_is_called_only_while_no_fork_can_be_made(self):
        gate, held = vwo_push._process().gate, []
        def checked(name):
            def call(sock, *args):
                held.append((name, gate._is_owned()))
                return getattr(super(Checked, sock), name)(*args)
            return call
        Checked = type("Checked", (ssl.SSLSocket,), {name: checked(name) for name in (
            "do_handshake", "recv", "recv_into", "read", "send", "write", "pending")})
        stub, path = self.tls_stub()
        context = ssl.create_default_context(cafile=path)
        context.sslsocket_class = Checked
        client = self.client(stub, ssl_context=context)
        for _ in range(2):
            client.push("plan", "premium", "u")
            self.assertTrue(client.flush(TIMEOUT))
        self.assertLessEqual({"do_handshake", "recv_into", "send"}, {*dict(held)})
        self.assertEqual([name for name, owned in held if not owned], [])

    def test_a_fork_waits_until_no_thread_is_inside_openssl_and_a_worker_is_gone(self):
        self.assertEnds(self.fork("""
            import ctypes
            library, key = ctypes.CDLL(None), ctypes.c_uint()
            assert not library.pthread_key_create(ctypes.byref(key), library.usleep)
            task, linux = [], os.path.exists("/proc/thread-self")
            def transport(request, timeout):  # its thread naps at its very end, 8 ms
                task.append(linux and "/proc/" + os.readlink("/proc/thread-self"))
                return library.pthread_setspecific(key, ctypes.c_void_p(8000)) or 200
            c = client(transport=transport)
            assert push(c, [0]) and c.close(10)
            assert wait(child(lambda: not (linux and os.path.exists(task[0]))))
            c, gate = client(transport=ok), vwo_push._process().gate
            holding, released = threading.Event(), []
            def hold():
                with gate:
                    holding.set()
                    threading.Event().wait(0.1)  # a fork would be done by then
                    released.append(True)
            threading.Thread(target=hold, daemon=True).start()
            holding.wait()
            assert wait(child(lambda: released and push(c, [1]) and c.flush(10)))
            assert push(c, [2]) and c.flush(10)
            """))

    def test_parent_and_child_do_not_share_a_connection(self):
        stub = self.stub()
        self.assertEnds(self.fork("""
            def connected(number):
                try:
                    with socket.socket(fileno=os.dup(number)) as s:
                        s.setblocking(False)  # again: PyPy's constructor lets it wait
                        return bool(s.getpeername())
                except OSError:
                    return False
            c = client(max_workers=1)
            assert push(c, [0]) and c.flush(10)
            assert sum(map(connected, range(3, 64))) == 1
            assert wait(child(lambda: not any(map(connected, range(3, 64)))
                              and push(c, [1]) and c.flush(10)))
            assert push(c, [2]) and c.flush(10)
            """, stub=stub))
        ports = [received.port for received in stub.take_all()]
        self.assertEqual(ports[0], ports[2])
        self.assertNotEqual(ports[0], ports[1])

    def test_a_fork_right_after_the_first_push_works_with_tls(self):
        stub, path = self.tls_stub()
        self.assertEnds(self.fork("""
            import ssl
            for number in range(20):
                c = client(ssl_context=ssl.create_default_context(cafile=sys.argv[2]))
                push(c, [number])
                pid = child(lambda: push(c, [100 + number]) and c.flush(10))
                assert wait(pid), number
                assert c.close(10)
            """, path, stub=stub), arrived=[*range(20), *range(100, 120)])

    def test_a_child_that_just_ends_delivers_and_a_closed_client_stays_closed(self):
        self.assertEnds(self.fork("""
            shut, c = client(), client()
            shut.close()
            push(c, [0])
            if not os.fork():
                signal.alarm(45)
                push(shut, [7]) == [False] and push(c, range(1, 4))
                sys.exit()
            assert os.wait()[1] == 0
            """), arrived=range(4))


class CopiesTest(Life):

    INSIDE = """
        import vwo_push
        client = vwo_push.Client(12345, "key", base_url="%s")
        assert [client.push("n", str(number), "u") for number in range(3)] == [True] * 3
        """
    SOURCE = """
        lib, isolated = __import__(sys.argv[2]), sys.argv[3] == "isolated"
        made = (lib.create(sys.argv[3]) if sys.version_info >= (3, 13) else
                lib.create(isolated=isolated))
        failed = lib.run_string(made, sys.argv[4] % sys.argv[1])
        assert failed is None, failed
        if isolated and sys.version_info[:2] == (3, 12):
            os._exit(0)  # after an import of hashlib, 3.12 itself would crash here
        lib.destroy(made)
        """

    def test_a_sub_interpreter_delivers_and_ends(self):
        lib = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
        if importlib.util.find_spec(lib) is None:
            self.skipTest("there are no sub-interpreters here")
        close, flush = "assert client.close(10) is True", "assert client.flush(10) is True"
        ways = [("legacy", close), ("isolated", close)]
        if sys.version_info >= (3, 12):  # before, one with a thread cannot be destroyed
            ways = [("legacy", ""), ("isolated", flush)]
        ways += [("isolated", "")] * (sys.version_info >= (3, 13))
        self.assertAllEnd({(kind, finish): self.script(
            self.SOURCE, lib, kind, textwrap.dedent(self.INSIDE) + finish,
            flags=["-W", "ignore"]) for kind, finish in ways}, arrived=range(3))

    def test_the_file_works_zipped_renamed_twice_and_reloaded(self):
        path, source = self.written(""), os.path.join(HERE, "vwo_push.py")
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(source, "tagging.py")
            archive.write(source, "app/vendored/vwo_push.py")
            archive.writestr("app/__init__.py", "")
            archive.writestr("app/vendored/__init__.py", "")
        script = textwrap.dedent("""
            import importlib, sys
            sys.path.insert(0, sys.argv[2])
            import tagging
            from app.vendored import vwo_push
            assert vwo_push is not tagging and sys.argv[2] in vwo_push.__file__
            def make(module):
                return module.Client(12345, "key", base_url=sys.argv[1],
                                     max_workers=1, max_batch=1, exit_timeout=30.0)
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
        self.assertAllEnd({
            flags: self.start([*flags.split(), "-c", script], path)
            for flags in ("", "-I -bb -W error")}, arrived=range(80))


# -- The network, as badly as it can behave --------------------------------------------


def answer(status, body=b"", more=b""):
    """The bytes of an answer; *more* are header lines."""
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (
        status, more, len(body), body)


OK, NO = answer(200, b"ok"), answer(503)
NO_SUCH_NAME = socket.EAI_NONAME, "Name or service not known"


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
        body, length = bytearray(body), re.search(rb"(?i)content-length: (\d+)", head)
        while length and more and len(body) < int(length.group(1)):
            more = self.sock.recv(65536)
            body += more
        self.server.times.append(time.monotonic())
        self.server.bodies.append(body)
        self.server.requests.put(head)
        return head

    def send(self, data):
        self.sock.sendall(data)

    def wait(self, seconds=TIMEOUT):
        """Do nothing until the test is over. True: it is."""
        return self.server.stopping.wait(seconds)

    def drip(self, data, seconds=0.05):
        """Send *data* byte by byte, over and over, until the test is over."""
        for byte in itertools.cycle(data):
            self.send(bytes([byte]))
            if self.wait(seconds):
                break

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


def answering(*answers, then=Peer.hang_up):
    """A script: answer requests with these bytes in turn, then hang up."""
    def script(peer):
        for data in answers:
            if not peer.read():
                return
            peer.send(data)
        then(peer)
    return script


def always(data):
    """A script: answer every request with these bytes."""
    return answering(*[data] * 10_000)


def after_request(act, *args):
    """A script: read a request, then do this."""
    return lambda peer: (peer.read(), act(peer, *args))


class Raw:
    """A server that runs a script, a callable of a `Peer`, for each connection; the
    last one for all that are left. Without any it delivers."""

    def __init__(self, *scripts, host="127.0.0.1", tls=None):
        self.scripts, self.tls = collections.deque(scripts or [always(OK)]), tls
        self.connections = 0
        self.requests, self.bodies, self.times = queue.Queue(), [], []
        self.stopping = threading.Event()
        self.errors, self.threads, self.socks = [], [], []
        self.listener = socket.create_server((host, 0), backlog=128, family=(
            socket.AF_INET6 if ":" in host else socket.AF_INET))
        host, self.port = self.address = self.listener.getsockname()[:2]
        self.url = "%s://%s:%d" % ("https" if tls else "http", (
            "[%s]" if ":" in host else "%s") % host, self.port)
        self.threads.append(started(self._accept))

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
            self.threads.append(started(self._run, script, sock))

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
        if self.stopping.is_set():
            return
        self.stopping.set()
        with socket.socket(self.listener.family) as sock:
            sock.connect(self.address)  # wakes the listener
        self.threads[0].join(TIMEOUT)
        self.listener.close()
        for sock in self.socks:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(TIMEOUT)
        assert not any(thread.is_alive() for thread in self.threads)
        assert not self.errors, self.errors


class EdgeCase(Case):
    """Backoffs take no time; clients trust `secure`; ``lines`` are those logged."""

    def setUp(self):
        super().setUp()
        self.addCleanup(getattr(time, "tzset", int))  # when TZ is what it was
        self.use(mock.patch.dict(os.environ))
        self.put("BACKOFF_SECONDS", 0.0)
        self.lines, handler = [], logging.Handler()
        handler.emit = lambda record: self.lines.append(record.getMessage())
        self.put("handlers", [handler], logging.getLogger("vwo_push"))
        self.file = self.written(CERTIFICATE)
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.load_cert_chain(self.file)
        self.trusting = ssl.create_default_context(cafile=self.file)

    def client(self, server=None, **options):
        if "transport" not in options:
            options.setdefault("ssl_context", self.trusting)
        return super().client(server, **options)

    def environ(self, **variables):
        """Set variables, or remove those that are None, for the length of this test."""
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def raw(self, *scripts, **options):
        server = Raw(*scripts, **options)
        self.addCleanup(server.stop)
        return server

    def secure(self, *scripts):
        return self.raw(*scripts, tls=self.server_context)

    def served(self, *scripts, tls=None, **options):
        """A server with these scripts, and a client of it with one worker."""
        server = self.raw(*scripts, tls=tls)
        return server, self.client(server, max_workers=1, **options)

    def dice(self, uniform):
        """Let *uniform* draw the random waits."""
        self.put("uniform", lambda _, low, high: uniform(low, high), random.Random)

    def reporting(self, server, **options):
        """A client of *server*, and a queue of its results."""
        results = queue.Queue()
        return self.client(server, on_result=results.put, **options), results

    def outcome(self, server, dimensions=None, **options):
        """Push once: (delivered, status, error, attempts), and the client."""
        client, results = self.reporting(server, **options)
        self.assertTrue(client.push(dimensions or {"plan": "premium"}, "u-42"))
        flushed = client.flush(TIMEOUT)
        result = results.get(timeout=TIMEOUT)
        self.assertEqual(flushed, result.delivered)
        self.assertTrue(results.empty(), "a push was reported twice")
        return tuple(result[2:6]), client

    def deliver(self, client, times=1, within=TIMEOUT):
        """Push, and see it delivered, *times* times, one after the other."""
        for _ in range(times):
            self.assertTrue(client.push("plan", "premium", "u-42"))
            self.assertTrue(client.flush(within))

    def names_lead_to(self, *addresses):
        """Let every host name have these addresses, the numbers of ports included;
        without any, that of this machine, and none where it ends in "nowhere"."""
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
                 for address in addresses]
        before = socket.getaddrinfo
        def getaddrinfo(host, port, *args, **options):
            if str(host).endswith("nowhere"):
                raise socket.gaierror(*NO_SUCH_NAME)
            return list(found) or before("127.0.0.1", port, *args, **options)
        self.put("getaddrinfo", getaddrinfo, socket)

    def nobody(self):
        """A URL that refuses connections."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.bind(("127.0.0.1", 0))  # and does not listen
        return "http://127.0.0.1:%d" % sock.getsockname()[1]

    def full_listener(self):
        """A listener that lets nobody connect any more, but swallows who tries."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(5):
            with socket.socket() as filler:
                filler.settimeout(0.02)
                if filler.connect_ex(listener.getsockname()) == errno.EWOULDBLOCK:
                    return listener
        self.skipTest("this system does not let a full backlog wait")

    def main(self, *argv):
        """Run the command line in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = vwo_push.main(list(argv))
            except SystemExit as end:  # of argparse
                status = end.code
        return Ran(status, out.getvalue(), err.getvalue())

    def hear(self):
        """An event: a worker has received something from a plain socket."""
        heard = threading.Event()
        for name in "recv", "recv_into":
            before = getattr(socket.socket, name)
            def receive(sock, *args, before=before):
                received = before(sock, *args)
                if received and threading.current_thread().name == "vwo_push":
                    heard.set()
                return received
            self.put(name, receive, socket.socket)
        return heard


class RetryTest(EdgeCase):

    @cases(
        *[(status, "http", answering(answer(status)))
          for status in (408, 429, 500, 502, 503, 504, 599)],
        (None, "connection", Peer.hang_up), (None, "timeout", Peer.wait),
        *[(None, "connection", after_request(end)) for end in (Peer.reset, Peer.hang_up)],
        *[(None, "response", answering(garbage))
          for garbage in (b"H", b"HTTP/1.1 2", b"SSH-2.0-OpenSSH_9.6\r\n", b"\0" * 70000,
                          b"HTTP/1.1 two hundred\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n")],
        *[(None, "response", answering(OK[:16], then=lambda peer, line=line: peer.flood(
            line))) for line in (b"A: b\r\n", b"A")])
    def test_a_passing_failure_is_tried_again_and_delivered(self, status, error, script):
        least, most = (0.02, 0.2) if error == "timeout" else (TIMEOUT, TIMEOUT)
        outcome, _ = self.outcome(self.raw(script), max_attempts=1, timeout=least)
        self.assertEqual(outcome, (False, status, error, 1))
        outcome, client = self.outcome(self.raw(script, script, always(OK)), timeout=most)
        self.assertEqual(outcome, (True, 200, None, 3))
        self.assertStats(client, delivered=1, failed=0, requests=3, retries=2)

    def test_waits_double_up_to_8_seconds_until_the_last_failure_is_the_outcome(self):
        """They begin at any point down to 0."""
        self.put("BACKOFF_SECONDS", 0.5)
        server, drawn = self.raw(answering(b"garbage"), always(NO)), []
        self.dice(lambda low, high: drawn.append((low, high)) or 0.1 * (high < 1))
        outcome, client = self.outcome(server, max_attempts=8)
        self.assertEqual(outcome, (False, 503, "http", 8))
        self.assertStats(client, failed=1, requests=8, retries=7)
        self.assertEqual(drawn[:7], [(0, most) for most in (0.5, 1, 2, 4, 8, 8, 8)])
        self.assertGreater(server.times[1] - server.times[0], 0.09)

    def test_a_retry_leaves_a_sick_backend_for_another(self):
        """A balancer ties a connection to one backend; each of these falls ill."""
        for status in (408, 429, 500, 503):
            server, client = self.served(
                answering(*[OK] * 19, *[answer(status)] * 200), max_batch=1)
            for number in range(200):
                client.push("n", str(number), "u-42")
            self.assertTrue(client.flush(TIMEOUT), client.stats())
            self.assertStats(client, delivered=200, retries=10)
            self.assertEqual(server.connections, 11)


class RetryAfterTest(EdgeCase):

    def asking(self, header, status=503):
        """A server that asks for quiet once."""
        more = ("Retry-After: %s\r\n" % header).encode("latin-1")
        return self.raw(answering(answer(status, more=more)), always(OK))

    def test_retry_after_is_read_as_seconds_or_a_date_from_0_to_30(self):
        self.environ(TZ="Asia/Tokyo")  # an obsolete date is not in local time
        getattr(time, "tzset", int)()
        statuses = itertools.cycle((408, 429, 500, 503))
        date = lambda seconds, form="%a, %d %b %Y %H:%M:%S GMT": time.strftime(
            form, time.gmtime(time.time() + seconds))
        running, second = [], [0.02]
        self.dice(lambda low, high: second[0] if low else 0.0)  # as long as one second
        for header, least in (
                ("1", 1), (" 7 ", 7), ("86400", 30), ("9" * 400, 30),
                ("2.5", 3), ("2, 3", 3), ("3,2", 3), (date(20), 15), (date(86400), 30),
                (date(20, "%A, %d-%b-%y %H:%M:%S GMT"), 15),  # as RFC 850 had it
                (date(20, "%a %b %d %H:%M:%S %Y"), 15),  # as C's asctime has it
                (date(20, "%a, %d %b %Y %H:%M:%S -0000"), 15),
                (date(20, "%a, %d %b %Y %H:%M:%S"), 15),
                ("Fri, 01 Jan 3001 00:00:00 -0000", 30)):  # Windows does not convert it
            server = self.asking(header, next(statuses))
            client = self.client(server)
            client.push("plan", "premium", "u-42")
            running.append((header, least, server, client))
        for header, least, server, client in running:
            with self.subTest(header):
                self.assertTrue(client.flush(TIMEOUT))
                seconds = (server.times[1] - server.times[0]) / second[0]
                self.assertGreaterEqual(seconds, least)
                self.assertLess(seconds, least + 25)  # 0.5 s more, for a slow machine
        second[0] = 999.0
        for header in ("", "0", "-5", "nan", "inf", "soon", ".", "2, soon",
                       "\u00b2", date(-20), "Mon, 99 Foo 2020 99:99:99 GMT",
                       "Wed, 21 Oct 2015", "Fri, 31 Dec 99999 23:59:59 GMT",
                       "Thu, 01 Jan 1970 00:00:00 -0000"):  # nor this
            with self.subTest(header):
                self.deliver(self.client(self.asking(header)), within=5)
        _, client = self.outcome(self.asking("60", 400))
        self.deliver(client, within=5)  # the other failures are not asked

    def test_retry_after_is_stretched_by_up_to_a_tenth_and_to_no_more_than_30_s(self):
        drawn, real, began = [], vwo_push._now, vwo_push._now()
        self.put("MAX_RETRY_AFTER_SECONDS", 0.1)
        self.dice(lambda low, high: drawn.append((low, high)) or low * TIMEOUT * 9)
        # In steps, as on Windows, where 1000.1 - 1000 is more than 0.1.
        for now, least in (real, 0.1), (
                lambda: 1000 + (real() - began) * 64 // 1 / 64, 0.08):
            self.put("_now", now)
            server = self.asking("1")
            self.deliver(self.client(server), within=10)
            self.assertIn((1.0, 1.1), drawn)
            self.assertGreaterEqual(server.times[1] - server.times[0], least)

    def test_all_workers_keep_the_longest_quiet_that_was_asked_for(self):
        """Also one that is in a backoff already, and whatever is asked for later."""
        self.dice(lambda low, high: 0.02 if low else 0.1)
        for first, second in (b"", b"10"), (b"10", b"1"):
            heard, both, asked = self.hear(), threading.Barrier(2), []
            def ask(peer, header, event):
                peer.read()
                both.wait(TIMEOUT)
                self.assertTrue(event is None or event.wait(TIMEOUT))
                if header == b"10":
                    asked.append(time.monotonic())
                peer.send(answer(503, more=b"Retry-After: %s\r\n" % header))
            server = self.raw(lambda peer: ask(peer, first, None),
                              lambda peer: ask(peer, second, heard), always(OK))
            client = self.client(server, max_batch=1)
            for user in "ab":
                client.push("plan", "premium", user)
            self.assertTrue(client.flush(TIMEOUT))
            self.assertGreaterEqual(min(server.times[2:]) - asked[0], 0.2)


class DeadlineTest(EdgeCase):
    """One deadline over everything, however the server drips."""

    def test_an_attempt_ends_at_its_deadline_whatever_the_server_sends(self):
        ok, early = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"
        running = []
        for name, script in (
                ("mute", Peer.wait), ("mute at last", after_request(Peer.wait)),
                ("dripping status line", after_request(Peer.drip, ok)),
                ("dripping 1xx", after_request(Peer.drip, early, 0.001)),
                ("flood of 103", after_request(Peer.flood, early)),
                ("flood of 100", after_request(Peer.flood, early.replace(b"3", b"0"))),
                ("flood before the body is read", lambda peer: peer.flood(early)),
                ("header", answering(ok + b"A: ", then=lambda peer: peer.drip(b"a"))),
                ("headers", answering(ok, then=lambda peer: peer.drip(b"A: b\r\n")))):
            client, results = self.reporting(
                self.raw(script), timeout=0.1, max_attempts=1, max_batch=5000)
            client.push({"k%d" % number: EMOJI * 255 for number in range(
                2_700 if "body" in name else 1)}, "u-42")
            running.append((name, client, results))
        for name, client, results in running:
            with self.subTest(name):
                self.assertFalse(client.flush(TIMEOUT))
                self.assertIn(results.get(timeout=TIMEOUT).error, ["timeout"] + [
                    "response"] * (name == "flood of 100"))  # 3.14 counts those

    def test_an_endless_body_costs_its_connection_only(self):
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        long = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
        running = []
        for name, head, act, *data in (
                ("dripping", long, Peer.drip, b"x"), ("stalled", long, Peer.wait),
                ("huge", long, Peer.flood, b"x" * 100),
                ("endless chunks", chunked, Peer.flood, b"1\r\nx\r\n"),
                ("dripping chunks", chunked, Peer.drip, b"1\r\nx\r\n"),
                ("not a chunk", chunked, Peer.flood, b"chunk\r\n"),
                ("endless trailer", chunked + b"0\r\n", Peer.flood, b"A: b\r\n"),
                ("until the end", b"HTTP/1.1 200 OK\r\n\r\n", Peer.flood, b"x" * 100),
                ("cut off", long, Peer.hang_up)):
            server, client = self.served(
                answering(head, then=lambda peer, act=act, data=data: act(peer, *data)),
                always(OK), timeout=0.3)
            running.append((name, server, client))
            client.push("plan", "premium", "u-42")
        for name, server, client in running:
            with self.subTest(name):
                self.assertTrue(client.flush(TIMEOUT))
                self.deliver(client)
                self.assertStats(client, delivered=2, requests=2, retries=0)
                self.assertEqual(server.connections, 2)
        drips = self.raw(answering(long + b"x", then=Peer.wait))  # nor any time to a push
        self.assertEqual(self.outcome(drips, timeout=1e300)[0], (True, 200, None, 1))

    def test_a_name_look_up_without_an_end_holds_up_nobody(self):
        self.put("JOIN_SECONDS", 0.01)
        found, asked = threading.Event(), threading.Event()
        self.addCleanup(found.set)
        client, results = self.reporting(None)
        self.put("getaddrinfo", lambda *_: [asked.set(), found.wait(TIMEOUT)][2:], socket)
        client.push("plan", "premium", "u-42")
        self.assertTrue(asked.wait(TIMEOUT))
        self.assertFalse(client.flush(0.01))
        self.assertFalse(client.close(0.01))
        self.assertEqual(results.get(timeout=TIMEOUT).error, "closed")


class KeepAliveTest(EdgeCase):
    """One worker, one connection, for as long as it can be trusted."""

    @unittest.skipIf(PYPY, "counts no references")
    def test_an_exchange_leaves_nothing_to_the_garbage_collector(self):
        """A cycle in each would keep its buffer, 8 KiB, until the collector comes."""
        clients = [self.client(self.stub(200, 200, 404, 200), max_workers=1)] * 3 + [
            self.client(base_url=self.nobody(), max_workers=1)]
        def use():
            for client in clients:
                client.push("plan", "premium", "u-42")
                client.flush(TIMEOUT)
        use()
        gc.collect()
        self.addCleanup(gc.garbage.clear)
        self.addCleanup(gc.set_debug, gc.get_debug())
        gc.set_debug(gc.DEBUG_SAVEALL)
        use()
        gc.collect()
        self.assertEqual({type(each).__name__ for each in gc.garbage if (
            type(each).__module__ in ("http.client", "io", "_io", "vwo_push")
            or isinstance(each, BaseException))}, set())

    HTTP, EMPTY, EARLY = b"HTTP/1.1 200 OK", b"HTTP/1.1 204 X", b"HTTP/1.1 103\r\n\r\n"
    CHUNKED, LENGTH = b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: %d"
    TWO, CHUNKS = LENGTH % 2, b"2;x=y\r\nok\r\n0\r\nA: b\r\n\r\n"
    KEPT, ONCE, LATE = 1, 3, 0  # how many connections three pushes take

    @cases((KEPT, EMPTY, b""), (KEPT, EMPTY + LENGTH % 0, b""),
           (KEPT, HTTP[:-3] + LENGTH % 0, b""), (KEPT, HTTP + CHUNKED, CHUNKS),
           (KEPT, HTTP + LENGTH % 2 ** 16, bytes(2 ** 16)),
           (KEPT, EARLY * 2 + HTTP + TWO, b"ok"),
           (KEPT, b"HTTP/1.1 100 Continue\r\n\r\n" + HTTP + TWO, b"ok"),
           (KEPT, b"HTTP/1.1 200 OK\nContent-Length: 2", b"ok"),
           (ONCE, HTTP + LENGTH % 65537, bytes(65537)),
           (ONCE, HTTP + TWO + b"\r\nConnection: close", b"ok"),
           (ONCE, b"HTTP/1.0 200 OK" + TWO, b"ok"), (LATE, HTTP + LENGTH % -1, b"ok"),
           (LATE, EMPTY + CHUNKED, b""), (LATE, EMPTY + CHUNKED, CHUNKS),
           (LATE, EMPTY + LENGTH % 5, b""), (LATE, EMPTY + LENGTH % 5, b"hello"),
           (KEPT, HTTP + CHUNKED + LENGTH % 3, CHUNKS), (KEPT, HTTP + TWO * 2, b"ok"),
           (LATE, HTTP + CHUNKED.replace(b"ch", b"gzip, ch"), b"ok"),
           (LATE, HTTP + TWO + b", 2", b"ok"))
    def test_answers_of_all_shapes_are_read_to_where_they_end(self, how, head, body):
        """A 204 has a body, or no end of the body is said: that comes late, or never."""
        def script(peer):
            rest = b""
            while peer.read():
                peer.send(rest + head + b"\r\n\r\n" + (body if how else b""))
                rest = b"" if how else body
        server, client = self.served(script, timeout=TIMEOUT)
        self.deliver(client, 3, within=2)
        self.assertStats(client, delivered=3, requests=3, retries=0)
        self.assertEqual((server.connections, server.requests.qsize()), (how or 3, 3))

    @cases(*itertools.product((False, True), (
        *[answer(200)[:end] for end in (8, 12, 14, 15, 16, 24, 33, 34, 35, 36)], EARLY,
        EARLY[:-2], EARLY + OK[:16], b"HTTP/1.1 200 OK\n", b"HTTP/1.0 200 OK\r\n")))
    def test_half_an_answer_is_no_answer(self, tls, part):
        server = self.raw(answering(part), always(OK), tls=tls and self.server_context)
        self.assertEqual(self.outcome(server)[0], (True, 200, None, 2))

    def test_an_answer_is_read_to_its_end_before_the_next_request(self):
        """Or its rest is taken for the next answer. Final failures keep the connection."""
        heard = self.hear()
        def late(peer):
            for status in statuses:
                peer.read()
                peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\n" % status)
                self.assertTrue(heard.wait(TIMEOUT))
                peer.send(b"body")
            peer.wait()
        for statuses in [200] * 3, [404] * 3:
            heard.clear()
            server, client = self.served(late, max_batch=1)
            client.push({"a": "1", "b": "2", "c": "3"}, "u-42")
            self.assertEqual(client.flush(TIMEOUT), statuses[0] == 200)
            self.assertStats(client, requests=3, retries=0)
            self.assertEqual((server.connections, server.requests.qsize()), (1, 3))

    def test_a_kept_connection_that_dies_is_replaced_uncounted_once(self):
        """Not once a byte of an answer came, nor after a timeout."""
        heard = self.hear()
        idle = lambda end, first=OK: answering(first, then=lambda peer: (
            go.wait(TIMEOUT), end(peer), gone.set(), peer.read()))
        full = answer(200, b"x" * 8152)  # 8 KiB: a buffer may be full at its end
        half_close = lambda peer: peer.sock.shutdown(socket.SHUT_WR)
        reset = lambda peer: heard.wait(TIMEOUT) and peer.reset()
        busy = answering(OK, then=after_request(Peer.hang_up))
        mute, own = answering(OK, then=after_request(Peer.wait)), self.server_context
        for tls, attempts, requests, *scripts in (
                (None, 1, 2, idle(half_close)), (None, 1, 2, idle(Peer.hang_up)),
                (None, 1, 2, idle(Peer.reset)), (own, 1, 2, idle(Peer.hang_up)),
                *[(tls, 1, 2, idle(*late)) for tls in (None, own) for late in (
                    (lambda peer: peer.send(b"H"),), (lambda peer: None, full + OK))],
                (None, 1, 3, busy), (own, 1, 3, busy),
                (None, 1, 3, answering(OK, then=after_request(Peer.reset))),
                (None, 2, 4, answering(OK, b""), Peer.read), (None, 2, 3, mute),
                (None, 2, 3, answering(OK, b"H")), (None, 2, 3, answering(OK, OK[:10])),
                (None, 2, 3, answering(OK, b"H", then=reset))):
            go, gone = threading.Event(), threading.Event()
            server = self.raw(*scripts, always(OK), tls=tls)
            client, results = self.reporting(
                server, max_workers=1, timeout=0.2 if mute in scripts else TIMEOUT)
            self.deliver(client)
            heard.clear()
            go.set()
            self.assertTrue(requests > 2 or gone.wait(TIMEOUT))
            self.deliver(client)
            self.assertEqual([results.get(timeout=TIMEOUT).attempts for _ in range(2)],
                             [1, attempts])
            self.assertStats(client, requests=attempts + 1, retries=attempts - 1)
            self.assertEqual((server.connections, server.requests.qsize()),
                             (max(2, requests - 1), requests))

    @unittest.skipUnless(hasattr(signal, "SIGSTOP"), "no way to freeze a process here")
    def test_a_frozen_process_delivers_what_was_in_flight_exactly_once(self):
        """As Lambda freezes one: the kernel goes on, the process does not."""
        frozen, thawed = threading.Event(), threading.Event()
        at_once = {uuid_of("early"): len(OK), uuid_of("half"): 20, uuid_of("late"): 0}
        def script(peer):
            user = re.search(b"[?&]u=([0-9A-F]+)", peer.read()).group(1).decode()
            frozen.wait(TIMEOUT)
            peer.send(OK[:at_once[user]])
            thawed.wait(TIMEOUT)
            peer.send(OK[at_once[user]:])
            peer.wait()
        server = self.raw(script)
        child = self.start(["-c", textwrap.dedent("""
            import sys, vwo_push
            vwo_push.FROZEN_SECONDS = 0.1
            client = vwo_push.Client(%d, "key", base_url=sys.argv[1], timeout=0.6,
                                     max_batch=1, max_workers=3)
            for user_id in "early", "half", "late":
                client.push("plan", "premium", user_id)
            flushed = client.flush(20.0)
            print(flushed, client.stats()["retries"], end="")
            """ % ACCOUNT)], stub=server)
        for _ in at_once:
            server.take()
        threading.Event().wait(0.1)  # nothing tells when all of them wait for answers
        child.send_signal(signal.SIGSTOP)
        self.assertTrue(os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1]))
        frozen.set()  # answers, or parts, lie in the sockets as the deadline passes
        threading.Event().wait(0.7)
        child.send_signal(signal.SIGCONT)
        threading.Event().wait(0.05)  # so that half an answer is read by itself
        thawed.set()
        self.assertEqual(self.finish(child), (0, "True 0", ""))
        self.assertEqual(server.requests.qsize(), 0)


class ConnectTest(EdgeCase):

    def test_the_address_that_answers_is_found_soon_and_tried_first_from_then_on(self):
        self.assertEqual(vwo_push.NEXT_ADDRESS_SECONDS, 0.3)
        self.put("NEXT_ADDRESS_SECONDS", 0.05)
        once, server = [self.raw(always(answer(200, more=b"Connection: close\r\n")))
                        for _ in range(2)]
        dead, more = self.full_listener(), self.full_listener()
        refused = "127.0.0.1", int(self.nobody().rpartition(":")[2])
        self.names_lead_to(dead.getsockname(), refused, more.getsockname(),
                           once.address, server.address)
        client = self.client(base_url="http://five.test", max_workers=1)
        self.deliver(client, within=2.0)
        dead.setblocking(False)  # it accepts again, and who goes there first is lost
        with contextlib.suppress(BlockingIOError):
            while True:
                dead.accept()[0].close()
        self.deliver(client, within=2.0)
        dead.close()
        once.stop()  # then the others are tried again
        self.deliver(client, 2, within=2.0)
        self.assertStats(client, delivered=4, requests=4, retries=0)
        self.assertEqual((once.connections, server.connections), (2, 2))

    def test_addresses_that_were_all_silent_have_more_time_in_turn(self):
        """As those of a server that is far away, or busy: more in the next attempt."""
        self.put("NEXT_ADDRESS_SECONDS", 0.05)
        slow, dead = [self.full_listener().getsockname() for _ in range(2)]
        self.names_lead_to(slow, dead)
        server, tries = self.raw(), []
        def connect(sock, address, before=socket.socket.connect):
            tries.append((address, sock.gettimeout() > 0.05))
            before(sock, address if len(tries) < 4 else server.address)
        self.put("connect", connect, socket.socket)
        outcome, _ = self.outcome(None, base_url="http://two.test", timeout=0.4)
        self.assertEqual(outcome, (True, 200, None, 2))
        self.assertEqual(tries, [(slow, False), (dead, True), (dead, False), (slow, True)])

    def test_a_connect_that_fails_at_once_is_not_taken_for_a_silent_one(self):
        """From 3.10 on ETIMEDOUT is a socket.timeout, and would be tried without end."""
        server, tries = self.nobody(), []
        def connect(sock, address):
            tries.append(address)
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        self.put("connect", connect, socket.socket)
        self.assertEqual(self.outcome(None, base_url=server, max_attempts=1)[0],
                         (False, None, "connection", 1))
        self.assertEqual(len(tries), 1)

    def test_an_ipv6_address_works(self):
        try:
            server = self.raw(host="::1")
        except OSError:
            self.skipTest("no IPv6 here")
        self.assertEqual(self.outcome(server)[0], (True, 200, None, 1))
        self.assertIn(b"\r\nHost: [::1]:%d\r\n" % server.port, server.take())

    def test_descriptors_beyond_1024_work(self):
        try:
            import resource
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(1400, hard), hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        except (ImportError, ValueError, OSError):
            self.skipTest("this many descriptors are not allowed")
        with contextlib.ExitStack() as stack:
            for _ in range(1100):
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            server, client = self.served()
            self.deliver(client, 3)
            self.assertEqual(server.connections, 1)
            client.close(0)

    def test_a_final_dot_is_for_the_look_up_and_the_host_header_only(self):
        names = []
        self.server_context.sni_callback = lambda sock, name, _: names.append(name)
        server = self.secure()
        self.names_lead_to()
        outcome, _ = self.outcome(None, base_url="https://localhost.:%d" % server.port)
        self.assertEqual((outcome, names), ((True, 200, None, 1), ["localhost"]))
        self.assertIn(b"\r\nHost: localhost.:%d\r\n" % server.port, server.take())


class TlsTest(EdgeCase):
    """https: verified always, kept alive, and never a hang."""

    def test_an_answer_that_comes_before_the_body_is_sent_is_heard(self):
        """Whether the server hangs up, or holds the connection and reads no more. 5.6 MB
        are more than Linux keeps for a slow reader; two dimensions are not, and on Windows
        nothing is: there all is sent, and the next request would wait behind it."""
        few = {"a": "b", "c": "d"}
        bulk = {"%04d" % n + EMOJI * 251: EMOJI * 255 for n in range(800)}
        options = dict(max_batch=800, timeout=5)
        early = lambda data, end: lambda peer: (
            peer.sock.recv(100), peer.send(data), end(peer))
        for tls in None, self.server_context:
            # A reset, which follows on hanging up, makes Windows forget what has come.
            for end, pairs in ((Peer.hang_up, bulk), (Peer.wait, bulk), (Peer.wait, few)):
                if end is Peer.hang_up and not POSIX:
                    continue
                server = self.raw(early(answer(413), end), always(OK), tls=tls)
                outcome, client = self.outcome(server, pairs, **options)
                self.assertEqual(outcome, (True, 200, None, 1))
                self.assertStats(client, delivered=1, requests=3, retries=0)
                self.assertEqual(sum(len(json.loads(body)["ev"])
                                     for body in server.bodies), len(pairs))
            hasty = lambda peer: (peer.send(b"HTTP/1.1 103\r\n\r\n"), always(OK)(peer))
            server = self.raw(hasty, tls=tls)  # that was not the answer yet
            self.assertEqual(self.outcome(server, bulk, **options)[0][3], 1)
            server, client = self.served(answering(OK, then=early(
                answer(400), Peer.wait)), always(OK), tls=tls, **options)
            self.deliver(client)
            client.push(bulk, "u-42")
            self.assertFalse(client.flush(TIMEOUT))
            self.assertStats(client, failed=1, requests=2, retries=0)
            self.deliver(client, within=2)
            self.assertEqual(server.connections, 2)

    def test_what_tls_itself_says_after_an_answer_costs_no_connection(self):
        """Tickets, for one: here they answer a client that shows no certificate."""
        self.server_context.verify_mode = ssl.CERT_OPTIONAL
        self.trusting.post_handshake_auth = True
        said = queue.Queue()
        def talkative(peer):
            while peer.read():
                peer.send(OK)
                peer.sock.verify_client_post_handshake()
                said.put(peer.sock.do_handshake())
        server, client = self.served(talkative, tls=self.server_context, max_batch=1)
        for _ in range(200):
            self.deliver(client)
            said.get(timeout=TIMEOUT)
        self.assertStats(client, requests=200, retries=0)
        self.assertEqual(server.connections, 1)

    def test_a_certificate_is_always_verified(self):
        server = self.secure()
        self.names_lead_to()
        self.environ(SSL_CERT_FILE=self.file, PYTHONHTTPSVERIFY="0")
        self.put("_create_default_https_context", ssl._create_unverified_context, ssl)
        wrong, right = ["https://%s:%d" % (host, server.port)
                        for host in ("wrong.test", "localhost")]
        strange = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
        for url, context in (wrong, None), (wrong, self.trusting), (right, strange):
            outcome, client = self.outcome(None, base_url=url, ssl_context=context)
            self.assertEqual(outcome, (False, None, "tls", 1))
        self.assertEqual(server.requests.qsize(), 0)
        self.deliver(self.client(base_url=right, ssl_context=None, max_workers=1), 3)
        self.assertEqual((server.connections, server.requests.qsize()), (4, 3))

    def test_a_useless_ssl_cert_file_is_named_at_construction(self):
        for path in (self.file + ".missing", tempfile.gettempdir(), *map(self.written, (
                "", "garbage\n", CERTIFICATE[:40], CERTIFICATE.replace("MIIBeD", "")))):
            self.environ(SSL_CERT_FILE=path)
            with self.assertRaisesRegex(ValueError, "SSL_CERT_FILE"):
                self.client(base_url="https://x.test", ssl_context=None)
        self.client(base_url="http://x.test", ssl_context=None)
        self.client(transport=ok)
        self.client(base_url="https://x.test")

    def test_a_python_without_ssl_speaks_http_and_refuses_https(self):
        server = self.raw()
        self.assertRuns("""
            import sys
            sys.modules["ssl"] = sys.modules["_ssl"] = None
            import vwo_push
            try:
                vwo_push.Client(1, "key")
                raise SystemExit("https without ssl")
            except ValueError as error:
                assert "ssl" in str(error), error
            for options in ({"base_url": sys.argv[1]}, {"transport": lambda *_: 200}):
                with vwo_push.Client(1, "key", **options) as client:
                    assert client.push("plan", "premium", "u-42") and client.flush(20.0)
            """, server.url)
        self.assertEqual(server.requests.qsize(), 1)


class ProxyTest(EdgeCase):
    NOWHERE = "http://127.0.0.1:9"
    LOGIN = b"Proxy-Authorization: Basic bWU6cEBzcw=="  # me:p@ss

    def tunnel(self, peer):
        """The script of a proxy that is the server behind it, too."""
        peer.read()
        peer.send(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
        with self.server_context.wrap_socket(peer.sock, server_side=True) as peer.sock:
            peer.server.socks.append(peer.sock)
            always(OK)(peer)

    def through(self, *scripts, login="", base_url="https://x.test", **options):
        """A proxy for https, and the outcome of one push through it."""
        proxy = self.raw(*scripts)
        self.environ(https_proxy="http://%s127.0.0.1:%d" % (login, proxy.port))
        return (proxy,) + self.outcome(None, base_url=base_url, **options)

    def test_https_goes_through_a_tunnel_of_the_proxy(self):
        url = "https://127.0.0.1:8443"
        proxy, outcome, client = self.through(
            self.tunnel, login="me:p%40ss@", base_url=url, max_workers=1)
        self.deliver(client, 2)
        self.assertEqual((outcome, proxy.connections), ((True, 200, None, 1), 1))
        self.assertEqual(proxy.take().split(b"\r\n"), [
            b"CONNECT 127.0.0.1:8443 HTTP/1.1", b"Host: 127.0.0.1:8443", self.LOGIN])
        for _ in range(3):
            request = proxy.take()
            self.assertTrue(request.startswith(b"GET /server-side/push?"), request)
            self.assertNotIn(b"Proxy-", request)
        for scripts, other, expected, requests in (
                ([answering(answer(502)), self.tunnel], url, (True, 200, None, 2), 3),
                ([self.tunnel], "https://wrong.test", (False, None, "tls", 1), 1)):
            proxy, outcome, _ = self.through(*scripts, base_url=other)
            self.assertEqual((outcome, proxy.requests.qsize()), (expected, requests))

    @cases(("https://x.test", b"x.test:443"), ("https://[::1]", b"[::1]:443"),
           ("https://x.test:8443/prefix", b"x.test:8443"),
           ("https://[::1]:8443", b"[::1]:8443"))
    def test_the_proxy_is_asked_for_host_and_port(self, url, target):
        proxy, _, _ = self.through(answering(answer(403)), base_url=url)
        self.assertIn(b"CONNECT %s HTTP/1.1\r\nHost: %s" % (target, target), proxy.take())

    def test_a_proxy_that_fails_is_reported_as_such(self):
        for data, status, attempts in (
                (answer(407), 407, 1), (answer(403), 403, 1), (answer(502), 502, 4),
                (answer(302, b"", b"Location: http://x.test/\r\n"), 302, 1),
                (b"SSH-2.0-OpenSSH\r\n", None, 4), (OK[:20], None, 4), (b"", None, 4)):
            self.assertEqual(self.through(answering(data))[1],
                             (False, status, "proxy", attempts))
        self.environ(HTTP_PROXY=self.raw(always(answer(407))).url)
        self.assertEqual(self.outcome(None, base_url="http://x.test")[0],
                         (False, 407, "proxy", 1))

    def test_http_goes_to_the_proxy_in_absolute_form(self):
        proxy = self.raw()
        self.environ(http_proxy="http://me:p%%40ss@127.0.0.1:%d" % proxy.port)
        client = self.client(base_url="http://x.test:81/prefix", max_workers=1)
        self.deliver(client, 2)
        head = proxy.take()
        self.assertIn(b"GET http://x.test:81/prefix/server-side/push?", head)
        self.assertIn(b"\r\nHost: x.test:81\r\n", head)
        self.assertIn(self.LOGIN, head)
        self.assertEqual(proxy.connections, 1)

    def way(self, stub, host="api.example.test", **variables):
        """"proxy" or "direct": which way a push to *host* goes."""
        proxy, url = self.raw(), "http://%s:%d" % (host, stub.server_address[1])
        # Not getproxies: it crashes forked children on macOS.
        self.put("getproxies", None, urllib.request)
        with mock.patch.dict(os.environ, {name: proxy.url if text == "here" else text
                                          for name, text in variables.items()}):
            self.deliver(self.client(base_url=url))
        self.assertEqual(proxy.requests.qsize() + len(stub.take_all()), 1)
        return "proxy" if proxy.requests.qsize() else "direct"

    def test_hosts_that_need_no_proxy_are_reached_without_it(self):
        stub = self.stub()
        port = stub.server_address[1]
        self.names_lead_to()
        for way, host, *texts in (
                ("direct", "api.example.test", "api.example.test", "*", "example.test",
                 ".example.test", "EXAMPLE.test", "other.test, api.example.test ,x",
                 "api.example.test:%d" % port),
                ("proxy", "api.example.test", "", "le.test", "pi.example.test", "a.*",
                 "example.test.evil", "other.test,x", "api.example.test:1",
                 "api.example", "api?example.test", "apixexample.test"),
                ("direct", "127.0.0.1", "127.0.0.1", "127.0.0.1:%d" % port),
                ("proxy", "127.0.0.1", "7.0.0.1", "127.0.0.2"),
                ("direct", "[::1]", "::1"), ("proxy", "[::1]", "::2")):
            self.assertEqual(
                {text: self.way(stub, host, HTTP_PROXY="here", NO_PROXY=text)
                 for text in texts}, dict.fromkeys(texts, way), host)

    @cases((dict(http_proxy="here", HTTP_PROXY=NOWHERE), "proxy", POSIX),
           (dict(http_proxy="", HTTP_PROXY=NOWHERE), "direct", POSIX),
           (dict(HTTPS_PROXY=NOWHERE, all_proxy=NOWHERE), "direct"),
           (dict(http_proxy="", all_proxy=NOWHERE), "direct"),
           (dict(HTTP_PROXY=NOWHERE, REQUEST_METHOD="GET"), "direct"),
           (dict(http_proxy="here", REQUEST_METHOD="GET"), "proxy", POSIX),
           # Windows cannot tell that name from the one that a request may set.
           (dict(http_proxy=NOWHERE, REQUEST_METHOD="GET"), "direct", not POSIX),
           (dict(HTTP_PROXY="here", NO_PROXY="*", no_proxy="other"), "proxy", POSIX),
           (dict(HTTP_PROXY="here", NO_PROXY="other", no_proxy="*"), "direct", POSIX))
    def test_the_environment_says_which_way_a_push_goes(self, variables, way, *where):
        self.names_lead_to()
        if all(where):  # Windows does not know two names that differ in case
            self.assertEqual(self.way(self.stub(), **variables), way)

    @cases(("socks5://me:%s@127.0.0.1:9", "http://"), ("//me:%s@:1", "host"),
           ("https://me:%s@127.0.0.1:9", "http://"), ("http://me:%s@", "host"),
           ("http://me:%s/3@127.0.0.1:9", "%2F"), ("http://me:%s@[::1", "host"),
           ("ftp://me:%s@x", "http://"), ("http://me:%s@x:99999", "port"),
           ("http://me:%s@x:port", "port"))
    def test_a_proxy_that_cannot_work_is_named_without_its_password(self, text, instead):
        """And the message says what to write instead."""
        self.environ(HTTP_PROXY=text % SECRET)
        self.assertNames("(?s)HTTP_PROXY.*" + re.escape(instead), self.client,
                         base_url="http://x.test")


class TransportTest(EdgeCase):

    def test_what_a_transport_returns_or_raises_is_the_outcome(self):
        def raising(error):
            def transport(request, timeout):
                raise error
            return transport, "transport", 4, "%s at %s:%d" % (
                type(error).__name__, transport.__code__.co_filename,
                transport.__code__.co_firstlineno + 1)
        final = 199, 300, 302, 400, 401, 403, 404, 405, 407, 410, 413, 414, 422, 425
        for transport, error, attempts, detail in (
                *[(status, None, 1, None) for status in (200, 204, 299)],
                *[(status, "http", attempts, "HTTP status %d" % status)
                  for statuses, attempts in ((final, 1), ((429, 503), 4))
                  for status in statuses],
                (None, "transport", 1, "the transport returned NoneType, not an int"),
                ("200", "transport", 1, "the transport returned str, not an int"),
                *map(raising, (OSError(), SystemExit(), KeyError("x")))):
            client, results = self.reporting(None, transport=(
                transport if callable(transport) else lambda *_: transport))
            client.push("plan", "premium", "u-42")
            self.assertEqual(client.flush(TIMEOUT), error is None)
            self.assertEqual(results.get(timeout=TIMEOUT)[2:], (
                error is None, transport if type(transport) is int else None, error,
                attempts, detail))
            self.assertEqual(self.lines, [] if error is None else [
                "pushes not delivered: %s, %s (1)" % (error, detail)])
            del self.lines[:]

    def test_a_transport_gets_a_request_and_the_seconds_it_has(self):
        calls = []
        self.environ(SSL_CERT_FILE="/nowhere", HTTPS_PROXY="socks5://x")  # not needed
        self.outcome(None, timeout=2, transport=lambda *own: calls.append(own) or 503)
        self.assertEqual(len({request.url for request, _ in calls}), 4)  # fresh randoms
        for _, timeout in calls:
            self.assertTrue(type(timeout) is float and 0 < timeout <= 2, timeout)


class ClockTest(EdgeCase):
    """freezegun and its like, suspended laptops, clocks that are set."""

    @contextlib.contextmanager
    def frozen(self, now):
        """Replace the clocks as freezegun does: in `time`, and under whatever name they
        were imported to a module, but for those that it leaves alone."""
        clocks = time.time, time.monotonic, time.perf_counter
        with contextlib.ExitStack() as stack:
            for module in list(sys.modules.values()):
                if getattr(module, "__name__", "queue") not in ("threading", "queue"):
                    for key, value in list(getattr(module, "__dict__", {}).items()):
                        if any(value is clock for clock in clocks):
                            stack.enter_context(mock.patch.object(module, key, lambda: now))
            yield

    def test_no_wait_is_longer_under_a_frozen_clock(self):
        for (now, before), (wait, timeout, error) in itertools.product(
                ((0.0, True), (1.7e9, True), (1.7e9, False)),
                (("flush", 0.05, "timeout"), ("close", TIMEOUT, "closed"))):
            with contextlib.nullcontext() if before else self.frozen(now):
                client, results = self.reporting(
                    self.raw(Peer.wait), timeout=timeout, max_attempts=1)
            with self.frozen(now):
                returned = queue.Queue()
                client.push("plan", "premium", "u-42")
                started(lambda: returned.put(getattr(client, wait)(0.02)))
                self.assertIs(returned.get(timeout=3), False)
                self.assertEqual(results.get(timeout=3).error, error)

    def test_an_answer_that_is_there_is_read_before_the_clock(self):
        """After a freeze, for one: here 100 seconds pass while the answer comes."""
        answered, jump, real = threading.Event(), [0], vwo_push._now
        done = lambda peer: (answered.set(), peer.wait())
        def send(sock, *args, before=socket.socket.send):
            sent = before(sock, *args)
            if threading.current_thread().name == "vwo_push":
                self.assertTrue(answered.wait(TIMEOUT))
                jump[0] = 100
            return sent
        self.put("send", send, socket.socket)
        self.put("FROZEN_SECONDS", 999.0)  # no time is granted for it
        self.put("_now", lambda: real() + jump[0])
        outcome, _ = self.outcome(self.raw(answering(OK, then=done)), max_attempts=1)
        self.assertEqual(outcome, (True, 200, None, 1))

    def test_no_quiet_is_longer_because_a_clock_was_frozen(self):
        self.put("MAX_RETRY_AFTER_SECONDS", 0.1)
        for clock in self.frozen(0.0), self.frozen(1.7e9):
            ask = answer(429, more=b"Retry-After: 9\r\n")
            client = self.client(self.raw(answering(ask), always(OK)), max_attempts=1)
            with clock:
                client.push("plan", "premium", "u-42")
                until(lambda: client.stats()["failed"])
            client.flush(0)  # tells of that one
            self.deliver(client, within=5)

    def test_a_connection_is_not_used_after_5_idle_seconds_by_either_clock(self):
        for where, name in (time, "time"), (vwo_push, "_now"):
            for later, connections in (3, 1), (5.1, 2):
                server, client = self.served()
                self.deliver(client)
                real = getattr(where, name)
                with mock.patch.object(where, name, lambda: real() + later):
                    self.deliver(client)
                self.assertEqual(server.connections, connections, (name, later))


class WhyTest(EdgeCase):
    """When nothing arrives, it says why, and tells no secret."""

    SDK_KEY, PUSH = "s3ntinelA", ("s3ntinelKey", "s3ntinelValue", "s3ntinelUser")

    def said(self, url):
        """What the system, or OpenSSL, says when *url* fails. On Windows the first speaks
        the user's language."""
        with self.assertRaises(OSError) as caught, socket.socket() as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(("127.0.0.1", int(url.rpartition(":")[2])))
            if url.startswith("https"):
                self.trusting.wrap_socket(sock, server_hostname="127.0.0.1")
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            sock.recv(1)
        error = caught.exception
        if isinstance(error, ssl.SSLError):
            return (error.reason or "").replace("_", " ").lower() or type(error).__name__
        return "[Errno %d] %s" % (error.errno, error.strerror)

    def ways(self):
        """(url, error, status, detail, environment) of each way to fail."""
        says = lambda data: self.raw(answering(data)).url
        secured = lambda url: url.replace("http:", "https:")
        blurts = lambda data: secured(self.raw(
            lambda peer: (peer.send(data), peer.sock.recv(9999), peer.read())).url)
        through = lambda url: dict(trust, https_proxy=url.replace("//", "//s3ntinel@"))
        trust = dict(SSL_CERT_FILE=self.file)
        secure, x, refused = self.secure().url, "https://x.test", self.nobody()
        resets = self.raw(after_request(Peer.reset)).url
        mute, hangs_up = self.raw(Peer.wait).url, self.raw(Peer.read).url
        drips = self.raw(lambda peer: peer.drip(b"\x16\x03\x03\x40\x00\x02")).url
        hangs_up_early = secured(self.raw(lambda peer: peer.sock.recv(9999)).url)
        alert, closed = b"\x15\x03\x01\x00\x02\x02\x46", "RemoteDisconnected"
        for url, error, detail, *env in (
                (refused, "connection", self.said(refused)),
                (resets, "connection", self.said(resets)),
                ("http://nowhere", "connection", "[Errno %d] %s" % NO_SUCH_NAME),
                (hangs_up, "connection", closed),
                (says(OK[:20]), "response", "IncompleteRead"),
                (says(b"SSH-2.0-OpenSSH\r\n"), "response", "BadStatusLine"),
                (secure.replace("https", "http"), "connection", self.said(resets)),
                (mute, "timeout", "no answer within 0.1 s"),
                (secured(drips), "timeout", "no TLS handshake within 0.1 s", trust),
                (hangs_up_early, "tls", self.said(hangs_up_early), trust),
                (blurts(alert), "tls", "tlsv1 alert protocol version", trust),
                (blurts(answer(400)), "tls", "wrong version number", trust),
                (secure, "tls", "self-signed certificate"),
                (secure.replace("127.0.0.1", "wrong.test"), "tls", "Hostname mismatch, "
                 "certificate is not valid for 'wrong.test'.", trust),
                (x, "proxy", self.said(refused), through(refused)),
                (x, "proxy", closed, through(hangs_up)),
                (x, "timeout", "no answer from the proxy within 0.1 s", through(mute))):
            yield url, error, None, detail, dict(*env)
        for status in 302, 400, 503:
            yield says(answer(status)), "http", status, "HTTP status %d" % status, {}
        asks = through(says(answer(407)))
        yield x, "proxy", 407, "HTTP status 407 from the proxy", asks
        full = "http://%s:%d" % self.full_listener().getsockname()
        yield full, "timeout", None, "no connection within 0.1 s", {}

    def test_each_way_to_fail_says_why_in_the_result_the_log_and_the_command_line(self):
        defaults = vwo_push.Client.__init__.__kwdefaults__  # the command line's, too
        self.names_lead_to()
        for url, error, status, detail, environment in self.ways():
            del self.lines[:]
            with self.subTest((url, detail)):
                self.environ(**{"https_proxy": None, "SSL_CERT_FILE": None, **environment})
                timeout, most = (0.1, 1) if error == "timeout" else (5.0, 2)
                self.use(mock.patch.dict(defaults, max_attempts=most))
                final = "certificate" in detail or 300 < (status or 999) < 500
                results = []
                with vwo_push.Client(ACCOUNT, self.SDK_KEY, base_url=url, timeout=timeout,
                                     on_result=results.append) as client:
                    client.push(*self.PUSH)
                    self.assertFalse(client.flush(TIMEOUT))
                self.assertEqual([tuple(result[2:]) for result in results],
                                 [(False, status, error, 1 if final else most, detail)])
                line = "pushes not delivered: %s, %s (1)" % (error, detail)
                self.assertEqual(self.lines, [line])
                with mock.patch.dict(sys.modules, logging=None):
                    ran = self.main("--account-id=1", "--sdk-key", self.SDK_KEY, *self.PUSH,
                                    "--base-url", url, "--timeout", str(timeout))
                self.assertEqual(ran, (1, "false\n", "vwo_push: %s\n" % line))
                told = repr(results[0]) + line
                self.assertNotRegex(told, "s3ntinel|" + uuid_of(self.PUSH[2]))

    def test_a_close_or_an_exit_tells_the_last_failure_and_an_exit_is_quiet(self):
        self.put("BACKOFF_SECONDS", 99.0)
        self.put("SLICE_SECONDS", 0.01)
        for script, detail in (Peer.read, None), (always(NO), "HTTP status 503"):
            server, drawn = self.raw(lambda peer: (script(peer), peer.wait())), []
            self.dice(lambda low, high, drawn=drawn: drawn.append(high) or high)
            client, results = self.reporting(server)
            client.push("plan", "premium", "u-42")
            server.take()
            until(lambda: drawn or detail is None)
            self.assertFalse(client.close(0))
            self.assertEqual(tuple(results.get(timeout=TIMEOUT)[2:]),
                             (False, None, "closed", 1, detail))
            self.assertRuns("""
                import random, sys, threading, vwo_push
                failed = threading.Event()
                random.Random.uniform = lambda *_: failed.set() or 1e6
                client = vwo_push.Client(
                    1, "key", base_url=sys.argv[1], exit_timeout=0.01,
                    on_result=lambda result: print(result.error, result.detail, end=""))
                client.push("plan", "premium", "u-42")
                sys.argv[2] == "None" or failed.wait(20)
                """, server.url, str(detail), out="exit %s" % detail)

    def test_a_request_without_an_answer_does_not_have_the_reason_of_another(self):
        gate = threading.Event()
        server = self.raw(lambda peer: (
            peer.read(), gate.wait(TIMEOUT), peer.send(answer(200)), peer.read(),
            peer.send(answer(400)), peer.read(), peer.wait()))
        client, results = self.reporting(server, max_batch=2, max_workers=1)
        client.push("plan", "premium", "u-1")
        server.take()
        for user in "u-2", "u-3":  # a batch of two requests
            client.push({"plan": "premium", "country": "IN"}, user)
        gate.set()
        server.take(), server.take()
        self.assertFalse(client.close(0))
        self.assertEqual([tuple(results.get(timeout=TIMEOUT)[2:]) for _ in range(3)],
                         [(True, 200, None, 1, None),
                          (False, 400, "http", 1, "HTTP status 400"),
                          (False, None, "closed", 1, None)])

    def test_losses_of_one_kind_make_one_line_in_30_seconds(self):
        client, expected = self.client(self.stub(400, 400, 404, 400)), []
        for line in ("400 (1)", None, "404 (1)", None, None, "400 (4)"):
            self.put("LOG_SECONDS", 0.0 if line == "400 (4)" else 30.0)
            client.push("plan", "premium", "u-42")
            client.flush(TIMEOUT)
            expected += [line] if line else []
            self.assertEqual([told[-7:] for told in self.lines], expected)


# -- The command line ------------------------------------------------------------------


WIDE = "user_id,plan,city\nu-1,free,Bern\nu-2,pro,\nu-3,\"a,\n\"\"b\"\"\",\u00fc +%\n"
LONG = ("user_id,key,value\nu-1,plan,free\nu-1,city,Bern\nu-2,plan,pro\n"
        "u-3,plan,\"a,\n\"\"b\"\"\"\nu-3,city,\u00fc +%\n")
USERS = {"u-1": {"plan": "free", "city": "Bern"}, "u-2": {"plan": "pro"},
         "u-3": {"plan": 'a,\n"b"', "city": "\u00fc +%"}}
CREDENTIALS = ("--account-id", str(ACCOUNT), "--sdk-key", KEY)
PUSH = ("plan", "pro", "u-1")
SPAWN = "import os, sys, vwo_push\n%s\nsys.exit(vwo_push.main())"
FEW = """vwo_push.MAX_BACKFILL_PENDING = 5  # there is room for five rows
def flush(client, seconds, real=vwo_push.Client.flush):
    told(client)  # of a wait for room, or for the end
    return real(client, 0.02 if seconds < 1 else seconds)
told, vwo_push.Client.flush = str, flush
"""
POSIX_ONLY = unittest.skipUnless(POSIX, "needs signals, or sh")


def triples(users):
    return sorted((uuid_of(user), key, value) for user, dimensions in users.items()
                  for key, value in dimensions.items())


def lines(users):
    """JSON Lines."""
    return "".join(json.dumps({"user_id": user, "dimensions": dimensions}) + "\n"
                   for user, dimensions in users.items())


def numbered(numbers):
    return {"u-%d" % number: {"n": str(number)} for number in numbers}


def rows(numbers):
    return "user_id,n\n" + "".join("u-%d,%d\n" % (number, number) for number in numbers)


class CommandCase(EdgeCase):
    """Runs the command line, also in a process of its own."""

    def setUp(self):
        super().setUp()
        self.environ(**{name: None for name in os.environ
                        if name.startswith(("VWO_", "PYTHON"))})
        if POSIX:  # the wait for room has no bound of its own
            self.addCleanup(signal.alarm, 0)
            self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(
                signal.SIGALRM, lambda *_: self.fail("it hangs")))
            signal.alarm(2 * TIMEOUT)
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.rejects = self.path("rejects")

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, content, name="in"):
        with open(self.path(name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def read(self, name="rejects"):
        with open(self.path(name), "rb") as file:
            return file.read()

    def send(self, stub, *argv):
        return self.main("--base-url", stub.url, *CREDENTIALS, *argv)

    def backfill(self, stub, content, *argv):
        return self.send(stub, "--from", self.write(content), "--rejects", self.rejects,
                         *argv)

    def spawn(self, stub, *argv, prelude="", closed="", **options):
        """Start the command line in a process of its own, some descriptors closed."""
        argv = ["--base-url", stub.url if stub else "https://nowhere.invalid", *argv]
        command = [*PYTHON, "-c", SPAWN % prelude, *CREDENTIALS, *argv]
        if closed:
            command = ["sh", "-c", 'exec "$@" ' + closed, "sh", *command]
        return self.popen(*command, **options)

    def run_alone(self, stub, *argv, **options):
        return self.finish(self.spawn(stub, *argv, **options))

    def assertArrived(self, stub, users):
        found = [triple for received in stub.take_all() for triple in read_back(received)]
        self.assertEqual(sorted(found), triples(users))

    def assertSaid(self, ran, status, text):
        """One line on stderr, with *text* in it."""
        self.assertEqual((ran.status, ran.err.count("\n")), (status, 1), ran)
        self.assertTrue(ran.err.startswith("vwo_push: "), ran)
        # Python shows a path that it could not open as its repr.
        self.assertIn(text, ran.err.replace("\\\\", "\\"))

    def assertSummary(self, ran, status, *counts):
        line = "read %d, delivered %d, rejected %d, skipped %d\n" % counts
        self.assertEqual((ran.status, ran.out), (status, line), ran)


class CommandTest(CommandCase):

    def test_the_demo_shows_what_arrived_and_what_it_means(self):
        for child in [self.spawn(None, "--demo", env=env) for env in (
                {"LC_ALL": "C", "HTTP_PROXY": "http://127.0.0.1:9"},
                {"PYTHONIOENCODING": "ascii", "http_proxy": "nonsense://"})]:
            ran = self.finish(child)
            self.assertEqual((ran.status, ran.err), (0, ""))
            for text in ("GET /server-side/push?", "POST /events/t?", "vwo_sdkName", *(
                    "read back: user %s, visitor %s, %s\n" % (
                        user, vwo_push.visitor_uuid(1, user), json.dumps(dimensions))
                    for user, dimensions in (
                        ("user-1", {"plan": "premium", "age": 30, "vip": True}),
                        ("user-42", {"plan": '"100%" + more'}),
                        ("user-7", {"plan": "premium"})))):
                self.assertIn(text, ran.out)
            self.assertEqual(ran.out.count('"delivered": 1'), 3)

    @cases(["/server-side/push"], ["/events/t", "--event-arch"],
           ["/eu01/events/t", "--fme", "--collection-prefix", "eu01"])
    def test_a_push_prints_true_and_arrives_where_the_options_say(self, path, *argv):
        stub = self.stub()
        self.assertEqual(self.send(stub, *argv, *PUSH), (0, "true\n", ""))
        received = stub.take()
        self.assertEqual(received.path, path)
        self.assertEqual(read_back(received), triples({"u-1": {"plan": "pro"}}))
        self.assertEqual(self.send(stub, "--quiet", *PUSH), (0, "", ""))

    @cases((400, PUSH, "pushes not delivered: http, HTTP status 400"), (
        200, ("k" * 256, "v", "u"), "custom_dimension_key must have at most 255 char"))
    def test_a_push_that_does_not_succeed_prints_false_and_why(self, status, argv, text):
        ran = self.run_alone(self.stub(status), *argv)
        self.assertEqual(ran.out, "false\n")
        self.assertSaid(ran, 1, text)

    def test_help_and_version_are_no_errors(self):
        self.assertEqual(self.main("--version"),
                         (0, "vwo_push %s\n" % vwo_push.__version__, ""))
        ran = self.main("--help")
        self.assertEqual((ran.status, ran.err), (0, ""))
        self.assertEqual(sorted(set(re.findall(r"--[a-z-]+", ran.out))), [
            "--account-id", "--base-url", "--check", "--collection-prefix", "--columns",
            "--demo", "--dry-run", "--event-arch", "--fme", "--from", "--help", "--quiet",
            "--rejects", "--sdk-key", "--settings", "--skip", "--timeout", "--version"])
        self.assertRegex(ran.out, "CSV.* stay text")

    def test_a_usage_error_is_one_line_and_status_2(self):
        source, link = self.write(rows([1]), "rows"), self.path("missing")
        push = " ".join(PUSH)
        for given, text in (
                ("", "--from"), ("plan pro", "KEY VALUE"), ("--nonsense", "--nonsense"),
                (push + " more", "KEY VALUE"), ("--check --dry-run", "--check"),
                ("--demo --dry-run", "--demo"), ("--from " + link, "missing"),
                ("--from %s --skip -1" % source, "--skip"),
                ("--from %s --skip x" % source, "--skip"), *((push + given, text)
                    for given, text in (
                        (" --demo", "--demo"), (" --check", "--check"),
                        (" --skip 1", "--skip"), (" --rejects x", "--rejects"),
                        (" --columns x", "--columns"), (" --account-id 12x", "account_id"),
                        (" --sdk-key=", "VWO_SDK_KEY"), (" --timeout 0", "timeout"),
                        (" --base-url ftp://x", "base_url"),
                        (" --fme --event-arch", "event_arch"),
                        (" --collection-prefix a/b", "collection_prefix"),
                        (" --settings " + link, "missing"),
                        (" --settings " + self.folder, os.path.basename(self.folder)),
                        (" --settings " + source, "JSON object"),
                        (" --settings " + self.write("{}"), "accountId")))):
            ran = self.main(*CREDENTIALS, *given.split())
            self.assertEqual(ran.out, "")
            ran = ran._replace(err=re.sub("^usage: .*\n", "", ran.err))  # argparse's
            self.assertSaid(ran, 2, text)
        self.assertSaid(self.main(*CREDENTIALS, "--from", "no\nfile"), 2, "no\\nfile")
        for argv in PUSH, ("--account-id", "1", *PUSH), ("--dry-run", *PUSH), ("--check",):
            self.assertSaid(self.main(*argv), 2, "set VWO_ACCOUNT_ID and VWO_SDK_KEY")

    def test_options_win_over_settings_and_those_over_the_environment(self):
        stub, user = self.stub(), "D" + "0" * 32  # the web tag's, in an FME account
        settings = ("--settings", self.write('\ufeff{"accountId": 2, "sdkKey": "two"}'))
        regional = ("--settings", self.write(json.dumps({
            "accountId": ACCOUNT, "sdkKey": "k", "collectionPrefix": "eu01",
            "features": [], "isWebConnectivityEnabled": False}), "regional"))
        os.environ.update(VWO_ACCOUNT_ID="1", VWO_SDK_KEY="one")
        push = "/server-side/push"
        for argv, *expected in (
                ((), push, "1", "one"), (("--sdk-key", "3"), push, "1", "3"),
                (settings, push, "2", "two"),
                ((*settings, "--account-id", "3"), push, "3", "two"),
                ((*settings, "--event-arch", "--sdk-key", "x"), "/events/t", "2", "x"),
                (regional, "/eu01/events/t", str(ACCOUNT), "k")):
            with self.subTest(argv):
                self.main("--base-url", stub.url, *argv, "plan", "pro", user)
                received = stub.take()
                account = received.query.get("account_id", received.query.get("a"))
                self.assertEqual([received.path, account, received.query["env"]], expected)
        self.assertEqual(read_back(received), [(uuid_of(user), "plan", "pro")])

    def test_a_dry_run_shows_the_requests_and_sends_nothing(self):
        stub, source = self.stub(), self.write(WIDE + "u-4,,\n")
        for argv, users, status in ((PUSH, ["u-1"], 0), (("--from", source), USERS, 1)):
            # In a process of its own: it would not end before all is sent.
            ran = self.run_alone(stub, "--dry-run", *argv)
            self.assertEqual((ran.status, ran.err.count("1 rejected")), (status, status))
            self.assertRegex(ran.out, "(GET|POST) %s/server-side/" % stub.url)
            self.assertEqual([u for u in users if uuid_of(u) not in ran.out], [])
        self.assertEqual(stub.take_all(), [])

    def test_a_dry_run_never_shows_the_key(self):
        for key in (KEY, "s%cr+t/&=k y", '"q"\\k'):
            settings = self.write(json.dumps({"accountId": 1, "sdkKey": key}), "settings")
            forms = {key, urllib.parse.quote(key), urllib.parse.quote(key, ""),
                     urllib.parse.quote_plus(key), json.dumps(key)[1:-1]}
            for argv in (PUSH, ("--event-arch", *PUSH), ("--fme", *PUSH),
                         ("--from", self.write(WIDE)), ("plan", "\u20ac" * 255, "u-1")):
                ran = self.main("--settings", settings, "--dry-run", *argv)
                self.assertEqual((ran.status, ran.err), (0, ""))
                self.assertRegex(ran.out, "env=X+")
                self.assertEqual([form for form in forms if form in ran.out], [])

    def test_a_dry_run_needs_no_certificates_and_no_proxy_but_a_valid_push(self):
        self.environ(SSL_CERT_FILE=self.path("missing"), HTTPS_PROXY="nonsense://")
        ran = self.main("--dry-run", *PUSH, *CREDENTIALS)
        self.assertEqual((ran.status, ran.err), (0, ""))
        for argv, text in ((PUSH, "HTTPS_PROXY"), (("--dry-run", "plan", "v" * 256, "u"),
                                                   "at most 255 characters, not 256")):
            self.assertSaid(self.main(*argv, *CREDENTIALS), 2, text)

    def closed_pipe(self):
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        return writer

    @POSIX_ONLY
    def test_a_closed_pipe_is_one_line_and_status_1(self):
        source = self.write(rows(range(2000)))
        children = [
            self.spawn(None, *argv, stdout=self.closed_pipe(), env=env) for argv, env in (
                (("--help",), {}), (("--demo",), {}), (("--dry-run", *PUSH), {}),
                (("--dry-run", "--from", source), {}),
                (("--dry-run", *PUSH), {"PYTHONUNBUFFERED": "1"}))]
        child = self.spawn(None, "--dry-run", "--from", source)  # | head -1
        self.assertTrue(child.stdout.readline().startswith(b"GET https://"))
        child.stdout.close()
        child.stdout = None
        for each in (*children, child):
            self.assertSaid(self.finish(each), 1, "the output")
        for argv, options, expected in (
                (("--dry-run", *PUSH), {"closed": "2>&1", "stdout": self.closed_pipe()}, 1),
                (("--from", "missing"), {"stderr": self.closed_pipe()}, 2)):
            self.assertEqual(self.run_alone(None, *argv, **options), (expected, "", ""))

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_a_full_disk_is_one_line_and_ends_a_run_that_can_be_resumed(self):
        with open("/dev/full", "wb") as full:
            ran = self.run_alone(None, "--dry-run", *PUSH, stdout=full)
        self.assertSaid(ran, 1, "No space left")
        for status, most, good, read, skip in (
                (200, 1, 2, 3, 2), (400, 1, 2, 1, 0), (200, 3000, 0, 1, 0)):
            self.put("MAX_BACKFILL_PENDING", most)
            source = self.write("user_id,a\n" + "v,w\n" * good + "u,\n" * 9)
            ran = self.send(self.stub(status), "--from", source, "--rejects", "/dev/full")
            self.assertSummary(ran, 1, read, skip, 1, 0)
            self.assertTrue(ran.err.endswith("the rejects cannot be written: No space left "
                                             "on device; resume with --skip %d\n" % skip))

    @POSIX_ONLY
    @cases((">&-", PUSH, (0, "", "")), ("2>&-", ("--from", "no"), (2, "", "")),
           ("<&-", ("--from", "-"), (2, "", "vwo_push: [Errno 9] Bad file descriptor\n")))
    def test_streams_that_were_closed_at_the_start_do_no_harm(self, closed, argv, expected):
        stub = self.stub()
        ran = self.run_alone(None, "--help", prelude="os.fstat(0)", closed=closed)
        if closed == "<&-" and ran.status == 0:
            self.skipTest("qemu opens the program as descriptor 0")
        self.assertEqual(self.run_alone(stub, *argv, closed=closed), expected)
        self.assertArrived(stub, {"u-1": {"plan": "pro"}} if argv is PUSH else {})


class CheckTest(CommandCase):
    """--check says how far it came, why no further, and what to do."""

    STEPS = ["proxy", "name", "connection", "TLS", "answer"]

    def check(self, url, *argv):
        ran = self.main("--check", "--base-url", url, *CREDENTIALS, *argv)
        self.assertNotIn(KEY, ran.out + ran.err)
        return ran

    @cases((b'"isEventArchEnabled": true', "settings", (), "event_arch=True, fme=False"),
           (b'"features": []', "v2-settings", ("--fme",), "event_arch=False, fme=True"))
    def test_a_check_names_each_step_and_the_options_found(self, more, path, argv, options):
        settings = b'{"accountId": 1, "sdkKey": "k", "collectionPrefix": "eu01", %s}' % more
        stub = self.stub(lambda handler: handler.reply(200, settings))
        ran = self.check(stub.url, *argv)
        self.assertEqual((ran.status, ran.err), (0, ""))
        self.assertEqual(re.findall("(?m)^(\\w+): (ok|none)$", ran.out), list(zip(
            self.STEPS, ["none", "ok", "ok", "none", "ok"])))
        self.assertIn("collection_prefix='eu01', " + options, ran.out)
        self.assertEqual(stub.take().path, "/server-side/" + path)

    def test_a_check_that_fails_says_why_and_what_to_do(self):
        refused, proxy, x = self.nobody(), self.raw(always(answer(407))), "https://x"
        odd = self.stub(lambda handler: handler.reply(200, b'{"isEventArchEnabled": "no"}'))
        self.names_lead_to()
        for url, env, step, why, advice in (
                (refused, {}, "connection", "Errno", "firewall"),
                ("http://nowhere", {}, "name", "Name or service", "nslookup"),
                (x, {"https_proxy": refused}, "proxy", "Errno", "HTTPS_PROXY"),
                (x, {"https_proxy": proxy.url}, "proxy", "407", "http://user:password@"),
                (self.secure().url, {}, "TLS", "self", "SSL_CERT_FILE"),
                (self.stub(400).url, {}, "answer", "HTTP status 400", "compare .*SDK key"),
                (self.stub(200).url, {}, "answer", "not a JSON object", "--base-url"),
                (odd.url, {}, "answer", "event_arch must be", "--base-url")):
            with self.subTest(url=url, env=env), mock.patch.dict(os.environ, env):
                ran = self.check(url)
                self.assertEqual((ran.status, ran.err), (1, ""))
                *before, last = ran.out.splitlines()[1:]
                self.assertRegex(last, "^%s: failed, .*%s.*; next: .*%s" % (
                    step, why, advice))
                self.assertEqual([re.match(r"(\w+): (?:ok|none)$", line)[1]
                                  for line in before], self.STEPS[:len(before)])
                self.assertEqual(self.check(url, "--quiet"), (
                    1, "", "vwo_push: %s\n" % last))
        os.environ["https_proxy"] = "socks5://127.0.0.1:9"
        self.assertSaid(self.check(x), 1, "HTTPS_PROXY")


class FilesTest(CommandCase):
    CELLS = "a row must have 3 cells, not "

    def test_the_same_users_arrive_from_all_formats(self):
        jsonl, last = lines(USERS), WIDE.partition("pro,\n")[2]
        for content in (
                WIDE, LONG, jsonl, "\ufeff" + WIDE, "\ufeff" + jsonl, WIDE[:-1], jsonl[:-1],
                "\n\n" + WIDE.replace("\nu-2", "\n\n\nu-2") + "\n",
                "\n \n" + jsonl.replace("\n", "\r\n\n"),
                '"user_id","plan","city"\r\nu-1,"free",Bern\r\nu-2,pro,\r\n' + last,
                "user_id,plan,city\ru-1,free,Bern\r  \ru-2,pro,\r\t\r" + last,
                "user_id,plan,city,vwo_push_error\nu-1,free,Bern,x\nu-2,pro,,\"y\nz\"\n"
                "u-3,\"a,\n\"\"b\"\"\",\u00fc +%,\n",
                "city,vwo_push_error,user_id,plan\nBern,x,u-1,free\n,y,u-2,pro\n"
                "\u00fc +%,z,u-3,\"a,\n\"\"b\"\"\"\n",
                " user_id ,plan, city\n u-1,free ,\t Bern\nu-2 , pro, \n"
                "u-3, \"a,\n\"\"b\"\"\",\u00fc +% \n"):
            number = 5 if content == LONG else 3
            stub = self.stub()
            self.write("old", "rejects")
            self.assertSummary(self.backfill(stub, content), 0, number, number, 0, 0)
            self.assertArrived(stub, USERS)
            self.assertEqual(self.read(), b"")
        with open(self.path("in"), "rb") as source:
            ran = self.run_alone(stub, "--from", "-", "--quiet", stdin=source)
        self.assertEqual(ran, (0, "", ""))
        self.assertArrived(stub, USERS)

    def test_values_of_json_have_types_with_fme_and_cells_have_none(self):
        values = {"age": 30, "score": 1.5, "vip": True, "plan": "pro"}
        for content, expected in (
                (lines({"u-1": values}), values),
                ("user_id,age,vip\nu-1,30,true\n", {"age": "30", "vip": "true"})):
            stub = self.stub()
            self.assertSummary(self.backfill(stub, content, "--fme"), 0, 1, 1, 0, 0)
            found = [triple[1:] for triple in read_back(stub.take())]
            self.assertEqual(repr(found), repr(list(expected.items())))

    @cases(("plan", {"plan": "free"}), ("key, plan", {"plan": "free", "key": "z"}),
           ("value,key", {"z": "v"}))
    def test_columns_says_which_columns_leave_the_house(self, columns, dimensions):
        stub, header = self.stub(), "user_id,plan,,plan2,key,value,plan2"
        ran = self.backfill(stub, header + "\nu-1,free,x,y,z,v,w\nu-2,,,,,,\n",
                            "--columns", columns)
        self.assertSummary(ran, 1, 2, 1, 1, 0)
        self.assertArrived(stub, {"u-1": dimensions})
        self.assertTrue(self.read().decode().startswith(
            header + ",vwo_push_error\r\nu-2,,,,,,,"), self.read())
        self.assertEqual(self.read().count(b"\r\n"), 2)

    @cases(("the column 'user_id'; expected", "id,plan\nu,v\n"),
           ("the column 'user_id'", "user_id\tb\n"), ("the column 'user_id'", '""\n'),
           ("the column 'user_id'", "user_id,user_id,a\nu,1,2\n"),
           ("the column 'a'", "user_id,a,a \nu,1,2\n"),
           ("the column ''", ",user_id,a\n0,u,1\n"),
           ("the column ''", "user_id,a,\nu,1,\n"), ("the column ''", "user_id\nu\n"),
           ("the column ''", "user_id,vwo_push_error\nu,x\n"),
           ("the column 'date'", "user_id,key,value,date\nu,plan,pro,x\n"),
           ("the column 'b'", "user_id,a\nu,1\n", "--columns", "b"),
           ("the column ''", "user_id,a\nu,1\n", "--columns", "a,"),
           ("the column ''", "user_id,a\nu,1\n", "--columns", ""),
           ("--columns is for CSV", lines(USERS), "--columns", "plan"),
           ("--columns is for CSV", lines(USERS), "--columns", ""),
           ("with commas between", "user_id;plan\nu;v\n"), ("NUL", b"u\0s\0e\0"),
           ("quote", 'user_id,"a\nu,1\n'), ("jq -c '.[]'", "\n [{}]\n"),
           ("UTF-16", WIDE.encode("utf-16")), ("UTF-16", lines(USERS).encode("utf-16-le")),
           ("UTF-8", b"user_id,\xe9\nu,1\n"), ("gzip -dc", gzip.compress(WIDE.encode())),
           ("longer than 1000000", 'user_id,"' + "a" * 1000001 + '"\nu,v\n'),
           ("timeout", WIDE, "--timeout", "-1"))
    def test_a_useless_file_is_refused_before_anything_is_sent(self, text, content, *argv):
        stub = self.stub()
        self.write("kept", "rejects")
        ran = self.backfill(stub, content, *argv)
        self.assertEqual(ran.out, "")
        self.assertSaid(ran, 2, text)
        self.assertTrue(content == WIDE or self.path("in") in ran.err, ran)
        self.assertEqual((self.read(), stub.take_all()), (b"kept", []))

    @cases((b'u,"never closed\nv,2\n', "unexpected end of data"),
           (b'u,"a"b\nv,2\n', "expected quotes"), (b"u,a\0\nv,2\n", "NUL"),
           (b"u,caf\xe9\nv,2\n", "not UTF-8"), (b'{"user_id": "\0"}\n{}\n', "NUL"),
           (b"u," + b"a" * 1000 + b"\nv,2\n", "longer than 1000"),
           (b'u,"' + b"a\n" * 501 + b'"\nv,2\n', "field limit"),
           (b'{"user_id": "caf\xe9"}\n{"user_id": "v"}\n', "not UTF-8"))
    def test_a_row_that_cannot_be_read_ends_the_run_with_its_number(self, row, text):
        self.put("MAX_LINE_CHARS", 1000)
        before = lines(numbered([1, 2])) if row.startswith(b"{") else rows([1, 2])
        stub = self.stub()
        ran = self.backfill(stub, before.encode() + row)
        self.assertSummary(ran, 1, 2, 2, 0, 0)
        self.assertSaid(ran, 1, "row 3 of %s: " % self.path("in"))
        self.assertRegex(ran.err, text + ".*; resume with --skip 2\n$")
        self.assertArrived(stub, numbered([1, 2]))

    @unittest.skipUnless(sys.platform == "linux", "needs a terminal that hangs up")
    def test_an_input_that_breaks_off_is_settled_and_said(self):
        master, slave = os.openpty()
        os.write(slave, rows([1, 2, 3]).encode())
        os.close(slave)  # what reads the master is told EIO after the last row
        ran = self.run_alone(self.stub(), "--from", "-", stdin=master)
        os.close(master)
        self.assertSummary(ran, 1, 3, 3, 0, 0)
        self.assertSaid(ran, 1, "row 4 of stdin: [Errno %d] %s; resume with --skip 3" % (
            errno.EIO, os.strerror(errno.EIO)))

    @cases((WIDE, 2, 3, ["u-3"]), (lines(USERS), 2, 3, ["u-3"]), (LONG, 3, 5, ["u-3"]),
           (WIDE.replace("u-1,free,Bern", "ragged\n"), 1, 3, ["u-2", "u-3"]),
           ("{\n\n" + lines(USERS), 1, 4, USERS), (WIDE, 9, 3, []), (WIDE, 0, 3, USERS),
           *[(empty, 0, 0, []) for empty in ("", "user_id,plan\n", "\n \n", "\ufeff")])
    def test_skip_passes_over_rows_of_every_format(self, content, skip, read, users):
        stub, skipped = self.stub(), min(skip, read)
        ran = self.backfill(stub, content, "--skip", str(skip))
        self.assertSummary(ran, 0, read, read - skipped, 0, skipped)
        self.assertArrived(stub, {user: USERS[user] for user in users})

    def assertRejectedForGood(self, content, *whys):
        """All of *content* is rejected, for *whys*, and so is what was rejected."""
        stub, number = self.stub(), len(whys)
        ran = self.backfill(stub, content)
        self.assertSummary(ran, 1, number, 0, number, 0)
        rejects = self.read()
        for why in whys:
            self.assertTrue(why.encode() in rejects or
                            json.dumps(why)[1:-1].encode() in rejects, (why, rejects[:300]))
            self.assertIn(why, ran.err)
        self.assertSummary(self.backfill(stub, rejects), 1, number, 0, number, 0)
        self.assertTrue(self.read() == rejects, rejects[:300])
        self.assertEqual(stub.take_all(), [])
        return rejects

    @cases(("u", CELLS + "1"), ("u,x", CELLS + "2"), ('u,"x\ry"', CELLS + "2"),
           ('u,x,"y\rz",c', CELLS + "4"), ('u,"\n","x,""y",c', CELLS + "4"),
           ("u,,", "_map must not be empty"), (",x,y", "user_id must not be empty"),
           ("u,x," + "v" * 300, "dimension b: custom_dimension_value must have at most"))
    def test_a_bad_row_is_rejected_again_and_never_shifted(self, row, why):
        self.assertRejectedForGood("user_id,a,b\n" + row, why)

    def test_a_bad_row_of_keys_and_values_is_rejected_again(self):
        self.assertRejectedForGood(
            "user_id,key,value\nu,plan,\nu,,v\nu,vwo_fs_environment,v\nu,k",
            "dimension plan: custom_dimension_value must not be empty", self.CELLS + "2",
            "_key must not be empty", "_key must not be vwo_fs_environment")

    def test_a_bad_line_of_json_is_rejected_again(self):
        no = 'a line must be {"user_id": "...", "dimensions": {...}}'
        for why, *bad in (
                (no, "{'user_id': 1}", "nonsense", "[1]", "[" * 100000,
                 '{"vwo_push_line": "{"}', "{}", '{"user_id": "u"}',
                 '{"user_id": "u", "dimensions": []}'),
                ("_map must not be empty", '{"user_id": "u", "dimensions": {}}'),
                ("user_id must be a str, not NoneType", '{"dimensions": {"a": "b"}}'),
                ("user_id must be a str", '{"user_id": 7, "dimensions": {"a": "b"}}'),
                ("user_id cannot be", '{"user_id": "\\ud800", "dimensions": {"a": "b"}}'),
                ("dimension age: custom_dimension_value must be a str, not int",
                 '{"user_id": "u", "dimensions": {"b": "c", "age": 42}}'),
                ("must be a str, not float", '{"user_id": "u", "dimensions": {"a": NaN}}')):
            for line in bad:
                self.assertRejectedForGood(" {\n%s\n" % line, no, why)
        rejects = self.assertRejectedForGood("{1}\r\n", no)
        self.assertEqual(json.loads(rejects),
                         {"vwo_push_line": "{1}", "vwo_push_error": no})

    def test_what_the_server_refused_is_kept_as_it_was_and_delivered_when_fed_back(self):
        cells = WIDE.replace("Bern", '"B\rn"')
        users = dict(USERS, **{"u-1": {"plan": "free", "city": "B\rn"}})
        marked = lines(USERS).replace('{"user', '{"mine": [1], "user')
        for content, number, expected, more in (
                (cells, 3, users, 0), (LONG, 5, USERS, 0), (marked, 3, USERS, 3)):
            ran = self.backfill(self.stub(*[400] * 9), content)
            self.assertSummary(ran, 1, number, 0, number, 0)
            rejects, stub = self.read(), self.stub()
            self.assertEqual(rejects.count(b"http, HTTP status 400, attempts: 1"), number)
            self.assertEqual(rejects.count(b'"mine": [1]'), more)
            self.assertSummary(self.backfill(stub, rejects), 0, number, number, 0, 0)
            self.assertArrived(stub, expected)
            self.assertEqual(self.read(), b"")

    def test_the_reasons_are_counted_and_the_first_row_of_each_is_named(self):
        content = "user_id,a\nv,%s\nu,\nu,\nu\nw,%s\n,x\nw,%s\n" % (
            EMOJI * 255, "v" * 300, "v" * 301)
        ran = self.backfill(self.stub(), content)
        self.assertSummary(ran, 1, 7, 1, 6, 0)
        self.assertEqual(ran.err.replace(self.path("in"), "FILE"), "".join(
            "vwo_push: %d rejected, the first is row %d of FILE: %s\n" % why for why in (
                (2, 5, "dimension a: custom_dimension_value must have at most 255 "
                 "characters, not 300"),
                (2, 2, "custom_dimension_map must not be empty"),
                (1, 6, "user_id must not be empty"),
                (1, 4, "a row must have 2 cells, not 1"))))
        again = ("--from", self.path("in"), "--quiet")
        self.assertEqual(self.run_alone(self.stub(), *again), (1, "", ran.err))
        if POSIX:  # a pipe, which cannot tell that it is new; Wine shows that of others
            piped = self.run_alone(self.stub(), *again, "--rejects", "/dev/stderr")
            self.assertEqual(piped.err, self.read().decode() + ran.err)

    def test_a_console_that_lacks_the_characters_of_a_message_shows_escapes(self):
        """That of Windows often has cp1252."""
        content = "user_id,\u65e5\nu,%s\n" % ("v" * 256)
        path = self.write(content, "\u65e5\u672c %s.csv" % EMOJI)
        text = "row 1 of %s: dimension \\u65e5: " % ascii(path)[1:-1].replace("\\\\", "\\")
        children = [self.spawn(self.stub(), "--from", path, env={"PYTHONIOENCODING": name})
                    for name in ("cp1252", "ascii", "cp437")]
        for ran in map(self.finish, children):
            self.assertSummary(ran, 1, 1, 0, 1, 0)
            self.assertIn(text, ran.err)

    def test_a_folder_is_refused_and_so_are_rejects_in_the_file_that_is_read(self):
        stub, path = self.stub(), self.write(rows([1]))
        os.link(path, self.path("hard"))
        for name in path, self.path("hard"):
            argv = ("--rejects", name, "--from")
            self.assertSaid(self.send(stub, *argv, path), 2, "--rejects")
            with open(path, "rb") as stdin:
                self.assertSaid(self.run_alone(stub, *argv, "-", stdin=stdin), 2, "--rej")
        for argv in (self.folder,), (path, "--rejects", self.folder):
            self.assertSaid(self.send(stub, "--from", *argv), 2, self.folder)
        self.assertEqual(self.read("in").decode(), rows([1]))
        self.assertEqual(stub.take_all(), [])

    def test_a_run_that_is_resumed_adds_to_the_rejects(self):
        for content in ("user_id,n\nu,\nv,\nw,\n", "{}\n{}\n{}\n"):
            self.backfill(self.stub(), content)
            whole = self.read()
            self.backfill(self.stub(), content[:-3])
            self.backfill(self.stub(), content, "--skip", "2")
            self.assertEqual(self.read(), whole)


class BackfillTest(CommandCase):
    """Many rows. Where a run ends early, delivered + rejected + skipped == read, and a
    second run with the --skip that it names loses nothing."""

    def ended(self, ran, status, why="interrupted"):
        """(read, delivered, rejected) as printed, checked, and where to resume."""
        self.assertEqual(ran.status, status, ran)
        read, delivered, rejected, skipped = map(int, re.findall(r"\d+", ran.out))
        self.assertEqual(read, delivered + rejected + skipped)
        match = re.search(r"vwo_push: (.*); resume with --skip (\d+)\n$", ran.err)
        self.assertIn(why, match.group(1))
        return (read, delivered, rejected), int(match.group(2))

    @cases([""], ["def start(self): raise RuntimeError('no new thread')\n"
                  "vwo_push.threading.Thread.start = start\n"])
    def test_a_wait_for_room_drops_nothing_reads_no_more_and_needs_no_thread(self, prelude):
        stub = self.stub(shut=True)
        child = self.spawn(
            stub, "--from", self.write(rows(range(40))), prelude=prelude + FEW +
            'told = lambda client: os.write(2, b"%d," % client.stats()["pending"])')
        self.assertEqual(os.read(child.stderr.fileno(), 2), b"5,")
        stub.gate.set()
        ran = self.finish(child)
        self.assertSummary(ran, 0, 40, 40, 0, 0)
        self.assertRegex(ran.err, r"^(\d,)*$")  # a row that is being settled counts twice
        self.assertArrived(stub, numbered(range(40)))

    @POSIX_ONLY
    def test_a_long_stream_is_read_in_constant_memory(self):
        child = self.spawn(
            None, "--from", "-", "--skip", "1000000", prelude="import atexit, resource\n"
            "if os.fork(): os._exit(os.wait()[1] >> 8)\n"  # or it begins with our own peak
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "vwo_push.Client(1, 'k')\n"
            "before = peak()\n"
            "atexit.register(lambda: sys.stderr.write(str(peak() - before)))")
        ran = self.finish(child, b"user_id,n\n" + (b"u," + b"x" * 400 + b"\n") * 60000)
        self.assertSummary(ran, 0, 60000, 0, 0, 60000)
        scale = 1 if sys.platform == "darwin" else 1024
        self.assertLess(int(ran.err) * scale, 150_000_000 if PYPY else 10_000_000)

    def test_rows_of_one_user_arrive_in_order_through_retries(self):
        self.put("MAX_BACKFILL_PENDING", 4)
        stub = self.stub(503, 200, 503, 200)
        content = ["u,%d,,,,\n" % number for number in range(50)]
        content += ["v,50,51,52,53,54\n"]  # there is room for four
        ran = self.backfill(stub, "user_id,n,a,b,c,d\n" + "".join(content))
        self.assertSummary(ran, 0, 51, 51, 0, 0)
        _, second, _, *others = stub.take_all()  # the first and the third were in vain
        self.assertEqual([int(value) for each in (second, *others)
                          for _, _, value in read_back(each)], list(range(55)))

    @POSIX_ONLY
    def test_a_terminal_shows_row_counts_rate_and_time_left(self):
        source, shown = self.write("user_id,n\n" + ("u,%s\n" % ("x" * 250)) * 80), b""
        stub = self.stub(shut=True)
        terminal, slave = os.openpty()
        self.addCleanup(os.close, terminal)
        child = self.spawn(stub, "--from", source, prelude=FEW, stderr=slave)
        while b"left" not in shown:
            shown += os.read(terminal, 1000)
        stub.gate.set()
        self.assertSummary(self.finish(child), 0, 80, 80, 0, 0)
        self.run_alone(stub, "--from", source, "--quiet", stderr=slave)
        os.write(slave, b"END")
        os.close(slave)
        while b"END" not in shown:
            shown += os.read(terminal, 1000)
        self.assertRegex(shown, rb"^\r\x1b\[Krow \d+, delivered 0, rejected 0, skipped 0, "
                         rb"0/s, \d+ s left\r[^\n]*\r\x1b\[Krow 80, delivered 80, rejected "
                         rb"0, skipped 0, \d+/s\r\nEND$")

    @POSIX_ONLY
    def test_a_resumed_backfill_delivers_every_row_exactly_once(self):
        self.put("MAX_BACKFILL_PENDING", 4)
        def answer(handler):
            os.kill(os.getpid(), signal.SIGINT)
            handler.reply(200)
        before = signal.getsignal(signal.SIGINT)
        for number, content in itertools.product((0, 1, 4, 9), (
                rows(range(60)), lines(numbered(range(60))))):
            stub = self.stub(*[200] * number, answer, 200)
            counts, skip = self.ended(self.backfill(stub, content), 130)
            self.assertEqual(counts, (skip, skip, 0))
            self.assertLess(skip, 60)
            second = self.backfill(stub, content, "--skip", str(skip))
            self.assertSummary(second, 0, 60, 60 - skip, 0, skip)
            self.assertArrived(stub, numbered(range(60)))
            self.assertIs(signal.getsignal(signal.SIGINT), before)

    @POSIX_ONLY
    @cases((signal.SIGINT, rows([1, 2, 3]) + 'u-4,"', 3, 0), (signal.SIGINT, "\n", 0, 7),
           (signal.SIGTERM, lines(numbered([1, 2, 3])) + "{", 3, 0),
           (signal.SIGTERM, 'user_id,"n', 0, 7))
    def test_a_signal_ends_the_wait_for_input_and_drops_what_it_cut(
            self, number, content, read, skip):
        import fcntl
        import termios
        stub, seen = self.stub(), 0
        child = self.spawn(stub, "--from", "-", "--skip", str(skip))
        child.stdin.write(content.encode())
        child.stdin.flush()
        while seen < read:
            seen += len(read_back(stub.take()))
        until(lambda: fcntl.ioctl(child.stdin, termios.FIONREAD, b"none") == bytes(4))
        # One that comes in the last moment before a read begins does not end that read, in
        # any Python program: the next one does.
        while child.poll() is None:
            child.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
        self.assertEqual(self.ended(self.finish(child), 128 + number),
                         ((read, read, 0), read or skip))

    @POSIX_ONLY
    def test_what_a_signal_finds_in_flight_has_ten_seconds_or_until_the_next_one(self):
        kept, content = ("--rejects", self.rejects), self.write(rows(range(9)))
        prelude = FEW + textwrap.dedent("""
            import signal
            def telling(number, handler, real=signal.signal):
                return real(number, lambda *args: (handler(*args), os.write(2, b"!")))
            signal.signal, told = telling, lambda client: os.write(2, b".")
            """)
        running = []
        for argv, more, signals, counts, skip in (
                ((), "", 1, (5, 5, 0), 5), (kept, "", 2, (5, 0, 5), 5),
                ((), "", 2, (5, 0, 5), 0),
                ((), "vwo_push.SETTLE_SECONDS = 0.1", 1, (5, 0, 5), 0)):
            stub = self.stub(shut=True)
            child = self.spawn(stub, "--from", content, *argv, prelude=prelude + more)
            running.append((stub, child, signals, counts, skip))
        for stub, child, signals, counts, skip in running:
            until(lambda: child.stderr.read(1) == b".")  # it waits
            for _ in range(signals):
                child.send_signal(signal.SIGTERM)
                until(lambda: child.stderr.read(1) == b"!")  # it has noticed
            if counts[1]:
                self.assertEqual(child.stderr.read(1), b".")  # and waits on
                stub.gate.set()
            ran = self.finish(child, within=8)  # less than the 10 s that one signal grants
            self.assertEqual(self.ended(ran, 143), (counts, skip))
        self.assertEqual(self.read().count(b'"closed, not delivered in time, att'), 5)

    def test_no_row_is_skipped_that_was_neither_delivered_nor_kept(self):
        content = self.write("user_id,n\nu-0,0\nu-1,\nu-2,2\nu-3,3\n" + '"\n')
        for argv, skip in ((), 1), (("--rejects", self.rejects), 4):
            ran = self.send(self.stub(), "--from", content, *argv)
            self.assertEqual(self.ended(ran, 1, "row 5 of "), ((4, 3, 1), skip))

    def test_ten_requests_in_a_row_that_are_refused_alike_end_the_run(self):
        self.put("MAX_BACKFILL_PENDING", 1)
        for answers, delivered, first in (
                ([200] * 9 + [401], 9, 9), ([400, 403] * 5 + [404], 0, 10)):
            stub = self.stub(*answers)
            ran = self.backfill(stub, rows(range(200)))
            (read, found, rejected), skip = self.ended(ran, 3, "--check")
            self.assertEqual((found, skip), (delivered, read))
            self.assertEqual(self.read().count(b"HTTP status 4"), rejected)
            self.assertIn(len(stub.take_all()) - first, (10, 11, 12))
        stub = self.stub(*[400] * 9, 200, *[400] * 9, 503, 200)
        self.assertSummary(self.backfill(stub, rows(range(40))), 1, 40, 22, 18, 0)

    @cases((3, 1000, 10, [200, 503]), (1, 3, 3, [200, 503]), (0, 24, 20, [503, 200] * 24))
    def test_30_seconds_without_success_end_the_run(self, status, number, seconds, answers):
        """Here *seconds* pass with each 503."""
        def fail(handler):
            passed[0] += seconds
            handler.reply(503)
        passed, real = [0], vwo_push._now
        self.put("MAX_BACKFILL_PENDING", 1)
        self.put("_now", lambda: real() + passed[0])
        stub = self.stub(*[each if each == 200 else fail for each in answers])
        ran = self.backfill(stub, rows(range(number)))
        self.assertEqual(ran.status, status, ran)
        self.assertEqual("nothing gets through" in ran.err, status == 3)
        read, delivered, rejected, _ = map(int, re.findall(r"\d+", ran.out))
        self.assertEqual((read < 1000, rejected), (True, read - delivered))
        self.assertEqual(self.read().count(b"\nu-"), rejected)

    def test_what_a_moody_server_took_and_the_rejects_are_all_rows(self):
        self.put("MAX_BACKFILL_PENDING", 7)
        stub = self.stub(*[200, 503, 400, 200, 413, 200] * 20, 200)
        ran = self.backfill(stub, rows(range(300)))
        read, delivered, rejected, _ = map(int, re.findall(r"\d+", ran.out))
        kept = re.findall(r'(?m)^u-(\d+),\1,"http', self.read().decode())
        self.assertEqual((ran.status, read, delivered + rejected, len(kept)),
                         (1, 300, 300, rejected))
        arrived = {value for received in stub.take_all()
                   for _, _, value in read_back(received)}
        self.assertEqual(arrived | set(kept), set(map(str, range(300))))


# -- The README ------------------------------------------------------------------------


class ReadmeTest(Case):
    """What the README shows is run; what it lists is what there is."""

    def setUp(self):
        super().setUp()
        with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
            self.text = file.read()

    def test_every_block_of_code_compiles_and_those_without_a_host_run(self):
        made, url = [], self.stub().url
        class Client(vwo_push.Client):
            def __init__(self, *args, **options):
                super().__init__(*args, base_url=url, **options)
                made.append(self)
        for kind, block in re.findall(r"```(python|py)\n(.*?)```", self.text, re.S):
            code = compile(block, "README.md", "exec")
            if kind == "python":
                scope = {}
                with mock.patch.object(vwo_push, "Client", Client):
                    exec(code, scope)
                if "handler" in scope:
                    event = {"plan": "premium", "user": "u-1"}
                    self.assertEqual(scope["handler"](event, None), {"tagged": True})
                self.assertTrue(made[-1].close(TIMEOUT))
        self.assertEqual([client.stats()["delivered"] for client in made], [2, 1])

    def test_the_table_of_options_is_the_signature(self):
        table = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", self.text, re.M))
        for name, default in OptionsTest.DEFAULTS.items():
            if table[name].startswith("`"):
                self.assertEqual(ast.literal_eval(table[name].strip("`")), default)

    def test_the_names_version_and_command_it_gives_are_there(self):
        for name in vwo_push.__all__:
            self.assertIn("`" + name + "(", self.text.replace("with `", "`"))
        for name in set(re.findall(r"`(\w+Test)`", self.text)):
            self.assertTrue(issubclass(globals()[name], unittest.TestCase), name)
        for name in set(re.findall(r"\w+Test\b", " ".join(globals()))):
            self.assertIn(name, sys.modules[__name__].__doc__)  # the list at the top
        changes = self.text.partition("# Changes")[2]
        self.assertIn("**%s**" % vwo_push.__version__, changes)
        self.assertIn("\n    python3 -m unittest\n", self.text)


if __name__ == "__main__":
    unittest.main()
