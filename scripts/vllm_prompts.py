"""Does vLLM make the tokens, tensors and positions of a prompt that the trainer makes? By vLLM's own code, no GPU.

    python -m scripts.vllm_prompts FOLDER

Needs vllm importable beside avst (its wheel and the pure-Python packages that it imports will do); FOLDER takes tiny
checkpoints. For clips at several clocks, with sound and without, and for sound alone: what avst would send (the request
of avst.vllm_rollout.colocated, and the file of avst.vllm_rollout.container by which a server gets it) goes through
vLLM's decoders and multimodal processors, and is compared with the prompt, one line each; exit status 1 if any differs.
"""

from __future__ import annotations

import json
import shutil
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoProcessor
from vllm.config import ModelConfig
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.multimodal.media.audio import AudioMediaIO
from vllm.multimodal.media.image import ImageMediaIO
from vllm.multimodal.media.video import VideoMediaIO
from vllm.multimodal.processing.context import TimingContext
from vllm.multimodal.processing.inputs import ProcessorInputs

from avst.models.families import family_of, model_class, prompt_positions
from avst.models.tiny import make_tiny
from avst.prompt import PromptBuilder, audio_clock_of
from avst.types import Answer, Clip, Prompt, Question, Shown
from avst.vllm_rollout.colocated import request
from avst.vllm_rollout.container import data_url
from avst.vllm_rollout.engine import shown
from avst.vllm_rollout.server import ALL_FRAMES

CLOCKS = ((5.0, 2.0), (7.0, 1.5), (4.0, 18 / 7), (20.0, 1.0))  # seconds, frames a second
QUESTION = Question("q", "temporal", "When does the dog sound?", "clip", 4.0, Answer(), "")


def main(folder: Path) -> int:
    wrong = 0
    for kind in ("qwen2_5_vl", "qwen2_5_omni"):
        path = folder / kind
        if not path.exists():
            make_tiny(kind, path, max_audio_s=30)
        check = Check(path, _whole_omni(path, folder / "omni") if kind == "qwen2_5_omni" else path)
        for seconds, fps in CLOCKS:
            for name, prompt in check.prompts(seconds, fps).items():
                found = check.differences(prompt)
                wrong += bool(found)
                print(f"{kind:13} {name:11} {seconds:g} s at {fps:.3g} fps: {'; '.join(found) or 'the same'}")
    return 1 if wrong else 0


class Check:
    """One family. served: the checkpoint as vLLM loads it."""

    def __init__(self, path: Path, served: Path) -> None:
        config = AutoConfig.from_pretrained(path)
        processor, self.family = AutoProcessor.from_pretrained(path), family_of(config)
        self.builder = PromptBuilder(processor, self.family, audio_clock=audio_clock_of(config), keep_shown=True)
        self.model = model_class(config).from_pretrained(path)
        served_config = ModelConfig(model=str(served), dtype="float32")
        self.processor = MULTIMODAL_REGISTRY.create_processor(served_config)
        cls = MULTIMODAL_REGISTRY._get_model_cls(served_config)
        self.theirs: Any = cls.__new__(cls)  # its positions need its config and nothing else
        hf_config = served_config.hf_config
        self.theirs.__dict__["config"] = getattr(hf_config, "thinker_config", hf_config)

    def prompts(self, seconds: float, fps: float) -> dict[str, Prompt]:
        draws = np.random.default_rng(0)
        count = round(seconds * fps)
        frames = draws.integers(0, 256, (count, 56, 84, 3), dtype=np.uint8)
        sound = draws.normal(0, 0.1, round(seconds * 16000)).astype(np.float32)

        def clip(audio: Any) -> Clip:
            return Clip(frames, np.arange(count) / fps, fps, (168, 112), seconds, audio, 16000)

        found = {"silent": self.builder.build(QUESTION, clip(None))}
        if self.family.hears:
            found["with sound"] = self.builder.build(QUESTION, clip(sound))
            found["sound alone"] = self.builder.build_audio(QUESTION, clip(sound))
        return found

    def differences(self, prompt: Prompt) -> list[str]:
        ids, made, positions = self.theirs_of(prompt)
        found = [] if ids == prompt.input_ids.tolist() else ["tokens"]
        found += [name for name, ours in self._tensors(prompt).items() if not _equal(made.get(name), ours)]
        if not torch.equal(positions, prompt_positions(self.model, prompt)):
            found.append("positions")
        return found + _file_differences(shown(prompt))

    def theirs_of(self, prompt: Prompt) -> tuple[list[int], dict[str, Any], torch.Tensor]:
        """(tokens, tensors, positions (3, P)) that vLLM makes of it."""
        asked = request(prompt)
        items = self.processor.info.parse_mm_data(asked["multi_modal_data"])
        inputs = ProcessorInputs(asked["prompt_token_ids"], items, hf_processor_mm_kwargs=asked["mm_processor_kwargs"])
        made: Any = self.processor.apply(inputs, TimingContext(enabled=False))
        features = [
            MultiModalFeatureSpec(item, modality, "", place)
            for modality, kept in made["mm_kwargs"].items()
            for item, place in zip(kept, made["mm_placeholders"][modality], strict=True)
        ]
        positions, _ = self.theirs.get_mrope_input_positions(made["prompt_token_ids"], features)
        return made["prompt_token_ids"], made["mm_kwargs"].get_data(), torch.as_tensor(positions).long()

    def _tensors(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        """The prompt's, under vLLM's names. vLLM normalises the pixels of Qwen2.5-VL on the GPU: undone here."""
        ours = {name: prompt.media[name] for name in ("video_grid_thw", "pixel_values_videos") if name in prompt.media}
        if "input_features" in prompt.media:
            ours["input_audio_features"] = prompt.media["input_features"][0]
        if not self.family.hears:
            video = self.builder.processor.video_processor
            mean, std = (torch.tensor(values).reshape(1, 3, 1) for values in (video.image_mean, video.image_std))
            pixels = ours["pixel_values_videos"].reshape(len(ours["pixel_values_videos"]), 3, -1)
            ours["pixel_values_videos"] = ((pixels * std + mean) * 255).round().flatten(1)
            ours["second_per_grid_ts"] = torch.as_tensor(prompt.media["second_per_grid_ts"])
        return ours


def _equal(theirs: Any, ours: torch.Tensor) -> bool:
    return isinstance(theirs, torch.Tensor) and torch.equal(theirs.float(), ours.float())


def _file_differences(made_of: Shown) -> list[str]:
    """Frames and samples by vLLM's decoders, of the file that a server is sent."""
    kind, data = data_url(made_of).removeprefix("data:").split(";base64,")
    found = []
    if made_of.frames is not None:
        decoder: Any = VideoMediaIO(ImageMediaIO(), **VideoMediaIO.merge_kwargs(None, ALL_FRAMES["video"]))
        frames = decoder.load_base64(kind, data).media[0]
        found += [] if np.array_equal(frames, made_of.frames) else ["decoded frames"]
    if made_of.audio is not None:
        samples, rate = AudioMediaIO().load_bytes(b64decode(data))
        same = rate == made_of.audio_rate and np.array_equal(samples, made_of.audio)
        found += [] if same else ["decoded sound"]
    return found


def _whole_omni(thinker: Path, path: Path) -> Path:
    """vLLM loads whole Omni checkpoints: a config around the thinker's."""
    if not path.exists():
        shutil.copytree(thinker, path)
        inner = json.loads((thinker / "config.json").read_text())
        whole = {"architectures": ["Qwen2_5OmniModel"], "model_type": "qwen2_5_omni", "thinker_config": inner}
        (path / "config.json").write_text(json.dumps(whole))
    return path


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
