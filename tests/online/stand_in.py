"""A small server with a tiny model behind the endpoints of vLLM 0.32 that accord uses, written
after what vLLM's CPU build answered by hand: the same paths, bodies, statuses and words. Faults are
switched on by name, and each does what its real one would do to the answers.
"""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

NAME = "tiny"
LONGEST = 128


@dataclass
class StandIn:
    """The server's state, which tests change while it runs."""

    folder: Path  # the model that is served
    faults: set[str] = field(default_factory=set)
    left: Counter = field(default_factory=Counter)  # fault -> requests that it still hits
    temperature: float = 2.0  # of the log-probs that the fault "temperature" returns
    kept: int = 3  # tokens of a prompt that the fault "cut" keeps
    longest: int = LONGEST
    lora: bool = True
    requests: list[dict] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    address: str = ""

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.gate = threading.Event()  # answers wait for it
        self.gate.set()
        self.slow = threading.Event()  # and those that the fault "slow" hits, for this one
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.restart()

    def restart(self) -> None:
        """Begin anew, as a process that was killed and started again: adapters are gone."""
        self.base = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        self.adapters: dict[str, tuple[str, torch.nn.Module]] = {}
        self.stale: torch.nn.Module | None = None  # what the fault "stale" goes on computing with
        self.version, self.asleep, self.paused = "default", False, False

    def serve_other(self, seed: int = 5) -> None:
        """Serve another model of the same shape."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for p in self.base.parameters():
                if p.dim() > 1:
                    p.data.add_(torch.randn_like(p) * p.std())

    def hit(self, fault: str) -> bool:
        """Tell whether a fault strikes now; one with a count strikes so many times."""
        if self.left[fault]:
            self.left[fault] -= 1
            return True
        return fault in self.faults

    # ------------------------------------------------------------ endpoints

    def models(self) -> dict:
        base = {"id": NAME, "object": "model", "root": str(self.folder), "parent": None}
        rows = [base | {"max_model_len": self.longest}]
        rows += [
            {"id": name, "object": "model", "root": path, "parent": NAME, "max_model_len": None}
            for name, (path, _) in self.adapters.items()
        ]
        return {"object": "list", "data": rows}

    def load(self, body: dict) -> tuple[int, object]:
        name, path = body["lora_name"], body["lora_path"]
        self.events.append(f"load {name}")
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if not (Path(path) / "adapter_config.json").is_file():
            return _error(404, f"Loading lora {name} failed: No adapter found for {path}")
        if self.hit("dropped"):
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        if ("stale" in self.faults or self.left["stale"]) and self.stale is None:
            self.stale = next(reversed(self.adapters.values()))[1]
        with torch.random.fork_rng():  # the trainer's, in this process: a server has its own
            network = PeftModel.from_pretrained(deepcopy(self.base), path).eval()
        self.adapters[name] = (path, network)
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: dict) -> tuple[int, object]:
        name = body["lora_name"]
        self.events.append(f"unload {name}")
        if name not in self.adapters:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def rpc(self, body: dict) -> tuple[int, object]:
        assert body["method"] == "reload_weights" and self.paused
        self.events.append("reload_weights")
        if not self.hit("stale"):
            path = body["kwargs"]["weights_path"]
            self.base = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        return 200, {"results": [None]}

    def tokenize(self, body: dict) -> tuple[int, object]:
        if "messages" in body:
            text = self.tokenizer.apply_chat_template(
                body["messages"], add_generation_prompt=True, tokenize=False
            )
        else:
            text = body["prompt"]
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if "tokenizer" in self.faults:
            ids = [i + 1 for i in ids]
        return 200, {"count": len(ids), "max_model_len": self.longest, "tokens": ids}

    def complete(self, body: dict) -> tuple[int, object]:
        self.requests.append(body)
        name, sent = body["model"], body["prompt"]
        if self.asleep:  # its engine is dead then; vLLM's does not say so in words
            return _error(400, "the engine sleeps")
        if self.hit("restarted"):
            self.restart()
        if name != NAME and name not in self.adapters:
            return _error(404, f"The model `{name}` does not exist. Valid aliases: {NAME}.")
        if len(sent) + body["max_tokens"] > self.longest:
            return _error(400, f"This model's maximum context length is {self.longest} tokens.")
        read = self._prompt(sent)
        tokens, logps, over = self._draw(self._network(name), read, body)
        choice = {
            "index": 0,
            "text": self.tokenizer.decode(tokens),
            "logprobs": {"token_logprobs": logps, "tokens": [str(t) for t in tokens]},
            "finish_reason": "stop" if over else "length",
            "stop_reason": None,
            "token_ids": tokens,
            "prompt_token_ids": read if "shown" in self.faults else sent,
        }
        found = {
            "id": "cmpl-1",
            "object": "text_completion",
            "model": name,
            "choices": [choice],
            "usage": {"prompt_tokens": len(choice["prompt_token_ids"])},
        }
        return 200, self._spoiled(found, choice)

    # ------------------------------------------------------------ what faults do

    def _spoiled(self, found: dict, choice: dict) -> object:
        if self.hit("garbage"):
            return b'{"choices": [{"token_i'
        if self.hit("no choices"):
            found["choices"] = []
        if self.hit("no ids"):
            del choice["token_ids"]
        if self.hit("nan"):
            choice["logprobs"]["token_logprobs"][0] = float("nan")
        if self.hit("abort"):  # as vLLM's where a request is cancelled there
            choice["finish_reason"] = "abort"
        if self.hit("empty"):
            choice |= {"token_ids": [], "logprobs": {"token_logprobs": []}}
        if self.hit("outside"):
            choice["token_ids"][-1] = self.base.config.vocab_size
        if self.hit("uneven"):
            choice["logprobs"]["token_logprobs"].append(-1.0)
        if self.hit("likely"):
            choice["logprobs"]["token_logprobs"][0] = 0.5
        if self.hit("longer"):
            choice["token_ids"] *= 2
            choice["logprobs"]["token_logprobs"] *= 2
        if self.hit("raced"):
            found["model"] = "policy@999-other"
        return found

    def _network(self, name: str) -> torch.nn.Module:
        network = self.base if name == NAME else self.adapters[name][1]
        if name != NAME and "adapter off" in self.faults:
            network = self.base
        if name != NAME and self.stale is not None and self.hit("stale"):
            network = self.stale
        return deepcopy(network).to(torch.bfloat16) if "bfloat16" in self.faults else network

    def _prompt(self, sent: list[int]) -> list[int]:
        if "cut" in self.faults:
            return sent[-self.kept :]
        if "first token" in self.faults:
            return [self.tokenizer.bos_token_id, *sent]
        if "template" in self.faults:
            return self.tokenize(
                {"messages": [{"role": "user", "content": self.tokenizer.decode(sent)}]}
            )[1]["tokens"]
        return sent

    @torch.no_grad()
    def _draw(self, network: torch.nn.Module, prompt: list[int], body: dict) -> tuple:
        generator = torch.Generator().manual_seed(body["seed"])
        tokens: list[int] = []
        logps: list[float] = []
        while len(tokens) < body["max_tokens"]:
            logits = network(input_ids=torch.tensor([prompt + tokens])).logits[0, -1].float()
            own = torch.log_softmax(logits, 0)
            heat = body["temperature"]
            drawn = torch.softmax(logits / heat, 0) if heat else torch.softmax(logits * 1e4, 0)
            if "top-p" in self.faults:
                drawn = _nucleus(drawn, 0.8)
            if "top-k" in self.faults:
                drawn = drawn * (drawn >= drawn.topk(20).values[-1])
            token = int(torch.multinomial(drawn, 1, generator=generator))
            if "top-p" in self.faults:
                own = drawn.log()
            if "temperature" in self.faults:
                own = torch.log_softmax(logits / self.temperature, 0)
            if "top-k" in self.faults:
                kept = torch.softmax(logits, 0) >= torch.softmax(logits, 0).topk(20).values[-1]
                own = torch.log_softmax(logits.masked_fill(~kept, -1e9), 0)
            if "processed" in self.faults and heat:
                own = torch.log_softmax(logits / heat, 0)
            tokens.append(token)
            logps.append(float(own[token]))
            if token in body["stop_token_ids"]:
                return tokens, logps, True
        return tokens, logps, False


def _nucleus(weights: torch.Tensor, share: float) -> torch.Tensor:
    ordered, index = weights.sort(descending=True)
    inside = ordered.cumsum(0) - ordered < share
    kept = torch.zeros_like(weights).scatter(0, index, ordered * inside)
    return kept / kept.sum()


def _error(status: int, says: str) -> tuple[int, object]:
    return status, {"error": {"message": says, "type": "Error", "param": None, "code": status}}


@contextmanager
def standing_in(folder: Path, port: int = 0, **settings):
    """A stand-in that serves the model of a folder; on a port of its own, if none is given."""
    state = StandIn(folder, **settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path
            if path == "/v1/models":
                self._send(200, state.models())
            elif path == "/weight_info":
                self._send(200, {"weight_version": state.version})
            else:
                self._send(404, {"detail": "Not Found"})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if state.hit("killed"):
                self.close_connection = True
                return
            if state.hit("busy"):
                self._send(429, {"error": {"message": "busy"}}, {"retry-after": "0.01"})
                return
            if self.path == "/v1/completions":
                state.gate.wait(60)
                if state.hit("slow"):
                    state.slow.wait(60)
            if self.path.split("?")[0] in ("/sleep", "/wake_up") and state.hit(self.path[:4]):
                self._send(500, {"error": {"message": "CUDA error", "code": 500}})
                return
            with state.lock:
                self._send(*self._answer(self.path.split("?")[0], body))

        def _answer(self, path: str, body: dict) -> tuple[int, object]:
            if path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter") and state.lora:
                return (state.load if path == "/v1/load_lora_adapter" else state.unload)(body)
            if path == "/v1/completions":
                return state.complete(body)
            if path == "/tokenize":
                return state.tokenize(body)
            if path == "/collective_rpc":
                return state.rpc(body)
            if path == "/update_weight_version":
                state.version = body["new_version"]
                return 200, {"success": True}
            if path in ("/pause", "/resume", "/sleep", "/wake_up"):
                state.events.append(path)
                state.paused = path == "/pause"
                if path in ("/sleep", "/wake_up"):
                    state.asleep = path == "/sleep"
                return 200, {"status": path}
            return 404, {"detail": "Not Found"}

        def _send(self, status: int, content: object, headers: dict | None = None) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            try:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serve(folder: Path, port: int) -> None:
    """Serve until this process ends."""
    with standing_in(folder, port):
        signal.pause()
