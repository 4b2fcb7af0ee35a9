#!/usr/bin/env python3
"""Hold ``--from`` to what it promises, as a user would: real files, real local servers.

usage: backfill.py [--rows N] [--file vwo_push.py] [rate] [odd] [moody] [ends]

rate     N rows of CSV and of JSON Lines: rows per second, peak memory
odd      a table of odd files: exit status, figures, the first line of stderr
moody    a server that fails at random; runs that are interrupted and resumed
ends     SIGTERM and Ctrl-C, where a server never answers; a server that refuses the key,
         and one that dies; and then the run that resumes

Prints Markdown. Exit status 1: a figure does not add up.
"""

import argparse
import collections
import gzip
import json
import multiprocessing
import os
import random
import re
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

Ran = collections.namedtuple(
    "Ran", "status read delivered rejected skipped err seconds usage")
HERE = os.path.dirname(os.path.abspath(__file__))
HEAD, LINE = b"user_id,plan\n", b'{"user_id": "u-%d", "dimensions": {"plan": "pro"}}\n'
JSON, WRONG = LINE % 1 + LINE % 2, []

# name, content, options, exit status, figures (read, delivered, rejected)
ODD = [
    ("plain", HEAD + b"u-1,a\nu-2,b\n", "", 0, "2 2 0"),
    ("no final newline", HEAD + b"u-1,a\nu-2,b", "", 0, "2 2 0"),
    ("CRLF", b"user_id,plan\r\nu-1,a\r\nu-2,b\r\n", "", 0, "2 2 0"),
    ("lone CR", b"user_id,plan\ru-1,a\ru-2,b\r", "", 0, "2 2 0"),
    ("UTF-8 BOM", b"\xef\xbb\xbf" + HEAD + b"u-1,a\n", "", 0, "1 1 0"),
    ("BOM before JSON", b"\xef\xbb\xbf" + JSON, "", 0, "2 2 0"),
    ("blank lines", b"\n" + HEAD + b"\nu-1,a\n\n  \nu-2,b\n\n", "", 0, "2 2 0"),
    ("blanks around names and cells", b" user_id , plan\n u-1 ,\ta \n", "", 0, "1 1 0"),
    ("quoted newlines", HEAD + b'"u-1","a\n\n""b"""\nu-2,c\n', "", 0, "2 2 0"),
    ("quote in the middle of a cell", HEAD + b'u-1,5" disk\nu-2,b\n', "", 0, "2 2 0"),
    ("stray quote that is never closed", HEAD + b'u-1,a\nu-2,"b\nu-3,c\n', "", 1, "1 1 0"),
    ("quote closed, then text", HEAD + b'u-1,a\nu-2,"b"c\n', "", 1, "1 1 0"),
    ("NUL in CSV", HEAD + b"u-1,a\nu-2,b\0\n", "", 1, "1 1 0"),
    ("NUL in JSON", LINE % 1 + b'{"user_id": "u\0"}\n', "", 1, "1 1 0"),
    ("line beyond the limit", HEAD + b"u-1,a\nu-2," + b"x" * 10**6 + b"\n", "", 1, "1 1 0"),
    ("quoted cell beyond the limit", HEAD + b'u-1,"' + b"x\n" * 600000 + b'"\n', "", 1,
     "0 0 0"),
    ("cell of 300 characters", HEAD + b"u-1," + b"x" * 300 + b"\nu-2,b\n", "", 1, "2 1 1"),
    ("short row", b"user_id,plan,city\nu-1,a\nu-2,b,\n", "", 1, "2 1 1"),
    ("long row", HEAD + b"u-1,a,b\nu-2,b\n", "", 1, "2 1 1"),
    ("row without values", HEAD + b"u-1,\nu-2,b\n", "", 1, "2 1 1"),
    ("row without a user", HEAD + b",a\nu-2,b\n", "", 1, "2 1 1"),
    ("cp1252 in the header", b"user_id,\xe9\nu-1,a\n", "", 2, ""),
    ("cp1252 in a row", HEAD + b"u-1,a\nu-2,caf\xe9\n", "", 1, "1 1 0"),
    ("UTF-16 with BOM", "user_id,plan\nu-1,a\n".encode("utf-16"), "", 2, ""),
    ("UTF-16 JSON without BOM", JSON.decode().encode("utf-16-le"), "", 2, ""),
    ("gzip", gzip.compress(HEAD + b"u-1,a\n"), "", 2, ""),
    ("semicolons", b"user_id;plan\nu-1;a\n", "", 2, ""),
    ("tabs", b"user_id\tplan\nu-1\ta\n", "", 2, ""),
    ("JSON array", b"[" + JSON.replace(b"}}\n", b"}},\n") + b"]", "", 2, ""),
    ("key, value and date", b"user_id,key,value,date\nu-1,a,b,c\n", "", 2, ""),
    ("the same with --columns", b"user_id,key,value,date\nu-1,a,b,c\n",
     "--columns key,value", 0, "1 1 0"),
    ("empty name (pandas index)", b",user_id,plan\n0,u-1,a\n", "", 2, ""),
    ("duplicate column", b"user_id,plan,plan\nu-1,a,b\n", "", 2, ""),
    ("no user_id", b"id,plan\nu-1,a\n", "", 2, ""),
    ("only user_id", b"user_id\nu-1\n", "", 2, ""),
    ("--columns that are not there", HEAD + b"u-1,a\n", "--columns city", 2, ""),
    ("--columns of an empty variable", HEAD + b"u-1,a\n", "--columns=", 2, ""),
    ("--columns with JSON", JSON, "--columns plan", 2, ""),
    ("reserved key as a column", b"user_id,vwo_fs_environment\nu-1,a\n", "", 1, "1 0 1"),
    ("empty file", b"", "", 0, "0 0 0"),
    ("header only", HEAD, "", 0, "0 0 0"),
    ("number in JSON without --fme", LINE % 1 + LINE.replace(b'"pro"', b"42") % 2, "", 1,
     "2 1 1"),
    ("number in JSON with --fme", LINE.replace(b'"pro"', b"42") % 2, "--fme", 0, "1 1 0"),
    ("bad line of JSON", LINE % 1 + b"{oops\n" + LINE % 2, "", 1, "3 2 1"),
    ("JSON, nested value", LINE.replace(b'"pro"', b'{"a": "b"}') % 1, "--fme", 1, "1 0 1"),
    ("JSON without user_id", b'{"dimensions": {"plan": "pro"}}\n' + JSON, "", 1, "3 2 1"),
    ("JSON, escaped lone surrogate", LINE.replace(b"pro", b"\\ud800") % 1, "", 1, "1 0 1"),
    ("JSON and then CSV", LINE % 1 + HEAD, "", 1, "2 1 1"),
    ("rejects of CSV fed back", b"user_id,plan,vwo_push_error\r\nu-1,a,why\r\n", "", 0,
     "1 1 0"),
    ("rejects of JSON fed back", b'{"vwo_push_line": "{oops", "vwo_push_error": "why"}\n'
     + JSON, "", 1, "3 2 1"),
    ("--skip beyond the end", HEAD + b"u-1,a\n", "--skip 5", 0, "1 0 0"),
    ("missing file", None, "--from missing", 2, ""),
    ("directory", None, "--from .", 2, ""),
]


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        for line in iter(self.rfile.readline, b""):
            length = 0
            for header in iter(self.rfile.readline, b"\r\n"):
                if header.lower().startswith(b"content-length:"):
                    length = int(header[15:])
            status = self.server.take(line.decode(), self.rfile.read(length))
            if not status:  # no answer: hang up
                return
            self.wfile.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status)


class Server(socketserver.ThreadingTCPServer):
    """Answers *take* of the request line and the body; keeps what it took."""

    daemon_threads = True

    def __init__(self, take=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.take, self.taken = take or self.keep, []
        self.url = "http://127.0.0.1:%d" % self.server_address[1]

    def start(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def keep(self, line, body):
        """Take the dimensions of a request: (visitor, key, value) of each."""
        if line.startswith("GET"):
            query = dict(urllib.parse.parse_qsl(line.split()[1].partition("?")[2]))
            events = [(query["u"], json.loads(query["tags"])["u"])]
        elif "batch-events?" in line:
            events = [(each["u"], json.loads(each["t"])["u"])
                      for each in json.loads(body)["ev"]]
        else:  # FME, of which the test above has one dimension at a time
            events = [(line, {"number": body})]
        self.taken += [(user, key, value) for user, found in events
                       for key, value in found.items()]
        return 200


def check(true, *what):
    if not true:
        WRONG.append(what)
        print("**wrong**:", *what)


class Run:
    """A run of the command line in a process of its own."""

    def __init__(self, url, *argv, before=()):
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.began = time.time()
        self.child = subprocess.Popen(
            [*before, sys.executable, OPTIONS.file, "--base-url", url, *argv],
            stdout=self.out, stderr=self.err,
            env=dict(os.environ, VWO_ACCOUNT_ID="123456", VWO_SDK_KEY="key"))

    def end(self):
        _, status, usage = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.time() - self.began
        out, err = (file.seek(0) or file.read() for file in (self.out, self.err))
        counts = [int(found) for found in re.findall(r"\d+", out)] or [0] * 4
        check(counts[0] == sum(counts[1:]), "read is not the sum of the others", out, err)
        return Ran(self.child.returncode, *counts, err, seconds, usage)


def write(name, content):
    with open(name, "wb") as file:
        file.write(content)
    return name


def kept(name="rejects"):
    """The values of the rows in a file of rejects."""
    return re.findall(r"(?m)^u-\d+,(\d+),", open(name).read())


def resumed(ran):
    return re.search(r"resume with --skip (\d+)$", ran.err.strip()).group(1)


def shown(ran):
    return "%d | %d, %d, %d, %d | %s" % (*ran[:5], ran.err.split("\n")[0])


def odd():
    print("| file | status | read, delivered, rejected, skipped | stderr |")
    print("|---|---|---|---|")
    for name, content, argv, status, counts in ODD:
        server = Server().start()
        source = ["--from", write("in", content)] if content is not None else []
        ran = Run(server.url, *source, *argv.split(), "--rejects", "rejects").end()
        print("| %s | %s |" % (name, shown(ran)))
        figures = "%d %d %d" % ran[1:4] if ran.status < 2 else ""
        check((ran.status, figures) == (status, counts), "expected", status, counts)
        check(len(server.taken) == ran.delivered, "the server took", len(server.taken))
        check("Traceback" not in ran.err and (ran.status == 0) == (not ran.err), ran.err)
        server.shutdown()


def moody():
    """100,000 rows of 1,000 users; five runs are interrupted, the last one is not."""
    number, dice = 100_000, random.Random(7)
    write("in", b"user_id,n\n" + b"".join(
        b"u-%d,%d\n" % (each % 1000, each) for each in range(number)))
    write("rejects", b"")
    moods = collections.Counter()

    def take(line, body):
        mood = dice.choice(["take"] * 12 + [
            "503", "400", "413", "hang up", "take, hang up"])
        moods[mood] += 1
        if mood.startswith("take"):
            server.keep(line, body)
        return {"take": 200, "503": 503, "400": 400, "413": 413}.get(mood)

    server, runs, skip = Server(take).start(), [], "0"
    print("\n| run | status | read, delivered, rejected, skipped | stderr |")
    print("|---|---|---|---|")
    while not runs or runs[-1].status > 3:
        run = Run(server.url, "--from", "in", "--rejects", "rejects", "--skip", skip)
        if len(runs) < 5:
            before = len(server.taken)
            while len(server.taken) < before + 9000 and run.child.poll() is None:
                time.sleep(0.01)
            run.child.send_signal([signal.SIGINT, signal.SIGTERM][len(runs) % 2])
        runs.append(run.end())
        print("| %d | %s |" % (len(runs), shown(runs[-1])))
        skip = resumed(runs[-1]) if runs[-1].status > 3 else skip
    values = [int(value) for _, _, value in server.taken]
    delivered, rejects = sum(run.delivered for run in runs), list(map(int, kept()))
    last = {}
    for value in dict.fromkeys(values):  # each for the first time
        check(last.get(value % 1000, -1) < value, "out of order", value)
        last[value % 1000] = value
    twice, unsure = len(values) - len(set(values)), len(set(values) & set(rejects))
    print("\nThe server's moods: %s. It took %d rows, %d of them twice: it had hung up "
          "after it took them. Delivered %d + rejected %d = %d rows; of the rejected, it "
          "had taken %d." % (dict(moods), len(set(values)), twice, delivered, len(rejects),
                             delivered + len(rejects), unsure))
    check(delivered + len(rejects) == number and len(set(rejects)) == len(rejects), "sum")
    check(len(set(values)) == delivered + unsure, "taken, but neither delivered nor said")
    server.take = server.keep
    ran = Run(server.url, "--from", "rejects").end()
    print("The rejects fed back: %s" % shown(ran))
    check({int(value) for _, _, value in server.taken} == set(range(number)), "lost")


def ends():
    """Runs that end early; then a server that takes all, for the run that resumes."""
    number, requests = 100_000, []
    write("in", b"user_id,n\n" + b"".join(b"u-%d,%d\n" % (n, n) for n in range(number)))

    def silent(line, body):
        heard.set()
        threading.Event().wait()

    def refusing(line, body):
        requests.append(line)
        return 401

    def dying(line, body):
        requests.append(line)
        return Server.keep(dead, line, body) if len(requests) <= 60 else None

    print("\n| ended by | status | read, delivered, rejected, skipped | stderr |")
    print("|---|---|---|---|")
    term = "timeout --preserve-status -s TERM 3".split()
    for name, take, before, status in (
            ("timeout -s TERM", silent, term, 143), ("Ctrl-C", silent, (), 130),
            ("a server that answers 401", refusing, (), 3),
            ("a server that dies after 60 requests", dying, (), 3)):
        for argv in (), ("--rejects", "rejects"):
            dead, server, heard = Server(take).start(), Server().start(), threading.Event()
            requests.clear()
            run = Run(dead.url, "--from", "in", *argv, before=before)
            if status == 130:
                heard.wait()
                run.child.send_signal(signal.SIGINT)
            ran = run.end()
            print("| %s, %s | %s |" % (name, " ".join(argv) or "no rejects", shown(ran)))
            check(ran.status == status and len(requests) < 160 and ran.seconds < 60, ran)
            skip = resumed(ran)
            rest = Run(server.url, "--from", "in", *argv, "--skip", skip).end()
            print("| ... resumed with --skip %s | %s |" % (skip, shown(rest)))
            if argv:
                fed = Run(server.url, "--from", "rejects").end()
                print("| ... the rejects fed back | %s |" % shown(fed))
            found = sorted(int(value) for _, _, value in dead.taken + server.taken)
            check(set(found) == set(range(number)), "lost")
            # Without rejects, what was delivered behind the first reject goes again.
            check(len(found) == number or not argv, "twice", len(found) - number)


def rate():
    print("\n| %d rows of | rows/s | CPU, us/row | peak memory | status |" % OPTIONS.rows)
    print("|---|---|---|---|---|")
    for name, head, line in ("CSV", HEAD, b"u-%d,pro\n"), ("JSON Lines", b"", LINE):
        with open("in", "wb") as file:
            file.write(head)
            file.writelines(line % each for each in range(OPTIONS.rows))
        taken = multiprocessing.Value("q")

        def take(line, body, taken=taken):
            taken.value += body.count(b'"eT": 3') or line.startswith("GET")
            return 200
        server = Server(take)
        process = multiprocessing.get_context("fork").Process(target=server.serve_forever)
        process.start()  # not in this process: the machine has two cores
        ran = Run(server.url, "--from", "in").end()
        process.kill()
        cpu = (ran.usage.ru_utime + ran.usage.ru_stime) * 1e6 / OPTIONS.rows
        print("| %s | %d | %.1f | %.0f MB | %d |" % (
            name, OPTIONS.rows / ran.seconds, cpu, ran.usage.ru_maxrss / 1024, ran.status))
        check(ran.delivered == OPTIONS.rows == taken.value, "the server took", taken.value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    # The rate comes first: a child begins with the peak of memory that this process has.
    parser.add_argument("parts", nargs="*", default=["rate", "odd", "moody", "ends"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--file", default=os.path.join(HERE, "..", "vwo_push.py"))
    OPTIONS = parser.parse_args()
    OPTIONS.file = os.path.abspath(OPTIONS.file)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for part in OPTIONS.parts:
            globals()[part]()
        os.chdir("/")
    sys.exit(bool(WRONG))
