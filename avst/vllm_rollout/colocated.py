"""vLLM in the training process, on the GPU that trains. Not yet run on a GPU by us.

Each process has a vLLM of its own, which answers its own prompts. The prompt goes there as tokens with one placeholder
for each medium, and the media as arrays; `LLM.generate` computes a prompt once for its G answers (n, prefix caching).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avst.errors import AvstError
from avst.types import Prompt
from avst.vllm_rollout.engine import Drawing, Named, Reply, shown


@dataclass(slots=True)
class Colocated:
    """An Engine in this process.

    llm: vLLM's `LLM`;  parameters: its SamplingParams;  sleeps: it gives its memory back between rollouts. It keeps its
    weights then (level 1), in the host's memory: frozen ones are never given again.
    """

    llm: Any
    parameters: Callable[..., Any]
    sleeps: bool = False
    where: str = "vLLM"
    shared: bool = False
    awake: bool = True

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int], drawing: Drawing) -> list[Reply]:
        if not prompts:
            return []
        self._wake()
        asked = [request(prompt) for prompt in prompts]
        how = [self.parameters(**drawing.parameters(seed), logprobs=0) for seed in seeds]
        try:
            outputs = self.llm.generate(asked, sampling_params=how, use_tqdm=False)
        except (ValueError, RuntimeError) as error:  # what vLLM says of a prompt that it cannot take
            raise AvstError(f"vLLM: {' '.join(str(error).split())[:300]}") from error
        self.rest()  # the answers are checked and scored on the same GPU
        return [_reply(output) for output in outputs]

    def load(self, weights: Sequence[Named]) -> None:
        self._wake()
        model = self.llm.llm_engine.model_executor.driver_worker.model_runner.model
        for weight in weights:
            model.load_weights([(weight.name, weight.make())])
        if any(weight.encodes for weight in weights):
            self._forget_clips()
        self.llm.reset_prefix_cache()

    def _forget_clips(self) -> None:
        """vLLM finds a clip's embeddings by the clip alone, whatever has become of the towers (vllm issue 44910)."""
        reset = getattr(self.llm.llm_engine, "reset_encoder_cache", None)
        if reset is None:
            raise AvstError("this vLLM cannot forget what the old towers made of a clip: install vLLM 0.30")
        reset()

    def rest(self) -> None:
        if self.sleeps and self.awake:
            self.llm.sleep(level=1)
            self.awake = False

    def _wake(self) -> None:
        if not self.awake:
            self.llm.wake_up()
            self.awake = True


def request(prompt: Prompt) -> dict[str, Any]:
    """The prompt as `LLM.generate` takes it."""
    made_of = shown(prompt)
    media: dict[str, Any] = {}
    if made_of.frames is not None:
        frames = np.asarray(made_of.frames)
        about = {
            "total_num_frames": len(frames),
            "fps": made_of.fps,
            "duration": len(frames) / made_of.fps,
            "frames_indices": list(range(len(frames))),
            "do_sample_frames": False,
            "video_backend": "avst",
        }
        media["video"] = [(frames, about)]
    if made_of.audio is not None:
        media["audio"] = [(np.asarray(made_of.audio), made_of.audio_rate)]
    asked: dict[str, Any] = {"prompt_token_ids": made_of.text_ids.tolist()}
    if media:
        asked |= {"multi_modal_data": media, "mm_processor_kwargs": dict(made_of.processor)}
    return asked


def _reply(output: Any) -> Reply:
    """From vLLM's RequestOutput: each answer's log-probs are a dict a token, the drawn token's among them."""
    ids = [list(answer.token_ids) for answer in output.outputs]
    logps = [
        [step[token].logprob for token, step in zip(tokens, answer.logprobs or [], strict=False)]
        for tokens, answer in zip(ids, output.outputs, strict=True)
    ]
    return Reply(list(output.prompt_token_ids or []), ids, logps)
