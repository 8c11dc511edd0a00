"""Runs in a pod: asks the endpoint until /tmp/stop exists, then prints what came of it as JSON."""

import http.client
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

HOST = sys.argv[1].removeprefix("http://")
TENSOR = {"name": "image", "datatype": "UINT8", "shape": [1, 784], "data": [0] * 784}
BODY = json.dumps({"inputs": [TENSOR]}).encode()
STOP = Path("/tmp/stop")
answers: Counter[str] = Counter()
failed: list[str] = []


def ask(connection: http.client.HTTPConnection) -> bool:
    """One request. Returns whether the server will take another over this connection."""
    connection.request("POST", "/v2/models/digits/infer", BODY, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise OSError(f"HTTP {answer.status}: {content[:100]!r}")
    answers[json.loads(content)["model_version"]] += 1
    return not answer.will_close


def client() -> None:
    """A new connection for each request, as short-lived clients do."""
    while not STOP.exists():
        connection = http.client.HTTPConnection(HOST, timeout=5)
        try:
            ask(connection)
        except (OSError, http.client.HTTPException) as exc:
            failed.append(f"{time.time():.2f} {exc!r}")
        finally:
            connection.close()
        time.sleep(0.02)


def keeping_client() -> None:
    """One connection for many requests, as gateways do. Asks once more if the server closed it meanwhile."""
    connection, fresh = http.client.HTTPConnection(HOST, timeout=5), True
    while not STOP.exists():
        try:
            fresh = not ask(connection)
            time.sleep(0.02)
        except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected) as exc:
            connection.close()
            if fresh:
                failed.append(f"{time.time():.2f} {exc!r}")
            fresh = True
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            fresh = True
            failed.append(f"{time.time():.2f} {exc!r}")


threads = [threading.Thread(target=target) for target in (client, client, keeping_client)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(
    json.dumps(
        {
            "requests": sum(answers.values()),
            "failed": [*failed[:5], *failed[5:][-5:]],
            "failures": len(failed),
            "releases": dict(answers),
        }
    )
)
