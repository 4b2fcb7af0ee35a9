# SPDX-License-Identifier: MIT
"""Runs vwo_push in every way a file can be run, on every interpreter that is here.

    python3 .ci/ways.py [--python PATH ...]   default: of PATH, pyenv and .ci/matrix

In each way a fresh interpreter makes clients, pushes three dimensions with each to a
collector on the loopback interface, flushes, and exits. That is "ok" if every flush was
True, all that was pushed arrived once and unchanged, nothing was printed and the exit
status is 0. Linux; "nobody" is uid 65534 where this runs as root. Exits 1 on any
failure.
"""

import argparse
import collections
import glob
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import zipfile
from concurrent.futures import ThreadPoolExecutor

MODULE = pathlib.Path(__file__).resolve().parent.parent / "vwo_push.py"
CACHE = os.environ.get("MATRIX_CACHE") or os.path.expanduser("~/.cache/vwo_push-matrix")
LIMIT = 60  # seconds for one interpreter; whatever runs longer is killed
ENVIRONMENT = {"HOME": "/nonexistent", "LANG": "C.UTF-8"}  # no proxy, no PYTHON...
VALUES = ["premium", "Z\xfcrich 100% + 1", "\U0001f600"]

IDENTITY = """import platform, sys, sysconfig
kind = platform.python_implementation().lower().replace("cpython", "")
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
sys.version_info >= (3, 9) and print(kind + platform.python_version() + free)"""

# What the fresh interpreter runs; %(setup)s makes clients.
CHILD = """
import sys
folder, url, values = sys.argv[1], sys.argv[2], %(values)s
sys.path.insert(0, folder)
def client_of(module, **options):
    return module.Client(123456, "key", base_url=url, **options)
def must(what, happened):  # not assert: -O would drop it
    if not happened:
        sys.exit(what)
%(setup)s
for client in clients:
    for number, value in enumerate(values):
        pushed = client.push("plan", value, "user-%%d" %% number)
        must("push is not True", pushed is True)
for client in clients:
    must("flush is not True: %%r" %% client.stats(), client.flush(20) is True)
"""
PLAIN = "import vwo_push; clients = [client_of(vwo_push)]"
READ_ONLY = PLAIN + """
import os
must("HOME is set", "HOME" not in os.environ)
must("the folder can be written", not os.access(folder, os.W_OK))"""
VENDORED = """
from package.app import vwo_push
clients = [client_of(vwo_push)]
must("no relative import", vwo_push.__name__ == "package.vendor.vwo_push")"""
COPIES = """
sys.path += [folder + "/../renamed", folder + "/../vendored"]
import vwo_push, other
from package.vendor import vwo_push as third
clients = [client_of(module) for module in (vwo_push, other, third)]"""
RELOADED = """
import importlib, vwo_push
clients = [client_of(vwo_push)]
clients += [client_of(importlib.reload(vwo_push)) for _ in range(20)]"""
KINDS = """
import vwo_push
clients = [client_of(vwo_push, fme=True), client_of(vwo_push, event_arch=True)]"""
COPIED = PLAIN + """
import copy, pickle
for attempt in ([copy.copy], [copy.deepcopy], [pickle.dumps, 0], [pickle.dumps, 2],
                [pickle.dumps, pickle.HIGHEST_PROTOCOL]):
    try:
        attempt[0](clients[0], *attempt[1:])
    except TypeError:
        continue
    must("no TypeError", False)"""

# Interpreters may live in root's home: uid 65534 may read all, and write nothing.
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
          "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
WAYS = {name: {"flags": name} for name in (
    "-W error", "-X dev", "-O", "-OO", "-I -S", "-bb", "-W error -X dev -bb -OO -I")}
WAYS.update({
    "zip": {"folder": "code.zip"},
    "nobody, read-only": {"setup": READ_ONLY, "folder": "read-only", "env": {},
                          "before": NOBODY if os.getuid() == 0 else []},
    "empty environment": {"env": {}},
    "LC_ALL=C": {"env": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}},
    "closed stdio": {"before": ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]},
    "renamed": {"setup": PLAIN.replace("vwo_push", "other"), "folder": "renamed"},
    "vendored": {"setup": VENDORED, "folder": "vendored", "flags": "-W error"},
    "FME, events architecture": {"setup": KINDS, "flags": "-W error", "clients": 2},
    "three copies": {"setup": COPIES, "flags": "-W error", "clients": 3},
    "reload x20": {"setup": RELOADED, "flags": "-W error", "clients": 21},
    "copy, pickle": {"setup": COPIED, "flags": "-W error"},
})


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    arrived = collections.defaultdict(list)  # values, by the first segment of the path

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        if body:
            body = json.loads(body.decode())
            pushed = [event if "d" in event else json.loads(event["t"])
                      for event in body.get("ev", [body])]
        else:
            pushed = [json.loads(urllib.parse.parse_qs(url.query)["tags"][0])]
        self.arrived[url.path.split("/")[1]] += [
            (each["d"]["visitor"]["props"] if "d" in each else each["u"])["plan"]
            for each in pushed]
        self.send_response(204)
        self.end_headers()

    do_POST = do_GET
    log_message = staticmethod(lambda *_: None)


def lay_out(root):
    for place in ("plain/vwo_push.py", "renamed/other.py", "read-only/vwo_push.py",
                  "vendored/package/vendor/vwo_push.py"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(MODULE), str(root / place))
    (root / "vendored/package/app.py").write_text("from .vendor import vwo_push\n")
    with zipfile.ZipFile(str(root / "code.zip"), "w") as archive:
        archive.write(str(MODULE), "vwo_push.py")
    root.chmod(0o755)
    (root / "read-only").chmod(0o555)


def run(python, root, url, label, flags="", setup=PLAIN, folder="plain", clients=1,
        env=ENVIRONMENT, before=()):
    """Run one way on one interpreter; return what is wrong, or nothing."""
    source = CHILD % {"values": ascii(VALUES), "setup": setup}
    try:
        done = subprocess.run(
            [*before, python, *flags.split(), "-c", source, root / folder, url + label],
            env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=LIMIT)
    except subprocess.TimeoutExpired as error:
        return "hung, output: %r" % error.stdout
    arrived, expected = sorted(Collector.arrived[label]), sorted(VALUES * clients)
    if not done.returncode and not done.stdout and arrived == expected:
        return ""
    return "status %d, %d of %d arrived, output: %s" % (
        done.returncode, len(arrived), len(expected),
        done.stdout.decode(errors="replace").strip()[-2000:])


def interpreters(paths):
    """{version: path} of those that are 3.9 or later, in order."""
    found = {}
    for path in paths:
        try:
            version = subprocess.run([path, "-c", IDENTITY], stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL, timeout=LIMIT).stdout
        except OSError:  # it is of another system: see .ci/platforms
            continue
        found.setdefault(version.decode().strip(), path)
    found.pop("", None)
    return dict(sorted(found.items(), key=lambda item: (
        item[0][0] == "p", [int(digits) for digits in re.findall(r"\d+", item[0])])))


def candidates():
    folders = os.environ.get("PATH", os.defpath).split(":")
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for pattern in (pyenv + "/versions/*/bin", CACHE + "/*/bin", CACHE + "/*/usr/bin"):
        folders += glob.glob(pattern)
    return [path for folder in folders for path in glob.glob(folder + "/py*3*")
            if re.search(r"/(python|pypy)3(\.\d+)?t?$", path)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", nargs="+", metavar="PATH")
    pythons = interpreters(parser.parse_args().python or candidates())
    cells = [(name, version) for name in WAYS for version in pythons]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        root = pathlib.Path(folder)
        lay_out(root)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = "http://127.0.0.1:%d/" % server.server_address[1]
        wrong = dict(zip(cells, pool.map(lambda cell: run(
            pythons[cell[1]], root, url, str(cells.index(cell)), **WAYS[cell[0]]),
            cells)))
    print("%-26s" % "", *pythons)
    for name in WAYS:
        print("%-26s" % name, *(("FAILED" if wrong[name, version] else "ok").ljust(
            len(version)) for version in pythons))
    for cell in cells:
        if wrong[cell]:
            print("\n%s, %s: %s" % (*cell, wrong[cell]))
    print("\n%d of %d ok" % (list(wrong.values()).count(""), len(cells)))
    return 1 if any(wrong.values()) or not cells else 0


if __name__ == "__main__":
    sys.exit(main())
