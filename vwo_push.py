# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vwo_push authors. The full licence stands at the end of this file.
"""Tag users with custom dimensions in VWO, without making anybody wait for it.

    import vwo_push

    client = vwo_push.Client(account_id=123456, sdk_key="your SDK key", fme=True)
    client.push("plan", "premium", "user-42")                     # True, at once
    client.push({"plan": "premium", "country": "IN"}, "user-43")  # several, all or nothing
    client.flush(timeout=2.0)                                     # True: VWO has them all

``fme=True`` is for an FME account; leave it out for a FullStack account. One file,
standard library only, CPython 3.9 and later, PyPy 3.11 and later. Copy it anywhere, under
any name. ``python3 vwo_push.py --demo`` shows a push arriving, with no account and no
network; ``--check`` says why nothing arrives; ``--help`` lists the rest.

* `Client.push` waits for no network and no other thread's work, and raises nothing for
  what it is given. True: accepted, and will be sent. False: refused, and the log says why.
* Every accepted push ends in exactly one outcome: `Client.stats` counts it, `flush` and
  `close` answer for it, and ``on_result`` is called with it.
* Memory, threads, attempts and waits are bounded, most of them by an option of `Client`.
* Pushes live in memory. Those that are pending when the process is killed, or when the
  time for its exit is over, are gone: call `flush` before a Lambda handler returns.
* In rare cases a push arrives twice. The order is kept only with ``max_workers=1``.

The sections of this file: laws (limits, the clock, imports, interrupts), validation, wire
(what is sent, byte by byte), edge (a kept-alive connection), notices (counters, the log),
sender (pending pushes, workers, retries: the state, and its lock), process (fork and exit),
Client, settings, input files, command line. The way of one push, in the order to read::

    the caller:     Client.push -> _checked -> _Sender.accept -> call_another -> hire, wake
    a worker:       work -> serve -> park -> take -> deliver (first sends, then settles)
      it sends:     _parts -> send -> pause -> attempt -> _Connection.exchange
      it settles:   settle -> claim -> report -> strike
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
import time
from collections import deque, namedtuple
from functools import partial
from itertools import chain, count, islice, repeat, starmap
from os import getpid
from types import SimpleNamespace

__all__ = ["Client", "PushResult", "Request", "fetch_settings", "visitor_uuid"]
__version__ = "2.0.0"

TYPE_CHECKING = False  # type checkers take it for true; importing typing costs 5-10 ms
if TYPE_CHECKING:
    import calendar
    import email.utils
    import hashlib
    import http.client
    import json
    import math
    import random
    import re
    import select
    import signal
    import socket
    import ssl
    import urllib.parse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import FrameType
    from typing import IO, Any, NamedTuple, NoReturn, Optional, TypeVar, Union, overload

    _Method = TypeVar("_Method", bound=Callable[..., Any])
    _Value = Union[str, bool, int, float]  # of a dimension; FullStack has str only
    _Config = SimpleNamespace  # options, and what Client.__init__ and _prepare add
    _Rule = tuple[str, tuple[type, ...], str, Callable[[Any], Any]]  # see _OPTIONS
    # (time of the push in seconds since 1970, user id, key, value, key, value, ...)
    _Push = tuple[Any, ...]
    # (a request's builder, what it builds from, indices of the pushes in their batch)
    _Part = tuple[Callable[["_Config", Any, str], "Request"], Any, Sequence[int]]
    # (status, error, detail, attempts) of one request, as in a PushResult
    _Outcome = tuple[Optional[int], Optional[str], Optional[str], int]
else:
    def NamedTuple(name, fields):
        return namedtuple(name, [field for field, _ in fields])


# -- Laws: limits, the clock, imports, interrupts ----------------------------------------

BASE_URL = "https://dev.visualwebsiteoptimizer.com"  # VWO's only host, in every SDK
SDK_NAME = "vwo-push-python"
MAX_TEXT_CHARS = 255  # code points of a key or a value; VWO's limit
MAX_WHOLE = 2 ** 53  # of an int in FME; JSON readers round integers beyond it
RESERVED_KEY = "vwo_fs_environment"  # in events it names the environment
MAX_URL_BYTES = 2_000  # a longer GET goes as a batch of one: proxies cut URLs off
MAX_BODY_BYTES = 10_000_000  # VWO answers 413 beyond 10 MB
MAX_EVENTS = 5_000  # in one batch; VWO's limit
MAX_TAKEN = 4  # pushes in a _Batch where max_batch is 1; a sixth faster than one by one
MAX_ANSWER_BYTES = 64 * 1024  # a longer answer is not read: its connection is closed
MAX_SETTINGS_BYTES = 8 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS = 30.0  # however long the server asks for
BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 8.0  # full jitter up to 0.5, 1, 2, 4, 8, 8 ...
MAX_CONNECT_SECONDS = 1e6  # in one try; a socket takes no timeout of a month
NEXT_ADDRESS_SECONDS = 0.3  # for one address, where the host has several; RFC 8305
IDLE_SECONDS = 5.0  # then a connection is closed
SLOW_SECONDS = 0.005  # a worker that waits longer calls another to go on meanwhile
SLICE_SECONDS = 0.1  # one sleep of a backoff or a flush, which then looks for changes
LOG_SECONDS = 30.0  # between two lines of one kind
JOIN_SECONDS = 0.2  # close and exit wait so long for workers that were stopped
FORK_SECONDS = 1.0  # a fork waits so long for threads inside OpenSSL
END_SECONDS = 0.02  # a fork waits until the last end of a worker is so long ago
FROZEN_SECONDS = 1.0  # overslept by more than this: the process was frozen (Lambda)


# The clock of all waits. Not time.monotonic: freezegun and time-machine stop it, and a wait
# on a stopped clock has no end. They do not replace what a partial holds.
_now: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_MONOTONIC) if hasattr(time, "CLOCK_MONOTONIC")
    else partial(time.perf_counter))

# Bound by _load. They are two or three times as fast as json.dumps and quote.
_quoted: Callable[[Any], str]  # a value as JSON
_escapes: dict[int, str]  # an ASCII character as a URL has it


def _load(network: bool) -> None:
    """Import all that sending needs, and bind it to this module's names.

    Constructors call it: then importing this file is cheap, and no worker ever imports. A
    fork during an import would leave the import lock held in the child for ever. So this
    imports, too, what the standard library would import later.
    """
    global calendar, email, hashlib, http, json, math, random, re, select, signal, socket
    global ssl, urllib, Mapping, _quoted, _escapes
    if "_escapes" in globals() and not network:
        return
    import hashlib
    import json
    import math
    import random
    import re
    import signal
    import urllib.parse
    from collections.abc import Mapping  # before 3.13 that is a file of its own
    if network:
        import calendar
        import email.utils
        import http.client
        import select
        import socket
        "localhost".encode("idna")  # imports the codec that getaddrinfo and TLS use
        try:
            import ssl
        except ImportError:  # a Python built without OpenSSL can still speak http://
            pass
    _quoted = json.JSONEncoder().encode
    _escapes = {code: urllib.parse.quote(chr(code), safe="") for code in range(128)}


def _is_interrupt(error: BaseException) -> bool:
    """Did a signal handler raise *error*: a Ctrl-C, an exit, a time limit?

    A handler may raise any exception at any bytecode of the main thread. It must reach the
    caller; an error of the code that we called must not. An Exception is known by the
    handler's frame in its traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if not isinstance(error, Exception):
        return True
    numbers = range(1, getattr(signal, "NSIG", 1))  # WASI knows no signal
    codes: list[Any] = [
        getattr(each, "__code__", None)
        # SIG_DFL is not callable: its type's __call__ runs in every look-up in any enum.
        for handler in filter(callable, map(signal.getsignal, numbers))
        # The handler is a function, a functools.partial, or an object with __call__.
        for each in (handler, getattr(handler, "func", None), type(handler).__call__)]
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code not in codes:
        trace = trace.tb_next
    return trace is not None


def _under(lock: Any, call: Callable[..., Any], *args: Any) -> Any:
    """Hold the RLock *lock*, and return call(*args).

    Not ``with``: on CPython 3.9, 3.14 and PyPy an interrupt can come after the lock is
    taken and before the block begins. Then the lock would stay taken for ever.
    """
    nested = lock._is_owned()  # a signal handler or a finaliser has interrupted a call
    try:
        try:
            if not nested:
                lock.acquire()
            return call(*args)
        finally:
            if not nested and lock._is_owned():
                lock.release()
    finally:  # again: an interrupt may have come before the first one released it
        if not nested and lock._is_owned():
            lock.release()


def _place(error: BaseException) -> str:
    """Type, file and line of an error in somebody else's code; its text may be private."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error).__name__ + ("" if trace is None else " at %s:%d" % (
        trace.tb_frame.f_code.co_filename, trace.tb_lineno))


# -- Visitor and validation: pure --------------------------------------------------------

_UUID_NAMESPACE = bytes.fromhex("11e13cd76c4853ec86797e9c752273c5")  # of https://vwo.com
_UUID_VARIANT = dict(zip("0123456789ABCDEF", "89AB" * 4))  # with the high bits 10
# The two forms of push.
_SINGLE = "custom_dimension_key", "custom_dimension_value", "user_id"
_SEVERAL = "custom_dimension_map", "user_id"
_OF_ONE_FORM = {*_SINGLE} ^ {*_SEVERAL}


class Invalid(ValueError, TypeError):
    """An argument is refused. *kind* says what is wanted, *given* the type or the length
    of what came, never its value. One warning covers all refused pushes of a *kind*.
    Callers may expect a ValueError or a TypeError: it is both."""

    def __init__(self, kind: str, given: str = "") -> None:
        super().__init__(kind + ", not " + given if given else kind)
        self.kind = kind


def _plain(value: Any) -> Any:
    """Turn a subclass of str, which may lie about its text, into a str; leave all else."""
    # Not isinstance: it believes a lying __class__.
    return str.__str__(value) if issubclass(type(value), str) else value


def _text(name: str, value: Any, most: int = sys.maxsize, least: int = 1) -> str:
    """Return *value* as an exact str of *least* to *most* code points, or raise."""
    text = _plain(value)
    if type(text) is not str:
        raise Invalid(name + " must be a str", type(value).__name__)
    if len(text) < least:
        raise Invalid(name + " must not be empty")
    if len(text) > most:
        raise Invalid("%s must have at most %d characters" % (name, most), str(len(text)))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(name + " cannot be encoded as UTF-8") from None
    return text


def _digits(account_id: Any) -> str:
    """Return the digits of an int of at least 0 or of a decimal str; "" of all else."""
    # Python refuses to write out thousands of digits.
    whole = type(account_id) is int and 0 <= account_id < 10 ** 99
    text = str(account_id) if whole else _plain(account_id)
    return text if type(text) is str and re.fullmatch("[0-9]+", text) else ""


def _uuid5(namespace: bytes, name: str) -> str:
    """RFC 4122 version 5, in upper-case hex. `uuid.uuid5` takes three times as long, for
    every push. An account's UUID in _UUID_NAMESPACE is the namespace of its visitors."""
    digits = hashlib.sha1(namespace + name.encode()).hexdigest().upper()
    return "%s5%s%s%s" % (digits[:12], digits[13:16], _UUID_VARIANT[digits[16]],
                          digits[17:32])


def visitor_uuid(account_id: int | str, user_id: str) -> str:
    """Return the UUID under which VWO knows *user_id*: 32 upper-case hex digits.

    *account_id* is an int of at least 0 or a decimal string, hashed as it is written:
    "012345" is not 12345. *user_id* is any str that can be encoded as UTF-8. The same
    pair has the same UUID in every VWO SDK. Raises `ValueError`.
    """
    _load(network=False)
    account, name = _digits(account_id), _text("user_id", user_id, least=0)
    if not account:
        raise Invalid("account_id must be an int of at least 0, or its digits")
    return _uuid5(bytes.fromhex(_uuid5(_UUID_NAMESPACE, account)), name)


def _is_mapping(value: Any) -> bool:
    return issubclass(type(value), Mapping)


def _checked_value(value: Any, fme: bool) -> Any:
    """Return *value*, which may be a number or a bool in FME, or raise `Invalid`."""
    name = "custom_dimension_value"
    if not fme or type(value) is str:
        return _text(name, value, MAX_TEXT_CHARS)
    if type(value) not in (bool, int, float):
        raise Invalid(name + " must be a str, bool, int or float", type(value).__name__)
    if type(value) is float and not math.isfinite(value):
        raise Invalid(name + " must be finite", str(abs(value)))
    if type(value) is int and abs(value) > MAX_WHOLE:
        raise Invalid(name + " must be between -2**53 and 2**53")
    return value


def _items(args: Sequence[Any], kwargs: Mapping[str, Any],
           ) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return the user id and the (key, value) pairs of a push, in either of its forms."""
    # A wrapper around both forms may give None for what its caller left out.
    kwargs = {name: value for name, value in kwargs.items()
              if value is not None or name not in _OF_ONE_FORM}
    number = len(args) + len(kwargs)
    form = _SEVERAL if number == 2 else _SINGLE
    given = dict(zip(form, args), **kwargs)
    if number == len(form) and given.keys() == {*form}:  # and none given twice
        if form is _SINGLE:
            key, value, user_id = [given[name] for name in form]
            return user_id, [(key, value)]
        if _is_mapping(given["custom_dimension_map"]):
            return given["user_id"], list(dict(given["custom_dimension_map"]).items())
    types = ", ".join([type(value).__name__ for value in (*args, *kwargs.values())])
    raise Invalid("push takes (key, value, user_id) or (map, user_id)", "(%s)" % types)


def _checked(fme: bool, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Push:
    """Return the push that `Client.push` is asked for, made now, or raise `Invalid`."""
    now = time.time()
    try:
        user_id, items = _items(args, kwargs)
        if not items:
            raise Invalid("custom_dimension_map must not be empty")
        push = [now, _text("user_id", user_id)]
        for key, value in items:
            key = _text("custom_dimension_key", key, MAX_TEXT_CHARS)
            if key == RESERVED_KEY:
                raise Invalid("custom_dimension_key must not be %s, which VWO reserves"
                              % RESERVED_KEY)
            push += key, _checked_value(value, fme)
        return tuple(push)
    except Exception as error:  # the code of a caller's own class may raise what it likes
        if isinstance(error, Invalid) or _is_interrupt(error):
            raise
        raise Invalid("custom_dimension_map cannot be read: "
                      + type(error).__name__) from None


# -- Wire: what is sent. Pure: no clock, no state; random is what _nonce is given --------

_HEADERS = {"User-Agent": "%s/%s" % (SDK_NAME, __version__)}
_JSON_HEADERS = {**_HEADERS, "Content-Type": "application/json"}
# Which SDK is asking, in a query.
_FULLSTACK_SDK = "sdk=%s&sdk-v=%s" % (SDK_NAME, __version__)
_FME_SDK = "sn=%s&sv=%s" % (SDK_NAME, __version__)


class Request(NamedTuple("Request", [
        ("method", str), ("url", str), ("headers", "dict[str, str]"),
        ("body", "Optional[bytes]")])):
    """One HTTP request: method (str), url (str), headers (dict), body (bytes or None).

    Its `repr` leaves out the query, the headers and the body, which hold the SDK key
    and the visitor's dimensions.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<Request %s %s, query masked, body of %d bytes>" % (
            self.method, self.url.partition("?")[0], len(self.body or b""))


def _nonce(source: random.Random) -> str:
    """A random decimal of 18 characters. It keeps caches from answering."""
    return "%.16f" % source.random()


def _prepare(config: _Config) -> None:
    """Encode, once, what all requests of a client share."""
    # Workers never call urllib.parse.quote: on PyPy a fork would leave its lock taken.
    config.url_key = config.sdk_key.translate(_escapes)
    config.namespace = bytes.fromhex(_uuid5(_UUID_NAMESPACE, config.account_id))
    environment = {RESERVED_KEY: config.sdk_key}
    config.environment = _quoted(environment)[:-1]  # _event adds the dimensions, and }
    config.properties = _quoted({
        "vwo_sdkName": SDK_NAME, "vwo_sdkVersion": __version__,
        "vwo_envKey": config.sdk_key, "isCustomEvent": True,
        **(environment if config.fme else {})})


def _visitor(config: _Config, user_id: str) -> str:
    # The length first: with the pattern alone, each event takes a fifth longer.
    if (config.web_visitors and len(user_id) == 33
            and re.fullmatch("[DJ][0-9A-Fa-f]{32}", user_id)):
        return user_id  # the UUID that the web tag keeps in a browser
    return _uuid5(config.namespace, user_id)


def _tags(key: str, value: str) -> str:
    """One dimension as the JSON text that both FullStack endpoints take.

    It is ASCII without % and +: a server that URL-decodes it once more changes nothing.
    """
    text = '{"u": {%s: %s}}' % (_quoted(key), _quoted(value))
    return text.replace("%", "\\u0025").replace("+", "\\u002b")


def _event(config: _Config, push: _Push) -> str:
    """One push as the JSON of an event, in FME and in FullStack's events architecture."""
    visitor, milliseconds = _visitor(config, push[1]), int(push[0] * 1000)
    dimensions = "".join([", %s: %s" % (_quoted(push[at]), _quoted(push[at + 1]))
                          for at in range(2, len(push), 2)])
    return ('{"d": {"msgId": "%s-%d", "visId": "%s", "sessionId": %d, '
            '"event": {"props": %s, "name": "vwo_syncVisitorProp", "time": %d}, '
            '"visitor": {"props": %s%s}}}}' % (
                visitor, milliseconds, visitor, push[0], config.properties,
                milliseconds, config.environment, dimensions))


def _batch_events(config: _Config, push: _Push) -> list[str]:
    """What a batch holds of one push: in FME one event, else one for each dimension."""
    if config.fme:
        return [_event(config, push)]
    visitor = _visitor(config, push[1])
    return ['{"u": "%s", "sId": %d, "t": %s, "eT": 3}' % (
        visitor, push[0], _quoted(_tags(push[at], push[at + 1])))
        for at in range(2, len(push), 2)]


def _get_request(config: _Config, dimension: tuple[_Push, int], nonce: str) -> Request:
    """GET /server-side/push: one *dimension*, given as its push and its key's index."""
    push, at = dimension
    tags = _tags(push[at], push[at + 1]).translate(_escapes)
    url = ("%s/server-side/push?account_id=%s&u=%s&sId=%d&random=%s&env=%s&ap=server&%s"
           "&tags=%s" % (config.base_url, config.account_id, _visitor(config, push[1]),
                         push[0], nonce, config.url_key, _FULLSTACK_SDK, tags))
    return Request("GET", url, {**_HEADERS}, None)


def _event_request(config: _Config, push: _Push, nonce: str) -> Request:
    """POST /events/t: one push."""
    url = ("%s/events/t?en=vwo_syncVisitorProp&a=%s&env=%s&eTime=%d&random=%s&p=FS"
           "&visitor_ua=&visitor_ip=" % (config.base_url, config.account_id,
                                         config.url_key, int(push[0] * 1000), nonce))
    if config.fme:
        url += "&" + _FME_SDK
    return Request("POST", url, {**_JSON_HEADERS}, _event(config, push).encode())


def _batch_request(config: _Config, events: Sequence[str], nonce: str) -> Request:
    """POST /server-side/batch-events: several events. Every builder takes a *nonce*."""
    path = "batch-events-v2?a=%s&env=%s&" + _FME_SDK if config.fme else (
        "batch-events?a=%s&" + _FULLSTACK_SDK + "&env=%s")
    url = config.base_url + "/server-side/" + path % (config.account_id, config.url_key)
    headers = {**_JSON_HEADERS, "Authorization": config.sdk_key}
    body = '{"ev": [%s]}' % ", ".join(events)
    return Request("POST", url, headers, body.encode())


def _batch_parts(config: _Config, pushes: Sequence[_Push]) -> list[_Part]:
    """Batch requests for *pushes*, split by count and by size."""
    parts: list[_Part] = []
    events: list[str] = []
    members: list[int] = []
    left = size = 0  # how many more events fit into the last part; its bytes
    for index, push in enumerate(pushes):
        added = _batch_events(config, push)
        if left < len(added) <= config.max_batch:
            left = 0  # a map that fits into one request is not torn
        for event in added:
            size += len(event) + 2  # with its separator
            if not left or size > MAX_BODY_BYTES:
                events, members = [], []
                parts.append((_batch_request, events, members))
                left, size = config.max_batch, len(event) + 32  # with the frame
            events.append(event)
            members.append(index)
            left -= 1
    return parts


def _parts(config: _Config, pushes: Sequence[_Push]) -> list[_Part]:
    """The requests for *pushes*, not built yet."""
    batches = config.max_batch > 1
    if batches and len(pushes) != 1:
        return _batch_parts(config, pushes)
    if config.fme or config.event_arch:
        return [(_event_request, push, (index,)) for index, push in enumerate(pushes)]
    gets: list[_Part] = [(_get_request, (push, at), (index,))
                         for index, push in enumerate(pushes)
                         for at in range(2, len(push), 2)]
    if batches and (len(gets) > 1 or len(
            _get_request(config, gets[0][1], "0" * 18).url) > MAX_URL_BYTES):
        return _batch_parts(config, pushes)
    return gets


def _halves(part: _Part) -> list[_Part]:
    """*part* in two, or nothing where it cannot be split."""
    build, payload, members = part
    if build is not _batch_request or len(payload) < 2:
        return []
    middle = len(payload) // 2
    return [(build, payload[:middle], members[:middle]),
            (build, payload[middle:], members[middle:])]


# -- Edge: one kept-alive HTTP connection ------------------------------------------------


class _Failure(Exception):
    """An attempt that did not deliver. *kind* is a `PushResult.error`, *detail* says why
    in words; *retry*: may another attempt help? *wait* is the Retry-After in seconds."""

    def __init__(self, kind: str, detail: str, retry: bool = True,
                 status: int | None = None, wait: float = 0.0) -> None:
        super().__init__("%s, %s" % (kind, detail))
        self.kind, self.detail, self.retry = kind, detail, retry
        self.status, self.wait = status, wait


_URL = (  # matched without regard to case
    r"(?:(https?)://)?"
    r"([^/]*@)?"  # user:password@
    r"(\[[0-9a-f:.]+(?:%\w+)?\]"  # an IPv6 address,
    r"|(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?)"  # or a name
    r"(?::([0-9]{1,5}))?"
    r"(/[\w/.~!$&'()*+,;=:%-]*)?")


def _split(url: str) -> tuple[str, str, str, int, str]:
    """Return (scheme, "user:password@", host, port, path) of *url*. A part that it lacks
    is "" or 0; where it is no URL, all parts are."""
    match = re.fullmatch(_URL, url, re.ASCII | re.IGNORECASE)
    if match is None or not 0 < int(match[4] or 1) < 2 ** 16:
        return "", "", "", 0, ""
    scheme, login, host, port, path = match.groups("")
    return scheme.lower(), login, host.lower(), int(port or 0), path


def _proxy_for(scheme: str, host: str, port: int,
               ) -> tuple[str, int, dict[str, str]] | None:
    """(host, port, headers) of the proxy that the environment names, if any. Does not ask
    macOS for its proxies: that crashes a forked child."""
    if not any(name.lower() == scheme + "_proxy" for name in os.environ):
        return None
    import base64
    from urllib import request  # 5 ms, for the few who have a proxy
    untyped: Any = request  # typeshed does not know these two functions
    text = untyped.getproxies_environment().get(scheme)
    if not text or untyped.proxy_bypass_environment("%s:%d" % (host, port)):
        return None
    kind, login, proxy, number, path = _split(text)
    if not proxy or kind == "https" or path.strip("/"):
        raise ValueError(
            "%s_PROXY must be http://host:port or http://user:password@host:port, with "
            "%%2F for /; or give a transport for another kind of proxy" % scheme.upper())
    headers: dict[str, str] = {}
    if login:
        login = login[:-1] + ("" if ":" in login else ":")  # without its @
        pair = base64.b64encode(urllib.parse.unquote_to_bytes(login))
        headers["Proxy-Authorization"] = "Basic " + pair.decode()
    return proxy.strip("[]"), number or 80, headers


def _tls_context() -> ssl.SSLContext:
    """A context that verifies. Raises `ValueError` where every handshake would fail."""
    if "ssl" not in globals():
        raise ValueError("base_url is https, and this Python has no ssl module: "
                         "use an http:// base_url, or a transport")
    try:
        context = ssl.create_default_context()
        context.minimum_version = max(  # Python 3.9 alone would take TLS 1.0
            context.minimum_version, ssl.TLSVersion.TLSv1_2)
        if os.environ.get("SSL_CERT_FILE"):  # OpenSSL would ignore an unreadable one
            context.load_verify_locations(cafile=os.environ["SSL_CERT_FILE"])
        context.set_alpn_protocols(["http/1.1"])
        folder = ssl.get_default_verify_paths().capath  # perhaps of SSL_CERT_DIR
        try:
            found = context.cert_store_stats()["x509_ca"] or folder and os.listdir(folder)
        except NotImplementedError:  # truststore: its certificates are the system's
            found = True
        if not found:
            raise ValueError("none found")
    except Exception as error:  # a library that replaces SSLContext may raise any class
        why = str(error) or type(error).__name__
        raise ValueError("the CA certificates cannot be used: %s; see SSL_CERT_FILE and "
                         "SSLKEYLOGFILE, or give a transport" % why) from None
    return context


class _Endpoint:
    """Where requests go. Threads share it, and none changes it."""

    def __init__(self, base_url: str, ssl_context: ssl.SSLContext | None,
                 network: bool) -> None:
        scheme, _, literal, port, path = _split(base_url)
        tls = scheme == "https"
        self.host, number = literal.strip("[]"), port or (443 if tls else 80)
        self.target = "%s:%d" % (literal, number)  # what a CONNECT names
        authority = self.target if port else literal
        self.origin, self.path = "%s://%s" % (scheme, authority), path.rstrip("/")
        self.headers = {"Host": authority}  # of each request
        self.skipped = len(self.origin)  # characters of a URL that request lines omit
        self.proxy = _proxy_for(scheme, self.host, number) if network else None
        self.address = self.proxy[:2] if self.proxy else (self.host, number)
        if self.proxy and not tls:  # without a tunnel the proxy reads the whole URL
            self.headers.update(self.proxy[2])
            self.skipped = 0
        self.ssl_context = (ssl_context or _tls_context()) if network and tls else None
        self.would_wait: tuple[type[OSError], ...] = (BlockingIOError,)
        if self.ssl_context is not None:
            self.would_wait += ssl.SSLWantReadError, ssl.SSLWantWriteError


class _Stream(io.RawIOBase):
    """The bytes of one answer, and what HTTPResponse takes for the socket."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, 8192)  # the default is 16 times that on 3.15

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connection.receive(buffer)


class _Connection:
    """One kept-alive HTTP connection. The thread that made it uses it, and closes it after
    any error; other threads may call `shut` only.

    The deadline of the attempt bounds every wait, except for a name look-up: Python can
    neither limit nor stop one. A request is sent while its answer is read: a server may
    answer before it has read all, with a 413 for one, and then reads no more.
    """

    def __init__(self, endpoint: _Endpoint, gate: Any,
                 on_wait: Callable[[], None] = lambda: None) -> None:
        self._on_wait = on_wait  # called before a wait that may be long
        self.stage = ""  # "proxy", "name", "connection", "tls", "answer": what it waits for
        self._endpoint, self._gate = endpoint, gate  # gate: see _Process
        self._sock: Any = None
        self._tried: Any = None  # the address that was tried last
        # What is left of the request to send; None where that has failed.
        self._unsent: bytes | memoryview | None = b""
        self._heard = False  # has a byte of the answer come?
        self._response: http.client.HTTPResponse | None = None  # its body is not read yet
        self._used = (0.0, 0.0)  # wall and monotonic time of the last use
        self._shut = False
        self._seconds = self._end = 0.0  # how long the attempt may take; its deadline

    def exchange(self, request: Request, seconds: float) -> http.client.HTTPResponse:
        """Send *request*, and return the answer once its headers are there; `tidy` reads
        its body. Raises `_Failure`."""
        self._seconds, self._end, self._heard = seconds, _now() + seconds, False
        while True:
            reused = self._sock is not None
            try:
                if reused:
                    self._check_kept()
                else:
                    self._open()
                self.stage = "answer"
                self._response = answer = self._ask(
                    request.method, request.url[self._endpoint.skipped:],
                    {**self._endpoint.headers, **request.headers}, request.body)
                self._used = time.time(), _now()
                return answer
            except Exception as error:
                self.close()
                if _is_interrupt(error):
                    raise
                # The server may close a kept connection just when we use it again: open
                # another one. Not after a byte of an answer: the server has the request.
                if not reused or self._heard or not isinstance(error, OSError):
                    raise self.failure(error) from None

    def tidy(self) -> None:
        """Read the rest of the answer, so that the connection can be used again."""
        answer, self._response = self._response, None
        if answer is None:
            return
        is_early = self._unsent != b""  # then the server may never read the rest
        # A 204 has no body. A server that announces one may still send it later.
        body_is_left = answer.status == 204 and (
            answer.chunked or answer.getheader("Content-Length", "0") != "0")
        try:
            if (answer.will_close or is_early or body_is_left
                    or len(answer.read(MAX_ANSWER_BYTES + 1)) > MAX_ANSWER_BYTES):
                self.close()
        except Exception as error:
            self.close()  # and no more: the status is known already
            if _is_interrupt(error):
                raise

    def close(self) -> None:
        sock, answer = self._sock, self._response
        self._sock = self._response = None
        self._unsent = b""
        if answer is not None:  # else the garbage collector closes its parts in any order
            answer.close()
        if sock is not None:
            sock.close()

    def shut(self) -> None:
        """From another thread: end what the owner waits for, now and later."""
        self._shut, sock = True, self._sock
        try:
            # Not sock.shutdown: a TLS socket drops its TLS layer there, and its owner would
            # go on in plain text.
            if sock is not None:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except (OSError, AttributeError):  # not connected; eventlet has no such method
            pass

    def forget(self) -> None:
        """In a forked child: close our copy of the descriptor. A TLS shutdown would end
        the connection of the parent."""
        sock, self._sock = self._sock, None
        try:
            os.close(sock.detach())
        except (AttributeError, OSError):
            pass

    # Opening.

    def _check_kept(self) -> None:
        """Raise an OSError where a kept connection cannot be used again. A NAT forgets it
        silently; a thawed Lambda finds it closed."""
        wall, mono = self._used
        idle = max(time.time() - wall, _now() - mono)  # in a freeze a clock may stand still
        # Not None: the connection is closed, or has bytes that nobody asked for: the next
        # answer would begin with them. TLS session tickets do not come out of recv.
        if idle > IDLE_SECONDS or self._try(self._sock.recv, 1) is not None:
            raise ConnectionError

    def _open(self) -> None:
        endpoint = self._endpoint
        self._on_wait()
        self.stage = "proxy" if endpoint.proxy else "name"
        self._connect()
        if endpoint.ssl_context is not None:
            if endpoint.proxy:
                self._tunnel(endpoint.proxy[2])
            self.stage = "tls"
            self._sock = _under(self._gate, partial(
                endpoint.ssl_context.wrap_socket, self._sock, do_handshake_on_connect=False,
                server_hostname=endpoint.host.rstrip(".")))
            while self._try(lambda: self._sock.do_handshake() or True) is None:
                self._wait()

    def _connect(self) -> None:
        """Connect to an address of the host. Each but the last gets a short time, as it may
        never answer. The next call begins with the address that this call tried last: if
        that has not answered, another address comes last then, and gets the long time."""
        began = _now()
        addresses: list[Any] = socket.getaddrinfo(
            *self._endpoint.address, 0, socket.SOCK_STREAM)
        self._end += _now() - began  # the look-up does not count
        addresses.sort(key=lambda address: address != self._tried)
        if self.stage == "name":
            self.stage = "connection"
        while addresses and not self._shut:
            address = self._tried = addresses.pop(0)
            limit = NEXT_ADDRESS_SECONDS if addresses else MAX_CONNECT_SECONDS
            share = (self._end - _now()) / (len(addresses) + 1)
            try:
                self._sock = sock = socket.socket(*address[:3])  # now `shut` finds it
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(max(0.01, min(limit, share)))
                sock.connect(address[4])
                sock.settimeout(0.0)
                return
            except OSError as error:
                self.close()
                if not addresses or _is_interrupt(error):
                    raise
        raise ConnectionError  # shut

    def _tunnel(self, headers: dict[str, str]) -> None:
        """Ask the proxy for a connection to the server."""
        target = self._endpoint.target
        status = self._ask("CONNECT", target, {"Host": target, **headers}).status
        if not 200 <= status < 300:
            raise _Failure("proxy", "HTTP status %d from the proxy" % status,
                           _is_transient(status), status)

    # Sending and receiving.

    def _ask(self, method: str, target: str, headers: dict[str, str],
             body: bytes | None = None) -> http.client.HTTPResponse:
        """Send a request, and return the answer once its headers are there."""
        if body is not None:
            headers["Content-Length"] = str(len(body))
        lines = "".join(["%s: %s\r\n" % header for header in headers.items()])
        head = "%s %s HTTP/1.1\r\n%s\r\n" % (method, target, lines)
        self._heard = False  # until now: of a CONNECT
        self._send(memoryview(head.encode("ascii") + (body or b"")))
        stream: Any = _Stream(self)
        answer = http.client.HTTPResponse(stream, method=method)
        answer.begin()
        while answer.status < 200:  # http.client passes over 100, but not over 103
            vars(answer)["headers"] = None  # or begin does nothing
            answer.begin()
        return answer

    def receive(self, buffer: Any) -> int:
        """Read bytes of the answer into *buffer*; return how many, 0 at its end."""
        if self._heard and _now() > self._end:
            raise self._timeout()  # in a flood of bytes nobody calls _wait
        received: int | None = self._try(self._sock.recv_into, buffer)
        while received is None:
            if self._unsent:
                self._send(self._unsent)
            self._wait()
            received = self._try(self._sock.recv_into, buffer)
        if not received and self._heard and self._response is None:
            # http.client would take a closed connection for the end of the headers.
            raise http.client.IncompleteRead(b"")
        self._heard = self._heard or received > 0
        return received

    def _send(self, unsent: bytes | memoryview) -> None:
        """Send as much as the system takes at once."""
        try:
            sent = self._try(self._sock.send, unsent) or 0
            self._unsent = unsent[sent:] or b""  # an empty view keeps the body in memory
        except OSError as error:
            if _is_interrupt(error):
                raise
            self._unsent = None  # the server may have answered, and hung up

    def _try(self, call: Callable[..., Any], *args: Any) -> Any:
        """Make one non-blocking socket call; None where it would have to wait."""
        try:
            if self._endpoint.ssl_context is None:
                return call(*args)
            return _under(self._gate, call, *args)
        except self._endpoint.would_wait:
            return None

    def _wait(self) -> None:
        """Wait until the socket can be read, or written if something is unsent. Raises
        `_Failure` at the deadline if there is nothing to read: an answer is read first."""
        longest = SLOW_SECONDS
        while True:
            began = _now()
            left = self._end - began
            seconds = max(0.0, min(left, longest))
            ready = self._is_ready(seconds, writing=bool(self._unsent) and left > 0)
            overslept = _now() - began - seconds
            if overslept > FROZEN_SECONDS:  # frozen; the attempt gets that time back
                self._end += overslept
            if ready:
                return
            if left <= 0 or self._shut:  # eventlet does not wake a shut socket
                raise self._timeout()
            self._on_wait()
            longest = FROZEN_SECONDS  # within a longer wait, a freeze would not show

    def _is_ready(self, seconds: float, writing: bool) -> bool:
        if hasattr(select, "poll"):  # select fails from descriptor 1024 on
            poll = select.poll()
            poll.register(self._sock, select.POLLIN | writing * select.POLLOUT)
            return bool(poll.poll(seconds * 1000))
        both = [self._sock]
        return any(select.select(both, both * writing, (), seconds))

    # Failing.

    def _timeout(self) -> _Failure:  # not an OSError: `exchange` would send again
        awaited = {"proxy": "answer from the proxy", "tls": "TLS handshake"}
        return _Failure("timeout", "no %s within %g s" % (
            awaited.get(self.stage, self.stage), self._seconds))

    def failure(self, error: Exception) -> _Failure:
        """*error* as a `_Failure`, whose detail holds nothing private."""
        if isinstance(error, _Failure):
            return error
        if isinstance(error, socket.timeout) and error.errno is None:  # of settimeout
            return self._timeout()
        kind, detail, retry = "response", type(error).__name__, True
        if self._endpoint.ssl_context is not None and isinstance(error, ssl.SSLError):
            kind, retry = "tls", not isinstance(error, ssl.SSLCertVerificationError)
            reason = getattr(error, "reason", None)
            detail = getattr(error, "verify_message", None) or (
                reason.replace("_", " ").lower() if reason else detail)
        elif isinstance(error, OSError):
            kind = "connection"
            if error.strerror:
                detail = "[Errno %s] %s" % (error.errno, error.strerror)
        return _Failure("proxy" if self.stage == "proxy" else kind, detail, retry)


def _is_transient(status: int) -> bool:
    return status in (408, 429) or status >= 500


def _retry_after(answer: http.client.HTTPResponse) -> float:
    """The seconds that Retry-After asks for, as a number or a date; 0 where it does not."""
    text = answer.getheader("Retry-After", "")
    try:
        if text[:1].isdigit():  # "2.5"; "2, 3" from two headers
            seconds = max(float(part) for part in text.split(","))
            return math.ceil(min(seconds, MAX_RETRY_AFTER_SECONDS))
        # Not datetime: Windows refuses some years. In HTTP a date is GMT.
        date: Any = email.utils.parsedate(text)  # None, which raises, where it is no date
        return min(max(0.0, calendar.timegm(date) - time.time()), MAX_RETRY_AFTER_SECONDS)
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0


# -- Notices: counters that no interrupt breaks, and the log -----------------------------


# Runs an iterator of C to its end within one call, where no interrupt can come.
_sink: deque[Any] = deque(maxlen=0)
_in_one_step = _sink.extend


def _ticks(counter: count[int]) -> int:
    """How often next() was called on *counter*. ``n += 1`` loses counts where threads or
    signal handlers count, too; next() does not. Only the repr shows the count."""
    return int(repr(counter)[6:-1])


def _frames() -> Iterator[FrameType]:
    """The frames that this thread is in, the innermost first."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore
    while frame is not None:
        yield frame
        frame = frame.f_back


def _warn(line: str) -> None:
    """Log *line*. A process that never imported logging, which costs 6-10 ms, gets it on
    stderr, as from logging's last resort."""
    try:
        logging = sys.modules.get("logging")
        if logging:
            logging.getLogger("vwo_push").warning("%s", line)
        elif sys.stderr:
            sys.stderr.write("vwo_push: %s\n" % line)
    except Exception as error:  # a broken handler or stream is not the caller's trouble
        if _is_interrupt(error):
            raise


# -- Sender: pending pushes, workers, retries --------------------------------------------
#
# A push never waits for a lock of ours. If it did, two threads could wait for each other:
# one pushes in a log handler, and holds the handler's lock; the other holds our lock, the
# garbage collector runs a finaliser there, and the finaliser logs.
#
# The sender's lock (@_locked) guards the book, who owns its batches, and not_before. All
# else changes in single steps, without it. A signal handler or a finaliser may interrupt
# any method and call any other, as the lock is reentrant: after each assignment the state
# is whole. Under the lock nothing waits, uses a socket, logs, or calls others' code.
#
# Pushes are numbered from 0 in the order in which they are taken.
#
#   state         what it is                                           changed by
#   ------------  ---------------------------------------------------  ---------------------
#   waiting       accepted, taken by nobody                            accept, take
#   reserved      one entry for each pending dimension                 accept, strike
#   book          how many pushes were delivered, how many have        take, strike
#                 failed, and the batches that are taken
#   batch.owner   the thread that works on it, or None                 take, give_back
#   attending     workers that will look at waiting before they wait   hire, park, leave,
#                 for anything                                         delist
#   parked        a lock for each idle worker: its release wakes it    park
#   workers       threads started and not ended                        hire, delist
#   begun         of these, those that run work                        work
#   flushes       for each flush that waits: a lock, its release       flush
#                 wakes it; the number of pushes that it waits for
#   told          how many of the failed pushes a flush has told       flush
#   not_before    no request starts before this time                   keep_quiet
#   closed        nothing more is accepted                             dismiss, disown
#   swept         why nothing more is sent, "closed" or "exit"         sweep, disown
#
# The times here (until, ready, not_before) are of _now; that of a push is the wall clock's.


class PushResult(NamedTuple("PushResult", [
        ("user_id", str), ("dimensions", "dict[str, _Value]"), ("delivered", bool),
        ("status", "Optional[int]"), ("error", "Optional[str]"), ("attempts", int),
        ("detail", "Optional[str]")])):
    """How one accepted push ended; `Client` calls ``on_result`` with it.

    user_id and dimensions (a dict) are the caller's own. delivered is True where VWO
    answered 2xx to all of it. status is the last HTTP status (int) or None. error is
    None, or one of "timeout", "connection", "tls", "proxy", "http" (a status that is
    not 2xx), "response" (not HTTP), "transport" (a custom one raised, or returned no
    int), "closed", "exit". attempts is the most that any one request with this push took.
    detail (str or None) says why the last attempt failed, in the words of the system, of
    OpenSSL or of the exception's type. The `repr` leaves out what is personal.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<PushResult delivered=%r status=%r error=%r attempts=%r detail=%r>" % (
            self.delivered, self.status, self.error, self.attempts, self.detail)


_FULL = "max_pending is reached"  # these three count as dropped
_CLOSED = "the client is closed"
_OUT_OF_MEMORY = "out of memory"
_NO_MEMORY = (MemoryError, RecursionError, SystemError)  # where it runs out


class _Batch:
    """Pushes that one thread sends together."""

    def __init__(self, first: int) -> None:
        self.first = first  # the number of the first push
        # The ident of the thread that works on it, or None.
        self.owner: int | None = threading.get_ident()
        self.pushes: list[_Push] = []
        self.parts: list[_Part] | None = None  # what is left to send; None: not built
        self.tries = 0  # so far, of the first of parts
        self.detail: str | None = None  # of the last attempt that failed
        self.ended: list[tuple[Iterable[int], _Outcome]] = []  # indices of pushes, outcome
        self.results: deque[tuple[_Push, _Outcome]] | None = None  # not yet reported

    def is_ours(self) -> bool:
        """Does this thread work on it?"""
        return self.owner == threading.get_ident()

    def give_up(self, error: str, detail: str | None = None) -> None:
        """End what is left to send; *error* is why."""
        unbuilt = None, None, range(len(self.pushes))
        for _, _, members in [unbuilt] if self.parts is None else self.parts:
            self.ended.append((members, (None, error, detail or self.detail, self.tries)))
            self.tries, self.detail = 0, None
        self.parts = []

    def outcomes(self) -> list[_Outcome]:
        """How each push ended, by the answers to all of its requests."""
        if len(self.ended) == 1:  # one request had them all
            return [self.ended[0][1]] * len(self.pushes)
        merged: list[_Outcome] = [(None, None, None, 0)] * len(self.pushes)
        for members, outcome in self.ended:
            for index in members:
                status, error, detail, attempts = merged[index]
                if error is None:  # what failed once stays failed
                    status, error, detail, _ = outcome
                merged[index] = status, error, detail, max(attempts, outcome[3])
        return merged


def _taken_lock() -> Any:
    """A lock for one wait: one thread acquires it, and another wakes that thread by a
    release. Each wait has a lock of its own: gevent may patch threading between two."""
    lock = threading.Lock()
    lock.acquire()
    return lock


def _release(lock: Any) -> None:
    try:
        lock.release()
    except RuntimeError:  # somebody else has released it
        pass


def _locked(method: _Method) -> _Method:
    """Have *method* of a sender run under its lock."""
    def locked(self: _Sender, *args: Any, **kwargs: Any) -> Any:
        return _under(self.lock, partial(method, self, *args, **kwargs))

    return locked  # type: ignore[return-value]


class _Sender:
    """The pushes of one client in one process. Threads refer to this, not to the client:
    where the program drops its client, the pushes are still sent."""

    def __init__(self, config: _Config, process: _Process) -> None:
        self.config = config
        self.process = process
        self.pid = getpid()
        self.max_pending: int = config.max_pending  # saves a look-up in each push
        # Every RLock has _is_owned, on gevent and PyPy, too: Conditions call it.
        self.lock: Any = threading.RLock()
        self.waiting: deque[_Push] = deque()
        self.reserved: list[None] = []
        self.book: tuple[int, int, tuple[_Batch, ...]] = (0, 0, ())
        self.begun: set[threading.Thread] = set()
        self.attending: set[threading.Thread] = set()
        self.parked: list[Any] = []
        self.workers: list[threading.Thread] = []
        self.connections: set[_Connection] = set()  # of the threads that send
        self.flushes: dict[Any, int] = {}
        self.told = 0
        self.invalid, self.dropped = count(), count()  # refused pushes: see _ticks
        self.first_tries, self.retries = count(), count()  # requests
        self.not_before = 0.0
        self.random = random.Random()  # not the module's, which the program may seed
        # By kind: a counter, and (when the last line was logged, the count then).
        self.notices: dict[str, tuple[count[int], deque[tuple[float, int]]]] = {}
        self.closed = process.exiting
        self.swept: str | None = None

    # What push does, on the caller's thread.

    def accept(self, push: _Push) -> bool:
        if self.closed:
            return self.refuse(_CLOSED)
        size = len(push) // 2 - 1
        reserved = self.reserved
        if len(reserved) + size > self.max_pending:
            return self.refuse(_FULL)
        try:
            reserved.extend((None,) * size)
            full = len(reserved) > self.max_pending
            if full:  # another thread has taken the room
                del reserved[-size:]
            else:
                self.waiting.append(push)
        except BaseException:
            # An interrupt, or no memory: the room would be lost for ever. Where it came
            # before the extend or after the append, this gives back too much, and
            # max_pending is exceeded until nothing is pending.
            del reserved[-size:]
            raise
        if full:
            return self.refuse(_FULL)
        try:
            if not self.attending:
                self.call_another()
        except _NO_MEMORY:  # a later push, a flush or the exit sends this one
            pass
        if self.swept:  # perhaps before the append: then nobody would settle this push
            try:
                self.waiting.remove(push)
                return self.refuse(_CLOSED)
            except ValueError:  # the sweep has settled it
                pass
        return True

    def refuse(self, kind: str, reason: str = "") -> bool:
        next(self.dropped if kind in (_FULL, _CLOSED, _OUT_OF_MEMORY) else self.invalid)
        self.notice(kind, "push refused: " + (reason or kind))
        return False

    def call_another(self) -> None:
        """Have another worker look at what is waiting: one that is parked, or a new one."""
        if self.parked:
            self.wake()
        elif len(self.workers) < self.config.max_workers and not self.process.exiting:
            self.hire()

    def wake(self, everyone: bool = False) -> None:
        """Wake the worker that parked last, or *everyone*. Each takes its own lock off the
        list: if this did, an interrupt before the release would leave it asleep."""
        for lock in self.parked[:] if everyone else self.parked[-1:]:
            _release(lock)

    def hire(self) -> None:
        """Start a worker. Where that fails, a later push, a flush or the exit goes on."""
        worker, started = None, False
        try:
            # Not concurrent.futures: it joins its threads at exit, without a bound.
            worker = threading.Thread(target=self.work, name="vwo_push", daemon=True)
            self.workers.append(worker)
            # Other threads may hire now, too: only the first ones in the list are started.
            if worker in self.workers[:self.config.max_workers]:
                self.attending.add(worker)
                worker.start()
                started = True
        except (RuntimeError, *_NO_MEMORY):  # the system starts no thread, or none here
            pass
        finally:
            if worker is not None and not started:
                self.delist(worker)

    def delist(self, worker: threading.Thread) -> None:
        """Take off the lists a worker that ends now, or whose start has failed."""
        # First: a worker that begins although its start has failed sees that, and ends.
        self.attending.discard(worker)
        if worker not in self.begun:  # else it comes here again at its end
            try:
                self.workers.remove(worker)
            except ValueError:  # hire and the worker itself may both come here
                pass
        self.wake(everyone=True)  # they relied on this worker while it attended

    def has_work(self) -> bool:
        """Is there anything to send that no thread works on?"""
        return not self.swept and (len(self.waiting) > 0 or any(
            batch.owner is None for batch in self.book[2]))

    def is_wanted(self) -> bool:
        """Is there work, and no worker that attends? Where answers come at once, one worker
        is faster than two: two would wait for each other to let go of the GIL."""
        return not self.attending and self.has_work()

    # What the threads that send do: workers, and whoever flushes where there are none.

    def work(self) -> None:
        """What a worker thread runs."""
        thread = threading.current_thread()
        self.begun.add(thread)
        try:
            if thread in self.attending:  # else its start has failed: see delist
                self.serve(float("inf"), worker=True)
        finally:
            self.begun.discard(thread)
            self.delist(thread)
            self.process.last_end = _now()
            self.retire()

    @_locked
    def give_back(self) -> None:
        """Let other threads take the batches that this one owns."""
        for batch in self.book[2]:
            if batch.is_ours():
                batch.owner = None
                self.wake()

    def serve(self, until: float, worker: bool = False) -> None:
        """Send on this thread until there is no work or the time *until* has come; as a
        *worker* until the client is closed."""
        connection = _Connection(self.config.endpoint, self.process.gate, self.leave)
        go_on = partial(self.park, connection) if worker else self.has_work
        try:
            self.connections.add(connection)
            while _now() < until and go_on():
                batch = self.take()
                if batch is not None:
                    self.deliver(batch, connection, until)
                    connection.tidy()
        finally:
            self.give_back()
            self.connections.discard(connection)
            connection.close()

    def park(self, connection: _Connection) -> bool:
        """Wait until there is work for this worker. False: it has to end."""
        worker = threading.current_thread()
        if self.attending - {worker} or not self.has_work():
            self.attending.discard(worker)
            wake = _taken_lock()
            self.parked.append(wake)
            try:
                # Look again, with the lock in parked: a push just before woke nobody.
                while not (self.is_wanted() or self.is_over()):
                    if not wake.acquire(timeout=IDLE_SECONDS):
                        connection.close()
            finally:
                self.parked.remove(wake)
        self.attending.add(worker)
        return not self.is_over()

    def is_over(self) -> bool:
        return self.closed and not self.has_work()

    def leave(self) -> None:
        """This thread may wait long: another goes on with what is waiting meanwhile."""
        self.attending.discard(threading.current_thread())
        if self.is_wanted():
            self.call_another()

    @_locked
    def take(self, sweeping: bool = False) -> _Batch | None:
        """Return a batch that this thread owns now: one that was given back, or a new one
        with what fits of waiting. *sweeping*: anybody's, or a new one with all of it."""
        if self.swept and not sweeping:
            return None
        delivered, failed, batches = self.book
        for batch in batches:
            if sweeping or batch.owner is None:
                batch.owner = threading.get_ident()
                return batch
        if not self.waiting:
            return None
        most = sys.maxsize if sweeping else self.config.max_batch
        if most == 1:
            most = max(1, min(MAX_TAKEN, len(self.waiting) // self.config.max_workers))
        batch = _Batch(delivered + failed + sum(len(each.pushes) for each in batches))
        # The book has the batch before the batch has pushes: an interrupt loses none.
        self.book = delivered, failed, (*batches, batch)
        try:
            batch.pushes.extend(starmap(self.waiting.popleft, repeat((), most)))
        except IndexError:  # fewer were waiting
            pass
        return batch

    def deliver(self, batch: _Batch, connection: _Connection, until: float) -> None:
        """Send what is left of *batch* and settle it, unless time runs out."""
        try:
            if batch.parts is None:
                batch.parts = _parts(self.config, batch.pushes)
            parts = batch.parts  # a close that takes the batch puts a new list there
            while parts:
                part = parts[0]
                outcome = self.send(batch, part, connection, until)
                if outcome is None:
                    return
                halves = _halves(part) if outcome[0] == 413 else []
                if not halves:
                    batch.ended.append((part[2], outcome))
                batch.tries, batch.detail = 0, None
                parts[:1] = halves  # last: an interrupt before it only sends part again
        except Exception as error:  # out of memory, or a bug of ours
            if _is_interrupt(error):
                raise
            batch.give_up("connection", _place(error))
        self.settle(batch)

    def send(self, batch: _Batch, part: _Part, connection: _Connection, until: float,
             ) -> _Outcome | None:
        """Try one request as often as allowed. None: *until* came, or *batch* was taken."""
        config = self.config
        build, payload, _ = part
        # For the case that flushes with too little time have used up all tries.
        outcome: _Outcome = None, "timeout", batch.detail, batch.tries
        ready = 0.0
        while batch.tries < config.max_attempts:
            connection.tidy()  # or the next answer would begin with the rest of this one
            if not self.pause(batch, ready, until):
                return None
            request = build(config, payload, _nonce(self.random))
            seconds = min(config.timeout, until - _now())
            if seconds <= 0:  # the build of a large request took the rest
                return None
            next(self.retries if batch.tries else self.first_tries)
            batch.tries += 1
            try:
                status = self.attempt(connection, request, seconds)
                return status, None, None, batch.tries
            except _Failure as failure:
                if failure.kind == "timeout" and _now() >= until:
                    return None  # we gave the server too little time
                batch.detail = failure.detail
                outcome = failure.status, failure.kind, failure.detail, batch.tries
                if not failure.retry:
                    break
                if failure.wait:
                    # All threads of this client obey. The jitter spreads processes.
                    wait = min(failure.wait * self.random.uniform(1.0, 1.1),
                               MAX_RETRY_AFTER_SECONDS)
                    self.keep_quiet(_now() + wait)
            limit = BACKOFF_SECONDS * 2 ** min(batch.tries - 1, 10)
            ready = _now() + self.random.uniform(0, min(limit, MAX_BACKOFF_SECONDS))
        return outcome

    def attempt(self, connection: _Connection, request: Request, seconds: float) -> int:
        """Send *request* once; return its 2xx status, or raise `_Failure`."""
        config, wait = self.config, 0.0
        if config.transport is None:
            answer = connection.exchange(request, seconds)
            status = answer.status
            if status == 407 and config.endpoint.proxy is not None:
                raise _Failure("proxy", "HTTP status 407 from the proxy", False, status)
            if _is_transient(status) or status == 413:
                wait = _retry_after(answer)
                # A balancer may have tied the connection to a sick server; after a 413 a
                # server may read neither the body nor what follows.
                connection.close()
        else:
            self.leave()
            try:
                result: Any = config.transport(request, seconds)
            except BaseException as error:  # anybody's code
                if _is_interrupt(error):
                    raise
                raise _Failure("transport", _place(error)) from None
            if not isinstance(result, int):
                raise _Failure("transport", "the transport returned %s, not an int"
                               % type(result).__name__, False)
            status = int(result)
        if 200 <= status < 300:
            return status
        raise _Failure("http", "HTTP status %d" % status, _is_transient(status), status,
                       wait)

    @_locked
    def keep_quiet(self, until: float) -> None:
        self.not_before = max(self.not_before, until)

    def pause(self, batch: _Batch, ready: float, until: float) -> bool:
        """Sleep until *ready* and not_before. False: *until* came, or *batch* was taken."""
        while batch.is_ours() and not self.swept:
            now = _now()
            if now >= until:
                return False
            left = min(max(ready, self.not_before), until) - now
            if left <= 0:
                return True
            self.leave()
            time.sleep(min(left, SLICE_SECONDS))
        return False

    def settle(self, batch: _Batch) -> None:
        """End every push of *batch*: call on_result for each, then count. After an
        interrupt, finish that first, then raise."""
        outcomes = batch.outcomes()
        results = deque(zip(batch.pushes, outcomes) if self.config.on_result else ())
        failures = [outcome for outcome in outcomes if outcome[1]]
        if not self.claim(batch, results):
            return
        try:
            if batch.results or failures:
                self.leave()  # callbacks and log handlers may be slow
            if failures and batch.results is results:  # once, and before a flush can return
                _, error, detail, _ = failures[0]
                line = "pushes not delivered: %s" % ", ".join(filter(None, (error, detail)))
                self.notice(line, line, len(failures))
            self.report(batch)
        except BaseException:
            self.settle(batch)  # goes on with what is left in batch.results
            raise
        self.strike(batch, len(failures))

    @_locked
    def claim(self, batch: _Batch, results: deque[tuple[_Push, _Outcome]]) -> bool:
        """Let this thread report *results*, or what is left of earlier ones. False: a close
        has taken *batch*."""
        if not batch.is_ours():
            return False
        if batch.results is None:
            batch.results = results
        return True

    def report(self, batch: _Batch) -> None:
        """Call on_result for each of batch.results; a thread that closes may help."""
        on_result = self.config.on_result
        while batch.results and not self.process.silent:
            try:
                push, (status, error, detail, attempts) = batch.results.popleft()
            except IndexError:  # that thread was faster
                return
            try:
                on_result(PushResult(
                    push[1], dict(zip(push[2::2], push[3::2])), error is None,
                    status, error, attempts, detail))
            except BaseException as raised:  # SystemExit must not end a worker
                if _is_interrupt(raised):
                    self.process.silent = self.process.exiting
                    raise
                text = "on_result raised " + _place(raised)
                self.notice(text, text)

    @_locked
    def strike(self, batch: _Batch, failures: int) -> None:
        """Count *batch*, take it out of the book, and wake the flushes."""
        delivered, failed, batches = self.book
        if batch not in batches:  # a close has done it
            return
        book = (delivered + len(batch.pushes) - failures, failed + failures,
                tuple(each for each in batches if each is not batch))
        size = sum(map(len, batch.pushes)) // 2 - len(batch.pushes)  # see _Push
        room = slice(-size, None) if size else slice(0)  # -0 would mean all of it
        # In one step: an interrupt between the two would lose the room for ever.
        _in_one_step(chain(starmap(setattr, [(self, "book", book)]),
                           starmap(self.reserved.__delitem__, [(room,)])))
        for wake, end in list(self.flushes.items()):
            if self.is_settled(end):
                _release(wake)

    def is_settled(self, end: int) -> bool:
        """Are the first *end* pushes settled?"""
        is_empty = not self.waiting  # first: take moves pushes from there to the book
        delivered, failed, batches = self.book
        if batches:  # they stand in the order of their pushes
            return batches[0].first >= end
        return is_empty or delivered + failed >= end

    # What goes to the log.

    def notice(self, kind: str, text: str, number: int = 1) -> None:
        """*number* more of this *kind* happened: log *text*, once in `LOG_SECONDS`, and how
        many there were since the last line. Takes no lock."""
        counter, last = self.notices.setdefault(
            kind, (count(), deque([(float("-inf"), 0)])))
        _in_one_step(islice(counter, number))
        logged = last[0]
        # The time first: may_log is slow, as it walks the whole stack.
        if _now() - logged[0] >= LOG_SECONDS and self.may_log():
            total = _ticks(counter)
            last.append((_now(), total))
            if last.popleft() is logged:  # or another thread logs this line
                _warn("%s (%d)" % (text, total - logged[1]))

    def may_log(self) -> bool:
        """May this thread log now? Not at exit: a dead thread may have locked stderr. Not
        under a lock of ours: who waits for it may hold a log handler's lock. Not in a
        signal handler, a finaliser or a log handler within a call of logging or queue: it
        would wait for ever for a lock of its own thread."""
        return not (
            self.process.exiting or self.process.gate._is_owned()
            or any(each.lock._is_owned() for each in (self, *self.process.senders))
            or any(str(frame.f_globals.get("__name__")).split(".")[0] in (
                "logging", "queue") for frame in _frames()))

    # What flush, close and exit do.

    def is_inside(self) -> bool:
        """Would this thread wait for itself? It would in on_result and transport, and where
        a signal handler or a finaliser interrupts a locked method, serve or settle."""
        return bool(self.lock._is_owned()) or any(
            frame.f_code.co_name in ("serve", "settle")
            and frame.f_locals.get("self") is self for frame in _frames())

    def flush(self, until: float) -> bool:
        """Wait until what was accepted so far is settled; True if all was delivered."""
        if self.is_inside():
            return False
        # An interrupt may have left behind batches of this thread, and part of a sweep.
        self.give_back()
        if self.swept:
            self.sweep(self.swept)
        # Under the lock: without a GIL, a push that take moves is nowhere for a moment.
        end: int = _under(self.lock, self.counts)[0]
        told, wake = self.told, _taken_lock()
        try:
            self.flushes[wake] = end
            settled = self.wait_for(wake, end, until)
            del self.flushes[wake]
            self.told = failed = self.book[1]
        except BaseException:  # the caller is told nothing
            self.flushes.pop(wake, None)
            self.told = min(self.told, told)
            raise
        return settled and failed == told

    def wait_for(self, wake: Any, end: int, until: float) -> bool:
        """Wait until the first *end* pushes are settled, or the time *until* has come."""
        patient = True
        # The process id differs where a callback has forked.
        while not self.is_settled(end) and _now() < until and self.pid == getpid():
            if self.is_wanted():
                self.call_another()
            # A worker that is being started, and has not begun, gets one slice of time.
            # If this thread sent instead and ran out of time, the worker would send again.
            # One slice only: this may be a signal handler that has interrupted the start.
            if not self.begun and not (patient and self.workers):
                self.serve(until)
            left = max(0.0, until - _now())
            wake.acquire(timeout=min(left, SLICE_SECONDS))
            # A shorter wait is the last: do not send where Windows ends it 15.6 ms early.
            patient = patient and left < SLICE_SECONDS
        return self.is_settled(end)

    def sweep(self, error: str) -> None:
        """Settle all that is left; *error* is why. Nothing more is sent. After an
        interrupt, finish that first, then raise."""
        try:
            self.swept = self.swept or error
            batch = self.take(sweeping=True)
            while batch is not None:
                if batch.results is None:
                    batch.give_up(self.swept)
                self.settle(batch)
                batch = self.take(sweeping=True)
        except BaseException:
            self.sweep(error)
            raise

    def close(self, until: float, error: str = "closed") -> bool:
        """Accept nothing more, flush, and settle what is left; *error* is why it fails."""
        workers = list(self.workers)
        self.dismiss()
        if self.is_inside():
            return False
        try:
            return self.flush(until)
        finally:
            try:
                self.sweep(error)
            finally:
                self.stop(workers, min(until, _now()) + JOIN_SECONDS)

    def stop(self, workers: list[threading.Thread], until: float) -> None:
        """Wake the workers, end what they wait for, and join them: a thread that wakes up
        while the interpreter is finalised could abort the host. *workers* may have left the
        list before their threads have ended."""
        self.wake(everyone=True)
        for connection in list(self.connections):
            connection.shut()
        for worker in workers + self.workers:
            try:
                worker.join(max(0.0, until - _now()))
            except RuntimeError:  # this thread, or one that is just being started
                pass
        self.retire()

    def dismiss(self) -> None:
        """Accept nothing more; the workers end when they have sent what is waiting. Takes
        no lock: a finaliser calls this."""
        self.closed = True
        self.wake(everyone=True)
        self.retire()

    def retire(self) -> None:
        """Forget this sender once the exit has nothing to do for it."""
        if self.closed and not (self.waiting or self.book[2] or self.workers):
            self.process.senders.discard(self)

    def counts(self) -> tuple[int, int, int]:
        """How many pushes were accepted, were delivered, have failed. Takes no lock: looks
        again where a push has moved meanwhile."""
        while True:
            book = delivered, failed, batches = self.book
            taken = sum(len(batch.pushes) for batch in batches)
            accepted = delivered + failed + taken + len(self.waiting)
            if book is self.book and taken == sum(len(batch.pushes) for batch in batches):
                return accepted, delivered, failed

    def disown(self) -> None:
        """In a forked child: leave everything to the parent. Where a callback has forked,
        it returns into methods of this sender: they must find no lock and no work."""
        self.closed, self.swept = True, "closed"
        self.lock = threading.RLock()
        for connection in list(self.connections):
            connection.forget()


# -- Process: what all clients share; fork and exit --------------------------------------


class _Process:
    """What one process keeps for all its clients; a forked child makes its own."""

    def __init__(self) -> None:
        self.senders: set[_Sender] = set()  # those that an exit closes
        # Held by a fork, and by each OpenSSL call that takes locks: a fork within the call
        # would leave OpenSSL's locks taken in the child for ever. No such call waits.
        self.gate: Any = threading.RLock()
        self.exiting = False
        self.silent = False  # an interrupt has ended the exit: no more calls of on_result
        self.watched = False  # has _watch_exit done its work?
        self.last_end = 0.0  # when the last worker ended


# By process id; after a fork there are two entries for a moment. importlib.reload must keep
# them: the exit handlers of both modules look here for what is pending.
_processes: dict[int, _Process] = globals().get("_processes", {})


def _process() -> _Process:
    """The state of this process. In a forked child, lets go of what is the parent's. Looks
    at the process id: uWSGI forks without telling Python."""
    pid = getpid()
    process = _processes.get(pid)
    if process is None:
        process = _processes.setdefault(pid, _Process())
        for other in {*_processes} - {pid}:
            inherited = _processes.pop(other, None)
            for sender in inherited.senders if inherited else ():
                sender.disown()
    return process


def _watch_exit(process: _Process) -> None:
    """Children of multiprocessing skip atexit: give _at_exit to their finalisers."""
    util = sys.modules.get("multiprocessing.util")
    current = getattr(sys.modules.get("multiprocessing.process"), "current_process", None)
    if process.watched or util is None or current is None:
        return
    if current().name != "MainProcess":
        process.watched = True

        def finalise(_: object) -> None:
            util.Finalize(None, _at_exit, exitpriority=10)

        finalise(process)
        # Again: before 3.13 a child of the forkserver clears its finalisers after it has
        # imported the main module, which may have made a client.
        util.register_after_fork(process, finalise)


def _before_fork() -> None:
    process = _process()
    process.gate.acquire(timeout=FORK_SECONDS)
    # A thread that has used OpenSSL takes OpenSSL's locks once more after its last line of
    # Python. A fork at that moment would leave them taken in the child for ever.
    time.sleep(min(max(0.0, process.last_end + END_SECONDS - _now()), END_SECONDS))


def _after_fork_in_parent() -> None:
    _release(_process().gate)  # where _before_fork has got it in time


def _at_exit() -> None:
    """Send what is pending; every client's exit_timeout starts now. Settle the rest as
    "exit". Starts no thread: Python 3.12 forbids that."""
    process = _process()
    process.exiting = True
    began = _now()
    senders = list(process.senders)
    for sender in senders:
        try:
            sender.dismiss()
            sender.flush(began + sender.config.exit_timeout)
        except BaseException:  # a second Ctrl-C: no more waiting
            began = float("-inf")
    # After all flushes: a close calls on_result for what is left, without a bound.
    for sender in senders:
        try:
            sender.close(began + sender.config.exit_timeout, "exit")
        except BaseException:
            began = float("-inf")
    process.senders.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent,
                        after_in_child=_process)


# -- Client: the public face -------------------------------------------------------------


_OPTIONS: list[_Rule] = [  # names, types (none: any), what is allowed, a test
    ("account_id", (int, str), "a positive int, or its digits",
     lambda value: _digits(value)[:1] not in ("", "0")),
    ("sdk_key", (str,), "printable ASCII, not empty, and without spaces around it",
     lambda text: re.fullmatch("[!-~]([ -~]*[!-~])?", text)),
    ("collection_prefix", (str, type(None)),
     "one path segment of letters, digits and -._~, or None",
     lambda text: (text or "").strip("/") not in (".", "..")
     and re.fullmatch("/*[A-Za-z0-9._~-]*/*", text or "")),
    ("base_url", (str,),
     "https://host or http://host, in ASCII, with a port and a path at most",
     lambda url: _split(url)[:2] in (("https", ""), ("http", ""))),
    ("event_arch fme", (bool,), "True or False", lambda flag: True),
    ("timeout", (int, float), "a finite number of seconds, more than 0",
     lambda seconds: 0 < seconds <= sys.float_info.max),
    ("exit_timeout", (int, float), "a finite number of seconds, 0 or more",
     lambda seconds: 0 <= seconds <= sys.float_info.max),
    ("max_attempts max_pending max_workers", (int,), "an int of at least 1",
     lambda number: number >= 1),
    ("max_batch", (int,), "an int from 1 to 5000",
     lambda number: 1 <= number <= MAX_EVENTS),
    ("on_result transport", (), "callable, or None",
     lambda call: call is None or callable(call)),
    # Not by its type: truststore puts a class of its own in place of ssl.SSLContext.
    ("ssl_context", (), "an ssl.SSLContext, or None",
     lambda context: context is None or hasattr(context, "wrap_socket"))]


def _checked_options(given: dict[str, Any]) -> _Config:
    """Return the options of a `Client`, each str as an exact one, or raise `Invalid`."""
    config = SimpleNamespace()
    for names, types, wanted, is_valid in _OPTIONS:
        for name in names.split():
            value = _plain(given[name])
            if types and type(value) not in types or not is_valid(value):
                raise Invalid("%s must be %s" % (name, wanted))
            setattr(config, name, value)
    if config.fme and config.event_arch:
        raise Invalid("fme and event_arch exclude each other: leave out event_arch "
                      "for an FME account, fme for a FullStack account")
    return config


def _until(timeout: Any) -> float:
    """The time at which *timeout* seconds are over; None: never."""
    if timeout is None:
        return float("inf")
    try:
        seconds = float(min(max(timeout, 0), sys.maxsize))
    except TypeError:
        seconds = float("nan")
    if seconds != seconds:  # only nan is not itself
        raise Invalid("timeout must be a number of seconds, or None")
    return _now() + seconds


def _parsed(text: Any) -> Any:
    """JSON text as an object; None where it is not JSON: an error would hold the text, and
    with it the SDK key."""
    try:
        # In bytes, json itself passes over a Byte Order Mark.
        return json.loads(text.lstrip("\ufeff") if type(text) is str else text)
    except (ValueError, RecursionError):
        return None


class Client:
    """Sends pushes of one account and environment to VWO, in the background.

    *account_id* (a positive int, or its digits) and *sdk_key* (of the environment; a str)
    are in the VWO application, under the account's SDK settings. The options:

    collection_prefix  data residency, e.g. "eu01"; one path segment
    event_arch         True for a FullStack account with VWO's events architecture
    fme                True for an FME account: values may be numbers and bools
    base_url           https:// or http://, with a port and a path at most
    timeout            seconds for one attempt, from connect to last byte, in all
    max_attempts       tries per request, the first included
    max_pending        dimensions accepted and not yet settled: the bound of memory
    max_workers        daemon threads, each with one connection; 1 keeps the order of pushes
    max_batch          dimensions (FME: pushes) in one request, 1 to 5000; 1: no batches
    exit_timeout       seconds that the interpreter's exit may wait; may be 0
    on_result          called with a `PushResult` for every accepted push, by a worker, or
                       by the thread that flushes, closes or exits. Keep it short: every
                       push gets its call, also when the time of a close or an exit is
                       over. What it raises is logged
    ssl_context        an ssl.SSLContext; None: one that verifies, with the certificates of
                       the system or of SSL_CERT_FILE
    transport          callable(Request, timeout in seconds) -> HTTP status, instead of the
                       network

    Raises `ValueError` that names the option. Makes no network call and starts no thread,
    but imports all that sending needs: do it while the program starts. Any thread may call
    any method. A client works in forked children, where it starts empty; it can be neither
    pickled nor copied.
    """

    def __init__(
        self,
        account_id: int | str,
        sdk_key: str,
        *,
        collection_prefix: str | None = None,
        event_arch: bool = False,
        fme: bool = False,
        base_url: str = BASE_URL,
        timeout: float = 5.0,
        max_attempts: int = 4,
        max_pending: int = 10_000,
        max_workers: int = 2,
        max_batch: int = 1000,
        exit_timeout: float = 2.0,
        on_result: Callable[[PushResult], object] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        transport: Callable[[Request, float], int] | None = None,
    ) -> None:
        given = locals()  # every argument by its name
        network = transport is None
        _load(network)
        self._config = config = _checked_options(given)
        config.account_id = _digits(account_id)
        config.timeout = float(timeout)  # as a transport gets it
        config.web_visitors = fme
        config.endpoint = _Endpoint(config.base_url, ssl_context, network)
        prefix = (config.collection_prefix or "").strip("/")
        config.base_url = (config.endpoint.origin + config.endpoint.path
                           + ("/" + prefix if prefix else ""))
        _prepare(config)
        self._closed = False
        self._senders: dict[int, _Sender] = {}  # by process id
        self._sender()

    @classmethod
    def from_settings(cls, settings: str | bytes | Mapping[str, Any],
                      **options: Any) -> Client:
        """Return a client for an official settings file: a dict, or its JSON text.

        Reads accountId, sdkKey, collectionPrefix, isEventArchEnabled and
        isWebConnectivityEnabled, and guesses nothing: the string "false" is an error. A
        file with features is that of an FME account. *options* are those of `Client`, and
        win. Raises `ValueError` that names the member or the option.
        """
        _load(network=False)
        found: Any = _parsed(settings) if type(settings) in (str, bytes) else settings
        if not _is_mapping(found):
            raise Invalid("the settings must be a JSON object")
        for member in "accountId", "sdkKey":
            if member not in found:
                raise Invalid("the settings have no " + member)
        web_visitors = found.get("isWebConnectivityEnabled", True)
        if type(web_visitors) is not bool:
            raise Invalid("isWebConnectivityEnabled must be true or false")
        fme = options.get("fme", "features" in found)
        of_file: dict[str, Any] = {
            "account_id": found["accountId"], "sdk_key": found["sdkKey"],
            "collection_prefix": found.get("collectionPrefix"), "fme": fme,
            # Only FullStack has it.
            "event_arch": fme is not True and found.get("isEventArchEnabled", False)}
        client = cls(**{**of_file, **options})
        client._config.web_visitors &= web_visitors
        return client

    if TYPE_CHECKING:
        @overload
        def push(self, custom_dimension_key: str, custom_dimension_value: _Value,
                 user_id: str) -> bool: ...

        @overload
        def push(self, custom_dimension_map: Mapping[str, _Value],
                 user_id: str) -> bool: ...

    def push(*args: Any, **kwargs: Any) -> bool:
        """Tag a user: ``push(key, value, user_id)`` or ``push(map, user_id)``.

        By name they are custom_dimension_key, custom_dimension_value, user_id and
        custom_dimension_map. Keys and values are non-empty str of at most 255 code points;
        *user_id* is the non-empty str that VWO's SDK gets. With ``fme=True`` a value may
        also be a bool, an int within 2**53, or a finite float. A map is one push, taken
        whole or not at all. Nothing is trimmed or converted.

        True: accepted, and will be sent. False: refused, and a warning says why; it was
        not valid, `max_pending` is reached, or the client is closed. Raises nothing for
        what it is given, never waits, and does no I/O but that warning, also in signal
        handlers, finalisers and callbacks.
        """
        # With named parameters Python would raise for one that is given twice.
        self: Client = args[0]
        try:
            try:
                key = value = user_id = None
                if len(args) == 4 and not kwargs:
                    _, key, value, user_id = args
                if (type(key) is str and type(value) is str and type(user_id) is str
                        and 0 < len(key) <= MAX_TEXT_CHARS
                        and 0 < len(value) <= MAX_TEXT_CHARS
                        and user_id and key != RESERVED_KEY
                        and key.isascii() and value.isascii() and user_id.isascii()):
                    # Nearly all pushes: the checks of _checked, at a third of its cost.
                    push: _Push = (time.time(), user_id, key, value)
                else:
                    push = _checked(self._config.fme, args[1:], kwargs)
                sender = self._senders.get(getpid()) or self._sender()  # mostly no call
                return sender.accept(push)
            except Invalid as invalid:
                return self._sender().refuse(invalid.kind, str(invalid))
            except _NO_MEMORY:
                return self._sender().refuse(_OUT_OF_MEMORY)
        except _NO_MEMORY:
            return False

    def flush(self, timeout: float | None = 2.0) -> bool:
        """Wait until every push accepted before this call is settled.

        True: VWO has answered 2xx to every push accepted since the flush before, and
        `on_result` has returned for each. False: one was not delivered, or *timeout*
        (seconds; None: as long as attempts and retries take) ran out; what is still
        pending then counts in the next flush. Sends on this thread where no other can be
        had. False at once in `on_result`, and in a signal handler or finaliser that
        interrupted what it would have to wait for.
        """
        return self._sender().flush(_until(timeout))

    def close(self, timeout: float | None = 2.0) -> bool:
        """Refuse new pushes and flush; what is left then fails with error "closed".

        Returns what the flush did. Ends the threads. Can be called again. Where `flush`
        is False at once, so is this: it only refuses new pushes there.
        """
        until = _until(timeout)
        self._closed = True
        return self._sender().close(until)

    def stats(self) -> dict[str, int]:
        """Return counts since the client was made, or this process forked.

        Of pushes: accepted == delivered + failed + pending, and those refused: invalid
        and dropped (no room, closed, or no memory). Of HTTP: requests, of which retries.
        """
        sender = self._sender()
        accepted, delivered, failed = sender.counts()
        retries = _ticks(sender.retries)
        return {"accepted": accepted, "delivered": delivered, "failed": failed,
                "pending": accepted - delivered - failed,
                "invalid": _ticks(sender.invalid), "dropped": _ticks(sender.dropped),
                "requests": _ticks(sender.first_tries) + retries, "retries": retries}

    def requests_for(*args: Any, **kwargs: Any) -> list[Request]:
        """Return the requests that this push alone would make, and send nothing.

        Takes what `push` takes. Raises `ValueError` with the reason for what it refuses.
        """
        config: _Config = args[0]._config
        push = _checked(config.fme, args[1:], kwargs)
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
            self._senders[getpid()].dismiss()
        except Exception:  # half constructed; the parent's; or so late that no name is left
            pass

    def _sender(self) -> _Sender:
        """The sender of this process. A forked child makes its own, which is empty: the
        parent sends what is pending."""
        sender = self._senders.get(getpid())
        if sender is None:
            process = _process()
            _watch_exit(process)
            fresh = _Sender(self._config, process)
            fresh.closed = fresh.closed or self._closed
            process.senders.add(fresh)  # first: nothing is pending where no exit looks
            # Where two threads come here, both get the sender that is put in first.
            sender = self._senders.setdefault(getpid(), fresh)
            self._senders = {getpid(): sender}
        return sender


# -- Settings ----------------------------------------------------------------------------


def _fetch(connection: _Connection, config: _Config) -> dict[str, Any]:
    """The settings that VWO keeps for a client; their URL has no collection prefix. Raises
    what `fetch_settings` raises."""
    name, sdk = (("v2-settings", _FME_SDK + "&s=prod") if config.fme else
                 ("settings", _FULLSTACK_SDK))
    url = "%s%s/server-side/%s?a=%s&i=%s&r=%s&platform=server&api-version=1&%s" % (
        config.endpoint.origin, config.endpoint.path, name, config.account_id,
        config.url_key, _nonce(random.Random()), sdk)
    body, why = b"", ""
    try:
        answer = connection.exchange(
            Request("GET", url, {**_HEADERS}, None), config.timeout)
        if 200 <= answer.status < 300:
            body = answer.read(MAX_SETTINGS_BYTES + 1)
            if answer.length or len(body) > MAX_SETTINGS_BYTES:
                why = "the answer was cut off, or is longer than 8 MiB"
        else:
            why = "HTTP status %d" % answer.status
    except Exception as error:
        if _is_interrupt(error):
            raise
        why = str(connection.failure(error))
    finally:
        connection.close()
    if why:  # raised here: in the except clause the error would hold the answer
        raise ConnectionError("VWO's settings: " + why)
    settings = _parsed(body)
    if not _is_mapping(settings):
        raise ValueError("VWO's settings are not a JSON object")
    return dict(settings)


def fetch_settings(account_id: int | str, sdk_key: str, *, fme: bool = False,
                   base_url: str = BASE_URL, timeout: float = 5.0,
                   ssl_context: ssl.SSLContext | None = None) -> dict[str, Any]:
    """Return the settings that VWO keeps for an account, for `Client.from_settings`.

    The arguments are those of `Client`; *timeout* is for the whole answer. Waits for
    the network, and tries once. Raises `ConnectionError` where there is no answer, one
    that is not 2xx, or one over 8 MiB, and `ValueError` where it is not a JSON object.
    """
    client = Client(account_id, sdk_key, fme=fme, base_url=base_url, timeout=timeout,
                    ssl_context=ssl_context)
    config = client._config  # pyright: ignore
    return _fetch(_Connection(config.endpoint, _process().gate), config)


# -- Input files: rows of CSV and of JSON Lines ------------------------------------------
#
# A file becomes (header, rows); the header of JSON Lines is None. Each of the rows is a
# pair: the row as it was read, and the arguments of `Client.push`, or an `Invalid` that
# says why there are none.

_ERROR = "vwo_push_error"  # the last column or member of a reject: the reason
MAX_LINE_CHARS = 1_000_000  # of an input file; also of a cell


class _Stop(Exception):
    """Ends the command; the text says why, and is for the user."""


def _lines(text: IO[str]) -> Iterator[str]:
    for line in iter(partial(text.readline, MAX_LINE_CHARS + 1), ""):
        if "\0" in line or line.startswith("\x1f\udc8b"):
            raise _Stop("a NUL or gzip; use: gzip -dc FILE | python3 vwo_push.py --from -; "
                        "for UTF-16: iconv -f UTF-16 -t UTF-8 FILE")
        if len(line) > MAX_LINE_CHARS:
            raise _Stop("a line longer than %d characters" % MAX_LINE_CHARS)
        try:
            line.encode()
        except UnicodeEncodeError:
            raise _Stop("not UTF-8; perhaps: iconv -f WINDOWS-1252 -t UTF-8") from None
        yield line


def _cells(lines: Iterator[str]) -> Iterator[list[str]]:
    """The cells of each row of CSV, without the blanks around them; no blank lines."""
    import csv
    csv.field_size_limit(MAX_LINE_CHARS)
    try:
        for cells in csv.reader(lines, strict=True, skipinitialspace=True):
            cells = [cell.strip() for cell in cells]
            if cells not in ([], [""]):
                yield cells
    except csv.Error as error:
        raise _Stop("not CSV, %s; expected quotes around a whole cell, and doubled within"
                    % error) from None


def _csv_rows(lines: Iterator[str], columns: str | None) -> tuple[list[str], Iterator[Any]]:
    """Rows of user_id and a column for each dimension, or of user_id,key,value."""
    rows = _cells(lines)
    header = next(rows, [""])
    end = -1 if header[-1] == _ERROR else None  # rejects are read without the reason
    header = header[:end]
    wanted = header if columns is None else [name.strip() for name in columns.split(",")]
    names = [name for name in wanted if name not in ("user_id", _ERROR)]
    is_long = {"key", "value"} <= {*names}
    allowed = ["user_id", "key", "value"] if is_long else header
    for name in ["user_id", *(names or [""])]:  # without any dimension, "" is refused
        if not name or header.count(name) != 1 or name not in allowed:
            raise _Stop("the header lacks, repeats or must not have the column %r; "
                        "expected user_id and a column for each dimension, or user_id,"
                        "key,value, with commas between; --columns picks some" % name)

    def parsed(cells: list[str]) -> tuple[Any, Any]:
        cells = cells[:end]
        if len(cells) != len(header):
            why = "a row must have %d cells" % len(header)
            return cells, Invalid(why, str(len(cells)))
        row = dict(zip(header, cells))
        if is_long:
            dimensions = {row["key"]: row["value"]}
        else:
            dimensions = {name: row[name] for name in names if row[name]}
        return cells, (dimensions, row["user_id"])

    return header, map(parsed, rows)


def _json_row(line: str) -> tuple[Any, Any]:
    row = _parsed(line)
    if not _is_mapping(row):
        row = {"vwo_push_line": line}
    if not _is_mapping(row.get("dimensions")):
        return row, Invalid('a line must be {"user_id": "...", "dimensions": {...}}')
    return row, (row["dimensions"], row.get("user_id"))


def _rows_of(lines: Iterator[str], columns: str | None,
             ) -> tuple[list[str] | None, Iterator[Any]]:
    """Return (header, rows); the first character tells CSV from JSON Lines."""
    first = next((line for line in lines if line.strip()), "")
    lines = chain([first], lines)
    if first.lstrip().startswith("["):
        raise _Stop("a JSON array; expected a JSON object in each line: jq -c '.[]' FILE")
    if first and not first.lstrip().startswith("{"):
        return _csv_rows(lines, columns)
    if first and columns is not None:
        raise _Stop("not CSV; --columns is for CSV")
    return None, (_json_row(line) for line in map(str.strip, lines) if line)


def _write(file: IO[str], row: Any, why: str) -> None:
    """Add a row to the rejects, in the format of the input."""
    if isinstance(row, dict):
        file.write(json.dumps({**row, _ERROR: why}) + "\n")
    else:
        import csv
        csv.writer(file).writerow([*row, why])  # ends in \r\n, or \r would not be quoted


# -- Command line ------------------------------------------------------------------------

MAX_BACKFILL_PENDING = 3_000  # rows in memory at a time
SETTLE_SECONDS = 10.0  # that a run which ends early waits for what is in flight
DEAD_SECONDS, DEAD_REQUESTS = 30.0, 10  # of failures only; then a run gives up

_CLIENT_OPTIONS = ("account_id", "sdk_key", "collection_prefix", "fme", "event_arch",
                   "base_url", "timeout")
_USAGE = "python3 vwo_push.py [options] KEY VALUE USER_ID | --from FILE | --check | --demo"
_HELP = (  # options, what they take, what they do
    ("--check", "", "is VWO reached, and which options do its settings ask for?"),
    ("--demo", "", "see it work: no account, no network"),
    ("--dry-run", "", "print the requests, the key masked, and send nothing"),
    ("--from", "FILE", "push every row of FILE; - is stdin"),
    ("--columns", "A,B", "of a CSV file, send these columns only"),
    ("--rejects", "FILE", "rows not delivered, and why; emptied first, not with --skip"),
    ("--skip", "N", "pass over the first N rows"),
    ("--quiet", "", "print nothing but errors"),
    ("--account-id", "ID", "default: VWO_ACCOUNT_ID (arguments show in process lists)"),
    ("--sdk-key", "KEY", "default: VWO_SDK_KEY in the environment"),
    ("--settings", "FILE", "read both from an official settings file"),
    ("--fme", "", "it is an FME account"),
    ("--event-arch", "", "it is a FullStack account with events architecture"),
    ("--collection-prefix", "PREFIX", "data residency, for example eu01"),
    ("--base-url", "URL", "default: " + BASE_URL),
    ("--timeout", "SECONDS", "for one attempt, default 5"),
)
_NOTES = """\
A file is CSV in UTF-8 with a header, user_id and a column for each dimension, or
user_id,key,value; or JSON Lines of {"user_id": "u-1", "dimensions": {"plan": "free"}}.
With --fme, JSON Lines may hold numbers, true and false; CSV cells and VALUE stay text.

Exit status: 0 everything was delivered, 1 something was not, 2 usage, 3 nothing got
through any more, 130 after Ctrl-C, 143 after SIGTERM."""


def _cut_off(stream: Any) -> None:
    """Have *stream* read and write os.devnull: reads find the end, writes vanish."""
    with open(os.devnull, "r+b", 0) as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def _print(text: str, stream: Any) -> None:
    if stream is None:  # closed by whoever started this process
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:  # a closed pipe, a full disk
        _cut_off(stream)  # or Python tries again at exit
        if stream is not sys.stderr:
            _complain("the output cannot be written: %s" % error.strerror)
            sys.exit(1)


def _say(text: str) -> None:
    _print(text + "\n", sys.stdout)


def _complain(text: object) -> None:
    _print("vwo_push: %s\n" % " ".join(str(text).split()), sys.stderr)


def _pretend(request: Request, seconds: float) -> int:
    return 204  # a transport where nothing is sent


def _client(args: Any, **more: Any) -> Client:
    """A client. Its options are those on the command line; the others come from the
    settings file where there is one, or else from the environment."""
    settings: Any = {"accountId": args.account_id or os.environ.get("VWO_ACCOUNT_ID"),
                     "sdkKey": args.sdk_key or os.environ.get("VWO_SDK_KEY")}
    if args.settings is not None:
        with open(args.settings, "rb") as file:
            settings = file.read(MAX_SETTINGS_BYTES)
    elif not all(settings.values()):
        raise _Stop("no credentials: set VWO_ACCOUNT_ID and VWO_SDK_KEY")
    more.update({name: vars(args)[name] for name in _CLIENT_OPTIONS
                 if vars(args)[name] is not None})
    if args.dry_run:  # without the key, nothing can print it
        more.update(sdk_key="X" * 32, transport=_pretend)
    return Client.from_settings(settings, **more)


def _show(requests: Iterable[Request]) -> None:
    for request in requests:
        head = "".join("%s: %s\n" % header for header in request.headers.items())
        body = "\n%s\n" % request.body.decode() if request.body else ""
        _say("%s %s\n%s%s" % (request.method, request.url, head, body))


def _push_one(args: Any) -> int:
    with _client(args) as client:
        if args.dry_run:
            _show(client.requests_for(*args.push))
            return 0
        delivered = client.push(*args.push) and client.flush(None)
    _say("true" if delivered else "false")
    return 0 if delivered else 1


class _Backfill:
    """Pushes every row of a file. The rows get their outcomes in the order of the file:
    the first ones are done, and done == delivered + rejected + skipped at any moment; those
    behind them are pending. All of this runs on the main thread; the worker of the client
    only adds to the results."""

    def __init__(self, args: Any, source: Any) -> None:
        self._args, self._source, self._skip = args, source, args.skip or 0
        self._name = "stdin" if args.source == "-" else args.source
        self._done = self._delivered = self._rejected = 0  # rows
        # (row, why it is refused, the kind of reason; or both "": its result is to come)
        self._pending: deque[tuple[Any, str, str]] = deque()
        self._results: deque[PushResult] = deque()  # of the first pending rows
        # kind -> [how many rejects, row of the first, why]
        self._reasons: dict[str, list[Any]] = {}
        self._first_lost = 0  # number of the first row that was rejected and is in no file
        self._began = self._looked = _now()
        self._cause, self._status = "", 0  # why it ends before the file does; exit status
        self._until = float("inf")  # until then it waits for what is pending
        self._failures, self._failing = 0, float("inf")  # of requests; since when all fail
        # Status of the last failure; how many requests there were when it first came.
        self._last_status: tuple[int | None, int] = (None, 0)

    def on_signal(self, number: int, _: object) -> None:
        """End the run; a second signal ends its wait. Raises nothing: a row that is on its
        way between two lines would not be counted."""
        self._until = 0.0 if self._cause else _now() + SETTLE_SECONDS
        self._cause, self._status = "interrupted", 128 + number
        _cut_off(self._source)  # Python repeats a read that waits: it finds the end

    def _end(self, cause: str, status: int) -> None:
        """Read no further, and soon exit with *status*; *cause* is for the user."""
        if not self._cause:
            self._until = _now() + SETTLE_SECONDS
            self._cause, self._status = cause, status

    def run(self) -> int:
        try:
            self._header, rows = _rows_of(_lines(self._source), self._args.columns)
        except _Stop as stop:
            if self._cause:  # a signal has cut the header off
                return self._summary()
            raise _Stop("%s: %s" % (self._name, stop)) from None
        path, mode = self._args.rejects, "w" if self._args.skip is None else "a"
        if path and os.path.exists(path) and os.path.samefile(path, self._source.fileno()):
            raise _Stop("--rejects must not be the file that is read")
        # One worker keeps the rows in order. _push_all bounds what is pending: max_pending
        # would refuse rows. The client comes first: bad options must not empty the rejects.
        # The rejects are written line by line, or a crash would lose some.
        with _client(self._args, max_workers=1, max_pending=sys.maxsize,
                     on_result=self._results.append) as self._client, \
                open(path or os.devnull, mode, 1, encoding="utf-8",
                     newline="") as self._rejects:
            self._push_all(rows)
            self._drain(0)
            self._client.close(0)
            self._drain(0)  # what was still pending has failed now: "closed"
            self._show_progress("\n")
        return self._summary()

    def _push_all(self, rows: Iterator[Any]) -> None:
        try:
            for row, push in rows:
                if self._cause:  # by a signal: the row may be cut off
                    break
                if self._done < self._skip:
                    self._done += 1
                else:
                    why, kind = self._push(push)
                    self._pending.append((row, why, kind))
                    if why:
                        self._finish()
                is_full = len(self._pending) >= MAX_BACKFILL_PENDING
                if is_full or _now() - self._looked > 0.2:
                    self._drain(MAX_BACKFILL_PENDING - 1)
        except (_Stop, OSError) as stop:
            number = self._done + len(self._pending) + 1
            self._end("row %d of %s: %s" % (number, self._name, stop), 1)

    def _push(self, push: Any) -> tuple[str, str]:
        """Push a row. Return why it is refused and the kind of reason, or "" twice."""
        where = ""
        try:
            if isinstance(push, Invalid):
                raise push
            if self._client.push(*push):
                if self._args.dry_run:
                    _show(self._client.requests_for(*push))
                return "", ""
            for name, value in push[0].items():  # which one is not valid?
                where = "dimension %s: " % name
                self._client.requests_for(name, value, "user")
            where = ""
            self._client.requests_for(*push)
            return _OUT_OF_MEMORY, _OUT_OF_MEMORY  # as all of it is valid
        except Invalid as invalid:
            return where + str(invalid), invalid.kind

    def _finish(self) -> None:
        """Give the first rows their outcomes, as far as these are known."""
        while self._pending and (self._pending[0][1] or self._results):
            row, why, kind = self._pending.popleft()
            self._done += 1
            if why:
                self._reject(row, why, kind)
            else:
                self._record(row, self._results.popleft())

    def _drain(self, limit: int) -> None:
        """Finish rows, until at most *limit* are pending or time is over."""
        while True:
            self._looked, stats = _now(), self._client.stats()
            self._finish()
            failures = stats["failed"] + stats["retries"]
            if failures > self._failures:
                self._failures, self._failing = failures, min(self._failing, self._looked)
                if self._looked - self._failing > DEAD_SECONDS:
                    self._end_dead()
            self._show_progress("")
            if len(self._pending) <= limit or self._looked > self._until:
                return
            # A longer flush sees signals late. If no thread starts, it sends, and less than
            # 10 s would cut off the answers of a slow server.
            self._client.flush(0.1 if threading.active_count() > 1 else
                               min(10.0, self._until - self._looked))

    def _record(self, row: Any, result: PushResult) -> None:
        if result.delivered:
            self._delivered += 1
            self._failing, self._last_status = float("inf"), (None, 0)
            return
        why = "%s, %s" % (result.error, result.detail or "not delivered in time")
        self._reject(row, "%s, attempts: %d" % (why, result.attempts), why)
        requests = self._client.stats()["requests"]
        if result.status != self._last_status[0]:
            self._last_status = result.status, requests
        elif 400 <= (result.status or 0) < 500 and (
                requests - self._last_status[1] >= DEAD_REQUESTS):
            self._end_dead()

    def _end_dead(self) -> None:
        self._end("nothing gets through any more; try --check", 3)

    def _reject(self, row: Any, why: str, kind: str) -> None:
        self._rejected += 1
        self._reasons.setdefault(kind, [0, self._done, why])[0] += 1
        try:
            if self._header and self._rejected == 1 and not (
                    self._rejects.seekable() and self._rejects.tell()):
                _write(self._rejects, self._header, _ERROR)  # else it has one
            _write(self._rejects, row, why)
        except OSError as error:
            _cut_off(self._rejects)  # or closing it fails, too
            self._args.rejects = None  # from now on there is no such file
            self._end("the rejects cannot be written: %s" % error.strerror, 1)
        if self._args.rejects is None:
            self._first_lost = self._first_lost or self._done

    def _totals(self, word: str) -> str:
        return "%s %d, delivered %d, rejected %d, skipped %d" % (
            word, self._done, self._delivered, self._rejected, min(self._done, self._skip))

    def _show_progress(self, end: str) -> None:
        if self._args.quiet or self._args.dry_run or not (
                sys.stderr is not None and sys.stderr.isatty()):
            return
        seconds = _now() - self._began
        text = "%s, %d/s" % (self._totals("row"), self._delivered / max(seconds, 0.001))
        size = os.fstat(self._source.fileno()).st_size
        part = self._source.buffer.tell() / size if size else 0.0
        if 0 < part < 1:
            text += ", %d s left" % (seconds / part - seconds)
        _print("\r\x1b[K" + text + end, sys.stderr)

    def _summary(self) -> int:
        for number, first, why in sorted(self._reasons.values(), reverse=True)[:10]:
            _complain("%d rejected, the first is row %d of %s: %s" % (
                number, first, self._name, why))
        if self._cause:
            skip = self._first_lost - 1 if self._first_lost else max(self._done, self._skip)
            _complain("%s; resume with --skip %d" % (self._cause, skip))
        if not self._args.dry_run:
            _say(self._totals("read"))
        return self._status or int(self._rejected > 0)


def _push_many(args: Any) -> int:
    import logging  # else the client says on stderr what _summary says
    import signal
    logging.getLogger("vwo_push").addHandler(logging.NullHandler())
    piped = args.source == "-"
    # Bytes that are not UTF-8 become surrogates, for _lines to find: a strict decoder
    # would raise up to 8 KiB early.
    with open(0 if piped else args.source, encoding="utf-8-sig", newline="",
              errors="surrogateescape", closefd=not piped) as source:
        backfill = _Backfill(args, source)
        before = [(number, signal.signal(number, backfill.on_signal))
                  for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            return backfill.run()
        finally:
            for number, handler in before:
                signal.signal(number, handler)


_STEPS = {  # of --check, and the advice where a step fails
    "proxy": "mend HTTPS_PROXY, as http://user:password@host:port, or set NO_PROXY",
    "name": "try nslookup; where only a proxy leads out, set HTTPS_PROXY",
    "connection": "open the firewall, or set HTTPS_PROXY",
    "TLS": "set the clock; name your company's CA in SSL_CERT_FILE; or is it no TLS port?",
    "answer": "compare account id, SDK key, --base-url and --fme with VWO's, or try later",
}


def _check(args: Any) -> int:
    """Fetch the settings; say which steps succeed and what options the settings ask for."""
    config = _client(args)._config  # pyright: ignore
    endpoint, account, key = config.endpoint, config.account_id, config.sdk_key
    _say("%s, account %s, SDK key %s" % (endpoint.origin, account, "X" * len(key)))
    connection, asked, why = _Connection(endpoint, _process().gate), config, ""
    try:
        found = dict(_fetch(connection, config), accountId=account, sdkKey=key)
        asked = Client.from_settings(found, transport=_pretend)._config  # pyright: ignore
    except (OSError, ValueError) as error:
        why = str(error)
    used = {"proxy": endpoint.proxy, "TLS": endpoint.ssl_context}
    for step, advice in _STEPS.items():
        if why and step.lower() in (connection.stage, "answer"):
            (_complain if args.quiet else _say)(
                "%s: failed, %s; next: %s" % (step, why, advice))
            return 1
        _say("%s: %s" % (step, "ok" if used.get(step, True) else "none"))
    _say("the settings ask for collection_prefix=%(collection_prefix)r, "
         "event_arch=%(event_arch)r, fme=%(fme)r" % vars(asked))
    return 0


_DEMO: list[tuple[dict[str, Any], tuple[Any, ...]]] = [  # options of Client, a push
    ({"fme": True}, ({"plan": "premium", "age": 30, "vip": True}, "user-1")),
    ({}, ("plan", '"100%" + more', "user-42")),
    ({"event_arch": True}, ("plan", "premium", "user-7")),
]


def _read_back(path: str, body: str) -> tuple[str, dict[str, Any]]:
    """(visitor UUID, dimensions) of a request, as VWO's server would read them."""
    if not body:
        query = dict(urllib.parse.parse_qsl(path.partition("?")[2], errors="strict"))
        return query["u"], json.loads(query["tags"])["u"]
    event = json.loads(body)["d"]
    del event["visitor"]["props"][RESERVED_KEY]
    return event["visId"], event["visitor"]["props"]


def _demo(args: Any) -> int:
    """Send real pushes to a collector in this process, and show what arrives."""
    _load(network=True)
    os.environ["no_proxy"] = "*"  # a proxy could not reach this collector
    with socket.create_server(("127.0.0.1", 0)) as collector:
        collector.settimeout(10)  # nothing comes if no thread can be started
        url = "http://127.0.0.1:%d" % collector.getsockname()[1]
        for options, push in _DEMO:
            options = {**options, "base_url": url}
            _say("Client(1, 'demo-key', **%r).push%r\n" % (options, push))
            with Client(1, "demo-key", **options) as client:
                client.push(*push)
                with collector.accept()[0] as connection:
                    # In one piece, as the client sends a short request.
                    head, _, body = connection.recv(65536).decode().partition("\r\n\r\n")
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            visitor, dimensions = _read_back(head.split()[1], body)
            _say("%s\n\n%s\nread back: user %s, visitor %s, %s\nstats: %s\n" % (
                head, body, push[-1], visitor, json.dumps(dimensions),
                json.dumps(client.stats())))
    return 0


def _parse(argv: Sequence[str] | None) -> Any:
    import argparse

    class Parser(argparse.ArgumentParser):
        # argparse would leave a closed pipe to the exit of Python, which complains.
        def _print_message(self, message: str, file: Any = None) -> None:
            _print(message, file or sys.stderr)

    parser = Parser(
        "vwo_push", _USAGE, "Tag users with custom dimensions in VWO.", _NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version="vwo_push " + __version__)
    parser.add_argument("push", nargs="*", metavar="KEY VALUE USER_ID",
                        help="one push; prints true or false")
    for name, takes, text in _HELP:
        more: dict[str, Any] = {"action": "store_true", "default": None}
        if takes:
            more = {"metavar": takes, "type": {"N": int, "SECONDS": float}.get(takes, str)}
        parser.add_argument(name, help=text, **more)
    args = parser.parse_args(argv)
    args.source = vars(args)["from"]  # from is no name in Python
    forms = [(args.check, _check), (args.demo, _demo), (args.push, _push_one),
             (args.source is not None, _push_many)]
    args.forms = [form for is_given, form in forms if is_given]
    of_a_file = [args.columns, args.rejects, args.skip]
    if (len(args.forms) != 1 or len(args.push) not in (0, 3)
            or args.dry_run and (args.check or args.demo)
            or args.source is None and of_a_file != [None] * 3 or (args.skip or 0) < 0):
        parser.error("give KEY VALUE USER_ID, or --check, or --demo, or --from FILE, which "
                     "alone takes --columns, --rejects, and --skip of at least 0")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with *argv* (default: `sys.argv`); return the exit status."""
    import contextlib
    args = _parse(argv)
    try:
        with contextlib.redirect_stdout(None if args.quiet else sys.stdout):
            return int(args.forms[0](args))
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except (_Stop, OSError, ValueError) as error:
        _complain(error)
        return 1 if args.check and not isinstance(error, _Stop) else 2


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
