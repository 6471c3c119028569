"""What a vLLM is asked and what it answers, whichever way it is reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from avst.errors import AvstError
from avst.rollout import Sampling
from avst.types import Prompt, Shown


@dataclass(frozen=True, slots=True)
class Drawing:
    """How answers are drawn. n: G;  end_ids: tokens that end an answer."""

    n: int
    sampling: Sampling
    end_ids: tuple[int, ...]

    def parameters(self, seed: int) -> dict[str, Any]:
        """vLLM's SamplingParams. All are said: what a request leaves out, vLLM takes from the checkpoint's generation
        config."""
        chosen = self.sampling
        return {
            "n": self.n,
            "temperature": chosen.temperature,
            "top_p": chosen.top_p,
            "top_k": chosen.top_k,
            "min_p": 0.0 if chosen.min_p is None else chosen.min_p,
            "repetition_penalty": chosen.repetition_penalty,
            "max_tokens": chosen.max_new_tokens,
            "stop_token_ids": list(self.end_ids),
            "seed": seed,
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one prompt.

    prompt_ids: the tokens that vLLM made of it, media expanded;  token_ids: the answers', the end token included;
    logps: of each of these under vLLM, at the sampling temperature.
    """

    prompt_ids: list[int]
    token_ids: list[list[int]]
    logps: list[list[float]]


@dataclass(frozen=True, slots=True)
class Named:
    """A weight under the name that vLLM's `load_weights` knows.

    dtype: as torch names it without its prefix, "bfloat16";  make: the tensor as it stands, made when it is asked for:
    all merged ones at once would be a second model;  encodes: it is a tower's or a connector's, so that what vLLM keeps
    of the clips it has seen is not what the new one makes of them.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], Tensor]
    encodes: bool


class Engine(Protocol):
    """A vLLM. where: its name for messages, such as a URL;  shared: one for all processes, so that one of them alone
    gives it weights."""

    where: str
    shared: bool

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int], drawing: Drawing) -> list[Reply]:
        """A reply a prompt, in their order."""

    def load(self, weights: Sequence[Named]) -> None:
        """Replace these weights; caches that the old ones made are dropped."""

    def rest(self) -> None:
        """Nothing is asked until the next weights: memory may be given back."""


def shown(prompt: Prompt) -> Shown:
    if prompt.shown is None:
        raise AvstError(
            f"{prompt.question.id}: vLLM processes a clip for itself, but this prompt was built without its frames and "
            "sound: build prompts with PromptBuilder(keep_shown=True)"
        )
    return prompt.shown
