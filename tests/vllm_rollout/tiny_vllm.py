"""What stands in for vLLM in these tests: a tiny model of its own that is asked as vLLM 0.30 is asked.

Prompts are processed here once more, from the tokens or messages and the media that arrive, by the model's processor
and nothing of avst.prompt. The answers are avst's own rollout's, under a seed, so that a run through it can be compared
with one that never left the process. Weights arrive under the names of vLLM's `load_weights`.
"""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor
from transformers import AutoProcessor

from avst.models.feature_key import content_digest
from avst.rollout import Sampling, rollout
from avst.types import Group, Prompt, Space
from tests.tiny_world import load_grouped, make_question

# As vLLM's mappers have them (qwen2_5_vl.py, qwen2_5_omni_thinker.py): what a checkpoint's names begin with, and here.
NAMES = {"visual.": "model.visual.", "audio_tower.": "model.audio_tower.", "model.": "model.language_model."}
OF_VLLM = ("use_audio_in_video", "second_per_grid_ts")  # what vLLM reads itself and the processor does not know


def load_weights(model: torch.nn.Module, weights: Iterable[tuple[str, Tensor]], prefix: str) -> None:
    """vLLM's `load_weights`. prefix: of every name in a checkpoint that vLLM loads."""
    parameters = dict(model.named_parameters())
    for name, tensor in weights:
        assert name.startswith(prefix), name
        inner = name.removeprefix(prefix)
        begin = next((known for known in NAMES if inner.startswith(known)), "")
        parameter = parameters[NAMES.get(begin, "") + inner.removeprefix(begin)]
        if parameter.shape != tensor.shape:
            raise RuntimeError(f"size mismatch for {name}: {tuple(tensor.shape)}, {tuple(parameter.shape)} here")
        parameter.data.copy_(tensor)


@dataclass
class Media:
    frames: np.ndarray | None = None
    audio: np.ndarray | None = None


def unpacked(url: str) -> Media:
    """Frames and samples of a data URL, by PyAV."""
    head, data = url.split(",", 1)
    assert head.startswith("data:")
    assert head.endswith(";base64")
    found = Media()
    with av.open(io.BytesIO(b64decode(data, validate=True))) as container:
        kinds = {stream.type for stream in container.streams}
    for kind in kinds:
        with av.open(io.BytesIO(b64decode(data))) as container:
            frames: Any = list(container.decode(**{kind: 0}))
        if kind == "video":
            found.frames = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
        else:
            found.audio = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    return found


class TinyVllm:
    """model: its own copy of a tiny checkpoint;  noise: how far its weights are moved from what it is given;
    encoded: vLLM's encoder cache, what the towers made of a medium, found by the medium alone."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.model, self.processor = load_grouped(folder), AutoProcessor.from_pretrained(folder)
        self.model.requires_grad_(False)
        self.encoded: dict[tuple[str, str], Tensor] = {}
        self.prefix, self.lock = prefix, Lock()
        self.loaded: list[list[str]] = []  # names, load by load
        self.noise = 0.0
        self.asked: list[Any] = []

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        named = list(weights)
        load_weights(self.model, named, self.prefix)
        self.loaded.append([name for name, _ in named])
        if self.noise:
            draws = torch.Generator().manual_seed(0)
            for parameter in self.model.model.language_model.parameters():
                parameter.data += self.noise * torch.randn(parameter.shape, generator=draws, dtype=parameter.dtype)

    def prompt(self, text: str, media: Media, options: Mapping[str, Any]) -> Prompt:
        given: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
        if media.frames is not None:
            given["videos"] = [torch.from_numpy(media.frames.copy()).permute(0, 3, 1, 2)]
        if media.audio is not None:
            given["audio"] = [media.audio]
        inputs = dict(self.processor(**given, **{k: v for k, v in options.items() if k not in OF_VLLM}))
        ids = inputs.pop("input_ids")[0]
        inputs.pop("attention_mask")
        if options.get("use_audio_in_video"):
            inputs["use_audio_in_video"] = True
            # vLLM lays the sound among the frames by this, and the positions by the processor's
            [seconds] = options["second_per_grid_ts"]
            assert abs(float(torch.as_tensor(inputs["video_second_per_grid"]).flatten()[0]) - seconds) < 1e-6
        return Prompt(make_question(), ids, inputs, Space((1, 1), (1, 1)))

    def draw(self, prompt: Prompt, asked: Mapping[str, Any]) -> Group:
        """The answers; only what both of vLLM's ways say of sampling is read."""
        sampling = Sampling(*(asked[name] for name in ("max_tokens", "temperature", "top_p", "top_k")))
        assert asked["min_p"] == 0.0
        assert asked["repetition_penalty"] == 1.0
        seen = content_digest((k, v) for k, v in prompt.media.items() if isinstance(v, Tensor))
        with self.lock:
            prompt.features = {kind: kept for (medium, kind), kept in self.encoded.items() if medium == seen}
            group = seeded(self.model, prompt, asked["n"], sampling, asked["stop_token_ids"], asked["seed"])
            self.encoded |= {(seen, kind): made for kind, made in prompt.features.items()}
            return group


def seeded(model: Any, prompt: Prompt, n: int, sampling: Sampling, ends: list[int], seed: int) -> Group:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return rollout(model, [prompt], n, sampling, ends, ends[0])[0]


class FakeLLM:
    """vLLM's `LLM`: what avst calls of it."""

    def __init__(self, tiny: TinyVllm) -> None:
        self.tiny, self.calls = tiny, list[str]()
        self.asleep = False
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self._load))
        worker = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(model_executor=worker, reset_encoder_cache=self._forget)

    def _load(self, weights: list[tuple[str, Tensor]]) -> None:
        assert not self.asleep
        self.tiny.load(weights)

    def _forget(self) -> None:
        self.calls.append("forget")
        self.tiny.encoded.clear()

    def reset_prefix_cache(self) -> None:
        self.calls.append("reset")

    def sleep(self, level: int) -> None:
        assert level == 1  # 2 would throw the frozen weights away
        self.calls.append("sleep")
        self.asleep = True

    def wake_up(self) -> None:
        self.calls.append("wake")
        self.asleep = False

    def generate(self, prompts: list[dict[str, Any]], sampling_params: list[Any], use_tqdm: bool) -> list[Any]:
        assert not self.asleep
        assert not use_tqdm
        self.calls.append("generate")
        return [self._answer(*pair) for pair in zip(prompts, sampling_params, strict=True)]

    def _answer(self, asked: dict[str, Any], how: Any) -> Any:
        media, given = Media(), asked.get("multi_modal_data", {})
        if "video" in given:
            [(media.frames, about)] = given["video"]
            assert about["total_num_frames"] == len(media.frames)
        if "audio" in given:
            [(media.audio, rate)] = given["audio"]
            assert rate == self.tiny.processor.feature_extractor.sampling_rate
        text = self.tiny.processor.tokenizer.decode(asked["prompt_token_ids"], skip_special_tokens=False)
        prompt = self.tiny.prompt(text, media, asked.get("mm_processor_kwargs", {}))
        group = self.tiny.draw(prompt, vars(how))
        outputs = [
            SimpleNamespace(
                token_ids=ids,
                logprobs=[{t: SimpleNamespace(logprob=p, rank=1)} for t, p in zip(ids, logps, strict=True)],
            )
            for ids, logps in zip(group.completion_ids, group.sampled_logps, strict=True)
        ]
        return SimpleNamespace(prompt_token_ids=prompt.input_ids.tolist(), outputs=outputs)
