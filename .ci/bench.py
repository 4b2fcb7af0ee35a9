# SPDX-License-Identifier: MIT
"""Measures vwo_push against its budgets, its rivals and release 1.0.1, on one machine.

    python3 .ci/bench.py                    everything; about eight minutes
    python3 .ci/bench.py --quick            fewer and shorter runs; about three
    python3 .ci/bench.py --readme           the rows that the README shows
    python3 .ci/bench.py --only caller,batch
    python3 .ci/bench.py --python PATH      measure on another CPython (3.9 or later)

Prints one table, on stdout, that is also valid GitHub markdown. The exit status is 1 if
a budget was missed or could not be measured.

Every figure comes from a fresh process, and each is taken several times, in turn with
what it is compared with: A B C A B C. Shown are the medians. A ratio is the median of
the ratios within each turn; trust it rather than the figures on a noisy machine. Among
rivals, the budget is about the best one, which comes first. Release 1.0.1 is no rival:
it comes last, without a budget.

import   In-process wall time of the import statement, so net of interpreter start, with
         bytecode cached. Without site (-S), or else what happens to be installed here
         would have imported much of it already; but with os, which site leaves there,
         and for the budget once more without.
cold     Wall time of a whole process, without site, that makes one HTTPS request and
         ends. The server's certificate is the only one trusted: no large store is
         loaded.
caller   Time of single calls on the caller's thread. Busy: one after the other, while
         the server answers nothing; a rival that sends on the caller's thread gets one
         that answers. Idle: the server answers, and a pause before each call lets every
         thread park, so that the call has to wake one.
wake     Time of a push, and of a SimpleQueue.put, that wakes a thread which has been
         parked for a millisecond; in turn, in one process, with a transport.
batch    Pushes per second from the first call until the server has answered for the
         last, with queues that hold them all. Rivals batch as they do by default, or by
         100 if that is more (mixpanel's limit is 50), and reuse connections where they
         can.
fme      The same, for an FME account, beside our own rate for a FullStack account.
single   The same without batches. The bare loop sends one prepared request over and
         over.
latency  The same as batch with 50 ms before each answer, ours with every option at its
         default, so that a push waits for room.
memory   Growth by pushes that wait for a server that answers nothing, their texts
         included; traced allocations and resident memory in processes of their own.
threads  Of the process, main thread included.

Rivals are called in the cheapest of their documented ways to attach one value to one
user. They are installed by pip into a virtual environment below --cache; release 1.0.1
comes from this repository's history. Nothing else reaches beyond the loopback
interface. The server is nginx, or, where there is none (apt-get install nginx-light), a
slower one in Python.
"""

import argparse
import array
import functools
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ACCOUNT, SDK_KEY = 123456, "0123456789abcdef0123456789abcdef"
CACHE = pathlib.Path.home() / ".cache" / "vwo_push-bench"
MODULE = pathlib.Path(__file__).resolve().parent.parent / "vwo_push.py"
RELEASE, RELEASE_COMMIT = "release 1.0.1", "d4a6c2b"
RIVALS = {  # their names as distributions on PyPI
    "mixpanel": "mixpanel", "snowplow": "snowplow-tracker", "posthog": "posthog",
    "segment": "segment-analytics-python", "amplitude": "amplitude-analytics",
    "official": "vwo-python-sdk"}
MODULES = {  # what a program that uses them imports
    "ours": "vwo_push", "mixpanel": "mixpanel", "snowplow": "snowplow_tracker",
    "posthog": "posthog", "segment": "segment.analytics", "amplitude": "amplitude",
    "official": "vwo", RELEASE: "vwo_push"}
FORBIDDEN = ("ssl http.client urllib.request logging typing email argparse socket "
             "dataclasses").split()
LIMIT_SECONDS = 120  # for any one measured process; then it is killed
PARKED_SECONDS = 0.001  # after which a thread that has nothing to do is surely parked
SETTLE_SECONDS = 0.7  # after which senders are stuck at a server that answers nothing
ROOM_SECONDS = 0.001  # between two tries of a push for which there was no room
DELAY_SECONDS = 0.05
NEVER_SECONDS = 1e6
ANSWER_BODY = b'{"code": 200, "status": 1, "error": null}'  # what all rivals accept
ANSWER = (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
          b"Content-Length: %d\r\n\r\n" % len(ANSWER_BODY)) + ANSWER_BODY

NGINX_CONF = """
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  log_format arrived '$request_method $content_length';
  access_log {home}/arrived.log arrived buffer=64k flush=100ms;
  client_max_body_size 20m; client_body_buffer_size 1m; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 3600s; default_type application/json;
  client_body_temp_path {home}/t1; proxy_temp_path {home}/t2;
  fastcgi_temp_path {home}/t3;
  uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
  ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem;
  server {{
    listen 127.0.0.1:{http} backlog=4096; listen 127.0.0.1:{https} ssl;
    location / {{ return 200 '{body}'; }}
  }}
}}
"""

IMPORT = """import sys, time; sys.path.insert(0, {home!r})
{before}
began = time.perf_counter()
import {what}
print(time.perf_counter() - began, *sys.modules)"""

COLD_OURS = """import sys; sys.path.insert(0, {home!r})
import vwo_push
client = vwo_push.Client(account_id={account}, sdk_key={key!r}, base_url={url!r})
assert client.push("plan", "premium", "user-1") and client.flush(10.0)"""

COLD_BARE = """import http.client, ssl
connection = http.client.HTTPSConnection({host!r}, context=ssl.create_default_context())
connection.request("GET", {target!r}, headers={headers!r})
answer = connection.getresponse(); answer.read(); connection.close()
assert answer.status == 200"""

COLD_OFFICIAL = """import sys; sys.path.insert(0, {packages!r})
import vwo
from vwo.constants import constants
constants.ENDPOINTS.BASE_URL = {host!r}
client = vwo.launch({settings!r})
assert client.push("plan", "premium", "user-1")"""

SETTINGS = json.dumps(
    {"version": 1, "accountId": ACCOUNT, "sdkKey": SDK_KEY, "campaigns": []})


class Failed(Exception):
    """A measurement that came to nothing, and why."""


# -- Clients, in a measured process: (send one value, wait until all is sent) ----------


def open_ours(url, count, **options):
    import vwo_push
    options.setdefault("max_pending", count + 10_000)
    client = vwo_push.Client(ACCOUNT, SDK_KEY, base_url=url, **options)

    def finish():
        assert client.flush(LIMIT_SECONDS) and client.stats()["delivered"] >= count
    return functools.partial(client.push, "plan"), finish


def open_bare(url, count):
    """One prepared request, sent over and over on one connection."""
    request, host, target = prepared_request(url)
    connection = http.client.HTTPConnection(host)

    def send(value, user):
        connection.putrequest("GET", target, skip_accept_encoding=True)
        for header in request.headers.items():
            connection.putheader(*header)
        connection.endheaders()
        connection.getresponse().read()
    return send, lambda: None


def open_mixpanel(url, count):
    import mixpanel
    consumer = mixpanel.BufferedConsumer(events_url=url + "/track",
                                         people_url=url + "/engage")
    tracker = mixpanel.Mixpanel(SDK_KEY, consumer=consumer)
    return lambda value, user: tracker.people_set(user, {"plan": value}), consumer.flush


def open_snowplow(url, count):
    import logging
    import requests
    import snowplow_tracker
    logging.disable(logging.INFO)  # or it prints what it does
    emitter = snowplow_tracker.AsyncEmitter(
        url, protocol="http", batch_size=100, buffer_capacity=count + 10_000,
        session=requests.Session())
    tracker = snowplow_tracker.Tracker("bench", emitters=emitter)

    def send(value, user):
        tracker.track(snowplow_tracker.StructuredEvent(
            "user", "plan", property_=value,
            event_subject=snowplow_tracker.Subject().set_user_id(user)))
    return send, emitter.sync_flush


def open_posthog(url, count):
    import posthog
    client = posthog.Posthog(SDK_KEY, host=url, max_queue_size=count + 10_000)

    def send(value, user):
        client.set(distinct_id=user, properties={"plan": value})
    return send, lambda: client.flush(timeout_seconds=None)


def open_segment(url, count):
    import segment.analytics.client
    client = segment.analytics.client.Client(
        SDK_KEY, host=url, max_queue_size=count + 10_000)
    return lambda value, user: client.identify(user, {"plan": value}), client.flush


def open_amplitude(url, count):
    import amplitude
    arrived = array.array("q")  # appending is atomic
    client = amplitude.Amplitude(SDK_KEY, amplitude.Config(
        server_url=url, callback=lambda event, status, text: arrived.append(status)))

    def send(value, user):
        client.track(amplitude.BaseEvent(
            "plan", user_id=user, event_properties={"plan": value}))

    def finish():
        client.flush()
        wait_for(lambda: len(arrived) >= count)
    return send, finish


def open_official(url, count, batch=100):
    import vwo
    from vwo.constants import constants
    constants.HTTPS_PROTOCOL, constants.ENDPOINTS.BASE_URL = (
        "http://", urllib.parse.urlsplit(url).netloc)
    arrived = array.array("q")
    options = {} if batch == 1 else {"batch_events": {
        "events_per_request": batch, "request_time_interval": 600,
        "flush_callback": lambda error, events: arrived.append(len(events))}}
    client = vwo.launch(SETTINGS, **options)

    def finish():
        client.flush_events(mode="sync")
        wait_for(lambda: batch == 1 or sum(arrived) >= count)
    return lambda value, user: client.push("plan", value, user), finish


def open_client(who, url, count, home, **options):
    sys.path.insert(0, home)
    if who in RIVALS:
        keep_to_loopback()
    who = "ours" if who == RELEASE else who
    return globals()["open_" + who](url, count, **options)


def keep_to_loopback():
    """No rival gets as far as a name look-up or a packet to anywhere else."""
    def only_loopback(function, host_of):
        def checked(*arguments, **more):
            if not str(host_of(*arguments)).startswith("127."):
                raise OSError("not on the loopback interface")
            return function(*arguments, **more)
        return checked
    socket.socket.connect = only_loopback(socket.socket.connect,
                                          lambda sock, address: address[0])
    socket.getaddrinfo = only_loopback(socket.getaddrinfo, lambda host, *rest: host)


def prepared_request(url):
    import vwo_push
    request, = vwo_push.Client(ACCOUNT, SDK_KEY, base_url=url).requests_for(
        "plan", "premium", "user-1")
    parts = urllib.parse.urlsplit(request.url)
    return request, parts.netloc, "%s?%s" % (parts.path, parts.query)


def wait_for(condition):
    while not condition():
        time.sleep(ROOM_SECONDS)


# -- Measurements, in a measured process -----------------------------------------------


def measure_caller(count, pause=0.0, **client):
    """Microseconds of single calls, the clock's own included."""
    send, _ = open_client(count=count + 1000, **client)
    for number in range(1000):
        send("premium", "early-%d" % number)
    time.sleep(SETTLE_SECONDS)
    users = ["user-%d" % number for number in range(count)]
    clock, taken = time.perf_counter_ns, array.array("q")
    for user in users:
        if pause:
            time.sleep(pause)
        began = clock()
        send("premium", user)
        taken.append(clock() - began)
    taken = sorted(taken)
    return {"p50": taken[count // 2] / 1e3, "p99": taken[count * 99 // 100] / 1e3}


def measure_wake(count, home, who):
    """Microseconds of a push and of a put, each to a parked thread, in turn."""
    sys.path.insert(0, home)
    import queue
    import vwo_push
    client = vwo_push.Client(ACCOUNT, SDK_KEY, transport=lambda request, seconds: 200)
    box, got, clock = queue.SimpleQueue(), [], time.perf_counter_ns
    threading.Thread(target=lambda: [got.append(box.get()) for _ in range(count)],
                     daemon=True).start()
    pushes, puts = [], []
    for number in range(1, count + 1):
        user = "user-%d" % number
        time.sleep(PARKED_SECONDS)
        began = clock()
        client.push("plan", "premium", user)
        pushes.append(clock() - began)
        while client.stats()["delivered"] < number:
            time.sleep(ROOM_SECONDS)
        time.sleep(PARKED_SECONDS)
        began = clock()
        box.put(user)
        puts.append(clock() - began)
        while len(got) < number:
            time.sleep(ROOM_SECONDS)
    assert client.stats()["requests"] == count
    push, put = statistics.median(pushes) / 1e3, statistics.median(puts) / 1e3
    return {"push": push, "put": put, "ratio": push / put}


def measure_rate(count, **client):
    """Pushes per second until the server has answered for all of them."""
    send, finish = open_client(count=count, **client)
    users = ["user-%d" % number for number in range(count)]
    began = time.perf_counter()
    for user in users:
        while send("premium", user) is False:
            time.sleep(ROOM_SECONDS)
    finish()
    return count / (time.perf_counter() - began)


def measure_memory(count, traced, **client):
    """Bytes by which pending pushes make the process grow, and its threads."""
    import tracemalloc
    if traced:
        tracemalloc.start()
    send, _ = open_client(count=count, **client)

    def used():
        if traced:
            return tracemalloc.get_traced_memory()[0]
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    before = used()
    for number in range(count):
        send("value-%d" % number, "user-%d" % number)
    time.sleep(SETTLE_SECONDS)
    return {"bytes": used() - before, "threads": threading.active_count()}


def measure_threads(url, home, who):
    """Threads of ours: new, busy, idle for a while, used again, closed."""
    sys.path.insert(0, home)
    import vwo_push
    seen = []
    with vwo_push.Client(ACCOUNT, SDK_KEY, base_url=url) as client:
        for pushes, idle_seconds in ((0, 0), (5000, 0), (0, 6.0), (1, 0)):
            for number in range(pushes):
                assert client.push("plan", "premium", "user-%d" % number)
            time.sleep(idle_seconds)
            seen.append(threading.active_count())
            assert client.flush(10.0)
    return seen + [threading.active_count()]


# -- Servers ---------------------------------------------------------------------------


def serve(port, delay=0.0, log=None, certificate=None):
    """Answers any request after *delay* seconds, on a thread for each connection."""
    listener = socket.create_server(("127.0.0.1", port), backlog=4096, reuse_port=True)
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if log else None
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=answer, args=(sock, delay, log, context),
                         daemon=True).start()


def answer(sock, delay, log, context):
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = context.wrap_socket(sock, server_side=True) if context else sock
        stream = sock.makefile("rb")
        while stream.readline():
            size, line = 0, b"-"
            while line.strip():
                line = stream.readline()
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            stream.read(size)
            time.sleep(delay)
            if log:
                os.write(log, b"-\n")
            sock.sendall(ANSWER)
    except OSError:
        pass


class World:
    """The servers, the copy of the module, and how to run a measurement among them."""

    def __init__(self, home, python, cache, quick):
        self.home, self.python, self.quick = home, python, quick
        shutil.copy(MODULE, home)  # its bytecode is cached here, not in the repository
        self.homes = {RELEASE: home / RELEASE}
        self.homes[RELEASE].mkdir()
        self.certificate = [str(home / "cert.pem"), str(home / "key.pem")]
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.lower().endswith("_proxy")}
        self.environment.update(SSL_CERT_FILE=self.certificate[0],
                                REQUESTS_CA_BUNDLE=self.certificate[0])
        self.venv, self.versions, self.missing = install_rivals(python, cache)
        try:
            shutil.copy(fetch_release(cache), self.homes[RELEASE])
        except Failed as failure:
            self.missing[RELEASE] = str(failure)
        # Else the first process to import it compiles it, and has memory to spare.
        subprocess.run([python, "-I", "-m", "compileall", "-q", home], check=True)
        self.packages = next(self.venv.parent.parent.glob("lib/python*/site-packages"))
        self.log, self.servers = home / "arrived.log", []

    def start(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
             "-out", "cert.pem", "-keyout", "key.pem"],
            cwd=self.home, check=True, capture_output=True)
        ports = [free_port() for _ in range(4)]
        self.url, self.tls_url, self.slow_url, self.stuck_url = [
            "%s://127.0.0.1:%d" % pair
            for pair in zip(("http", "https", "http", "http"), ports)]
        self.start_front(*ports[:2])
        self.start_own(port=ports[2], delay=DELAY_SECONDS)
        self.start_own(port=ports[3], delay=NEVER_SECONDS)
        for port in ports:
            wait_until_open(port)

    def stop(self):
        for server in self.servers:
            server.terminate()
            server.wait()

    def start_front(self, http_port, https_port):
        nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if nginx:
            self.home.chmod(0o755)  # nginx drops root's rights
            (self.home / "nginx.conf").write_text(NGINX_CONF.format(
                home=self.home, http=http_port, https=https_port,
                body=ANSWER_BODY.decode()))
            self.servers.append(subprocess.Popen(
                [nginx, "-c", self.home / "nginx.conf", "-e", self.home / "error.log"]))
        self.server = nginx or "no nginx (apt-get install nginx-light), a slower server"
        for _ in range(0 if nginx else os.cpu_count() or 1):
            self.start_own(port=http_port, log=str(self.log))
            self.start_own(port=https_port, log=str(self.log),
                           certificate=self.certificate)

    def start_own(self, **options):
        self.servers.append(subprocess.Popen(
            [sys.executable, __file__, "--measure", "serve", json.dumps(options)]))

    def python_says(self, *arguments, who="ours", flags=("-I",)):
        """What a fresh interpreter prints, that of the rivals for one of these."""
        if who in self.missing:
            raise Failed("not to be had: " + self.missing[who])
        try:
            done = subprocess.run(
                [self.venv if who in RIVALS else self.python, *flags, *arguments],
                env=self.environment, timeout=LIMIT_SECONDS, stdin=subprocess.DEVNULL,
                capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            raise Failed("killed after %d s" % LIMIT_SECONDS) from None
        if done.returncode:
            reason = done.stderr.strip() or "no reason given"
            raise Failed(reason.splitlines()[-1][:90])
        return done.stdout

    def wall(self, code, who):
        began = time.perf_counter()
        self.python_says("-c", code, who=who, flags=("-I", "-S"))
        return time.perf_counter() - began

    def run(self, measurement, who="ours", **arguments):
        """The result of one measurement in a fresh process."""
        home = str(self.homes.get(who, self.home))
        return json.loads(self.python_says(
            __file__, "--measure", "measure_" + measurement,
            json.dumps(dict(arguments, who=who, home=home)), who=who))

    def rate(self, who, count, largest, **options):
        """The rate at which *who* sends, after a look at what nginx has seen of it:
        not fewer requests than can carry *count* pushes, *largest* in one."""
        before = self.log.stat().st_size if self.log.exists() else 0
        rate = self.run("rate", who=who, count=count, url=self.url, **options)
        time.sleep(0.4)  # nginx writes its log with a delay
        with self.log.open() as log:
            log.seek(before)
            arrived = sum(1 for _ in log)
        if arrived < count / largest:
            raise Failed("only %d requests arrived for %d pushes" % (arrived, count))
        return rate


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_until_open(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
    raise SystemExit("no server came up on port %d" % port)


def fetch_release(cache):
    """The path of release 1.0.1, taken from the history of this repository."""
    path = pathlib.Path(cache) / RELEASE / "vwo_push.py"
    if not path.exists():
        done = subprocess.run(["git", "show", RELEASE_COMMIT + ":vwo_push.py"],
                              cwd=MODULE.parent, capture_output=True)
        if done.returncode:
            raise Failed("git does not know commit " + RELEASE_COMMIT)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(done.stdout)
    return path


def install_rivals(python, cache):
    """The interpreter that has the rivals, their versions, and which are missing."""
    version = subprocess.run([python, "--version"], capture_output=True, text=True,
                             check=True).stdout.strip().replace(" ", "-")
    venv = pathlib.Path(cache) / version
    inner, missing = venv / "bin" / "python", {}

    def pip(*arguments):
        command = [inner, "-m", "pip", "--disable-pip-version-check", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    def installed():
        return {each["name"].replace("_", "-"): each["version"]
                for each in json.loads(pip("list", "--format=json").stdout)}
    if not inner.exists():
        subprocess.run([python, "-m", "venv", venv], check=True)
        pip("install", "setuptools<81")  # the last ones with the pkg_resources of vwo
    for name, package in RIVALS.items():
        if package not in installed():
            done = pip("install", package)
            if done.returncode:
                reason = done.stderr.strip() or "pip failed"
                missing[name] = reason.splitlines()[-1][:60]
    versions = installed()
    return inner, ["%s %s" % (package, versions[package]) for package in RIVALS.values()
                   if package in versions], missing


# -- The table -------------------------------------------------------------------------


class Table:
    def __init__(self, readme):
        self.rows, self.missed, self.readme = [], 0, readme

    def add(self, what, ours, against="", theirs="", ratio="", budget="", met=None,
            readme=False):
        row = [what, ours, against, theirs, ratio, budget,
               "" if met is None else "ok" if met else "MISSED"]
        self.missed += met is False
        if readme or not self.readme:
            self.rows.append(row)
        print("bench:", *filter(None, row), sep="  ", file=sys.stderr, flush=True)

    def compare(self, what, runs, show, budgets, lower=True,
                key=lambda result: result, readme=()):
        """A line for each of the others in *runs*, the best first. *budgets* are ratios
        by name; that of "best" is for the first. *readme* has the names of the README's
        rows. *show* makes a figure of a name."""
        budgets, readme, best = dict(budgets), set(readme), True
        for name in runs.ranking(key, lower):
            ratio, budget = runs.ratio(name, key), budgets.get(name)
            if best and name in RIVALS:
                best, budget = False, budgets.get("best", budget)
                readme.update([name] * ("best" in readme))
            verdict = () if budget is None else (
                "%s %g" % ("<=" if lower else ">=", budget),
                ratio <= budget if lower else ratio >= budget)
            self.add(what, show("ours"), name, show(name), "%.3g" % ratio, *verdict,
                     readme=name in readme)
        for name, why in runs.failures.items():
            missed = name in budgets or "best" in budgets and best
            self.add(what, "", name, "FAILED: " + why, met=False if missed else None,
                     readme=missed)

    def __str__(self):
        rows = [["what", "vwo_push", "compared with", "its figure", "ratio", "budget",
                 ""], *self.rows]
        widths = [max(3, *(len(row[at]) for row in rows)) for at in range(len(rows[0]))]
        rows.insert(1, ["-" * width for width in widths])
        return "\n".join("| %s |" % " | ".join(
            cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)


class Runs:
    """The results of several things that were measured in turn, *times* over. Those of
    the rivals can be fewer, *rival_times*, where no budget needs more."""

    def __init__(self, times, rival_times=None, **things):
        self.results, self.failures = {name: [] for name in things}, {}
        for turn in range(times):
            for name, measure in things.items():
                if name in RIVALS and turn >= (rival_times or times):
                    continue
                try:
                    if name not in self.failures:
                        self.results[name].append(measure())
                except Failed as failure:
                    self.failures[name] = str(failure)
        if "ours" in self.failures:
            raise Failed(self.failures["ours"])

    def median(self, name, key=lambda result: result):
        return statistics.median(map(key, self.results[name]))

    def shown(self, form, key=lambda result: result):
        return lambda name: form(self.median(name, key))

    def ratio(self, name, key):
        return statistics.median(key(ours) / key(theirs) for ours, theirs in zip(
            self.results["ours"], self.results[name]))

    def ranking(self, key, lower):
        names = [name for name in self.results if name not in ("ours", *self.failures)]
        return sorted(names, key=lambda name: (
            name == RELEASE, self.median(name, key) * (1 if lower else -1)))


# -- The lines of the table ------------------------------------------------------------


def milliseconds(seconds):
    return "%.1f ms" % (seconds * 1e3)


def per_second(rate):
    return "%s/s" % format(round(rate), ",")


def bench_import(world, table):
    def measure(name, what, before):
        home = world.packages if name in RIVALS else world.homes.get(name, world.home)
        code = IMPORT.format(home=str(home), what=what, before=before)
        return lambda: world.python_says(
            "-c", code, who=name, flags=("-I", "-S")).split()

    def seconds(said):
        return float(said[0])
    base = "import threading, queue"
    for label, before, names in (
            ("import", "import os", MODULES),
            ("import, not even os there", "", ["ours", RELEASE])):
        ours = measure("ours", MODULES["ours"], before)
        found = sorted(set(FORBIDDEN) & set(ours()))  # and writes the bytecode
        runs = Runs(11 if world.quick else 41, 5 if world.quick else 9, **{
            name: measure(name, MODULES[name], before) for name in names},
            **{base: measure(base, "threading, queue", before)})
        table.compare(label, runs, runs.shown(milliseconds, seconds), {base: 1.4},
                      key=seconds, readme=[base] * (names is MODULES))
    table.add("import, heavy modules loaded", " ".join(found) or "none", budget="none",
              met=not found)


def bench_cold(world, table):
    sys.path.insert(0, str(world.home))
    request, host, target = prepared_request(world.tls_url.replace("https", "http"))
    values = {"home": str(world.home), "account": ACCOUNT, "key": SDK_KEY,
              "url": world.tls_url, "host": host, "target": target,
              "settings": SETTINGS, "headers": request.headers,
              "packages": str(world.packages)}
    codes = {"ours": COLD_OURS, "http.client": COLD_BARE, "official": COLD_OFFICIAL}
    things = {name: functools.partial(world.wall, code.format(**values), name)
              for name, code in codes.items()}
    values["home"] = str(world.homes[RELEASE])
    things[RELEASE] = functools.partial(world.wall, COLD_OURS.format(**values), RELEASE)
    runs = Runs(7 if world.quick else 25, **things)
    table.compare("cold process, one push, TLS", runs, runs.shown(milliseconds),
                  {"http.client": 1.25, "official": 0.2},
                  readme=["http.client", "official"])


def bench_caller(world, table):
    answered = {"mixpanel"}  # sends on the caller's thread: it would never return

    def p50(result):
        return result["p50"]

    def p99(result):
        return result["p99"]

    def compare(what, times, count, url, budgets, **options):
        runs = Runs(times, **{name: functools.partial(
            world.run, "caller", who=name, count=count, url=url(name), **options,
            **{"batch": 5000} if name == "official" else {})
            for name in ("ours", *RIVALS, RELEASE)})

        def show(name):
            return "%.2f / %.2f us" % (runs.median(name, p50), runs.median(name, p99))
        table.compare(what, runs, show, budgets, key=p50, readme=budgets)
    compare("push on the caller's thread, busy, p50 / p99", 3 if world.quick else 5,
            10_000 if world.quick else 50_000,
            lambda name: world.url if name in answered else world.stuck_url,
            {"best": 0.3})
    compare("push on the caller's thread, idle, p50 / p99", 1 if world.quick else 3,
            500 if world.quick else 2000, lambda name: world.url, {},
            pause=PARKED_SECONDS)


def bench_wake(world, table):
    runs = Runs(3 if world.quick else 5, **{name: functools.partial(
        world.run, "wake", who=name, count=300 if world.quick else 1000)
        for name in ("ours", RELEASE)})
    push, put, ratio = (runs.median("ours", lambda result, key=key: result[key])
                        for key in ("push", "put", "ratio"))
    what = "push that wakes a parked worker, p50"
    table.add(what, "%.2f us" % push, "SimpleQueue.put", "%.2f us" % put,
              "%.3g" % ratio, "<= 2", ratio <= 2, readme=True)

    def pushed(result):
        return result["push"]
    table.compare(what, runs, runs.shown("{:.2f} us".format, pushed), {}, key=pushed)


def bench_batch(world, table):
    many, few = (50_000, 4_000) if world.quick else (200_000, 20_000)
    largest = {"ours": 1000, "mixpanel": 50, "amplitude": 200}
    runs = Runs(3 if world.quick else 5, **{name: functools.partial(
        world.rate, name, few if name in RIVALS else many, largest.get(name, 100))
        for name in ("ours", *RIVALS, RELEASE)})
    table.compare("sustained, batched", runs, runs.shown(per_second), {"best": 3.5},
                  lower=False, readme=["best"])


def bench_fme(world, table):
    many = 50_000 if world.quick else 200_000
    runs = Runs(3 if world.quick else 5,
                ours=lambda: world.rate("ours", many, 1000, fme=True),
                FullStack=lambda: world.rate("ours", many, 1000))
    table.compare("sustained, batched, FME", runs, runs.shown(per_second),
                  {"FullStack": 0.5}, lower=False, readme=["FullStack"])


def bench_single(world, table):
    many, few = (5_000, 500) if world.quick else (20_000, 2_000)
    runs = Runs(3 if world.quick else 7,
                ours=lambda: world.rate("ours", many, 1, max_batch=1),
                official=lambda: world.rate("official", few, 1, batch=1),
                **{"http.client": lambda: world.rate("bare", many, 1),
                   RELEASE: lambda: world.rate(RELEASE, many, 1, max_batch=1)})
    table.compare("sustained, max_batch=1", runs, runs.shown(per_second),
                  {"http.client": 0.85, "official": 4}, lower=False,
                  readme=["http.client"])


def bench_latency(world, table):
    many = 10_000 if world.quick else 20_000
    runs = Runs(1 if world.quick else 3, **{name: functools.partial(
        world.run, "rate", who=name, url=world.slow_url,
        **{"count": 4_000} if name in RIVALS else
        {"count": many, "max_pending": 10_000}) for name in ("ours", *RIVALS, RELEASE)})
    what = "sustained, 50 ms round trip"
    table.compare(what, runs, runs.shown(per_second), {"best": 1}, lower=False,
                  readme=["best"])
    large = Runs(1 if world.quick else 3, ours=lambda: world.run(
        "rate", count=100_000, url=world.slow_url, max_batch=5000))
    table.add(what + ", max_batch=5000", per_second(large.median("ours")))


def bench_memory(world, table):
    def measure(name, count, traced):
        return functools.partial(
            world.run, "memory", who=name, count=count, traced=traced,
            url=world.stuck_url, **{"batch": 5000} if name == "official" else {})

    def size(result):
        return result["bytes"]
    for count in (100_000, 10_000):
        for traced, label in ((True, "traced"), (False, "resident")):
            runs = Runs(3, ours=measure("ours", count, traced))
            each = runs.median("ours", size) / count
            table.add("memory, %s pending, %s" % (format(count, ","), label),
                      "%.0f B each" % each, budget="<= 512 B", met=each <= 512)
    others = [name for name in RIVALS if name != "mixpanel"]  # holds at most 50
    runs = Runs(1 if world.quick else 3, **{name: measure(name, 10_000, False)
                                            for name in ("ours", *others, RELEASE)})

    def show(name):
        return "%.1f MB, %d threads" % (
            runs.median(name, size) / 1e6, runs.results[name][0]["threads"])
    what = "memory, 10,000 pending, over idle"
    grown = runs.median("ours", size)
    table.add(what, show("ours"), budget="<= 5 MB", met=grown <= 5e6, readme=True)
    table.compare(what, runs, show, {}, key=size)


def bench_threads(world, table):
    seen = world.run("threads", url=world.url)
    table.add("threads: new, busy, idle, again, closed", ", ".join(map(str, seen)),
              budget="1, <= 3, <= 3, <= 3, 1",
              met=seen[0] == seen[-1] == 1 and max(seen) <= 3)


BENCHES = {name[len("bench_"):]: function for name, function in list(globals().items())
           if name.startswith("bench_")}


def headline(world, seconds):
    cpu = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        text = pathlib.Path("/proc/cpuinfo").read_text()
        cpu = (re.findall("model name\\s*: (.*)", text) or [cpu])[0]
    python = world.python_says(
        "-c", "import platform; print(platform.python_version())")
    return "%s; %s, %d cores, load %.1f; %s; CPython %s; %s; %d s%s.\nRivals: %s." % (
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), cpu, os.cpu_count() or 1,
        os.getloadavg()[1], platform.platform(), python.strip(), world.server, seconds,
        ", --quick" if world.quick else "", ", ".join(world.versions) or "none")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--readme", action="store_true", help="the README's rows alone")
    parser.add_argument("--only", default=",".join(BENCHES), metavar="NAME,...")
    parser.add_argument("--python", default=sys.executable,
                        help="the CPython to measure")
    parser.add_argument("--cache", default=CACHE, help="for the rivals (%(default)s)")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:  # we are a process that another one has started
        name, arguments = options.measure
        print(json.dumps(globals()[name](**json.loads(arguments))), flush=True)
        os._exit(0)  # whatever a rival would still want to do
    chosen = options.only.split(",")
    if set(chosen) - set(BENCHES):
        parser.error("--only knows " + ", ".join(BENCHES))
    with tempfile.TemporaryDirectory(prefix="vwo_push-bench-") as home:
        world = World(pathlib.Path(home), options.python, options.cache, options.quick)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and stop the servers
        try:
            world.start()
            table = measure_all(world, chosen, Table(options.readme))
        finally:
            world.stop()
    return 1 if table.missed else 0


def measure_all(world, chosen, table):
    began = time.monotonic()
    for name in chosen:
        try:
            BENCHES[name](world, table)
        except Failed as failure:
            table.add(name, "FAILED: %s" % failure, met=False, readme=True)
    print("%s\n\n%s" % (headline(world, time.monotonic() - began), table))
    return table


if __name__ == "__main__":
    sys.exit(main())
