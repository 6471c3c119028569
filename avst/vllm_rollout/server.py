"""vLLM behind HTTP: `vllm serve`, with the flags that `LAUNCH` names.

Text goes to /v1/completions as token ids. A prompt with media goes to /v1/chat/completions, where the server's own
processor makes its tokens: /inference/v1/generate would take ours, but vLLM 0.30 has no way there to say that sound
is interleaved with frames (its placeholders may not overlap). All prompts are asked at once, one request each, so that
the server batches them; the G answers of a request share its prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

from avst.errors import AvstError
from avst.types import Prompt
from avst.vllm_rollout.container import data_url
from avst.vllm_rollout.engine import Drawing, Named, Reply, shown
from avst.vllm_rollout.http import Http

LAUNCH = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs "
    """--weight-transfer-config '{"backend": "nccl"}'"""
)
AT_ONCE = 64  # requests under way, as in TRL's client
# every frame of the file that is sent: they were chosen before
ALL_FRAMES = {"video": {"video_backend": "opencv", "num_frames": -1, "fps": -1}}

Channel = Callable[[Sequence[Named]], None]


class Server:
    """An Engine behind HTTP. channel: puts weights into the server, made when the first are sent."""

    shared = True

    def __init__(self, http: Http, connect: Callable[[], Channel], wait_s: float) -> None:
        self.http, self.connect, self.where = http, connect, f"vLLM server {http.base_url}"
        self.channel: Channel | None = None
        http.wait("/health", wait_s)
        models = http.get("/v1/models")
        self.model = _field(models, ("data", 0, "id"), f"{self.where}/v1/models")

    def require_processed_logprobs(self) -> None:
        """AvstError unless log-probs come back at the sampling temperature, which they are compared at."""
        path = "/server_info?config_format=json"
        try:
            info = self.http.get(path)
        except AvstError as error:
            raise AvstError(f"{error}; start it by {LAUNCH}") from error
        mode = _field(info, ("vllm_config", "model_config", "logprobs_mode"), self.where + path)
        if mode != "processed_logprobs":
            raise AvstError(
                f"{self.where} gives {mode}, not the log-probs at the sampling temperature: start it by {LAUNCH}"
            )

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int], drawing: Drawing) -> list[Reply]:
        def ask(number: int) -> Reply:
            prompt, parameters = prompts[number], drawing.parameters(seeds[number])
            made_of = shown(prompt)
            media = made_of.frames is not None or made_of.audio is not None
            path, body = _chat(prompt) if media else _completion(prompt)
            answer = self.http.post(path, {"model": self.model, **parameters, **body, **_TOKENS})
            return _reply(answer, media, f"{self.where}{path}: {prompt.question.id}")

        if not prompts:
            return []
        with ThreadPoolExecutor(min(AT_ONCE, len(prompts))) as pool:
            return list(pool.map(ask, range(len(prompts))))

    def load(self, weights: Sequence[Named]) -> None:
        if self.channel is None:
            self.channel = self.connect()
        self.channel(weights)
        if any(weight.encodes for weight in weights):
            self._forget_clips()
        self.http.post("/reset_prefix_cache", {})

    def rest(self) -> None:
        """Its memory is its own."""

    def _forget_clips(self) -> None:
        """vLLM finds a clip's embeddings by the clip alone, whatever has become of the towers (vllm issue 44910)."""
        try:
            self.http.post("/reset_encoder_cache", {})
        except AvstError as error:
            raise AvstError(
                f"{error}; without it vLLM answers by what the old towers made of a clip: start vLLM 0.30 by {LAUNCH}"
            ) from error


_TOKENS = {"return_token_ids": True, "return_tokens_as_token_ids": True}


def _completion(prompt: Prompt) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"prompt": prompt.input_ids.reshape(-1).tolist(), "logprobs": 0}


def _chat(prompt: Prompt) -> tuple[str, dict[str, Any]]:
    """The chat of the prompt with its clip in place of the mark for it."""
    made_of = shown(prompt)
    messages, url = deepcopy(made_of.messages), data_url(made_of)
    for message in messages:
        for part in message["content"]:
            if part["type"] in ("video", "audio"):
                kind = f"{part['type']}_url"
                part.clear()
                part.update({"type": kind, kind: {"url": url}})
    body = {
        "messages": messages,
        "mm_processor_kwargs": dict(made_of.processor),
        "media_io_kwargs": ALL_FRAMES,
        "logprobs": True,
        "top_logprobs": 0,
    }
    return "/v1/chat/completions", body


def _reply(answer: Any, chat: bool, where: str) -> Reply:
    choices = sorted(_field(answer, ("choices",), where), key=lambda choice: choice.get("index", 0))
    holder = answer if chat else (choices[0] if choices else {})
    logps = []
    for choice in choices:
        scores = choice.get("logprobs") or {}
        found = [one.get("logprob") for one in scores.get("content") or []] if chat else scores.get("token_logprobs")
        logps.append([float("nan") if value is None else float(value) for value in found or []])
    prompt_ids = _field(holder, ("prompt_token_ids",), where)
    return Reply(list(prompt_ids or []), [list(choice.get("token_ids") or []) for choice in choices], logps)


def _field(answer: Any, path: tuple[str | int, ...], where: str) -> Any:
    try:
        for key in path:
            answer = answer[key]
    except (KeyError, IndexError, TypeError):
        names = ".".join(map(str, path))
        raise AvstError(f"{where}: the answer has no {names}: no vLLM server, or one of another version") from None
    return answer
