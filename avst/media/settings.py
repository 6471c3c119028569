"""What is asked of a clip (MediaSettings), what a file says of itself (MediaInfo), and the one error of this room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avst.errors import AvstError

Channels = Literal["mono", "keep"]
Decoder = Literal["pyav", "decord", "torchcodec"]
DECODERS: tuple[Decoder, ...] = ("pyav", "decord", "torchcodec")


class MediaError(AvstError):
    """A video that cannot be used. The message names the file and the cause in one line."""


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """How a clip is taken from its file.

    fps: frames a second on the clip's clock; frame k is what is on screen at k / fps seconds.
    max_frames: upper bound of T; a longer clip gets a slower clock (`Clip.fps` says which). None: no bound.
    size: (width, height) in px of the frames, as displayed; None keeps the source's.
    audio_rate: Hz; None leaves the audio undecoded (a model without ears).
    channels: "mono" averages the channels, "keep" gives (channels, N).
    decoder: "pyav", or "decord" / "torchcodec" where they are installed.
    deadline_s: seconds of wall clock after which a decode is killed.
    cache_dir, cache_gb: the disk cache and its bound in units of 1e9 bytes; cache_dir None: no cache.

    Example: MediaSettings(fps=2.0, max_frames=64, size=(448, 252), cache_dir="runs/cache")
    """

    fps: float = 2.0
    max_frames: int | None = None
    size: tuple[int, int] | None = None
    audio_rate: int | None = 16000
    channels: Channels = "mono"
    decoder: Decoder = "pyav"
    deadline_s: float = 60.0
    cache_dir: str | Path | None = None
    cache_gb: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 1000:
            raise AvstError(f"media fps must be above 0 and at most 1000, not {self.fps}")
        if self.max_frames is not None and self.max_frames < 2:
            raise AvstError(f"media max_frames must be at least 2 (frames go in pairs), not {self.max_frames}")
        if self.size is not None and not (len(self.size) == 2 and all(1 <= side <= 16384 for side in self.size)):
            raise AvstError(f"media size must be (width, height), each 1 to 16384 px, not {self.size}")
        if self.audio_rate is not None and not 1000 <= self.audio_rate <= 384000:
            raise AvstError(f"media audio_rate must be 1000 to 384000 Hz, not {self.audio_rate}")
        if self.channels not in ("mono", "keep"):
            raise AvstError(f"media channels must be mono or keep, not {self.channels!r}")
        if self.decoder not in DECODERS:
            raise AvstError(f"media decoder must be one of {', '.join(DECODERS)}, not {self.decoder!r}")
        if not 0 < self.deadline_s < float("inf"):
            raise AvstError(f"media deadline_s must be a positive number of seconds, not {self.deadline_s}")
        if not self.cache_gb >= 0:
            raise AvstError(f"media cache_gb must be zero or more, not {self.cache_gb}")


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What probing a file found. Times are seconds on the clip's clock (see avst.media.clock for where it starts).

    width, height: px as displayed, rotation applied;  rotation: degrees counter-clockwise of the stored display matrix;
    n_frames: coded frames that will be shown, None where the container hides it;  fps: their average rate, 0.0 if
    unknown; duration_s: end of the longer of picture and sound;  video_start_s, video_end_s: when the first frame
    appears and the last one ends;  audio_start_s, audio_end_s: the same of the sound, 0.0 without any.
    """

    path: str
    width: int
    height: int
    rotation: int
    duration_s: float
    video_start_s: float
    video_end_s: float
    fps: float
    n_frames: int | None
    video_codec: str
    has_audio: bool
    audio_start_s: float = 0.0
    audio_end_s: float = 0.0
    audio_rate: int = 0
    audio_channels: int = 0
    audio_codec: str = ""
