# SPDX-License-Identifier: MIT
"""Compares what vwo_push and VWO's own FME SDK send for the same calls.

    python3 .ci/fme.py [--cache FOLDER]

vwo-fme-python-sdk is installed from PyPI into a virtual environment below --cache,
and runs there, in processes of its own. Its proxy_url points it at a collector on the
loopback interface; it can connect to nothing else. vwo_push fetches from this
collector the settings file that the SDK gets, and makes its clients of it. Then both
make every call of the tables below: one request for each call, and all calls in one
batch.

Compared are: method, path, names and values of the query, Content-Type and
Authorization, members of the body, types and values of numbers, texts and booleans,
and visitor UUIDs. One line for each case says "ok" or "FAILED", with the differences
below it. Exits 1 if there was one.

Differences that are meant, and replaced by a mark after a look at their form:

- sn, sv, vwo_sdkName and vwo_sdkVersion name the sender. So does User-Agent.
- visitor_ua and visitor_ip are empty here. The SDK sends the text "None".
- random (r when it fetches settings) and all times are new in each request.

Calls that the SDK takes and vwo_push refuses are not made: an empty text in a map,
texts beyond 255 characters, integers beyond 2**53, the key vwo_fs_environment, lone
surrogates. Nor is the one user id that they name differently: a web UUID with a line
feed behind it, which Python's "$" lets through in the SDK, and which is hashed here.
"""

import argparse
import http.server
import json
import logging
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading
import time
import urllib.parse

CACHE = pathlib.Path.home() / ".cache" / "vwo_push-fme"
TREE = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "vwo-fme-python-sdk"
ACCOUNT, SDK_KEY = 123456, "0123456789abcdef0123456789abcdef"
SETTINGS = {"version": 1, "accountId": ACCOUNT, "sdkKey": SDK_KEY, "campaigns": [],
            "features": []}
LIMIT_SECONDS = 20  # for any one request to arrive
WEB_UUID = "D7E2EAA667909A2DB8A6371FF0975C2A5"

VALUES = {
    "text": "premium", "int": 30, "zero": 0, "negative": -1, "2**53": 2**53,
    "-2**53": -2**53, "float": 1.5, "whole float": 30.0, "-0.0": -0.0, "1e16": 1e16,
    "1e22": 1e22, "1e300": 1e300, "5e-324": 5e-324, "0.1 + 0.2": 0.1 + 0.2,
    "true": True, "false": False, "text of a number": "30",
    "text of a boolean": "true", "blank": " "}
TEXTS = [
    "100% + 1", "%2B%00%25%", "a=b&c=d#e?f/g", "\"'`\\", "\\u0041\\n", "\x00",
    "\r\nX: y", "\t \x0b\x7f\x85", " both ends ", "Z\xfcrich", "e\u0301",
    "\u2028\u2029", "\ufeff", "\u202eright to left", "\U0001f600\U0010ffff",
    "\uffff\ud7ff",
    "<script>alert(1)</script>", "{\"u\": {}}", "null", "None", "undefined",
    "__proto__", "x" * 255, "\U0001f600" * 255]
USERS = [
    "user-42", "0", "u" * 10_000, "USER-42", "user-42 ", WEB_UUID, "J" + WEB_UUID[1:],
    WEB_UUID.lower(), "D" + WEB_UUID[1:].lower(), "E" + WEB_UUID[1:], WEB_UUID[:-1],
    WEB_UUID + "0", WEB_UUID + "\n\n", "\n" + WEB_UUID, " " + WEB_UUID,
    "D" + WEB_UUID[1:-1] + "G", "D" + "\uff10" * 32]
MAP = {"text": "t", "int": 1, "float": 2.5, "whole": 2.0, "true": True, "false": False}

# {name: (attributes, user id)}; one attribute is given as (key, value, user id).
CASES = {"map": ({"plan": "pro", "country": "IN"}, "user-42"),
         "map of types": (MAP, "user-42"),
         "map of one": ({"plan": "pro"}, "user-42"),
         "map of 100": ({"key %d" % number: number for number in range(100)}, "u")}
CASES.update({"value: " + name: ("key", value, "u") for name, value in VALUES.items()})
CASES.update({"text: " + ascii(text)[:30]: (text, text, text) for text in TEXTS})
CASES.update({"texts in a map": ({text: text for text in TEXTS}, "u")})
CASES.update({"user: " + ascii(user)[:45]: ("key", "value", user) for user in USERS})
WEB = {name: call for name, call in CASES.items() if WEB_UUID[1:9] in call[-1].upper()}
FEW = {name: CASES[name] for name in ("map of types", "value: text", "value: true")}
REFUSED = [
    ("key", None, "u"), ("key", [1], "u"), ("key", {"a": 1}, "u"), ("key", b"v", "u"),
    ("key", float("nan"), "u"), ("key", float("inf"), "u"), ("key", -float("inf"), "u"),
    ("key", "", "u"), ("", "value", "u"), (5, "value", "u"), ("key", "value", 5),
    ({}, "u"), ({"key": None}, "u"), ({"key": "value", "other": [1]}, "u"),
    ({5: "value"}, "u"), ({"key": "value", "other": float("nan")}, "u")]
CALLS = {"refused %d" % number: call for number, call in enumerate(REFUSED)}
CALLS.update(CASES)

RUNS = {  # {name: (cases, members of the settings, whether it is for one batch)}
    "single": (CASES, {}, False),
    "single, eu01": (FEW, {"collectionPrefix": "eu01"}, False),
    "single, web connectivity off": (WEB, {"isWebConnectivityEnabled": False}, False),
    "single, web connectivity on": (WEB, {"isWebConnectivityEnabled": True}, False),
    "batch": (CASES, {}, True),
    "batch, eu01": (FEW, {"collectionPrefix": "eu01"}, True),
    "batch, web connectivity off": (WEB, {"isWebConnectivityEnabled": False}, True)}


class Missing(Exception):
    """A request that did not arrive."""


# -- The collector ---------------------------------------------------------------------


class Collector(http.server.ThreadingHTTPServer):
    """Keeps requests for settings apart from those for attributes; forgets all others,
    with which the SDK counts its users."""
    daemon_threads = True
    handle_error = staticmethod(lambda *_: None)  # the SDK ends in mid-request

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        self.members, self.arrived, self.asked = {}, queue.Queue(), queue.Queue()
        self.gate = threading.Event()  # nothing is answered before it is set
        self.gate.set()

    def next(self, requests):
        try:
            return requests.get(timeout=LIMIT_SECONDS)
        except queue.Empty:
            raise Missing("no request arrived") from None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log_message = staticmethod(lambda *_: None)

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = (self.command, self.path, dict(self.headers), body)
        answer = b"{}"
        if "-settings?" in self.path:
            self.server.asked.put(request)
            answer = json.dumps(dict(SETTINGS, **self.server.members)).encode()
        elif "en=vwo_syncVisitorProp&" in self.path or "/batch-events" in self.path:
            self.server.arrived.put(request)
            self.server.gate.wait(LIMIT_SECONDS)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET


# -- The two senders -------------------------------------------------------------------


def run_sdk(url, batch):
    """In the SDK's own process: make each call that is named on a line of stdin."""
    from bench import keep_to_loopback
    keep_to_loopback()
    import vwo
    sent = threading.Event()
    options = {"account_id": ACCOUNT, "sdk_key": SDK_KEY, "proxy_url": url,
               "logger": {"level": "ERROR"}}
    if batch:
        options["batch_event_data"] = {
            "events_per_request": 5000, "request_time_interval": 600,
            "flush_callback": lambda error, events: sent.set()}
    client = vwo.init(options)
    for line in sys.stdin:
        *attributes, user_id = CALLS[json.loads(line)]
        client.set_attribute(*attributes, {"id": user_id})
    if batch:
        client.flush_events()
        sent.wait(LIMIT_SECONDS)
    time.sleep(0.3)  # for what its threads would still send of the calls to refuse
    os._exit(0)  # its pools and timers would keep the process


class Sdk:
    def __init__(self, python, collector, batch):
        self.process = subprocess.Popen(
            [python, __file__, "--sdk", collector.url, *["--batch"] * batch],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.asked = collector.next(collector.asked)

    def make(self, name):
        self.process.stdin.write(json.dumps(name).encode() + b"\n")
        self.process.stdin.flush()

    def finish(self):
        self.process.stdin.close()
        self.process.wait(LIMIT_SECONDS)


class Ours:
    def __init__(self, collector, batch):
        import vwo_push
        self.collector, self.batch = collector, batch
        settings = vwo_push.fetch_settings(
            ACCOUNT, SDK_KEY, fme=True, base_url=collector.url)
        self.asked = collector.next(collector.asked)
        self.client = vwo_push.Client.from_settings(
            settings, base_url=collector.url, max_workers=1, timeout=LIMIT_SECONDS)
        if batch:  # its only worker waits for an answer, and a backlog grows
            collector.gate.clear()
            self.client.push("first", "first", "first")
            collector.next(collector.arrived)

    def make(self, name):
        if self.client.push(*CALLS[name]) == name.startswith("refused"):
            raise Missing("push was %s" % name.startswith("refused"))

    def finish(self):
        self.collector.gate.set()
        if not self.client.close(LIMIT_SECONDS):
            raise Missing("not delivered: %r" % self.client.stats())


# -- Comparing -------------------------------------------------------------------------


def no_name_twice(pairs):
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name twice in %r" % pairs)
    return dict(pairs)


def marked(name, value):
    """*value*, or a mark for what differs on purpose and has the right form."""
    text, now = str(value), time.time()
    if name in ("sn", "sv", "vwo_sdkName", "vwo_sdkVersion"):
        return "(sender)" if re.search("^[a-z-]+$|^[0-9.]+$", text) else value
    if name in ("visitor_ua", "visitor_ip"):
        return "(empty)" if text in ("", "None") else value
    if name in ("random", "r"):
        return "(random)" if re.search("^0[.][0-9]+$", text) else value
    if name in ("eTime", "time") and text.isdigit() and abs(int(text) / 1e3 - now) < 60:
        return "(milliseconds)"
    if name == "sessionId" and type(value) is int and abs(value - now) < 60:
        return "(seconds)"
    return value


def flat(value, place, name=""):
    """The leaves below *value*: (place, type, value)."""
    if type(value) is dict:
        return [leaf for key, inner in value.items()
                for leaf in flat(inner, "%s[%s]" % (place, ascii(key)), key)]
    if type(value) is list:
        return [leaf for at, inner in enumerate(value)
                for leaf in flat(inner, "%s[%d]" % (place, at))]
    # What a visitor is called is the visitor's: nothing is replaced there.
    value = value if "['visitor']" in place else marked(name, value)
    return [(place, type(value).__name__, repr(value))]


def envelope(request):
    """What surrounds the body."""
    method, target, headers, _ = request
    url = urllib.parse.urlsplit(target)
    headers = {name.lower(): text for name, text in headers.items()}
    query = no_name_twice(urllib.parse.parse_qsl(
        url.query, keep_blank_values=True, strict_parsing=True))
    return flat({"method": method, "path": url.path, "query": query,
                 "content type": headers.get("content-type", "").split(";")[0],
                 "authorization": headers.get("authorization")}, "")


def element(body):
    """The leaves of one event."""
    data = body["d"]
    visitor, _, sent = data["msgId"].rpartition("-")
    if visitor == data["visId"]:
        data["msgId"] = {"visitor": "(visId)", "time": sent}
    return flat(body, "body")


def events(request):
    body = json.loads(request[3].decode("ascii"), object_pairs_hook=no_name_twice)
    return [event for event in body.get("ev", [body])  # not that the SDK has started
            if event["d"]["event"]["name"] == "vwo_syncVisitorProp"]


class Report:
    def __init__(self):
        self.lines, self.failures = 0, 0

    def compare(self, name, sdk, ours):
        """Print a line, and below it what only one of the two sent."""
        sdk, ours = set(sdk), set(ours)
        self.line(name, ["SDK      %s: %s %s" % leaf for leaf in sorted(sdk - ours)]
                  + ["vwo_push %s: %s %s" % leaf for leaf in sorted(ours - sdk)])

    def line(self, name, differences):
        self.lines += 1
        self.failures += bool(differences)
        print("%-7s %s" % ("FAILED" if differences else "ok", name), *differences,
              sep="\n        ", flush=True)


def drive(sender, collector, cases, batch):
    """The requests that *sender* makes for *cases*: one for each, or one for all."""
    requests = []
    for name in cases:
        sender.make(name)
        if not batch:
            requests.append(collector.next(collector.arrived))
    if not batch:
        for name in CALLS:
            if name.startswith("refused"):
                sender.make(name)
    sender.finish()
    if batch:
        requests.append(collector.next(collector.arrived))
    if not collector.arrived.empty():
        raise Missing("a request too many: %r" % (collector.arrived.get(),))
    return requests


def run(name, python, collector, report):
    cases, collector.members, batch = RUNS[name]
    sent, asked = [], []
    for who, make in (("the SDK", lambda: Sdk(python, collector, batch)),
                      ("vwo_push", lambda: Ours(collector, batch))):
        try:
            sender = make()
            asked.append(envelope(sender.asked))
            sent.append(drive(sender, collector, cases, batch))
        except Missing as error:
            return report.line(name, ["%s: %s" % (who, error)])
    report.compare(name + ": settings", *asked)
    if batch:
        report.compare(name + ": request", *(envelope(each[0]) for each in sent))
        found = [[element(each) for each in events(requests[0])] for requests in sent]
        if len(found[0]) != len(found[1]):
            return report.line(name, ["%d and %d events" % tuple(map(len, found))])
    else:
        report.line(name + ": what both refuse", [])  # else a request was too many
        found = [[envelope(request) + element(*events(request)) for request in requests]
                 for requests in sent]
    for case, sdk, ours in zip(cases, *found):
        report.compare("%s: %s" % (name, case), sdk, ours)
    return None


def install(cache):
    """The interpreter that has the SDK, and the SDK's version."""
    python = pathlib.Path(cache) / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", cache], check=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", PACKAGE], check=True)
    shown = subprocess.run([*pip, "show", PACKAGE], check=True, capture_output=True)
    return python, re.search("Version: (.*)", shown.stdout.decode()).group(1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", default=CACHE, help="for the SDK (%(default)s)")
    parser.add_argument("--sdk", help=argparse.SUPPRESS)
    parser.add_argument("--batch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sdk:
        run_sdk(options.sdk, options.batch)
    python, version = install(options.cache)
    logging.disable()  # what vwo_push says of the pushes that it refuses
    sys.path.insert(0, str(TREE))
    sys.dont_write_bytecode = True
    import vwo_push
    print("%s %s beside vwo_push %s" % (PACKAGE, version, vwo_push.__version__))
    report = Report()
    for name in RUNS:
        run(name, python, Collector(), report)
    print("%d of %d ok" % (report.lines - report.failures, report.lines))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
