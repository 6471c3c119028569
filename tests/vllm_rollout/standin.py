"""A stand-in for `vllm serve`: the endpoints that avst and TRL's client use, in a thread of this process.

Bodies and answers are those of vLLM 0.30 (entrypoints/openai, entrypoints/serve/dev/rlhf). Tensors, which NCCL carries
in earnest, are handed over in the process after they were announced as TRL announces them.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from avst.vllm_rollout.engine import Named
from tests.vllm_rollout.tiny_vllm import Media, TinyVllm, unpacked

Fault = Callable[[str, Any], Any]


class StandIn:
    """fault: called with (path, answer) before an answer is sent; returns another, or (status, text), or raises."""

    def __init__(self, tiny: TinyVllm) -> None:
        self.tiny = tiny
        self.pause_s = 0.0  # after each byte of an answer
        self.missing = 0  # bytes that were promised and do not come
        self.fault: Fault = lambda path, answer: answer
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.tensors: list[Tensor] = []
        self.announced: dict[str, list[Any]] | None = None
        self.updating = False
        self.logprobs_mode = "processed_logprobs"
        standin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: Any) -> None:
                try:
                    found = standin.fault(self.path, standin.answer(self.path, body))
                except ConnectionAbortedError:
                    self.close_connection = True
                    return
                except Exception:
                    found = 500, traceback.format_exc()
                status, text = found if isinstance(found, tuple) else (200, json.dumps(found))
                data = text.encode()
                with suppress(ConnectionError):  # the client may have given up
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data) + standin.missing))
                    self.end_headers()
                    size = 1 if standin.pause_s else max(1, len(data))
                    for start in range(0, len(data), size):
                        self.wfile.write(data[start : start + size])
                        time.sleep(standin.pause_s)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    @contextmanager
    def running(self) -> Iterator[StandIn]:
        thread = Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    # ---- endpoints ---------------------------------------------------------------------------------------------------

    def answer(self, path: str, body: Any) -> Any:
        self.paths.append(path)
        if body is not None:
            self.bodies.append(body)
        known: dict[str, Callable[[Any], Any]] = {
            "/health": lambda _: None,
            "/v1/models": lambda _: {"data": [{"id": "tiny"}]},
            "/server_info?config_format=json": lambda _: {
                "vllm_config": {"model_config": {"logprobs_mode": self.logprobs_mode}}
            },
            "/v1/completions": self._completion,
            "/v1/chat/completions": self._chat,
            "/start_weight_update": self._start,
            "/update_weights": self._update,
            "/finish_weight_update": self._finish,
            "/reset_prefix_cache": lambda _: {"success": True},
            "/reset_encoder_cache": lambda _: self._forget(),
        }
        return known[path](body) if path in known else (404, '{"detail":"Not Found"}')

    def _completion(self, body: dict[str, Any]) -> Any:
        assert body["model"] == "tiny"
        assert body["logprobs"] == 0
        text = self.tiny.processor.tokenizer.decode(body["prompt"], skip_special_tokens=False)
        prompt = self.tiny.prompt(text, Media(), {})
        group = self.tiny.draw(prompt, body)
        choices = []
        for number, (ids, logps) in enumerate(zip(group.completion_ids, group.sampled_logps, strict=True)):
            tokens = [f"token_id:{token}" for token in ids]
            scores = {"tokens": tokens, "token_logprobs": logps, "top_logprobs": [None] * len(ids)}
            choices.append({"index": number, "token_ids": ids, "logprobs": scores})
        for choice in choices:
            choice["prompt_token_ids"] = prompt.input_ids.tolist()
        return {"choices": choices}

    def _chat(self, body: dict[str, Any]) -> Any:
        assert body["model"] == "tiny"
        assert body["logprobs"] is True
        assert body["top_logprobs"] == 0
        assert body["media_io_kwargs"]["video"]["num_frames"] == -1  # else vLLM takes 32 of the frames
        media = Media()
        for message in body["messages"]:
            for part in message["content"]:
                if part["type"].endswith("_url"):
                    media = unpacked(part[part["type"]]["url"])
                    part["type"] = part["type"].removesuffix("_url")
        if not body["mm_processor_kwargs"].get("use_audio_in_video") and media.frames is not None:
            assert media.audio is None
        text = self.tiny.processor.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        prompt = self.tiny.prompt(text, media, body["mm_processor_kwargs"])
        group = self.tiny.draw(prompt, body)
        choices = []
        for number, (ids, logps) in enumerate(zip(group.completion_ids, group.sampled_logps, strict=True)):
            content = [
                {"token": f"token_id:{token}", "logprob": logp, "top_logprobs": []}
                for token, logp in zip(ids, logps, strict=True)
            ]
            choices.append({"index": number, "token_ids": ids, "logprobs": {"content": content}})
        return {"prompt_token_ids": prompt.input_ids.tolist(), "choices": choices}

    # ---- weights -----------------------------------------------------------------------------------------------------

    def _start(self, body: Any) -> Any:
        assert not self.updating
        self.updating = True
        return {"message": "ok"}

    def _update(self, body: Any) -> Any:
        assert self.updating
        info = self.announced = body["update_info"]
        for tensor, dtype, shape in zip(self.tensors, info["dtype_names"], info["shapes"], strict=True):
            assert tensor.dtype == getattr(torch, dtype)
            assert list(tensor.shape) == shape
        try:
            self.tiny.load(zip(info["names"], self.tensors, strict=True))
        except RuntimeError as error:
            return 500, f"Traceback (most recent call last):\n  File ...\nRuntimeError: {error}"
        return {"message": "ok"}

    def _finish(self, body: Any) -> Any:
        assert self.updating
        self.updating = False
        return {"message": "ok"}

    def _forget(self) -> Any:
        self.tiny.encoded.clear()
        return 200, ""  # vLLM's answer has no body

    def channel(self, weights: Sequence[Named]) -> None:
        """In place of avst.vllm_rollout.nccl: the requests of TRL's client, and the tensors."""
        from avst.vllm_rollout.http import Http

        http = Http(self.url, 60.0)
        http.post("/start_weight_update", {})
        self.tensors = [weight.make().clone() for weight in weights]
        names, dtypes, shapes = zip(*((w.name, w.dtype, list(w.shape)) for w in weights), strict=True)
        info = {"names": list(names), "dtype_names": list(dtypes), "shapes": list(shapes), "packed": True}
        http.post("/update_weights", {"update_info": info})
        http.post("/finish_weight_update", {})
