# SPDX-License-Identifier: MIT
"""What vwo_push must do where there are no threads and no network: WASI and Pyodide.

Three parts: the tests, which .ci/pyodide.mjs and the WASI component run; the entry
point of the component, which componentize-py wants in a class of this name; and its
host, which .ci/matrix runs as ``python wasi_app.py COMPONENT``.
"""

import json
import sys
import threading
import time
import unittest

BASE_URL = "http://127.0.0.1:9"  # nothing can be sent to it from here
if sys.platform in ("wasi", "emscripten"):
    import vwo_push


class WithoutThreadsTest(unittest.TestCase):
    def client(self, *answers, **options):
        """A client whose transport records (thread, request) and gives *answers*."""
        sent, answers = [], list(answers)

        def transport(request, timeout):
            sent.append((threading.get_ident(), request))
            return answers.pop(0) if answers else 204

        return vwo_push.Client(123456, "key", transport=transport, **options), sent

    def test_there_are_no_threads(self):
        with self.assertRaises(RuntimeError):  # else these tests show nothing
            threading.Thread(target=int).start()

    def test_flush_delivers_on_the_calling_thread(self):
        results = []
        client, sent = self.client(on_result=results.append)
        self.assertIs(client.push("plan", "Z\xfcrich 100% + 1", "user-42"), True)
        self.assertIs(client.push({"plan": "pro", "country": "IN"}, "user-7"), True)
        self.assertIs(client.push("plan", 5, "user-42"), False)
        self.assertEqual((client.stats()["pending"], sent), (2, []))
        self.assertIs(client.flush(), True)
        self.assertEqual({thread for thread, _ in sent}, {threading.get_ident()})
        self.assertEqual([result.user_id for result in results], ["user-42", "user-7"])
        stats = client.stats()
        self.assertEqual([stats["delivered"], stats["pending"], stats["invalid"]],
                         [2, 0, 1])
        self.assertIs(client.push("plan", "free", "user-42"), True)
        self.assertIs(client.close(), True)
        self.assertEqual(client.stats()["delivered"], 3)
        self.assertIs(client.push("plan", "free", "user-42"), False)

    def test_flush_tells_the_truth(self):
        client, sent = self.client(503, 404)
        client.push("plan", "premium", "user-42")
        self.assertIs(client.flush(10), False)
        self.assertEqual((len(sent), client.stats()["failed"]), (2, 1))

    def test_the_events_architecture(self):
        client, sent = self.client(event_arch=True)
        client.push("plan", "premium", "user-42")
        self.assertIs(client.flush(), True)
        self.assertIn("/events/t?", sent[0][1].url)

    def test_an_fme_account(self):
        client, sent = self.client(fme=True)
        self.assertIs(client.push({"age": 30, "vip": True, "plan": "pro"}, "u"), True)
        self.assertIs(client.flush(), True)
        self.assertIn("/events/t?", sent[0][1].url)
        props = json.loads(sent[0][1].body)["d"]["visitor"]["props"]
        self.assertEqual([props["age"], props["vip"], props["plan"]], [30, True, "pro"])
        client.push("age", 30, "u")
        client.push("age", 31, "v")
        self.assertIs(client.flush(), True)
        self.assertIn("/server-side/batch-events-v2?", sent[1][1].url)

    def test_max_pending_bounds_what_is_kept(self):
        client, _ = self.client(max_pending=100)
        pushed = [client.push("plan", "premium", "user-42") for _ in range(150)]
        self.assertEqual(sum(pushed), 100)
        self.assertIs(client.flush(), True)

    def test_https_without_a_transport_is_refused_and_says_what_to_do(self):
        with self.assertRaisesRegex(ValueError, "transport"):
            vwo_push.Client(123456, "key")

    def test_http_without_a_transport_is_never_true_and_keeps_its_time(self):
        client = vwo_push.Client(123456, "key", base_url=BASE_URL, timeout=0.5)
        self.assertIs(client.push("plan", "premium", "user-42"), True)
        began = time.monotonic()
        self.assertIs(client.flush(1), False)
        client.close(0)
        self.assertLess(time.monotonic() - began, 2.5)
        stats = client.stats()
        self.assertEqual((stats["delivered"], stats["failed"]), (0, 1))


def run():
    stream = sys.stdout
    stream.write("Python %s\n" % sys.version.split()[0])
    unittest.TextTestRunner(stream, verbosity=1).run(
        unittest.defaultTestLoader.loadTestsFromTestCase(WithoutThreadsTest))
    stream.flush()


if sys.platform == "wasi":
    # The component is a snapshot of this very moment, and has no files to import from
    # later. So it imports now whatever any client will want.
    import wit_world

    WithoutThreadsTest().client()
    try:
        vwo_push.Client(123456, "key")
    except ValueError:
        pass

    class WitWorld(wit_world.WitWorld):
        def run(self):
            run()

elif __name__ == "__main__":
    from wasmtime import Engine, Store, WasiConfig
    from wasmtime.component import Component, Linker

    engine = Engine()
    linker, store, config = Linker(engine), Store(engine), WasiConfig()
    linker.add_wasip2()
    config.inherit_stdout()
    config.inherit_stderr()
    store.set_wasi(config)
    instance = linker.instantiate(store, Component.from_file(engine, sys.argv[1]))
    instance.get_func(store, "run")(store)
