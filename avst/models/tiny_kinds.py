"""What sets the families of the tiny models apart: special tokens, tokenizer attributes, chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_TEMPLATE = """\
{%- for message in messages -%}
{%- if loop.first and message['role'] != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{ 'IMAGE' }}
{%- elif part['type'] == 'video' -%}{{ 'VIDEO' }}
{%- elif part['type'] == 'audio' -%}{{ 'AUDIO' }}
{%- elif 'text' in part -%}{{ part['text'] }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One family. image, video, audio: (opening mark, placeholder, closing mark); no audio, no ears.

    tokenizer_attributes: names under which the family's processor asks its tokenizer for tokens.

    Example: KINDS["qwen2_5_vl"].video == ("<|vision_start|>", "<|video_pad|>", "<|vision_end|>")
    """

    image: tuple[str, str, str]
    video: tuple[str, str, str]
    audio: tuple[str, str, str] | None = None
    tokenizer_attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """All special tokens, each once, in a fixed order."""
        media = (*self.image, *self.video, *(self.audio or ()))
        return tuple(dict.fromkeys(("<|endoftext|>", "<|im_start|>", "<|im_end|>", *media)))

    @property
    def chat_template(self) -> str:
        """The real template's behaviour: a default system turn, media inside their marks, nothing between the parts."""
        text = _TEMPLATE
        for name, tokens in (("IMAGE", self.image), ("VIDEO", self.video), ("AUDIO", self.audio or ())):
            text = text.replace(f"{{{{ '{name}' }}}}", "".join(tokens))
        return text


KINDS: dict[str, Kind] = {
    "qwen2_5_vl": Kind(
        image=("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"),
        video=("<|vision_start|>", "<|video_pad|>", "<|vision_end|>"),
    ),
    "qwen2_5_omni": Kind(
        image=("<|vision_bos|>", "<|IMAGE|>", "<|vision_eos|>"),
        video=("<|vision_bos|>", "<|VIDEO|>", "<|vision_eos|>"),
        audio=("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"),
        tokenizer_attributes={
            "image_token": "<|IMAGE|>",
            "audio_token": "<|AUDIO|>",
            "video_token": "<|VIDEO|>",
            "vision_bos_token": "<|vision_bos|>",
            "vision_eos_token": "<|vision_eos|>",
            "audio_bos_token": "<|audio_bos|>",
            "audio_eos_token": "<|audio_eos|>",
        },
    ),
}
