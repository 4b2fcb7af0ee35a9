"""Every public name, used as documented: what the type checkers are run on."""

import ssl
from typing import Any, Dict, List, Optional

import vwo_push


def on_result(result: vwo_push.PushResult) -> None:
    user_id: str = result.user_id
    dimensions: Dict[str, str] = result.dimensions
    delivered: bool = result.delivered
    status: Optional[int] = result.status
    error: Optional[str] = result.error
    attempts: int = result.attempts
    print(user_id, dimensions, delivered, status, error, attempts)


def transport(request: vwo_push.Request, timeout: float) -> int:
    method: str = request.method
    url: str = request.url
    headers: Dict[str, str] = request.headers
    body: Optional[bytes] = request.body
    print(method, url, headers, body, timeout)
    return 200


def use() -> bool:
    settings: Dict[str, Any] = vwo_push.fetch_settings(
        123456, "key", base_url="https://example.com", timeout=1.0, ssl_context=None)
    with vwo_push.Client(
            account_id="123456", sdk_key="key", collection_prefix="eu01",
            event_arch=False, base_url="https://example.com", timeout=5, max_attempts=4,
            max_pending=10_000, max_workers=2, max_batch=100, exit_timeout=0,
            on_result=on_result, ssl_context=ssl.create_default_context(),
            transport=transport) as client:
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
