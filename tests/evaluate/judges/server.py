"""A local OpenAI-compatible server whose answers a test writes: well-behaved, broken, or a real
tiny model's.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHOWN = re.compile(r"<<(ANSWER [AB]) ([0-9a-f]+)>>\n(.*?)\n<<END \1 \2>>", re.DOTALL)


def shown(body: dict) -> tuple[str, str]:
    """The answers A and B of a request, as a judge sees them."""
    found = {name[-1]: text for name, _, text in SHOWN.findall(body["messages"][-1]["content"])}
    return found["A"], found["B"]


def reply(content: object, finish: str = "stop", choices: int = 1, **message) -> tuple[int, object]:
    """A 200 with that many choices."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content, **message},
    }
    return 200, {
        "choices": [choice] * choices,
        "usage": {"prompt_tokens": 10, "completion_tokens": 2},
    }


@contextmanager
def serving(answer: Callable[[dict, dict], tuple[int, object] | float]):
    """The address of a server; `answer` maps a request's JSON and headers to a status and a body,
    or to seconds of silence.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            made = answer(body, dict(self.headers))
            if isinstance(made, float):
                time.sleep(made)
                made = reply("late")
            status, content = made
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            try:
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
