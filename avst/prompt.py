"""Question + Clip -> Prompt, and answer text -> source coordinates: the one edge where model space begins and ends.

A clip's frames arrive resized by qwen-vl-utils' rule (`frame_size`), so the processor resizes nothing; the clock on
which they were taken is always passed, because seconds per grid and the interleaving of audio and video come from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from qwen_vl_utils.vision_process import (
    FRAME_FACTOR,
    MODEL_SEQ_LEN,
    SPATIAL_MERGE_SIZE,
    VIDEO_MAX_TOKEN_NUM,
    VIDEO_MIN_TOKEN_NUM,
    smart_resize,
)
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin
from transformers.video_utils import VideoMetadata

from avst.answer import map_boxes, parse, render
from avst.errors import AvstError
from avst.interleave import steady_fps
from avst.media import MediaError, probe
from avst.models.families import Family
from avst.tasks.r_avst import SYSTEM_PROMPT, prompt_text
from avst.types import Answer, Box, Clip, Prompt, Question, Shown, Space

PATCH = 14
FACTOR = PATCH * SPATIAL_MERGE_SIZE
THOUSAND = (1000, 1000)


def frame_size(
    width: int,
    height: int,
    n_frames: int,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    total_pixels: int | None = None,
    factor: int = FACTOR,
) -> tuple[int, int]:
    """(width, height) in px of the frames a model is shown: qwen-vl-utils' `fetch_video` rule.

    min_pixels, max_pixels: bounds of one frame;  total_pixels: of the whole clip, shared by pairs of frames (one
    temporal patch);  None: the library's defaults. Both sides are multiples of `factor`, the aspect ratio is kept as
    nearly as may be.
    """
    least = min_pixels if min_pixels is not None else VIDEO_MIN_TOKEN_NUM * factor**2
    total = total_pixels if total_pixels is not None else MODEL_SEQ_LEN * factor**2 * 0.9
    most = max(min(VIDEO_MAX_TOKEN_NUM * factor**2, total / max(n_frames, 1) * FRAME_FACTOR), int(least * 1.05))
    if max_pixels is not None:
        most = max(min(max_pixels, most), least)
    rows, columns = smart_resize(height, width, factor=factor, min_pixels=least, max_pixels=int(most))
    return columns, rows


def audio_clock_of(config: Any) -> dict[str, float]:
    """What an Omni model's config says of interleaving; {} for a family without ears."""
    kinds = {"position_id_per_seconds": int, "seconds_per_chunk": float}  # the processor insists on these types
    return {name: kind(getattr(config, name)) for name, kind in kinds.items() if hasattr(config, name)}


def space_for_video(path: Path, settings: Any = None) -> Space:
    """The box space in which a Qwen2.5 model saw the video at `path` under the recipe's media settings."""
    info = probe(path)
    n_frames = max(2, round(info.duration_s * getattr(settings, "fps", 2.0)))
    if (cap := getattr(settings, "max_frames", None)) is not None:
        n_frames = min(n_frames, cap)
    least, most, total = (getattr(settings, key, None) for key in ("min_pixels", "max_pixels", "total_pixels"))
    return Space((info.width, info.height), frame_size(info.width, info.height, n_frames, least, most, total))


class PromptBuilder:
    """Builds prompts for one processor; holds no state beside its settings, so data-loader workers may share it.

    processor: the model's own;  family: what the model hears and how it speaks of boxes;
    max_text_tokens: a longer text is refused (cutting it would cut the question);  system: Box 2 of the paper by
    default;  audio_clock: position_id_per_seconds and seconds_per_chunk of the model's config, by which audio and video
    are interleaved (`audio_clock_of`); a processor does not save them;  keep_shown: prompts keep the frames and the
    sound that they were made of, for a sampler with a processor of its own (vLLM).
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        family: Family,
        max_text_tokens: int = 512,
        system: str | None = None,
        audio_clock: Mapping[str, float] | None = None,
        keep_shown: bool = False,
    ) -> None:
        self.processor: Any = processor
        self.family = family
        self.max_text_tokens = max_text_tokens
        self.system = SYSTEM_PROMPT if system is None else system
        self.audio_clock = dict(audio_clock or {})
        self.keep_shown = keep_shown

    def build(self, question: Question, clip: Clip) -> Prompt:
        """The prompt of one question about one clip (video, with its audio interleaved where the family hears)."""
        return self.build_all([question], clip)[0]

    def build_all(self, questions: Sequence[Question], clip: Clip) -> list[Prompt]:
        """Prompts of several questions about one clip. They differ behind the media alone, so the media are processed
        once, and the prompts share their tensors and what frozen towers make of them."""
        first = questions[0]
        text = self._text(first, ["video"])
        inputs, arguments = self._process(text, clip, video=True)
        self._check_clock(first, clip, inputs)
        height, width = clip.frames.shape[1:3]
        space = Space(clip.source_size, THOUSAND if self.family.thousand else (width, height))
        lead = self._prompt(first, inputs, space, clip, self._shown(first, ["video"], arguments))
        return [lead, *(self._sibling(lead, text, question) for question in questions[1:])]

    def _sibling(self, lead: Prompt, lead_text: str, question: Question) -> Prompt:
        """`lead` with another question behind the same media. Special tokens part the text there, so the tail can be
        tokenized by itself; that this gives the processor's own tokens is checked on the lead."""
        tokenizer, mark = self.processor.tokenizer, self.processor.video_token
        tails = [text.rpartition(mark)[2] for text in (lead_text, self._text(question, ["video"]))]
        old, new = (tokenizer(tail, add_special_tokens=False, return_tensors="pt")["input_ids"][0] for tail in tails)
        head = lead.input_ids[: -len(old)]
        if not torch.equal(lead.input_ids[-len(old) :], old.to(lead.input_ids.dtype)):
            raise AvstError(f"{question.id}: the tokenizer does not part the text behind the media; ask one by one")
        media = dict(lead.media)
        if (kinds := media.get("mm_token_type_ids")) is not None:
            media["mm_token_type_ids"] = torch.cat([kinds[:, : len(head)], kinds.new_zeros(1, len(new))], dim=1)
        ids = torch.cat([head, new])
        self._check_length(question, ids)
        shown = lead.shown and replace(
            lead.shown, text_ids=self._tokens(question, ["video"]), messages=self._messages(question, ["video"])
        )
        return replace(lead, question=question, input_ids=ids, media=media, positions=None, shown=shown)

    def build_audio(self, question: Question, clip: Clip) -> Prompt:
        """The prompt of a question about sound alone: audio, no video."""
        if not self.family.hears or clip.audio is None:
            raise AvstError(f"{question.id}: an audio prompt needs a model that hears and a clip with an audio track")
        inputs, arguments = self._process(self._text(question, ["audio"]), clip, video=False)
        shown = self._shown(question, ["audio"], arguments)
        return self._prompt(question, inputs, Space(clip.source_size, clip.source_size), clip, shown)

    def build_text(self, question: Question) -> Prompt:
        """A prompt without media, for text-only data and comparisons."""
        inputs = self.processor(text=[self._text(question, [])], return_tensors="pt")
        return self._prompt(question, inputs, Space((1, 1), (1, 1)), None, self._shown(question, [], {}))

    def read(self, text: str, prompt: Prompt) -> Answer:
        """What the model said, with boxes in source pixels."""
        return parse(text, prompt.question.gold_names, prompt.space.to_source)

    def gold(self, prompt: Prompt) -> str:
        """The gold answer as the model should say it: boxes in model space, rounded to whole pixels as Qwen2.5
        speaks.
        """

        def rounded(box: Box) -> Box:
            x1, y1, x2, y2 = (float(round(v)) for v in prompt.space.to_model(box))
            return (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))

        return render(map_boxes(prompt.question.gold, rounded), prompt.question.task, whole_pixels=True)

    def frames(self, prompt: Prompt) -> int:
        """The frames that a prompt shows, rounded up to whole pairs; 0 where it shows none."""
        grid = prompt.media.get("video_grid_thw")
        pair = self.processor.video_processor.temporal_patch_size
        return 0 if grid is None else int(grid[:, 0].sum()) * pair

    def decode(self, token_ids: list[int]) -> str:
        return self.processor.tokenizer.decode(token_ids, skip_special_tokens=True)

    def _messages(self, question: Question, media: list[str]) -> list[dict[str, Any]]:
        content = [{"type": kind} for kind in media] + [{"type": "text", "text": prompt_text(question)}]
        return [
            {"role": "system", "content": [{"type": "text", "text": self.system}]},
            {"role": "user", "content": content},
        ]

    def _text(self, question: Question, media: list[str]) -> str:
        messages = self._messages(question, media)
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _tokens(self, question: Question, media: list[str]) -> Tensor:
        text = self._text(question, media)
        return self.processor.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]

    def _shown(self, question: Question, media: list[str], arguments: Mapping[str, Any]) -> Shown | None:
        """What a prompt of `question` was made of. arguments: the processor's, of `_process`."""
        if not self.keep_shown:
            return None
        videos, sound = arguments.get("videos"), arguments.get("audio")
        return Shown(
            self._tokens(question, media),
            self._messages(question, media),
            frames=None if videos is None else videos[0].permute(0, 2, 3, 1).contiguous(),
            fps=float(arguments.get("videos_kwargs", {}).get("fps", 0.0)),
            audio=None if sound is None else torch.from_numpy(np.asarray(sound[0], np.float32)),
            audio_rate=0 if sound is None else self.processor.feature_extractor.sampling_rate,
            processor=self._for_vllm(arguments),
        )

    def _for_vllm(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The processor's arguments as vLLM hands them on (mm_processor_kwargs): plain values, in one level.

        Without video_metadata, transformers' processor takes any clip for one at 24 frames a second, whatever `fps`
        says. vLLM lays sound among frames by an option whose name transformers has given up, and by the seconds a grid
        that it is told (else 1). Tried with vLLM 0.30's own processing: scripts/vllm_prompts.py.
        """
        given = {"text", "videos", "audio", "videos_kwargs", "return_tensors"}
        options = {name: value for name, value in arguments.items() if name not in given}
        options |= arguments.get("videos_kwargs", {})
        if metadata := options.pop("video_metadata", None):
            told = ("total_num_frames", "fps", "frames_indices")
            options["video_metadata"] = [{name: getattr(one, name) for name in told} for one in metadata]
        if options.get("load_audio_from_video"):
            pair = self.processor.video_processor.temporal_patch_size
            options |= {"use_audio_in_video": True, "second_per_grid_ts": [pair / options["fps"]]}
        return options

    def _process(self, text: str, clip: Clip, video: bool) -> tuple[BatchFeature, dict[str, Any]]:
        """(what the model is given, the arguments by which the processor made it)."""
        arguments: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
        audio = clip.audio if self.family.hears and clip.audio is not None and clip.audio.size > 0 else None
        if audio is not None and len(audio) > (most := self.processor.feature_extractor.n_samples):
            path, rate = clip.provenance.get("path", "clip"), self.processor.feature_extractor.sampling_rate
            raise MediaError(
                f"{path}: {len(audio) / rate:.1f} s of sound; this model's processor cuts at {most / rate:g} s"
            )
        if video:
            n_frames, pair = len(clip.frames), self.processor.video_processor.temporal_patch_size
            fps = clip.fps if audio is None else steady_fps(clip.fps, n_frames, self.audio_clock, pair)
            metadata = VideoMetadata(total_num_frames=n_frames, fps=fps, frames_indices=list(range(n_frames)))
            arguments["videos"] = [torch.from_numpy(clip.frames.copy()).permute(0, 3, 1, 2)]
            arguments["videos_kwargs"] = {
                "do_sample_frames": False,
                "do_resize": False,
                "fps": fps,
                "video_metadata": [metadata],
            }
        if audio is not None:
            arguments["audio"] = [audio]
            if video:
                arguments |= {"load_audio_from_video": True, "audio_from_video_indices": [0], **self.audio_clock}
        inputs = self.processor(**arguments)
        if video and audio is not None:
            inputs["use_audio_in_video"] = True
        return inputs, arguments

    def _check_clock(self, question: Question, clip: Clip, inputs: Mapping[str, Any]) -> None:
        seconds = inputs.get("second_per_grid_ts", inputs.get("video_second_per_grid"))
        wanted = self.processor.video_processor.temporal_patch_size / clip.fps
        if seconds is None or abs(float(torch.as_tensor(seconds).flatten()[0]) - wanted) > 1e-3 * wanted:
            raise AvstError(f"{question.id}: the processor says {seconds} seconds per grid, the clip's clock {wanted}")

    def _prompt(
        self, question: Question, inputs: BatchFeature, space: Space, clip: Clip | None, shown: Shown | None
    ) -> Prompt:
        ids = inputs.pop("input_ids")[0]
        inputs.pop("attention_mask")
        self._check_length(question, ids)
        if (mask := inputs.get("feature_attention_mask")) is not None:
            # the extractor pads to its longest clip (5 minutes for Qwen2.5-Omni); the tower reads what the mask shows
            heard = int(mask.sum(-1).max())
            inputs["feature_attention_mask"] = mask[:, :heard]
            inputs["input_features"] = inputs["input_features"][..., :heard].clone()
        digest = str(clip.provenance.get("digest", "")) if clip is not None else ""
        return Prompt(question, ids, dict(inputs), space, digest, shown=shown)

    def _check_length(self, question: Question, ids: Tensor) -> None:
        tokenizer = self.processor.tokenizer
        marks = [getattr(self.processor, f"{kind}_token", None) for kind in ("image", "video", "audio")]
        media_ids = tokenizer.convert_tokens_to_ids([mark for mark in marks if mark])
        n_text = int((~torch.isin(ids, torch.tensor(media_ids))).sum())
        if n_text > self.max_text_tokens:
            raise AvstError(
                f"{question.id}: the text takes {n_text} tokens, prompt.max_text_tokens is {self.max_text_tokens}"
            )
