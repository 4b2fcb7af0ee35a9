# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vwo_push authors. The full licence stands at the end of this file.
"""Tag users with custom dimensions in VWO, without making anybody wait for it.

    import vwo_push

    client = vwo_push.Client(account_id=123456, sdk_key="your SDK key")
    client.push("plan", "premium", "user-42")                     # True, at once
    client.push({"plan": "premium", "country": "IN"}, "user-43")  # several, all or nothing
    client.flush(timeout=2.0)                                    # True: VWO has them all

One file, standard library only, CPython 3.7 and later, PyPy 3.9 and later. Copy it
anywhere, under any name. ``python3 vwo_push.py --demo`` shows a push arriving, with no
account and no network; ``--help`` lists what else the command line does.

What it promises:

* `Client.push` never raises, never waits, does no I/O and takes no lock. It says True
  for what it has accepted and False for what it has not, and why goes to the log.
* Every accepted push ends in exactly one outcome: `Client.stats` counts it, `flush` and
  `close` answer for it, and ``on_result`` is called with it.
* Memory, threads, attempts and every wait are bounded, each by an option of `Client`.

What it does not promise: pushes live in memory. Those that are pending when the
process is killed, or when the time for its exit is over, are gone. Call `flush` before
a Lambda handler returns. And they may arrive in another order than they were made.

How the file is laid out, and the way of one push through it::

    laws         limits and defaults, each with its unit and where it comes from
    validation   what `push` accepts                     pure
    wire         what is sent, byte by byte               pure: no clock, random or state
    edge         one kept-alive HTTP connection           owned by one thread
    sender       pending pushes, workers, retries, exit   the only room with locks
    Client       the public face
    settings     the official settings file
    command line

    push -> validate -> accept || a worker takes -> wire builds -> edge sends -> settle
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
from collections import deque, namedtuple
from itertools import count
from os import getpid
from time import monotonic, sleep, time

__all__ = ["Client", "PushResult", "Request", "fetch_settings", "visitor_uuid"]
__version__ = "1.0.1"

TYPE_CHECKING = False  # type checkers take it for true; importing typing costs 5-10 ms
if TYPE_CHECKING:
    import argparse
    import email.utils
    import hashlib
    import http.client
    import json
    import random
    import select
    import socket
    import ssl
    import urllib.parse
    from collections.abc import Mapping
    from types import FrameType
    from typing import (
        IO, Any, Callable, Deque, Dict, Iterable, Iterator, List, NamedTuple, NoReturn,
        Optional, Sequence, Set, Tuple, Union, overload,
    )

    # (time of the push in seconds since 1970, user id, key, value, key, value, ...)
    _Push = Tuple[Any, ...]
    # Builds a request from a payload and a fresh random text; which pushes it carries.
    _Part = Tuple[Callable[["_Config", Any, str], "Request"], Any, Sequence[int]]
    # Of an input file: user id, dimensions, what is wrong with it, the row as it was read.
    _Row = Tuple[Any, Any, Optional[str], Any]
    _PushResult = NamedTuple("_PushResult", [
        ("user_id", str), ("dimensions", Dict[str, str]), ("delivered", bool),
        ("status", Optional[int]), ("error", Optional[str]), ("attempts", int)])
    _Request = NamedTuple("_Request", [
        ("method", str), ("url", str), ("headers", Dict[str, str]),
        ("body", Optional[bytes])])
else:
    _PushResult = namedtuple(
        "_PushResult", "user_id dimensions delivered status error attempts")
    _Request = namedtuple("_Request", "method url headers body")

    def overload(function):
        return function


# -- Laws: limits and defaults -----------------------------------------------------------

BASE_URL = "https://dev.visualwebsiteoptimizer.com"  # VWO's only host, in every SDK
SDK_NAME = "vwo-push-python"
MAX_TEXT_CHARS = 255  # of a key or a value; VWO's limit, in code points as its Python SDK
RESERVED_KEY = "vwo_fs_environment"  # in the events architecture it names the environment
MAX_URL_BYTES = 2_000  # a longer GET goes as a batch of one: proxies cut URLs off
MAX_BODY_BYTES = 10_000_000  # VWO answers 413 beyond 10 MB
MAX_EVENTS = 5_000  # in one batch; VWO's limit
BUILT_AHEAD = 16  # requests, without batches; see _Sender.gather
MAX_ANSWER_BYTES = 64 * 1024  # a longer answer costs the connection instead of the time
MAX_SETTINGS_BYTES = 8 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS = 30.0  # however long the server asks for
BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 8.0  # full jitter up to 0.5, 1, 2, 4, 8, 8 ...
IDLE_SECONDS = 5.0  # then a worker ends, and its connection is not used again
LOG_SECONDS = 30.0  # between two lines about the same thing
JOIN_SECONDS = 0.2  # that close and exit grant workers to return after they were stopped
FORK_SECONDS = 1.0  # that a fork waits at most for threads in the midst of OpenSSL
FROZEN_SECONDS = 1.0  # overslept by more than this: the process was frozen (Lambda)


# Bound by _load. In the worker's path, what they replace takes two or three times as long.
_quoted: Callable[[str], str]  # a str as JSON; for json.dumps
_escapes: Dict[int, str]  # an ASCII character in a URL; for quote


def _load(network: bool) -> None:
    """Import whatever sending needs and bind it to this module's names.

    Called by the constructors, so that importing this file is cheap and no worker is
    ever inside an import: a fork at that moment would leave the import lock held in the
    child for ever. What the standard library imports by itself is named here too.
    """
    global email, hashlib, http, json, random, select, socket, ssl, urllib
    global Mapping, _quoted, _escapes
    import hashlib
    import json
    import random
    import urllib.parse
    from collections.abc import Mapping  # before 3.13 that is a file of its own
    _quoted = json.JSONEncoder().encode
    _escapes = {code: urllib.parse.quote(chr(code), safe="") for code in range(128)}
    if network:
        import email.utils
        import http.client
        import select
        import socket
        "localhost".encode("idna")  # imports the codec that getaddrinfo and TLS use
        try:
            import ssl
        except ImportError:  # a Python built without OpenSSL can still speak http://
            pass


# -- Visitor and validation: pure --------------------------------------------------------

_UUID_NAMESPACE = bytes.fromhex("11e13cd76c4853ec86797e9c752273c5")  # of https://vwo.com
_UUID_VARIANT = dict(zip("0123456789ABCDEF", "89AB" * 4))  # its two bits set to 10


class _Invalid(ValueError):
    """A push that is refused; the text says why and never holds a value."""


def _uuid5(namespace: bytes, name: str) -> str:
    """RFC 4122 version 5 in upper-case hex, with version and variant in their places. Not
    `uuid.uuid5`: the worker makes one for every push, and that takes three times as long
    (2.1 against 0.65 microseconds on CPython 3.11)."""
    digits = hashlib.sha1(namespace + name.encode()).hexdigest().upper()
    return "%s5%s%s%s" % (digits[:12], digits[13:16], _UUID_VARIANT[digits[16]],
                          digits[17:32])


def _namespace(account_id: str) -> bytes:
    """That of an account's visitors."""
    return bytes.fromhex(_uuid5(_UUID_NAMESPACE, account_id))


def _text(name: str, value: Any) -> str:
    """Return *value* as an exact str: a subclass may lie about its length."""
    if not issubclass(type(value), str):
        raise TypeError("%s must be a str" % name)
    return "".join((value,))  # str.__str__ would ask the subclass on PyPy 3.9


def _digits(account_id: Any) -> str:
    """Return *account_id* as it is written; "" where that is no decimal number."""
    if type(account_id) is int:
        try:
            text = str(account_id)
        except ValueError:  # Python refuses to write out thousands of digits
            return ""
    elif issubclass(type(account_id), str):
        text = _text("account_id", account_id)
    else:
        raise TypeError("account_id must be an int or a decimal str")
    return text if text.isascii() and text.isdigit() else ""


def visitor_uuid(account_id: Union[int, str], user_id: str) -> str:
    """Return the UUID under which VWO knows *user_id*: 32 upper-case hex digits.

    *account_id* is an int of at least 0 or a decimal string, hashed as it is written:
    "012345" is not 12345. *user_id* is any str that can be encoded as UTF-8. The same
    pair has the same UUID in every VWO SDK. Raises `TypeError` or `ValueError`.
    """
    account = _digits(account_id)
    if not account:
        raise ValueError("account_id must be an int of at least 0, or its digits")
    name = _text("user_id", user_id)
    _load(network=False)
    try:
        return _uuid5(_namespace(account), name)
    except UnicodeEncodeError:
        raise ValueError("user_id cannot be encoded as UTF-8") from None


def _is_mapping(value: Any) -> bool:
    return issubclass(type(value), Mapping)


def _checked_text(name: str, value: Any, limit: Optional[int]) -> str:
    """Return *value* as an exact str, or raise `_Invalid`."""
    if not issubclass(type(value), str):  # isinstance believes a lying __class__
        raise _Invalid(name + " is not a str")
    text = "".join((value,))  # a subclass may lie about its length and its encoding
    if not text:
        raise _Invalid(name + " is empty")
    if limit is not None and len(text) > limit:
        raise _Invalid("%s is longer than %d characters" % (name, limit))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Invalid(name + " cannot be encoded as UTF-8") from None
    return text


def _map_items(dimensions: Any) -> List[Tuple[Any, Any]]:
    if not _is_mapping(dimensions):
        raise _Invalid("custom_dimension_map is not a mapping")
    try:
        return list(dict(dimensions).items())
    except KeyboardInterrupt:
        raise
    except BaseException:  # somebody else's code: it may raise what it likes
        raise _Invalid("custom_dimension_map cannot be read") from None


def _items(custom_dimension_key: Any = None, custom_dimension_value: Any = None,
           user_id: Any = None, *, custom_dimension_map: Any = None,
           ) -> Tuple[Any, List[Tuple[Any, Any]]]:
    """Return the user id and the (key, value) pairs of the arguments of a push."""
    key, value, dimensions = (
        custom_dimension_key, custom_dimension_value, custom_dimension_map)
    if dimensions is None and _is_mapping(key):
        # push(map, user_id): the user id came as the second, or by its name.
        if (value is None) is (user_id is None):
            raise _Invalid("wrong arguments")
        dimensions, user_id = key, user_id if value is None else value
        key = value = None
    if dimensions is None:
        return user_id, [(key, value)]
    if key is not None or value is not None:
        raise _Invalid("wrong arguments")
    items = _map_items(dimensions)
    if not items:
        raise _Invalid("custom_dimension_map is empty")
    return user_id, items


def _checked(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tuple[str, ...]:
    """Return (user id, key, value, key, value, ...) of a push, in any of its forms.

    Takes what `Client.push` was called with. Raises `_Invalid`.
    """
    try:
        user_id, items = _items(*args, **kwargs)
        checked = [_checked_text("user_id", user_id, None)]
        for key, value in items:
            key = _checked_text("custom_dimension_key", key, MAX_TEXT_CHARS)
            if key == RESERVED_KEY:
                raise _Invalid("custom_dimension_key is reserved by VWO")
            checked += key, _checked_text("custom_dimension_value", value, MAX_TEXT_CHARS)
        return tuple(checked)
    except TypeError:  # the call itself does not fit
        raise _Invalid("wrong arguments") from None


# -- Wire: what is sent. Pure: no clock, no random, no state -----------------------------


class Request(_Request):
    """One HTTP request: method (str), url (str), headers (dict), body (bytes or None).

    Its `repr` leaves out the query, the headers and the body, which hold the SDK key
    and the visitor's dimensions.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        size = 0 if self.body is None else len(self.body)
        return "<Request %s %s, query masked, body of %d bytes>" % (
            self.method, self.url.partition("?")[0], size)


class _Config:
    """What a client was built with. Read by any thread, written by nobody."""

    __slots__ = ("account_id", "sdk_key", "event_arch", "base_url", "endpoint", "timeout",
                 "max_attempts", "max_pending", "max_workers", "max_batch",
                 "exit_timeout", "on_result", "transport", "namespace", "get_head",
                 "get_tail")

    account_id: str
    sdk_key: str
    event_arch: bool
    base_url: str  # with the path and the collection prefix, without a slash at its end
    endpoint: _Endpoint
    timeout: float
    max_attempts: int
    max_pending: int
    max_workers: int
    max_batch: int
    exit_timeout: float
    on_result: Optional[Callable[[PushResult], object]]
    transport: Optional[Callable[[Request, float], int]]
    namespace: bytes  # of the account's visitor UUIDs
    get_head: str  # of the URL of a GET: what is the same in all of them
    get_tail: str


_NO_NONCE = "%.16f" % 0  # as long as any


def _nonce(dice: random.Random) -> str:
    """A number from 0 to below 1, always as long: what no cache has seen before."""
    return "%.16f" % dice.random()


def _url(config: _Config, path: str, query: Sequence[Tuple[str, object]]) -> str:
    return "%s%s?%s" % (config.base_url, path, urllib.parse.urlencode(
        query, quote_via=urllib.parse.quote))  # %20 for a space, never +


def _headers(**more: str) -> Dict[str, str]:
    return dict({"User-Agent": "%s/%s" % (SDK_NAME, __version__)}, **more)


def _visitor(config: _Config, user_id: str) -> str:
    return _uuid5(config.namespace, user_id)


def _dimensions(push: _Push) -> Dict[str, str]:
    return dict(zip(push[2::2], push[3::2]))


def _tags(key: str, value: str) -> str:
    """One dimension as the JSON text that both endpoints take.

    Nobody outside VWO knows how often a server decodes it, and whether it takes a plus
    for a space. So it is ASCII, and holds no character that a URL-decoder would touch.
    """
    text = '{"u": {%s: %s}}' % (_quoted(key), _quoted(value))
    return text.replace("%", "\\u0025").replace("+", "\\u002b")


def _get_ends(config: _Config) -> Tuple[str, str]:
    """What all GETs have in common. Encoding it each time takes a fifth of the time."""
    url = _url(config, "/server-side/push", [
        ("account_id", config.account_id), ("env", config.sdk_key), ("ap", "server"),
        ("sdk", SDK_NAME), ("sdk-v", __version__), ("tags", "")])
    head, _, tail = url.partition("&env=")
    return head, "&env=" + tail


def _get_url(config: _Config, push: _Push, at: int = 2) -> Tuple[str, str]:
    """The URL of the dimension whose key is push[at], in two: its nonce goes between."""
    return ("%s&u=%s&sId=%d&random=" % (
        config.get_head, _visitor(config, push[1]), push[0]),
        config.get_tail + _tags(push[at], push[at + 1]).translate(_escapes))


def _get_request(config: _Config, url: Tuple[str, str], nonce: str) -> Request:
    """One dimension: GET /server-side/push."""
    return Request("GET", nonce.join(url), _headers(), None)


def _get_request_of(config: _Config, payload: Tuple[_Push, int], nonce: str) -> Request:
    """The same, of a map; built when it is sent: thousands of URLs take memory."""
    return _get_request(config, _get_url(config, *payload), nonce)


def _event_request(config: _Config, push: _Push, nonce: str) -> Request:
    """One push of the events architecture: POST /events/t."""
    moment, user_id = push[:2]
    visitor, milliseconds = _visitor(config, user_id), int(moment * 1000)
    name = "vwo_syncVisitorProp"
    body = {"d": {
        "msgId": "%s-%d" % (visitor, milliseconds),
        "visId": visitor,
        "sessionId": int(moment),
        "event": {
            "props": {"vwo_sdkName": SDK_NAME, "vwo_sdkVersion": __version__,
                      "vwo_envKey": config.sdk_key, "isCustomEvent": True},
            "name": name, "time": milliseconds},
        "visitor": {"props": dict({RESERVED_KEY: config.sdk_key}, **_dimensions(push))},
    }}
    return Request("POST", _url(config, "/events/t", [
        ("en", name), ("a", config.account_id), ("env", config.sdk_key),
        ("eTime", milliseconds), ("random", nonce), ("p", "FS"),
        ("visitor_ua", ""), ("visitor_ip", ""),
    ]), _headers(**{"Content-Type": "application/json"}), json.dumps(body).encode())


def _batch_event(visitor: str, moment: float, key: str, value: str) -> str:
    return '{"u": "%s", "sId": %d, "t": %s, "eT": 3}' % (
        visitor, moment, _quoted(_tags(key, value)))


def _batch_request(config: _Config, events: Sequence[str], nonce: str) -> Request:
    """Several dimensions: POST /server-side/batch-events. It carries no random."""
    return Request("POST", _url(config, "/server-side/batch-events", [
        ("a", config.account_id), ("sdk", SDK_NAME), ("sdk-v", __version__),
        ("env", config.sdk_key),
    ]), _headers(**{"Content-Type": "application/json", "Authorization": config.sdk_key}),
        ('{"ev": [%s]}' % ", ".join(events)).encode())


def _batch_parts(config: _Config, pushes: Sequence[_Push]) -> List[_Part]:
    """Batch requests for every dimension of *pushes*, split by count and by size."""
    parts: List[_Part] = []
    events: List[str] = []
    members: List[int] = []
    room = size = 0
    for index, push in enumerate(pushes):
        visitor = _visitor(config, push[1])
        for at in range(2, len(push), 2):
            event = _batch_event(visitor, push[0], push[at], push[at + 1])
            size += len(event) + 2
            if not room or size > MAX_BODY_BYTES:
                events, members = [], []
                parts.append((_batch_request, events, members))
                room, size = config.max_batch, len(event) + 32
            events.append(event)
            members.append(index)
            room -= 1
    return parts


def _parts(config: _Config, pushes: Sequence[_Push]) -> List[_Part]:
    """What to send for *pushes*: builders of requests, with the pushes each carries."""
    if len(pushes) == 1:
        push = pushes[0]
        if config.event_arch:
            return [(_event_request, push, (0,))]
        if len(push) == 4:
            url = _get_url(config, push)
            if config.max_batch == 1 or len(_NO_NONCE.join(url)) <= MAX_URL_BYTES:
                return [(_get_request, url, (0,))]
        if config.max_batch == 1:
            return [(_get_request_of, (push, at), (0,)) for at in range(2, len(push), 2)]
    return _batch_parts(config, pushes)


def _halves(part: _Part) -> List[_Part]:
    """*part* in two, or nothing where it cannot be split."""
    build, payload, members = part
    if build is not _batch_request or len(payload) < 2:
        return []
    middle = len(payload) // 2
    return [(build, payload[:middle], members[:middle]),
            (build, payload[middle:], members[middle:])]


# -- Edge: one kept-alive HTTP connection ------------------------------------------------


class _Failure(Exception):
    """An attempt that did not deliver. *kind* is a `PushResult.error`; *wait* is how
    many seconds the server wants to be left alone for."""

    def __init__(self, kind: str, retry: bool = True, status: Optional[int] = None,
                 wait: float = 0.0) -> None:
        super().__init__(kind)
        self.kind, self.retry, self.status, self.wait = kind, retry, status, wait


class _TimedOut(Exception):
    """The deadline of an attempt has passed."""


def _checked_url(base_url: str) -> urllib.parse.SplitResult:
    text = _text("base_url", base_url)
    if text.isprintable() and not set(text) & set(" ?#@\\\"<>^`{|}"):
        try:
            url = urllib.parse.urlsplit(text)
            (url.hostname or "").encode("idna")
            if (url.scheme in ("http", "https") and url.hostname and url.port != 0
                    and url.path.isascii()):
                return url
        except ValueError:  # a port out of range, brackets that do not match
            pass
    raise ValueError("base_url must be https://host or http://host, with a port and a "
                     "path at most")


def _proxy_for(scheme: str, host: str, port: int) -> Optional[Tuple[str, int, str]]:
    """(host, port, Proxy-Authorization) of the proxy that the environment names, if any.

    Only the environment: asking macOS for its proxies crashes a forked child.
    """
    if not any(name.lower() == scheme + "_proxy" for name in os.environ):
        return None
    from urllib import request  # 5 ms, for the few who have a proxy
    library: Any = request  # typeshed does not know these two functions
    text = library.getproxies_environment().get(scheme)
    if not text or library.proxy_bypass_environment("%s:%d" % (host, port)):
        return None
    try:
        address: str = text if "://" in text else "http://" + text
        url = urllib.parse.urlsplit(address)
        if url.scheme != "http" or not url.hostname:
            raise ValueError
        login = ""
        if url.username is not None:
            import base64
            pair = "%s:%s" % (url.username, url.password or "")
            login = "Basic " + base64.b64encode(
                urllib.parse.unquote_to_bytes(pair)).decode()
        return url.hostname, url.port or 80, login
    except ValueError:
        raise ValueError("%s_PROXY must be http://host:port" % scheme.upper()) from None


def _tls_context(given: Optional[ssl.SSLContext]) -> ssl.SSLContext:
    """A context that verifies, made once: it costs 20-30 ms.

    Raises `ValueError` for what could only fail later, once for every push.
    """
    if "ssl" not in globals():
        raise ValueError("base_url is https, and this Python has no ssl module: "
                         "use an http:// base_url, or a transport")
    if given is not None:
        return given
    capath = os.environ.get("SSL_CERT_DIR")
    try:
        context = ssl.create_default_context()
        if os.environ.get("SSL_CERT_FILE"):  # OpenSSL passes over one it cannot read
            context.load_verify_locations(cafile=os.environ["SSL_CERT_FILE"])
    except (OSError, ValueError) as error:
        raise ValueError("the certificates that the environment names cannot be used "
                         "(SSL_CERT_FILE, SSLKEYLOGFILE): %s" % error) from None
    folder = capath or ssl.get_default_verify_paths().capath
    if not context.cert_store_stats()["x509_ca"] and not (
            folder and os.path.isdir(folder) and os.listdir(folder)):
        raise ValueError("no CA certificates found: name a file of them in SSL_CERT_FILE, "
                         "or give a transport")
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Endpoint:
    """Where requests go. Read by any thread, written by nobody after construction."""

    __slots__ = ("scheme", "host", "port", "literal", "authority", "origin", "path",
                 "ssl_context", "proxy")

    def __init__(self, base_url: str, ssl_context: Optional[ssl.SSLContext],
                 network: bool) -> None:
        url = _checked_url(base_url)
        self.scheme: str = url.scheme
        self.host = (url.hostname or "").encode("idna").decode()
        self.port = url.port or (443 if self.scheme == "https" else 80)
        self.literal = "[%s]" % self.host if ":" in self.host else self.host
        self.authority = self.literal + (":%d" % url.port if url.port else "")
        self.origin = "%s://%s" % (self.scheme, self.authority)
        self.path: str = url.path.rstrip("/")
        self.ssl_context: Optional[ssl.SSLContext] = None
        self.proxy: Optional[Tuple[str, int, str]] = None
        library: Any = sys.modules.get("ssl")  # not imported: there can be no context
        if ssl_context is not None and not (
                library and isinstance(ssl_context, library.SSLContext)):
            raise TypeError("ssl_context must be an ssl.SSLContext, or None")
        if network:
            self.proxy = _proxy_for(self.scheme, self.host, self.port)
            if self.scheme == "https":
                self.ssl_context = _tls_context(ssl_context)


def _ready(sock: socket.socket, writing: bool, seconds: float) -> bool:
    """Wait until *sock* can be read or written without blocking."""
    if hasattr(select, "poll"):  # select fails from descriptor 1024 on
        poll = select.poll()
        poll.register(sock, select.POLLOUT if writing else select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    # Windows reports a failed connect in the third list only.
    reads, writes = ([], [sock]) if writing else ([sock], [])
    return any(select.select(reads, writes, writes, seconds))


class _Buffer(io.BufferedReader):
    def flush(self) -> None:
        """Nothing. The garbage collector may close this before the HTTPResponse that
        flushes it when it is closed; from 3.13 on the error would be on stderr."""


class _Answer(io.RawIOBase):
    """The bytes of one answer, without a buffer."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connection.receive(buffer)


class _Connection:
    """One kept-alive HTTP connection, owned by one thread at a time.

    Other threads may call `shut` only. Every wait is bounded by the deadline of the
    attempt; a name look-up alone has no bound, and holds up no one but its worker.
    """

    def __init__(self, endpoint: _Endpoint, gate: Any) -> None:
        self._endpoint = endpoint
        self._gate = gate  # see _Process
        self._sock: Any = None
        self._answer: Optional[http.client.HTTPResponse] = None
        self._file: Any = None  # what HTTPResponse reads the answer from
        self._heard = False  # a byte of the answer has come
        self._used = (0.0, 0.0)  # wall and monotonic time of the last use
        self._shut = False
        self._seen = self._end = 0.0  # monotonic: the last look, the end of the attempt

    def exchange(self, request: Request, seconds: float) -> http.client.HTTPResponse:
        """Send *request* and return the answer once its headers are there.

        Raises `_Failure`. The body is left to `tidy`.
        """
        self._seen = monotonic()
        self._end = self._seen + seconds
        if self._sock is not None:
            self._drop_if_stale()
        while True:
            reused = self._sock is not None
            try:
                self._heard = False
                if not reused:
                    self._open()
                return self._exchange(request)
            except Exception as error:
                self.close()
                # The server closed a kept connection at the moment we used it again.
                # Allowed only as long as no byte of an answer has come.
                if reused and not self._heard and not self._shut and isinstance(
                        error, (OSError, http.client.HTTPException)):
                    continue
                raise self._failure(error) from None

    def tidy(self) -> None:
        """Read the rest of the answer, so that the connection can be used again."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        try:
            if answer.will_close:
                self.close()
            elif len(answer.read(MAX_ANSWER_BYTES + 1)) > MAX_ANSWER_BYTES:
                self.close()
        except Exception:  # the status is known already: this costs the connection only
            self.close()

    def close(self) -> None:
        sock, self._sock = self._sock, None
        self._answer = self._file = None
        if sock is not None:
            sock.close()

    def shut(self) -> None:
        """From another thread: end whatever the owner is waiting for, for good."""
        self._shut = True
        sock = self._sock
        if sock is None:
            return
        # Not sock.shutdown: that of a TLS socket drops its TLS layer first, and its owner
        # would go on in plain text. The sockets of eventlet have no other.
        shutdown = getattr(socket.socket, "shutdown", None)
        try:
            if shutdown is None:
                sock.shutdown(socket.SHUT_RDWR)
            else:
                shutdown(sock, socket.SHUT_RDWR)
        except OSError:  # not connected, or closed meanwhile
            pass

    def forget(self) -> None:
        """In a forked child: close our copy of the descriptor and tell nobody.

        A TLS shutdown would end the parent's connection.
        """
        sock, self._sock = self._sock, None
        try:
            os.close(sock.detach())
        except (AttributeError, OSError):
            pass

    def receive(self, buffer: Any) -> int:
        if self._heard and self._left() < 0:
            raise _TimedOut  # a flood never makes us wait, so it is stopped here
        received: int = self._call(self._sock.recv_into, False, buffer)
        self._heard = self._heard or received > 0
        return received

    def _left(self) -> float:
        """Seconds that are left of the attempt, however the server drips.

        Waits are cut into slices, so a look that comes far later than the one before
        means that the process was frozen, and that is not the server's fault.
        """
        now = monotonic()
        gap, self._seen = now - self._seen, now
        if gap > 2 * FROZEN_SECONDS:
            self._end += gap
        return self._end - now

    def _wait(self, writing: bool, share: float = 1.0) -> None:
        """Wait for the socket for a *share* of the time that is left, or raise
        `_TimedOut`. It is asked once more after the end: the answer may be there."""
        rest = 0.0 if share == 1.0 else self._left() * (1 - share)
        while True:
            left = self._left() - rest
            if _ready(self._sock, writing, max(0.0, min(left, FROZEN_SECONDS))):
                return
            if left <= 0:
                raise _TimedOut

    def _drop_if_stale(self) -> None:
        """A NAT forgets silently, and a thawed Lambda finds its connections closed."""
        wall, mono = self._used
        idle = max(time() - wall, self._seen - mono)  # a frozen monotonic clock may stop
        try:
            # Bytes that nobody asked for would be taken for the next answer.
            if idle > IDLE_SECONDS or _ready(self._sock, False, 0) or (
                    self._endpoint.ssl_context is not None and self._sock.pending()):
                self.close()
        except (OSError, ValueError):
            self.close()

    def _call(self, call: Callable[..., Any], writing: bool, *args: Any) -> Any:
        """Make one non-blocking socket call, waiting as often as it asks for that."""
        plain = self._endpoint.ssl_context is None
        if plain and not writing:
            # TLS may hold bytes already; here it saves a call that finds nothing.
            self._wait(False)
        while True:
            try:
                if plain:
                    return call(*args)
                with self._gate:
                    return call(*args)
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    wants_write = writing
                elif plain:
                    raise
                elif isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError)):
                    wants_write = isinstance(error, ssl.SSLWantWriteError)
                else:
                    raise
            self._wait(wants_write)

    def _open(self) -> None:
        endpoint = self._endpoint
        if endpoint.proxy is None:
            self._connect(endpoint.host, endpoint.port)
        else:
            try:
                self._connect(*endpoint.proxy[:2])
            except OSError:
                raise _Failure("proxy") from None
            if endpoint.scheme == "https":
                self._tunnel(endpoint.proxy[2])
        context = endpoint.ssl_context
        if context is not None:
            with self._gate:
                self._sock = context.wrap_socket(
                    self._sock, server_hostname=endpoint.host,
                    do_handshake_on_connect=False)
            self._call(self._sock.do_handshake, False)

    def _connect(self, host: str, port: int) -> None:
        """Try every address of *host*, each with its share of the time that is left."""
        addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        last: Exception = OSError("no address")
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            if self._shut:
                break
            try:
                # Known to `shut` before it connects.
                self._sock = sock = socket.socket(family, kind, protocol)
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    sock.connect(address)
                except BlockingIOError:
                    self._wait(True, 1 / (len(addresses) - number))
                    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if code:
                        raise OSError(code, os.strerror(code)) from None
                return
            except (OSError, _TimedOut) as error:
                last = error
                self.close()
        raise last

    def _tunnel(self, login: str) -> None:
        """Ask the proxy for a connection to the server."""
        target = "%s:%d" % (self._endpoint.literal, self._endpoint.port)
        lines = ["CONNECT %s HTTP/1.1" % target, "Host: " + target]
        if login:
            lines.append("Proxy-Authorization: " + login)
        self._send_all(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        try:
            status = self._receive("CONNECT").status
        except (OSError, http.client.HTTPException):
            raise _Failure("proxy") from None
        if not 200 <= status < 300:
            raise _Failure("proxy", _is_transient(status), status)
        self._heard = False  # that was the proxy, not the server

    def _exchange(self, request: Request) -> http.client.HTTPResponse:
        try:
            self._send_all(self._serialised(request))
        except OSError:  # of whatever kind; over TLS that depends on the Python
            pass  # a server may answer, 413 for one, and hang up before it has read it all
        self._answer = answer = self._receive(request.method)
        self._used = (time(), monotonic())
        return answer

    def _serialised(self, request: Request) -> bytes:
        endpoint = self._endpoint
        target = request.url
        lines = ["Host: " + endpoint.authority]
        lines += ["%s: %s" % header for header in request.headers.items()]
        if endpoint.proxy is None or endpoint.scheme == "https":
            target = target[len(endpoint.origin):]
        elif endpoint.proxy[2]:
            lines.append("Proxy-Authorization: " + endpoint.proxy[2])
        body = request.body or b""
        if request.body is not None:
            lines.append("Content-Length: %d" % len(body))
        return ("%s %s HTTP/1.1\r\n%s\r\n\r\n" % (
            request.method, target, "\r\n".join(lines))).encode("ascii") + body

    def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._call(self._sock.send, True, view):]

    def makefile(self, mode: str) -> Any:
        """What HTTPResponse asks its socket for."""
        return self._file

    def _receive(self, method: str) -> http.client.HTTPResponse:
        self._file = _Buffer(_Answer(self), 8192)  # the default is 16 times that on 3.15
        this: Any = self  # quacks like the socket that HTTPResponse asks for
        while True:
            answer = http.client.HTTPResponse(this, method=method)
            answer.begin()
            if answer.status >= 200:
                return answer  # http.client passes over 100 only, not over 103
            passed: Any = answer
            passed.fp = None  # or dropping it would close the file of the next one

    def _failure(self, error: Exception) -> _Failure:
        if isinstance(error, _Failure):
            return error
        if isinstance(error, _TimedOut):
            return _Failure("timeout")
        if self._endpoint.ssl_context is not None:
            if isinstance(error, ssl.SSLCertVerificationError):
                return _Failure("tls", retry=False)
            if isinstance(error, ssl.SSLError) and not isinstance(
                    error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
                return _Failure("tls")
        return _Failure("connection" if isinstance(error, OSError) else "response")


def _is_transient(status: int) -> bool:
    return status in (408, 429) or status >= 500


def _retry_after(answer: http.client.HTTPResponse) -> float:
    """Seconds that the server wants to be left alone for; 0 where it does not say."""
    text = (answer.getheader("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time()
        except (TypeError, ValueError, IndexError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


# -- Sender: pending pushes, workers, retries, fork, exit --------------------------------
#
# All the state there is, and who may touch it. A push takes no lock: it makes atomic
# calls on deques only, so a signal handler, a finaliser or a logging handler may push
# in the middle of anything, and a fork finds nothing held.
#
#   state of a _Sender       written by                      guard
#   ----------------------   -----------------------------   --------------------------
#   waiting, reserved        push; take, settle, sweep       atomic deque calls
#   ready                    gather, take, _deliver          atomic deque calls
#   idle, sleepers           the thread that sleeps; push    atomic deque calls
#   workers                  hire; a worker that starts or   hiring to add one, lock to
#                              ends                             remove one
#   serving, connections     the thread that sends, reports  atomic set calls
#   taken, batches           take, settle, sweep             lock
#   windows, lost            flush, settle                   lock
#   delivered, failed,       the threads that send           lock
#     requests, retries,
#     not_before
#   refusals, troubles       anyone                          lock, and _Tally
#   closed, swept,           close, exit, the end of the     set once, never cleared
#     orphaned                 client
#
# lock is reentrant, held for assignments only, and never across a wait, a socket, a log
# line or anybody else's code. Deadlines are monotonic.


class PushResult(_PushResult):
    """How one accepted push ended; `Client` calls ``on_result`` with it.

    user_id and dimensions (a dict) are the caller's own. delivered is True where VWO
    answered 2xx to all of it. status is the last HTTP status (int) or None. error is
    None, or one of "timeout", "connection", "tls", "proxy", "http" (a status that is
    not 2xx), "response" (not HTTP), "transport" (a custom one raised, or returned no int),
    "closed", "exit".
    attempts is the most that any one request with this push took. The `repr` leaves out
    what is personal.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<PushResult delivered=%r status=%r error=%r attempts=%r>" % (
            self.delivered, self.status, self.error, self.attempts)


class _Tally:
    """A count that loses nothing to re-entrance: one C call adds, even on 3.7, where
    ``n += 1`` can be interrupted half-way by a signal handler that does the same."""

    __slots__ = ("_ticks", "_reads")

    def __init__(self) -> None:
        self._ticks, self._reads = count(), count()

    def add(self) -> None:
        next(self._ticks)

    def read(self) -> int:
        return next(self._ticks) - next(self._reads)


_FULL = "max_pending is reached"
_CLOSED = "the client is closed"
_BROKE = "it could not be queued"  # out of memory
_DROPPED = (_FULL, _CLOSED, _BROKE)


class _Notices:
    """Counts by reason, and a log line for each at most every `LOG_SECONDS`."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._tallies: Dict[str, _Tally] = {}
        self._told: Dict[str, Tuple[float, int]] = {}

    def add(self, reason: str) -> None:
        with self._lock:
            self._tallies.setdefault(reason, _Tally()).add()

    def total(self, dropped: bool) -> int:
        return sum(tally.read() for reason, tally in list(self._tallies.items())
                   if (reason in _DROPPED) is dropped)

    def due(self, reason: str) -> int:
        """How many the line to be logged now stands for; 0: log nothing now."""
        now = monotonic()
        with self._lock:
            when, before = self._told.get(reason, (now - LOG_SECONDS, 0))
            if now - when < LOG_SECONDS:
                return 0
            total = self._tallies[reason].read()
            self._told[reason] = (now, total)
            return total - before


def _may_log() -> bool:
    """False where this thread is inside a log call or a queue already.

    We may be in a signal handler or a finaliser that interrupted it, or in a handler of
    its own, and whatever it has locked we would wait for, for ever.
    """
    frame: Optional[FrameType] = sys._getframe(1)  # pyright: ignore
    while frame is not None:
        if str(frame.f_globals.get("__name__")).split(".")[0] in ("logging", "queue"):
            return False
        frame = frame.f_back
    return True


def _log(notices: _Notices, reason: str, text: str, last_resort: bool) -> None:
    """Log *text* as a warning, unless the same was logged a short while ago.

    logging is not imported for this: that costs 6-10 ms. A process that has not done so
    gets one line on stderr where *last_resort* is true, as logging would do it.
    """
    try:
        if not _may_log():
            return
        logging = sys.modules.get("logging")
        logger = logging and logging.getLogger("vwo_push")
        if not last_resort and not (logger and logger.hasHandlers()):
            return
        number = notices.due(reason)
        if number and logger:
            logger.warning("%s: %s (%d)", text, reason, number)
        elif number and sys.stderr:
            sys.stderr.write("vwo_push: %s: %s (%d)\n" % (text, reason, number))
    except Exception:  # a broken handler or stream is not the caller's trouble
        pass


def _task() -> str:
    """Where Linux shows the thread that this runs on, while there is one; "" elsewhere."""
    try:
        return "/proc/" + os.readlink("/proc/thread-self")
    except OSError:
        return ""


def _is_there(task: str) -> bool:
    # The greenlets of gevent run on a thread that stays: this one, or the main thread.
    return task not in ("", _task(), "/proc/%d/task/%d" % (getpid(), getpid())) and (
        os.path.exists(task))


def _join(worker: threading.Thread, until: float) -> None:
    try:
        worker.join(max(0.0, until - monotonic()))
    except RuntimeError:  # this very thread, or one that is only just starting
        pass


class _Process:
    """What one process keeps for all its clients; a forked child makes its own.

    gate is held by a fork, and around whatever it must not cut in two, because locks of
    its own would stay taken in the child: every OpenSSL call that takes one, none of
    which waits, and urllib.parse.quote, which has a lock on PyPy.
    """

    __slots__ = ("senders", "gate", "exiting", "watched", "leaving", "__weakref__")

    def __init__(self) -> None:
        self.senders: Set[_Sender] = set()
        self.gate = threading.RLock()
        self.exiting = False
        self.watched = False
        self.leaving: Dict[threading.Thread, str] = {}  # workers at their end: their _task

    def join_leaving(self, until: float) -> None:
        """Wait for the workers at their end, until the monotonic time *until*, and forget
        those that are gone for the system, too.

        When Python is done with a thread that has used OpenSSL, it takes locks of it once
        more. A fork at that moment would leave them taken in the child for ever.
        """
        for worker, task in list(self.leaving.items()):
            _join(worker, until)
            while _is_there(task) and monotonic() < until:
                sleep(0.0005)
            if not (worker.is_alive() or _is_there(task)):
                self.leaving.pop(worker, None)


# By process id: one entry, but for a moment. Kept by importlib.reload: the exit handlers
# of both look here for what is pending.
_processes: Dict[int, _Process] = globals().get("_processes", {})


def _process() -> _Process:
    """The state of this process. In a forked child, lets go of what is the parent's.

    Compares process ids because uWSGI forks without telling Python.
    """
    pid = getpid()
    process = _processes.get(pid)
    if process is None:
        process = _processes.setdefault(pid, _Process())
        for other in list(_processes):
            inherited = None if other == pid else _processes.pop(other, None)
            for sender in inherited.senders if inherited else ():
                sender.disown()
    return process


def _watch_exit(process: _Process) -> None:
    """Children of multiprocessing leave without atexit, but run its finalisers."""
    util = sys.modules.get("multiprocessing.util")
    current = getattr(sys.modules.get("multiprocessing.process"), "current_process", None)
    if process.watched or util is None or current is None:
        return
    if current().name != "MainProcess":
        process.watched = True
        _finalise(process)
        # Again, for a client that the main module makes while it is imported: before
        # 3.13 a child of the forkserver clears its finalisers after that.
        util.register_after_fork(process, _finalise)


def _finalise(process: _Process) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, _at_exit, exitpriority=10)


class _Batch:
    """Pushes that one thread has taken and sends together."""

    __slots__ = ("first", "pushes", "size", "parts", "tries", "attempts", "outcomes",
                 "claimed")

    def __init__(self, first: int, pushes: List[_Push], size: int) -> None:
        self.first = first  # how many pushes were taken before these
        self.pushes = pushes
        self.size = size  # in dimensions
        self.parts: Optional[List[_Part]] = None  # what is left to send
        self.tries = 0  # so far, of the first of parts
        self.attempts = [0] * len(pushes)
        self.outcomes: List[Tuple[Optional[int], Optional[str]]] = (
            [(None, None)] * len(pushes))
        self.claimed = False  # somebody is settling it

    def unsent(self) -> Iterable[int]:
        """The pushes that are not, or not wholly, sent."""
        if self.parts is None:
            return range(len(self.pushes))
        return [index for part in list(self.parts) for index in part[2]]

    def note(self, members: Iterable[int], status: Optional[int],
             error: Optional[str]) -> None:
        for index in members:
            if self.outcomes[index][1] is None:  # what failed once stays failed
                self.outcomes[index] = (status, error)


class _Window:
    """The pushes that one flush answers for: those accepted since the one before, and
    those that flushes of other threads still wait for."""

    __slots__ = ("end", "lost", "wake")

    def __init__(self) -> None:
        self.end: float = float("inf")  # counted in pushes
        self.lost = False
        self.wake = _taken_lock()


def _size(push: _Push) -> int:
    """How many dimensions it has."""
    return len(push) // 2 - 1


def _taken_lock() -> Any:
    """A lock that is waited for by acquiring it and woken by releasing it, once.

    Looked up late and made for each wait, so that gevent may patch it at any time.
    """
    lock = threading.Lock()
    lock.acquire()
    return lock


def _is_interrupt(error: BaseException) -> bool:
    """A real Ctrl-C comes to the main thread only. Elsewhere some code has raised it."""
    return isinstance(error, KeyboardInterrupt) and (
        threading.current_thread() is threading.main_thread())


def _snapshot(items: Deque[Any]) -> List[Any]:
    while True:
        try:
            return list(items)
        except RuntimeError:  # changed by a thread meanwhile: without a GIL it can be
            pass


def _release(lock: Any) -> None:
    try:
        lock.release()
    except RuntimeError:  # somebody was faster
        pass


class _Sender:
    """The pushes of one client in one process. Threads refer to this, not the client,
    so that a client that is dropped can go while its pushes are still sent."""

    # With slots: a push that wakes a worker finds little of this in the processor's
    # caches, and without a dict there is less to fetch (a tenth of its time).
    __slots__ = (
        "config", "process", "pid", "max_pending", "max_workers", "lock", "hiring",
        "draining", "waiting", "reserved", "idle", "sleepers", "workers", "serving",
        "connections", "taken", "batches", "ready", "windows", "lost", "delivered",
        "failed", "requests", "retries", "dice", "not_before", "refusals", "troubles",
        "orphaned", "closed", "swept")

    def __init__(self, config: _Config, process: _Process) -> None:
        self.config = config
        self.process = process
        self.pid = getpid()
        self.max_pending = config.max_pending  # here to spare push a look-up
        self.max_workers = config.max_workers
        self.lock = threading.RLock()
        self.hiring = threading.Lock()  # only ever tried, never waited for
        self.draining = threading.Lock()  # likewise
        self.waiting: Deque[_Push] = deque()
        self.reserved: Deque[None] = deque()  # one for each dimension pending: the bound
        self.idle: Deque[Any] = deque()  # locks of parked workers
        self.sleepers: Deque[Any] = deque()  # locks of threads in a backoff
        self.workers: List[threading.Thread] = []
        self.serving: Set[int] = set()  # idents of the threads that are sending
        self.connections: Set[_Connection] = set()
        self.taken = 0
        self.batches: List[_Batch] = []  # taken and not settled
        self.ready: Deque[_Batch] = deque()  # of these, the ones that nobody works on
        self.windows: List[_Window] = []  # of the flushes that wait
        self.lost = False  # a push, and no flush was waiting for it
        self.delivered = self.failed = self.requests = self.retries = 0
        # Its own, seeded by the system: not that of the program, which may be seeded to
        # repeat, and a new one in a forked child.
        self.dice = random.Random()
        self.not_before = 0.0  # monotonic; set by Retry-After, kept by all threads
        self.refusals = _Notices(self.lock)
        self.troubles = _Notices(self.lock)
        self.orphaned = False  # the client is gone
        self.closed = process.exiting  # accepts nothing more
        self.swept = False  # nothing more is sent

    # What push does, on the caller's thread.

    def accept(self, push: _Push) -> bool:
        if self.closed:
            return self.refuse(_CLOSED)
        size = len(push) // 2 - 1  # _size, without a call
        reserved = self.reserved
        if len(reserved) + size > self.max_pending:
            return self.refuse(_FULL)
        # Reserved before it can be taken, and looked at again: with many threads the
        # room may be gone since.
        if size == 1:
            reserved.append(None)
        else:
            reserved.extend((None,) * size)
        if len(reserved) > self.max_pending:
            self.unreserve(size)
            return self.refuse(_FULL)
        try:
            self.waiting.append(push)
        except BaseException:
            self.unreserve(size)
            raise
        try:
            if self.idle:
                self.wake()
            elif len(self.workers) < self.max_workers:
                self.hire()
        except Exception:  # out of memory or of stack: it is accepted all the same
            pass
        # Looked at again: the sweep of a close or an exit may have come in between.
        return not self.swept or self.withdraw(push, size)

    def unreserve(self, size: int) -> None:
        try:
            for _ in range(size):
                self.reserved.popleft()
        except IndexError:  # a Ctrl-C within accept has taken one back already
            pass

    def withdraw(self, push: _Push, size: int) -> bool:
        while True:
            try:
                self.waiting.remove(push)
            except ValueError:
                return True  # somebody has taken it, and settles it
            except IndexError:
                continue  # changed by another thread meanwhile
            self.unreserve(size)
            return self.refuse(_CLOSED)

    def refuse(self, reason: str) -> bool:
        self.refusals.add(reason)
        if not self.process.exiting:  # exit prints nothing, and stderr may be locked
            _log(self.refusals, reason, "push refused", True)
        return False

    def wake(self) -> None:
        try:
            self.idle.pop().release()
        except (IndexError, RuntimeError):  # none is parked, or another push or a close
            pass  # has woken it: it looks at what is waiting before it parks again

    def hire(self) -> bool:
        """Start a worker if there may be one more. False: somebody is just at it, perhaps
        this very thread, under a signal handler.

        Never waits for a lock. Where no thread can be had the pushes stay for a later
        push, flush or exit.
        """
        if not self.hiring.acquire(False):
            return False
        try:
            started = len(self.workers) < self.max_workers and not (
                self.swept or self.process.exiting) and self._start_worker()
        finally:
            self.hiring.release()
        # Looked at once more: on a busy machine it may have come to its end before we
        # went on, and found hiring taken by us.
        if started and not self.workers and (self.waiting or self.ready):
            self.hire()
        return True

    def _start_worker(self) -> bool:
        # Not concurrent.futures: its threads are joined, without a bound, at exit.
        try:
            worker = threading.Thread(
                target=_work, args=(self,), name="vwo_push", daemon=True)
            self.workers.append(worker)
        except Exception:  # sub-interpreters refuse daemon threads right here
            return False
        try:
            worker.start()
            return True
        except BaseException as error:  # no more threads to be had, or not at this time
            with self.lock:  # after a Ctrl-C it may be running all the same: see enlist
                if worker.ident is None and worker in self.workers:
                    self.workers.remove(worker)
            if not isinstance(error, Exception):
                raise
            return False

    def enlist(self, worker: threading.Thread) -> bool:
        """List *worker*, unless there are enough. True: it may work. hire has listed it
        already, but where its start was interrupted half-way."""
        with self.lock:
            if worker not in self.workers:
                self.workers.append(worker)
            if worker in self.workers[:self.max_workers]:
                return True
            self.workers.remove(worker)
            return False

    # What the sending threads do: workers, and whoever flushes where there are none.

    def take(self) -> Optional[_Batch]:
        """Take what goes into one request; never wait for more."""
        while True:  # once to gather what is waiting, once to take the first of that
            with self.lock:
                if self.swept:
                    return None
                if self.ready:
                    return self.ready.popleft()
                batches = self.gather()
            if not batches:
                return None
            for _ in batches[1:]:
                self.wake()
            try:
                for batch in batches:
                    self.build(batch)
            except Exception:  # out of memory: _deliver makes an outcome of it
                pass

    def gather(self) -> List[_Batch]:
        """Under the lock: make batches of what is waiting, each as much as goes into one
        request: one batch, or several where each is a single GET. Built in a row, those
        take a third of the time that they take one by one between waits for the server.
        """
        most = self.config.max_batch
        batches: List[_Batch] = []
        while self.waiting and len(batches) < (BUILT_AHEAD if most == 1 else 1):
            size = 0
            pushes: List[_Push] = []
            try:
                while size < most and self.waiting:
                    more = _size(self.waiting[0])
                    if pushes and size + more > most:
                        break
                    pushes.append(self.waiting.popleft())
                    size += more
                batch = _Batch(self.taken, pushes, size)
                self.batches.append(batch)
            except MemoryError:  # for later, then
                self.waiting.extendleft(reversed(pushes))
                raise
            self.taken += len(pushes)
            self.ready.append(batch)
            batches.append(batch)
        return batches

    def build(self, batch: _Batch) -> None:
        with self.process.gate:
            if batch.parts is None:  # another thread may have done it, and be sending it
                batch.parts = _parts(self.config, batch.pushes)

    def park(self) -> bool:
        """Wait for work. False: there was none for `IDLE_SECONDS`, or will be none."""
        wake = _taken_lock()
        self.idle.append(wake)
        # Looked at once more after it was declared idle, or a push in between is lost.
        if self.waiting or self.ready:
            woken = True
        elif self.closed or self.orphaned or self.swept:
            woken = False
        else:
            woken = wake.acquire(timeout=IDLE_SECONDS)
        try:
            self.idle.remove(wake)
        except ValueError:
            woken = True  # a push has taken it: its work is waiting
        return woken and not self.swept

    def pause(self, batch: _Batch, ready: float, last: float) -> bool:
        """Sleep until the monotonic time *ready*, and as long as the server wants quiet,
        but not past *last*. False: that has come, or *batch* is not ours any more."""
        while not (batch.claimed or self.swept):
            now = monotonic()
            if now >= last:
                return False
            seconds = min(max(ready, self.not_before), last) - now
            if seconds <= 0:
                return True
            wake = _taken_lock()
            self.sleepers.append(wake)
            if not (batch.claimed or self.swept):
                wake.acquire(timeout=seconds)
            self.sleepers.remove(wake)
        return False

    def count_try(self, batch: _Batch, members: Iterable[int]) -> None:
        batch.tries += 1
        with self.lock:
            self.requests += 1
            self.retries += batch.tries > 1
        for index in members:
            if batch.attempts[index] < batch.tries:
                batch.attempts[index] = batch.tries

    def hold(self, seconds: float) -> None:
        """The server asked for quiet. All threads keep it; processes part by up to a
        tenth of it, below the limit."""
        seconds *= random.SystemRandom().uniform(1.0, 1.1)
        until = monotonic() + min(seconds, MAX_RETRY_AFTER_SECONDS)
        with self.lock:
            self.not_before = max(self.not_before, until)

    def settle(self, batch: _Batch, error: Optional[str] = None) -> None:
        """End every push of *batch*, once; *error* is why it was not sent at all. A Ctrl-C
        in on_result is raised when that is done."""
        with self.lock:
            if batch.claimed:
                return
            batch.claimed = True
        if error is not None:
            batch.note(batch.unsent(), None, error)
        interrupted = self.config.on_result is not None and self._report(
            batch, self.config.on_result)
        lost = [index for index, outcome in enumerate(batch.outcomes) if outcome[1]]
        with self.lock:
            self.batches.remove(batch)
            self.delivered += len(batch.pushes) - len(lost)
            self.failed += len(lost)
            for index in lost:
                self._lose(batch.first + index)
            self.unreserve(batch.size)
            for window in self.windows:
                if self.is_settled(window.end):
                    _release(window.wake)
        if lost and error is None and not self.process.exiting:
            status, kind = batch.outcomes[lost[0]]
            reason = str(kind) if status is None else "%s %d" % (kind, status)
            for _ in lost:
                self.troubles.add(reason)
            _log(self.troubles, reason, "pushes not delivered", False)
        if interrupted:
            raise KeyboardInterrupt

    def _report(self, batch: _Batch, on_result: Callable[[PushResult], object]) -> bool:
        """Call *on_result* with every push of *batch*. True: there was a Ctrl-C in it."""
        interrupted = False
        me = threading.get_ident()
        served = me in self.serving
        self.serving.add(me)  # a flush within would wait for what its caller settles
        try:
            for push, outcome, attempts in zip(
                    batch.pushes, batch.outcomes, batch.attempts):
                status, why = outcome
                try:
                    on_result(PushResult(push[1], _dimensions(push), why is None,
                                         status, why, attempts))
                except BaseException as error:  # SystemExit must not end a worker
                    interrupted = interrupted or _is_interrupt(error)
                    self.troubles.add("on_result raised")
                    _log(self.troubles, "on_result raised", "callback failed", False)
        finally:
            if not served:
                self.serving.discard(me)
        return interrupted

    def _lose(self, index: int) -> None:
        """Under the lock: push number *index* is lost; somebody must be told."""
        told = [window for window in self.windows if index < window.end]
        for window in told:
            window.lost = True
        self.lost = self.lost or not told

    def is_settled(self, end: float) -> bool:
        """Under the lock: is every push before number *end* settled?"""
        if self.swept:
            end = min(end, self.taken)  # a push that was counted may have been withdrawn
        return self.taken >= end and all(batch.first >= end for batch in self.batches)

    def disown(self) -> None:
        """In a forked child: all of this is the parent's.

        The fork may have been in a callback, which returns into the midst of this here:
        it finds no lock taken, and nothing left to do.
        """
        self.swept = True
        self.lock = threading.RLock()
        self.refusals, self.troubles = _Notices(self.lock), _Notices(self.lock)
        for connection in list(self.connections):
            connection.forget()

    # What flush, close and exit do.

    def flush(self, until: float) -> bool:
        """Wait until what was accepted so far is settled; True if all was delivered."""
        if threading.get_ident() in self.serving:
            return False  # in on_result: it would wait for itself
        window = _Window()
        try:
            with self.lock:  # a signal handler may flush in the middle of this
                window.lost = self.lost or any(other.lost for other in self.windows)
                self.windows.append(window)
                window.end = self.taken + len(self.waiting)
                self.lost = False
            patient = True
            while not self._wait_for(window, until, patient):
                if monotonic() >= until or self.pid != getpid():
                    return False  # or forked, in a callback: see disown
                patient = False
            return not window.lost
        except BaseException:  # Ctrl-C: what was lost is left to be told by the next one
            with self.lock:
                self.lost = self.lost or window.lost
            raise
        finally:
            with self.lock:
                # Pushes that are still pending count in the flush after this one.
                if window in self.windows:
                    self.windows.remove(window)

    def _wait_for(self, window: _Window, until: float, patient: bool) -> bool:
        """Wait for a slice of time. True: every push of *window* is settled."""
        with self.lock:
            if self.is_settled(window.end):
                return True
        hired = bool(self.workers) or self.hire()
        # A worker that is just being started is given one slice: sent on this thread, a
        # request may be cut off, and then the worker would send it again. One, because a
        # signal handler may flush in the middle of hire, which cannot go on until then.
        if not self.workers and (hired or not patient):
            self.drain(until)
            if monotonic() >= until:
                return False
        # In slices: workers may end, and leave it to us.
        window.wake.acquire(timeout=max(0.0, min(until - monotonic(), 0.25)))
        with self.lock:
            return self.is_settled(window.end)

    def drain(self, until: float) -> None:
        """Send on this thread: there is no other."""
        if not self.draining.acquire(False):
            return  # another thread is at it
        try:
            _serve(self, until)
        finally:
            self.draining.release()

    def sweep(self, error: str) -> bool:
        """Settle whatever is not settled yet. From here on nothing is sent. True: there
        was a Ctrl-C meanwhile."""
        rest: List[_Push] = []
        with self.lock:
            self.swept = True
            try:
                while True:
                    rest.append(self.waiting.popleft())
            except IndexError:  # not asked before: a push may withdraw itself meanwhile
                pass
            if rest:
                self.batches.append(_Batch(self.taken, rest, sum(map(_size, rest))))
                self.taken += len(rest)
            left = list(self.batches)
        interrupted = False
        for batch in left:
            try:
                self.settle(batch, error)
            except KeyboardInterrupt:
                interrupted = True
        return interrupted

    def stop(self, until: float) -> None:
        """Wake the workers, end what they wait for, and join them until *until*."""
        for wake in _snapshot(self.idle) + _snapshot(self.sleepers):
            _release(wake)
        for connection in list(self.connections):
            connection.shut()
        # A worker is in workers or in leaving until it is gone.
        for worker in list(self.workers):
            _join(worker, until)
        self.process.join_leaving(until)

    def close(self, until: float) -> bool:
        self.closed = True
        if threading.get_ident() in self.serving:
            self.orphan()  # in on_result: what is pending is sent, then the workers end
            return False
        delivered = self.flush(until)
        interrupted = self.sweep("closed")
        self.stop(monotonic() + JOIN_SECONDS)
        self.retire()
        if interrupted:
            raise KeyboardInterrupt
        return delivered

    def orphan(self) -> None:
        """The client is gone. Workers end when nothing is waiting; a finaliser may call
        this in the middle of anything, so it takes no lock."""
        self.orphaned = True
        for wake in _snapshot(self.idle):
            _release(wake)
        self.retire()

    def retire(self) -> None:
        """Forget this sender once there is nothing that its exit could still do."""
        if (self.orphaned or self.swept) and not (
                self.reserved or self.waiting or self.batches):
            self.process.senders.discard(self)

    def stats(self) -> Dict[str, int]:
        with self.lock:
            pending = len(self.waiting) + sum(len(batch.pushes) for batch in self.batches)
            return {
                "accepted": self.delivered + self.failed + pending,
                "delivered": self.delivered,
                "failed": self.failed,
                "pending": pending,
                "invalid": self.refusals.total(dropped=False),
                "dropped": self.refusals.total(dropped=True),
                "requests": self.requests,
                "retries": self.retries,
            }


def _work(sender: _Sender) -> None:
    """What a worker thread runs."""
    me, process, task = threading.current_thread(), sender.process, _task()
    while sender.enlist(me):
        try:
            _serve(sender, None)
        finally:
            process.leaving[me] = task  # first: a stop in between has to find it
            with sender.lock:  # without a GIL, a look at a list that shrinks may miss
                if me in sender.workers:
                    sender.workers.remove(me)
        # Looked at once more after it was taken off the list, or a push that saw it
        # there and started nobody is lost.
        if (not (sender.waiting or sender.ready) or sender.swept
                or not sender.hiring.acquire(False)):
            break
        try:
            if len(sender.workers) >= sender.max_workers:
                break
            sender.workers.append(me)
            process.leaving.pop(me, None)
        finally:
            sender.hiring.release()
    if sender.orphaned:
        sender.retire()
    process.join_leaving(0.0)  # waits for none, but forgets those that went before


def _serve(sender: _Sender, until: Optional[float]) -> None:
    """Send batches on this thread: a worker's until it has been idle, anybody else's
    until nothing is waiting or the monotonic time *until* has come."""
    me = threading.get_ident()
    connection = _Connection(sender.config.endpoint, sender.process.gate)
    sender.connections.add(connection)
    sender.serving.add(me)
    try:
        while until is None or monotonic() < until:
            batch = sender.take()
            if batch is not None:
                _deliver(sender, batch, connection, until)
                connection.tidy()
            elif until is not None or not sender.park():
                break
    finally:
        sender.serving.discard(me)
        sender.connections.discard(connection)
        connection.close()


def _deliver(sender: _Sender, batch: _Batch, connection: _Connection,
             until: Optional[float]) -> None:
    """Send what is left of *batch* and settle it, or leave it for another thread."""
    done = False
    try:
        sender.build(batch)
        while batch.parts:
            part = batch.parts[0]
            outcome = _send(sender, batch, part, connection, until)
            if outcome is None:
                return
            status, error = outcome
            halves = _halves(part) if status == 413 else []
            if not halves:
                batch.note(part[2], status, error)
            batch.tries = 0
            batch.parts[:1] = halves  # last: what is in none of the parts was sent
        done = True
    except Exception:  # out of memory, or a bug of ours: an outcome all the same
        batch.note(batch.unsent(), None, "connection")
        done = True
    finally:
        if done:
            sender.settle(batch)
        elif not batch.claimed:  # out of time, or interrupted from the keyboard
            sender.ready.append(batch)
            sender.wake()


def _send(sender: _Sender, batch: _Batch, part: _Part, connection: _Connection,
          until: Optional[float]) -> Optional[Tuple[Optional[int], Optional[str]]]:
    """Try one request as often as is allowed; return its (status, error), or None where
    time ran out or the batch was settled by somebody else."""
    config = sender.config
    build, payload, members = part
    last = float("inf") if until is None else until
    # Where every try was cut off, by flushes of too little time.
    outcome: Tuple[Optional[int], Optional[str]] = (None, "timeout")
    ready = 0.0
    while batch.tries < config.max_attempts:
        connection.tidy()  # or the rest of the answer before is read as the next one
        if not sender.pause(batch, ready, last):
            return None
        sender.count_try(batch, members)
        try:
            nonce = _nonce(sender.dice)
            with sender.process.gate:
                request = build(config, payload, nonce)
            seconds = min(config.timeout, last - monotonic())
            return _attempt(config, connection, request, seconds), None
        except _Failure as failure:
            if failure.kind == "timeout" and monotonic() >= last:
                return None  # cut off by our own haste, not the server's fault
            if failure.wait:
                sender.hold(failure.wait)
            outcome = failure.status, failure.kind
            if not failure.retry:
                break
        limit = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2 ** min(batch.tries - 1, 10))
        ready = monotonic() + random.SystemRandom().uniform(0, limit)
    return outcome


def _attempt(config: _Config, connection: _Connection, request: Request,
             seconds: float) -> int:
    """Send *request* once; return its 2xx status, or raise `_Failure`."""
    answer: Optional[http.client.HTTPResponse] = None
    if config.transport is None:
        answer = connection.exchange(request, seconds)
        status = answer.status
        if status == 407 and config.endpoint.proxy is not None:
            raise _Failure("proxy", False, status)
    else:
        try:
            result: Any = config.transport(request, seconds)
        except BaseException as error:  # anybody's code
            if _is_interrupt(error):
                raise
            raise _Failure("transport") from None
        if not isinstance(result, int):
            raise _Failure("transport", False)
        status = int(result)
    if 200 <= status < 300:
        return status
    if not _is_transient(status):
        raise _Failure("http", False, status)
    raise _Failure("http", True, status, 0.0 if answer is None else _retry_after(answer))


def _before_fork() -> None:
    process, until = _process(), monotonic() + FORK_SECONDS
    process.gate.acquire(timeout=FORK_SECONDS)
    process.join_leaving(until)


def _after_fork_in_parent() -> None:
    _release(_process().gate)


def _at_exit() -> None:
    """Send what is pending within the longest exit_timeout; settle the rest as "exit".

    One stretch of time for all clients. Starts no thread, which 3.12 forbids, and
    prints nothing. Workers are joined: one that woke up while the interpreter is being
    finalised could abort the process that embeds it.
    """
    process = _process()
    process.exiting = True
    began = monotonic()
    senders = list(process.senders)
    for sender in senders:
        sender.closed = True
    try:
        for sender in senders:
            sender.flush(began + sender.config.exit_timeout)
    except KeyboardInterrupt:
        pass  # a second Ctrl-C: no more waiting
    for sender in senders:
        sender.sweep("exit")
    until = monotonic() + JOIN_SECONDS
    for sender in senders:
        sender.stop(until)
    process.senders.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent,
                        after_in_child=_process)


# -- Client: the public face -------------------------------------------------------------


def _whole(name: str, value: Any, most: Optional[int] = None) -> int:
    if type(value) is not int:
        raise TypeError("%s must be an int" % name)
    if value < 1 or most is not None and value > most:
        raise ValueError("%s must be at least 1%s" % (
            name, "" if most is None else " and at most %d" % most))
    return value


def _seconds(name: str, value: Any, zero: bool = False) -> float:
    if type(value) not in (int, float):
        raise TypeError("%s must be a number of seconds" % name)
    if not (0 < value <= sys.float_info.max or zero and value == 0):
        raise ValueError("%s must be a finite number of seconds, %s" % (
            name, "0 or more" if zero else "more than 0"))
    return float(value)


def _callable(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError("%s must be callable, or None" % name)
    return value


def _account(account_id: Any) -> str:
    text = _digits(account_id)
    if not text or text[0] == "0":
        raise ValueError("account_id must be a positive int, or its digits")
    return text


def _key(sdk_key: Any) -> str:
    text = _text("sdk_key", sdk_key)
    if not text or text != text.strip() or not (text.isascii() and text.isprintable()):
        raise ValueError("sdk_key must be printable ASCII, not empty, and without "
                         "spaces around it")
    return text


def _prefix(collection_prefix: Any) -> str:
    if collection_prefix is None:
        return ""
    text = _text("collection_prefix", collection_prefix).strip("/")
    if not text.isascii() or text in (".", "..") or not all(
            char.isalnum() or char in "-._~" for char in text):
        raise ValueError("collection_prefix must be one path segment of letters, digits "
                         "and -._~")
    return "/" + text if text else ""


def _until(timeout: Any) -> float:
    """The monotonic time at which *timeout* is over; None never is."""
    if timeout is None:
        return float("inf")
    try:
        seconds = float(min(max(timeout, 0), sys.maxsize))
    except TypeError:
        raise TypeError("timeout must be a number of seconds, or None") from None
    if seconds != seconds:
        raise ValueError("timeout must be a number of seconds, or None")
    return monotonic() + seconds


class Client:
    """Sends pushes of one account and environment to VWO, in the background.

    *account_id*: a positive int, or its digits as a str. *sdk_key*: the SDK key of the
    environment, from VWO's FullStack settings page.

    collection_prefix  data residency, e.g. "eu01" (default: none)
    event_arch         True where the account uses VWO's events architecture
    base_url           https:// or http://, with a port and a path at most
    timeout            seconds for one attempt, from connect to last byte, in all (5.0)
    max_attempts       tries per request, the first included (4)
    max_pending        dimensions accepted and not yet settled (10,000)
    max_workers        daemon threads at most, each with one connection (2)
    max_batch          most dimensions in one request, 1 to 5000; 1: no batches (100)
    exit_timeout       seconds that the interpreter's exit may wait, 0 allowed (2.0)
    on_result          called with a `PushResult` for every accepted push, by a worker,
                       or by the thread that flushes, closes or exits
    ssl_context        an ssl.SSLContext (default: verified, the system's certificates,
                       SSL_CERT_FILE obeyed)
    transport          callable(Request, timeout in seconds) -> HTTP status, instead of
                       the network

    Raises `TypeError` or `ValueError` that names the option. Makes no network call and
    starts no thread, but imports all that sending needs: do it while the program
    starts. Any thread may call any method. A client works in forked children, where it
    starts empty; it can be neither pickled nor copied.
    """

    def __init__(
        self,
        account_id: Union[int, str],
        sdk_key: str,
        *,
        collection_prefix: Optional[str] = None,
        event_arch: bool = False,
        base_url: str = BASE_URL,
        timeout: float = 5.0,
        max_attempts: int = 4,
        max_pending: int = 10_000,
        max_workers: int = 2,
        max_batch: int = 100,
        exit_timeout: float = 2.0,
        on_result: Optional[Callable[[PushResult], object]] = None,
        ssl_context: Optional[ssl.SSLContext] = None,
        transport: Optional[Callable[[Request, float], int]] = None,
    ) -> None:
        self._config = config = _Config()
        self._senders: Dict[int, _Sender] = {}  # by process id: one entry
        self._current: _Sender  # the same; a push spares itself the dict
        self._closed = False
        config.account_id = _account(account_id)
        config.sdk_key = _key(sdk_key)
        if type(event_arch) is not bool:
            raise TypeError("event_arch must be True or False")
        config.event_arch = event_arch
        config.timeout = _seconds("timeout", timeout)
        config.max_attempts = _whole("max_attempts", max_attempts)
        config.max_pending = _whole("max_pending", max_pending)
        config.max_workers = _whole("max_workers", max_workers)
        config.max_batch = _whole("max_batch", max_batch, MAX_EVENTS)
        config.exit_timeout = _seconds("exit_timeout", exit_timeout, zero=True)
        config.on_result = _callable("on_result", on_result)
        config.transport = _callable("transport", transport)
        prefix = _prefix(collection_prefix)
        network = transport is None
        _load(network)
        config.endpoint = _Endpoint(base_url, ssl_context, network)
        config.base_url = config.endpoint.origin + config.endpoint.path + prefix
        config.namespace = _namespace(config.account_id)
        config.get_head, config.get_tail = _get_ends(config)
        self._renew()

    @classmethod
    def from_settings(cls, settings: Union[str, bytes, Mapping[str, Any]],
                      **options: Any) -> Client:
        """Return a client for an official settings file: a dict, or its JSON text.

        Reads accountId, sdkKey, collectionPrefix and isEventArchEnabled, and guesses
        nothing: the string "false" is an error. *options* are those of `Client`, and
        win. Raises `TypeError` or `ValueError` that names the member.
        """
        return cls(**dict(_from_settings(settings), **options))

    @overload
    def push(self, custom_dimension_key: str, custom_dimension_value: str,
             user_id: str) -> bool: ...

    @overload
    def push(self, __map: Mapping[str, str], __user_id: str) -> bool: ...

    @overload
    def push(self, __map: Mapping[str, str], *, user_id: str) -> bool: ...

    @overload
    def push(self, *, custom_dimension_map: Mapping[str, str], user_id: str) -> bool: ...

    def push(*args: Any, **kwargs: Any) -> bool:
        """Tag a user: ``push(key, value, user_id)`` or ``push(map, user_id)``.

        By name they are custom_dimension_key, custom_dimension_value, user_id and
        custom_dimension_map.
        Keys and values are non-empty str of at most 255 code points; *user_id* is the
        non-empty str that was given to activate or get_variation_name. A map is taken
        whole or not at all, and is one push. Nothing is trimmed or converted.

        True: accepted, and will be sent. False: refused, and a warning says why; it was
        not valid, `max_pending` is reached, or the client is closed. Never raises,
        waits or does I/O, also in signal handlers, finalisers and callbacks.
        """
        # Arguments are told apart by hand: Python raises for one that is given twice,
        # or is called self.
        self: Client = args[0]
        try:
            key = value = user_id = None
            if len(args) == 4 and not kwargs:
                _, key, value, user_id = args
            if (type(key) is str and type(value) is str and type(user_id) is str
                    and 0 < len(key) <= MAX_TEXT_CHARS and 0 < len(value) <= MAX_TEXT_CHARS
                    and user_id and key != RESERVED_KEY
                    and key.isascii() and value.isascii() and user_id.isascii()):
                # Nearly all pushes: the same checks as _checked, at a third of its cost.
                push: _Push = (time(), user_id, key, value)
            else:
                push = (time(),) + _checked(args[1:], kwargs)
            sender = self._current
            if sender.pid != getpid():
                sender = self._renew()
            return sender.accept(push)
        except Exception as error:
            reason = str(error) if type(error) is _Invalid else _BROKE
        try:
            return self._sender().refuse(reason)
        except Exception:  # out of memory, again
            return False

    def flush(self, timeout: Optional[float] = 2.0) -> bool:
        """Wait until every push accepted before this call is settled.

        True: every push accepted since the flush before was delivered, and `on_result`
        has returned for each. False: one was not, or *timeout* (seconds; None: as long
        as attempts and retries take) ran out; what is still pending then counts in the
        next flush. Sends on this thread where no other can be had. From `on_result`,
        False at once.
        """
        return self._sender().flush(_until(timeout))

    def close(self, timeout: Optional[float] = 2.0) -> bool:
        """Refuse new pushes and flush; what is left then fails with error "closed".

        Returns what the flush did. Ends the threads. Can be called again. From
        `on_result` it only refuses new pushes, and returns False at once.
        """
        until = _until(timeout)
        self._closed = True
        return self._sender().close(until)

    def stats(self) -> Dict[str, int]:
        """Return counts since the client was made, or this process forked.

        Of pushes: accepted == delivered + failed + pending, and those refused: invalid
        and dropped (no room, or closed). Of HTTP: requests, of which retries.
        """
        return self._sender().stats()

    def requests_for(*args: Any, **kwargs: Any) -> List[Request]:
        """Return the requests that this push alone would make, and send nothing.

        Takes what `push` takes. Raises `ValueError` with the reason for what it refuses.
        """
        config: _Config = args[0]._config
        push = (time(),) + _checked(args[1:], kwargs)
        return [build(config, payload, _nonce(random.Random()))
                for build, payload, _ in _parts(config, [push])]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<Client of account %s at %s>" % (
            self._config.account_id, self._config.base_url)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Client holds threads and a secret, and cannot be pickled or "
                        "copied: make one in each process")

    def __del__(self) -> None:
        try:
            if self._current.pid == getpid():
                self._current.orphan()
        except:  # noqa: E722 (half constructed; or so late at exit that no name is left)
            pass

    def _sender(self) -> _Sender:  # push has this inline, to spare itself a call
        sender = self._current
        return sender if sender.pid == getpid() else self._renew()

    def _renew(self) -> _Sender:
        """Make the sender of this process: the first, or that of a forked child, which
        starts empty, because what is pending is the parent's to send."""
        process = _process()
        _watch_exit(process)
        sender = self._senders.setdefault(getpid(), _Sender(self._config, process))
        process.senders.add(sender)
        sender.closed = sender.closed or self._closed
        self._current = sender
        for pid in list(self._senders):
            if pid != sender.pid:
                self._senders.pop(pid, None)
        return sender


# -- Settings ----------------------------------------------------------------------------


def _from_settings(settings: Any) -> Dict[str, Any]:
    """The arguments of `Client` that an official settings file holds."""
    _load(network=False)
    if type(settings) in (str, bytes):
        try:
            settings = json.loads(settings)
        except (ValueError, RecursionError):
            raise ValueError("the settings are not JSON") from None
    if not _is_mapping(settings):
        raise TypeError("the settings must be a JSON object")
    for member, kinds in (("accountId", (int, str)), ("sdkKey", (str,)),
                          ("collectionPrefix", (str, type(None))),
                          ("isEventArchEnabled", (bool,))):
        missing = member not in settings
        if missing and member in ("accountId", "sdkKey"):
            raise ValueError("the settings have no " + member)
        if not missing and type(settings[member]) not in kinds:
            raise TypeError("%s in the settings must be %s" % (
                member, " or ".join(kind.__name__ for kind in kinds)))
    return {
        "account_id": settings["accountId"],
        "sdk_key": settings["sdkKey"],
        "collection_prefix": settings.get("collectionPrefix"),
        "event_arch": settings.get("isEventArchEnabled", False),
    }


def _fetched(endpoint: _Endpoint, request: Request, seconds: float) -> bytes:
    """The body of the answer, up to a byte more than is allowed."""
    connection = _Connection(endpoint, _process().gate)
    try:
        answer = connection.exchange(request, seconds)
        status = answer.status
        body = answer.read(MAX_SETTINGS_BYTES + 1) if 200 <= status < 300 else b""
        if body and answer.length and len(body) <= MAX_SETTINGS_BYTES:
            raise EOFError  # read(number) does not say so
    except _Failure as failure:
        raise ConnectionError("VWO's settings: no answer (%s)" % failure.kind) from None
    except Exception:
        raise ConnectionError("VWO's settings: the answer was cut off") from None
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise ConnectionError("VWO's settings: HTTP status %d" % status)
    return body


def fetch_settings(account_id: Union[int, str], sdk_key: str, *, base_url: str = BASE_URL,
                   timeout: float = 5.0, ssl_context: Optional[ssl.SSLContext] = None,
                   ) -> Dict[str, Any]:
    """Return the settings that VWO keeps for an account, for `Client.from_settings`.

    The arguments are those of `Client`; *timeout* is for the whole answer. Waits for
    the network, and tries once. Raises `ConnectionError` where there is no answer or
    one that is not 2xx, and `ValueError` for a body over 8 MiB or not a JSON object.
    """
    query = [("a", _account(account_id)), ("i", _key(sdk_key))]
    seconds = _seconds("timeout", timeout)
    _load(network=True)
    endpoint = _Endpoint(base_url, ssl_context, True)
    query += [("r", _nonce(random.Random())), ("platform", "server"), ("api-version", "1"),
              ("sdk", SDK_NAME), ("sdk-v", __version__)]
    url = "%s%s/server-side/settings?%s" % (
        endpoint.origin, endpoint.path, urllib.parse.urlencode(query))
    body = _fetched(endpoint, Request("GET", url, _headers(), None), seconds)
    if len(body) > MAX_SETTINGS_BYTES:
        raise ValueError("VWO's settings are longer than 8 MiB")
    try:
        settings: Any = json.loads(body)
    except (ValueError, RecursionError):
        settings = None
    if not _is_mapping(settings):
        raise ValueError("VWO's settings are not a JSON object")
    return dict(settings)


# -- Command line ------------------------------------------------------------------------

_USAGE = """\
  %(prog)s --demo                     see it work: no account, no network
  %(prog)s plan premium user-42       one push; prints true or false
  %(prog)s --dry-run plan free u-1    what would be sent, with the key masked
  %(prog)s --from users.csv           many: user_id and a column for each dimension,
                                    or user_id,key,value, or JSON Lines of
                                    {"user_id": "u-1", "dimensions": {"plan": "free"}}

Credentials: VWO_ACCOUNT_ID and VWO_SDK_KEY in the environment, a settings file, or
options (which show in process lists). Exit status: 0 everything was delivered,
1 something was not, 2 usage, 130 after Ctrl-C."""

_ERROR = "vwo_push_error"  # the column or member of a reject that says why
_NUL = "\udc00"  # a NUL inside the CSV reader; nothing is ever decoded to it
_LINE = "vwo_push_line"  # the member of a reject that holds a line which is no JSON
MAX_BACKFILL_PENDING = 20_000  # dimensions in memory at a time
MAX_LINE_CHARS = 1_000_000  # of an input file; what is longer is read in pieces


class _Unusable(Exception):
    """An input file or an option that cannot be used; the text is for the user."""


class _NoOutput(Exception):
    """What was to be printed cannot be: a closed pipe, a full disk."""


def _print(text: str, stream: Any) -> None:
    if stream is None:  # closed by whoever started this process
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError as error:
        # What is still in its buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise _NoOutput("the output cannot be written: %s" % error.strerror) from None


def _say(text: str) -> None:
    _print(text + "\n", sys.stdout)


def _complain(text: object) -> None:
    try:
        _print("vwo_push: %s\n" % " ".join(str(text).split()), sys.stderr)
    except _NoOutput:
        pass


def _parser() -> argparse.ArgumentParser:
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            _complain(message + "; see --help")
            self.exit(2)

    class Show(argparse.Action):
        """Prints. argparse does that, too, but may not notice a closed pipe."""

        def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
            _print(self.const or parser.format_help(), sys.stdout)
            parser.exit()

    parser = Parser(
        prog="vwo_push", description="Tag users with custom dimensions in VWO.",
        epilog=_USAGE, formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False)
    add = parser.add_argument
    add("push", nargs="*", metavar="KEY VALUE USER_ID", help="one push")
    add("--demo", action="store_true", help="send pushes to a collector on this machine")
    add("--dry-run", action="store_true", help="print the requests instead of sending")
    add("--from", dest="source", metavar="FILE", help="push every row; - is stdin")
    add("--rejects", metavar="FILE", help="write the rows that were not delivered here")
    add("--skip", type=int, metavar="N", help="pass over the first N rows")
    add("--account-id", metavar="ID", help="default: VWO_ACCOUNT_ID")
    add("--sdk-key", metavar="KEY", help="default: VWO_SDK_KEY")
    add("--settings", metavar="FILE", help="read both from an official settings file")
    add("--collection-prefix", metavar="PREFIX", help="data residency, for example eu01")
    add("--event-arch", action="store_true", help="the account uses events architecture")
    add("--base-url", metavar="URL", help="default: " + BASE_URL)
    add("--timeout", type=float, metavar="SECONDS", help="for one attempt, default 5")
    add("--version", action=Show, nargs=0, const="vwo_push %s\n" % __version__,
        help="print it and exit")
    add("-h", "--help", action=Show, nargs=0, help="print this and exit")
    return parser


def _parse(argv: Optional[Sequence[str]]) -> Any:
    parser = _parser()
    args = parser.parse_args(argv)
    forms = args.demo + (args.source is not None) + bool(args.push)
    if forms != 1:
        parser.error("give KEY VALUE USER_ID, or --from FILE, or --demo")
    if args.push and len(args.push) != 3:
        parser.error("a push is KEY VALUE USER_ID")
    if args.source is None and (args.rejects is not None or args.skip is not None):
        parser.error("--rejects and --skip go with --from")
    if args.skip is not None and args.skip < 0:
        parser.error("--skip must be 0 or more")
    return args


def _nowhere(request: Request, timeout: float) -> int:
    return 200


def _options(args: Any) -> Dict[str, Any]:
    """The arguments of `Client`: options win over the settings, those over the rest."""
    options: Dict[str, Any] = {}
    if args.settings is not None:
        with open(args.settings, "rb") as file:
            options = _from_settings(file.read(MAX_SETTINGS_BYTES))
    else:
        for name in ("account_id", "sdk_key"):
            value = os.environ.get("VWO_" + name.upper())
            if value:
                options[name] = value
    for name in ("account_id", "sdk_key", "collection_prefix", "base_url", "timeout"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    if args.event_arch:
        options["event_arch"] = True
    for name in ("account_id", "sdk_key"):
        if name not in options:
            raise _Unusable("no %s: set VWO_%s" % (name, name.upper()))
    if args.dry_run:  # masked from the start, so that it cannot be printed
        options["sdk_key"] = "X" * len(_key(options["sdk_key"]))
        options["transport"] = _nowhere  # needs no certificates
    return options


def _push_one(args: Any, options: Dict[str, Any]) -> int:
    results: List[PushResult] = []
    with Client(on_result=results.append, **options) as client:
        accepted = client.push(*args.push)  # says why where it refuses
        delivered = accepted and client.flush(None)
    if accepted and not delivered:
        _complain("not delivered: %s" % _why(results[0]))
    _say("true" if delivered else "false")
    return 0 if delivered else 1


def _why(result: PushResult) -> str:
    status = "" if result.status is None else " %d" % result.status
    return "%s%s, attempts: %d" % (result.error, status, result.attempts)


def _show(requests: Iterable[Request]) -> None:
    for request in requests:
        _say("%s %s" % (request.method, request.url))
        for header in request.headers.items():
            _say("%s: %s" % header)
        _say("" if request.body is None else "\n%s\n" % request.body.decode())


# Both formats yield rows of (user id, dimensions, why it cannot be pushed or None, the
# row as it was read), and write the rejected ones back as they were.


class _CsvRows:
    """CSV with a header: wide (a column for each dimension) or user_id, key, value."""

    def __init__(self, lines: Iterator[str]) -> None:
        import csv
        csv.field_size_limit(2 * MAX_LINE_CHARS)  # _line keeps rows below that
        self._lines, self._make_reader, self._writer = lines, csv.reader, csv.writer
        self._size = 0  # characters of the row so far
        self._cut = False  # the row is part of one that is too long
        self._open = False  # the line goes on in the next piece
        header = self._next() or []
        if self._cut:
            raise _Unusable("the header is longer than %d characters" % MAX_LINE_CHARS)
        # A file of rejects has one more column, the last one.
        self._extra = header[-1:] == [_ERROR]
        self.header = header[:-1] if self._extra else header
        if "user_id" not in self.header:
            raise _Unusable("the first line is neither a JSON object nor a comma-separated "
                            "header with user_id")
        if len(set(self.header)) < len(self.header):
            raise _Unusable("a column comes twice in the header")
        if len(self.header) < 2:
            raise _Unusable("no column beside user_id in the header")
        self._long = set(self.header) == {"user_id", "key", "value"}

    def _line(self) -> str:
        """The next line of the row. "" ends it: a quote that is never closed must not
        take in the whole file."""
        if self._size > MAX_LINE_CHARS:
            self._cut = True
            return ""
        line = next(self._lines, "")
        long = len(line) >= MAX_LINE_CHARS
        self._cut = self._cut or long or self._open
        self._open = long and line[-1] not in "\r\n"
        self._size += len(line)
        return line.replace("\0", _NUL)  # until 3.10 the reader refuses the line

    def _next(self) -> Optional[List[str]]:
        self._size, self._cut = 0, False
        return next(self._make_reader(iter(self._line, "")), None)

    def __iter__(self) -> Iterator[_Row]:
        while True:
            row = self._next()
            if row is None:
                return
            if not row:
                continue  # an empty line
            cells = row[:-1] if self._extra else row
            if self._cut:
                yield None, None, "longer than %d characters" % MAX_LINE_CHARS, cells
            elif len(cells) != len(self.header):
                yield None, None, "%d cells instead of %d" % (
                    len(cells), len(self.header)), cells
            elif any(_NUL in cell for cell in cells):
                yield None, None, "a NUL character", cells
            else:
                named = dict(zip(self.header, cells))
                user_id = named.pop("user_id")
                dimensions = ({named["key"]: named["value"]} if self._long else
                              {key: value for key, value in named.items() if value})
                yield user_id, dimensions, None, cells

    def rejected(self, result: PushResult) -> List[str]:
        named = dict(result.dimensions, user_id=result.user_id)
        if self._long:
            (named["key"], named["value"]), = result.dimensions.items()
        return [named.get(name, "") for name in self.header]

    def write(self, file: IO[str], row: List[str], why: str, first: bool) -> None:
        text = io.StringIO()
        writer = self._writer(text)  # its line end, \r\n, has it quote every \r
        if first:
            writer.writerow(self.header + [_ERROR])
        writer.writerow(row + [why])
        file.write(text.getvalue().replace(_NUL, "\0"))


class _JsonRows:
    """JSON Lines: {"user_id": ..., "dimensions": {...}}."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[_Row]:
        for line in self._lines:
            if line.strip():
                yield self._row(line.strip())

    def _row(self, line: str) -> _Row:
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            return None, None, "not JSON", {_LINE: line}
        if not _is_mapping(row):
            return None, None, "not a JSON object", {_LINE: line}
        row.pop(_ERROR, None)
        if len(row) == 1 and type(row.get(_LINE)) is str:
            return self._row(row[_LINE])  # a reject that was not JSON, fed back
        if not _is_mapping(row.get("dimensions")):
            return None, None, "dimensions is not an object", row
        return row.get("user_id"), row["dimensions"], None, row

    def rejected(self, result: PushResult) -> Dict[str, Any]:
        return {"user_id": result.user_id, "dimensions": result.dimensions}

    def write(self, file: IO[str], row: Dict[str, Any], why: str, first: bool) -> None:
        file.write(json.dumps(dict(row, **{_ERROR: why})) + "\n")


def _open_rows(text: IO[str]) -> Union[_CsvRows, _JsonRows]:
    """Tell the format by the first character."""
    lines = iter(lambda: text.readline(MAX_LINE_CHARS), "")
    for first in lines:
        if first.strip():
            _load(network=False)
            rest = _chain(first, lines)
            return _JsonRows(rest) if first.lstrip()[0] == "{" else _CsvRows(rest)
    return _JsonRows(lines)  # no row: a file of rejects that has none, fed back


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    for line in rest:
        yield line


class _Progress:
    """Says on stderr how far a backfill is: on one line of a terminal, else every 10 s."""

    def __init__(self, size: int, position: Callable[[], int]) -> None:
        self._size, self._position = size, position
        self._terminal = bool(sys.stderr and sys.stderr.isatty())
        self._every = 0.2 if self._terminal else 10.0
        self._began = self._last = monotonic()

    def show(self, done: int, failed: int, finished: bool = False) -> None:
        now = monotonic()
        if now - self._last < self._every and not (finished and self._terminal):
            return
        self._last, seconds = now, max(now - self._began, 0.001)
        text = "%d done, %d/s, %d failed" % (done, done / seconds, failed)
        part = self._position() / self._size if self._size else 0.0
        if 0 < part < 1 and not finished:
            text += ", %d s left" % (seconds / part - seconds)
        if self._terminal:
            sys.stderr.write("\r\x1b[K" + text + ("\n" if finished else ""))
            sys.stderr.flush()
        else:
            _complain(text)


class _Backfill:
    """Pushes every row of a file. read == delivered + rejected + skipped, always.

    Rows are read and pushed on the main thread, results come from the workers; lock
    guards the counts and the file of rejects.
    """

    def __init__(self, rows: Union[_CsvRows, _JsonRows], rejects: Optional[IO[str]],
                 progress: _Progress) -> None:
        self._rows, self._rejects, self._progress = rows, rejects, progress
        self._lock = threading.Lock()
        self._room = threading.Event()  # something was settled
        self._reading = False
        self._pending = 0  # dimensions
        self.interrupts = 0
        self.read = self.delivered = self.rejected = self.skipped = 0
        self.reasons: Dict[str, int] = {}
        self.trouble: Optional[str] = None  # with the files; it ends the reading

    def on_result(self, result: PushResult) -> None:
        with self._lock:
            self._pending -= len(result.dimensions)
            self.delivered += result.delivered
        if not result.delivered:
            self._reject(self._rows.rejected(result), _why(result))
        self._room.set()

    def on_interrupt(self, *_: object) -> None:
        self.interrupts += 1
        if self._reading:  # nothing else is interrupted, or the rows would not add up
            raise KeyboardInterrupt

    def _next(self, rows: Iterator[_Row]) -> Optional[_Row]:
        """The next row, or None at the end, or after a Ctrl-C or an error."""
        try:
            self._reading = True
            if self.interrupts:  # asked after that: this read would not be ended
                return None
            return next(rows, None)
        except KeyboardInterrupt:
            return None
        except OSError as error:
            self._reading = False  # here, or a Ctrl-C would be raised in this block
            self.trouble = "the input cannot be read after row %d: %s" % (
                self.read, error.strerror or error)
            return None
        finally:
            self._reading = False

    def each(self, skip: int, handle: Callable[[str, Dict[str, str]], None]) -> None:
        """Call *handle* with every row that is valid."""
        rows = iter(self._rows)
        while not self.trouble:
            row = self._next(rows)
            if row is None:
                break
            self.read += 1
            user_id, dimensions, problem, original = row
            if self.read <= skip:
                self.skipped += 1
                continue
            try:
                if problem:
                    raise _Invalid(problem)
                _checked((), {"custom_dimension_map": dimensions, "user_id": user_id})
                handle(user_id, dimensions)
            except _Invalid as invalid:
                self._reject(original, str(invalid))
            self._progress.show(self.delivered, self.rejected)

    def send(self, client: Client, skip: int) -> None:
        def handle(user_id: str, dimensions: Dict[str, str]) -> None:
            size = len(dimensions)
            if size > MAX_BACKFILL_PENDING:
                raise _Invalid("more than %d dimensions" % MAX_BACKFILL_PENDING)
            while self._pending + size > MAX_BACKFILL_PENDING:
                if self.interrupts:
                    self.read -= 1  # not pushed: the first one after --skip
                    return
                self._wait(client)
            with self._lock:
                self._pending += size
            if not client.push(dimensions, user_id):
                raise _Invalid("interrupted")

        self.each(skip, handle)
        until = monotonic() + 10 if self.interrupts else float("inf")
        while client.stats()["pending"] and self.interrupts < 2 and monotonic() < until:
            self._wait(client)
            if self.interrupts and until == float("inf"):
                until = monotonic() + 10
        client.close(0)
        self._progress.show(self.delivered, self.rejected, finished=True)

    def _wait(self, client: Client) -> None:
        if not self._room.wait(0.1) and not client._sender().workers:  # pyright: ignore
            client.flush(10)  # no thread is to be had: send on this one
        self._room.clear()
        self._progress.show(self.delivered, self.rejected)

    def close_rejects(self) -> None:
        try:
            if self._rejects is not None:
                self._rejects.close()
        except OSError as error:
            self._cannot_reject(error)

    def _reject(self, row: Any, why: str) -> None:
        with self._lock:
            self.rejected += 1
            self.reasons[why] = self.reasons.get(why, 0) + 1
            try:
                if self._rejects is not None:
                    self._rows.write(self._rejects, row, why, self.rejected == 1)
            except Exception as error:  # a full disk: said at the end
                self._cannot_reject(error)

    def _cannot_reject(self, error: Exception) -> None:
        self.trouble = self.trouble or "the rejects cannot be written: %s" % error


def _push_many(args: Any, options: Dict[str, Any]) -> int:
    import signal
    with _open_source(args.source) as source:
        size = os.fstat(source.fileno()).st_size if args.source != "-" else 0
        # Bytes that are not UTF-8 become lone surrogates, which no push accepts and a
        # file of rejects writes back as they were. Named, because it closes source when
        # it goes, and the progress still asks that for its position.
        text = io.TextIOWrapper(source, "utf-8-sig", "surrogateescape", newline="")
        rows = _open_rows(text)
        # Made before the rejects are emptied: it may refuse its options. Twice the room:
        # a push frees its own a moment after its result.
        client = Client(max_batch=1000, max_pending=2 * MAX_BACKFILL_PENDING,
                        on_result=lambda result: backfill.on_result(result), **options)
        backfill = _Backfill(rows, _open_rejects(args, source),
                             _Progress(size, source.tell))
        try:
            before = signal.signal(signal.SIGINT, backfill.on_interrupt)
        except ValueError:  # not on the main thread
            before = None
        try:
            if args.dry_run:
                backfill.each(args.skip or 0, lambda user_id, dimensions: _show(
                    client.requests_for(dimensions, user_id)))
            else:
                backfill.send(client, args.skip or 0)
            backfill.close_rejects()
            return _summary(args, backfill)
        finally:
            backfill.close_rejects()
            if before is not None:
                signal.signal(signal.SIGINT, before)


def _summary(args: Any, backfill: _Backfill) -> int:
    for why, number in sorted(backfill.reasons.items(), key=lambda item: -item[1])[:10]:
        _complain("%d rejected: %s" % (number, why))
    if not args.dry_run:
        _say("read %d, delivered %d, rejected %d, skipped %d" % (
            backfill.read, backfill.delivered, backfill.rejected, backfill.skipped))
        if backfill.rejected and args.rejects is None:
            _complain("--rejects FILE would have kept the rows that were rejected")
    if backfill.trouble is not None:
        _complain(backfill.trouble)
    if backfill.interrupts:
        _complain("interrupted; resume with --skip %d" % backfill.read)
        return 130
    return 1 if backfill.rejected or backfill.trouble else 0


def _open_source(name: str) -> Any:
    if name != "-":
        return open(name, "rb")
    if sys.stdin is None:
        raise _Unusable("stdin is closed")
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb")


def _open_rejects(args: Any, source: Any) -> Optional[IO[str]]:
    if args.rejects is None:
        return None
    if os.path.exists(args.rejects) and os.path.samestat(
            os.fstat(source.fileno()), os.stat(args.rejects)):
        raise _Unusable("--rejects must not be the file that is read")
    return open(args.rejects, "w", encoding="utf-8", errors="surrogateescape",
                newline="")


def _read_back(path: str, body: bytes) -> Iterator[Tuple[str, Dict[str, str]]]:
    """(visitor UUID, dimensions) of a request, as VWO's server would read them."""
    url = urllib.parse.urlsplit(path)
    query = dict(urllib.parse.parse_qsl(url.query, errors="strict"))
    if url.path.endswith("/push"):
        yield query["u"], json.loads(query["tags"])["u"]
    elif url.path.endswith("/batch-events"):
        for event in json.loads(body)["ev"]:
            yield event["u"], json.loads(event["t"])["u"]
    else:
        data = json.loads(body)["d"]
        del data["visitor"]["props"][RESERVED_KEY]
        yield data["visId"], data["visitor"]["props"]


def _demo_pushes(url: str) -> Tuple[bool, List[str]]:
    """Make the pushes of the demo: whether they were delivered, and both stats."""
    before = os.environ.get("no_proxy")
    os.environ["no_proxy"] = "*"  # a proxy could not reach this collector
    try:
        client = Client(1, "demo-key", base_url=url)
        events = Client(1, "demo-key", base_url=url, event_arch=True)
    finally:
        del os.environ["no_proxy"]
        if before is not None:
            os.environ["no_proxy"] = before
    with client, events:
        client.push("plan", "premium", "user-42")
        delivered = client.flush(10)
        client.push({"plan": "free", "city": 'Z\xfcrich "100%" + \U0001f600'}, "user-7")
        delivered &= client.flush(10)
        events.push("plan", "premium", "user-8")
        delivered &= events.flush(10)
        return delivered, [json.dumps(each.stats()) for each in (client, events)]


def _demo() -> int:
    """Send real pushes to a collector in this process, and show what arrives."""
    import http.server
    import socketserver
    users = {visitor_uuid(1, user): user for user in ("user-42", "user-7", "user-8")}
    arrived: List[str] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            arrived.append("\n%s\n%s%s" % (self.requestline, self.headers, body.decode()))
            for visitor, dimensions in _read_back(self.path, body):
                arrived.append("  read back: user %s, visitor %s, %s" % (
                    users[visitor], visitor, json.dumps(dimensions, ensure_ascii=False)))
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Collector) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        url = "http://127.0.0.1:%d" % server.server_address[1]
        _say("A collector listens at %s; these pushes go to it:" % url)
        delivered, stats = _demo_pushes(url)
        server.shutdown()
    for text in arrived:
        _say(text)
    _say("\nstats: %s\nstats of the other client, with event_arch: %s" % tuple(stats))
    return 0 if delivered else 1


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line with *argv* (default: `sys.argv`); return the exit status."""
    try:
        args = _parse(argv)
        if args.demo:
            return _demo()
        options = _options(args)
        if args.source is not None:
            return _push_many(args, options)
        if args.dry_run:
            _show(Client(**options).requests_for(*args.push))
            return 0
        return _push_one(args, options)
    except SystemExit as stop:  # argparse has said what it had to say
        return int(stop.code or 0)
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except _NoOutput as error:  # `| head` has seen enough, or a full disk
        _complain(error)
        return 1
    except OSError as error:
        _complain("%s: %s" % (error.filename, error.strerror) if error.filename else error)
    except (_Unusable, TypeError, ValueError, RuntimeError) as error:
        _complain(error)  # RuntimeError: no thread for the demo's collector
    return 2


if __name__ == "__main__":
    sys.exit(main())


# MIT License
#
# Copyright (c) 2026 The vwo_push authors
#
# Permission is hereby granted, free of charge, to any person obtaining a copy
# of this software and associated documentation files (the "Software"), to deal
# in the Software without restriction, including without limitation the rights
# to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
# copies of the Software, and to permit persons to whom the Software is
# furnished to do so, subject to the following conditions:
#
# The above copyright notice and this permission notice shall be included in all
# copies or substantial portions of the Software.
#
# THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
# IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
# FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
# AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
# LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
# OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
# SOFTWARE.
