"""Every public name, used as documented: what the type checkers are run on."""

import ssl
from typing import Any, Dict, List, Mapping, Optional, Union

import vwo_push

Value = Union[str, bool, int, float]


def on_result(result: vwo_push.PushResult) -> None:
    user_id: str = result.user_id
    dimensions: Mapping[str, Value] = result.dimensions
    delivered: bool = result.delivered
    status: Optional[int] = result.status
    error: Optional[str] = result.error
    attempts: int = result.attempts
    detail: Optional[str] = result.detail
    print(user_id, dimensions, delivered, status, error, attempts, detail)
    again: bool = result.dimensions["plan"] == "premium" and result[-1] is None
    print(again)


def transport(request: vwo_push.Request, timeout: float) -> int:
    method: str = request.method
    url: str = request.url
    headers: Dict[str, str] = request.headers
    body: Optional[bytes] = request.body
    print(method, url, headers, body, timeout)
    return 200


def use_full_stack() -> bool:
    settings: Dict[str, Any] = vwo_push.fetch_settings(
        123456, "key", base_url="https://example.com", timeout=1.0, ssl_context=None)
    with vwo_push.Client(
            account_id="123456", sdk_key="key", collection_prefix="eu01",
            event_arch=False, fme=False, base_url="https://example.com", timeout=5,
            max_attempts=4, max_pending=10_000, max_workers=2, max_batch=1000,
            exit_timeout=0, on_result=on_result, transport=transport,
            ssl_context=ssl.create_default_context()) as client:
        pushed: bool = client.push("plan", "premium", "u-42")
        pushed = client.push(
            custom_dimension_key="plan", custom_dimension_value="pro", user_id="u-42")
        pushed = client.push({"plan": "premium"}, "u-42")
        pushed = client.push({"plan": "premium"}, user_id="u-42")
        pushed = client.push(custom_dimension_map={"plan": "premium"}, user_id="u-42")
        requests: List[vwo_push.Request] = client.requests_for("plan", "pro", "u-42")
        stats: Dict[str, int] = client.stats()
        print(vwo_push.__version__, vwo_push.visitor_uuid(1, "u"), requests, stats)
        pushed = pushed and client.flush(timeout=None) and client.close(1.5)
    other: vwo_push.Client = vwo_push.Client.from_settings(settings, max_workers=1)
    return pushed and other.close()


def use_fme(texts: Dict[str, str], numbers: Dict[str, int],
            mapping: Mapping[str, Value]) -> bool:
    settings: Dict[str, Any] = vwo_push.fetch_settings("123456", "key", fme=True)
    client: vwo_push.Client = vwo_push.Client.from_settings(settings)
    pushed: bool = client.push("age", 30, "u")
    pushed = client.push("score", 1.5, "u") and client.push("vip", True, user_id="u")
    pushed = client.push(
        custom_dimension_key="age", custom_dimension_value=30, user_id="u")
    pushed = client.push({"age": 30, "score": 1.5, "vip": True, "plan": "pro"}, "u")
    pushed = client.push(custom_dimension_map={"age": 30, "plan": "pro"}, user_id="u")
    # Dictionaries whose values are all of one type, and mappings that are not dict.
    pushed = client.push(texts, "u") and client.push(numbers, "u")
    pushed = client.push(mapping, "u") and client.push(mapping, user_id="u")
    requests: List[vwo_push.Request] = client.requests_for("age", 30, "u")
    requests = client.requests_for({"age": 30, "vip": True}, "u")
    requests = client.requests_for(custom_dimension_map=mapping, user_id="u")
    print(requests)
    return pushed and client.flush() and client.close()


def wrong(client: vwo_push.Client) -> None:
    """What the type checkers must refuse; an unused "ignore" is an error to them."""
    client.push("plan", "premium")  # type: ignore
    client.push("plan", ["premium"], "u")  # type: ignore
    client.push(["plan"], "u")  # type: ignore
    client.push("plan", "premium", 42)  # type: ignore
    client.push({"plan": None}, "u")  # type: ignore
