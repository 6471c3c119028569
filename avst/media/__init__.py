"""Video and sound: from a file to a Clip, at the asked times, in a process that can be killed. Imports neither torch
nor av.
"""

from avst.media.cache import CacheStats, cache_stats
from avst.media.clock import FrameClock, frame_clock
from avst.media.digest import content_digest
from avst.media.load import load_clip, probe
from avst.media.paths import video_path
from avst.media.process import close_workers
from avst.media.settings import DECODERS, MediaError, MediaInfo, MediaSettings

__all__ = [
    "DECODERS",
    "CacheStats",
    "FrameClock",
    "MediaError",
    "MediaInfo",
    "MediaSettings",
    "cache_stats",
    "close_workers",
    "content_digest",
    "frame_clock",
    "load_clip",
    "probe",
    "video_path",
]
