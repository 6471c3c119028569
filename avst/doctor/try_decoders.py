"""`python -m avst.doctor.try_decoders`: each decoder on a clip made here, pictures and sound. Run by avst.doctor.media.

The clip: 2 s at 8 frames a second, red for the first second and blue for the second, with a tone of 440 Hz.
"""

from __future__ import annotations

import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

SIZE = (64, 48)
RATE = 16000
TONE_HZ = 440.0


def write(path: Path) -> None:
    import numpy as np

    from avst.scenes.encode import write_clip

    colours = [(200, 30, 30)] * 8 + [(30, 30, 200)] * 8
    frames = [np.full((SIZE[1], SIZE[0], 3), colour, np.uint8) for colour in colours]
    sound = 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(2 * RATE) / RATE)
    write_clip(path, frames, Fraction(8), SIZE, sound.astype(np.float32), RATE)


def tried(path: Path, decoder: Any) -> str:
    """ "" where pictures and sound come back as they were written, else what is wrong."""
    import numpy as np

    from avst.media import MediaSettings, load_clip

    clip = load_clip(path, MediaSettings(fps=2.0, decoder=decoder, deadline_s=60))
    if clip.frames.shape != (4, SIZE[1], SIZE[0], 3):
        return f"frames of shape {clip.frames.shape} where (4, {SIZE[1]}, {SIZE[0]}, 3) were due"
    red, blue = (clip.frames[i].reshape(-1, 3).mean(0) for i in (0, 3))
    if not (red[0] > 2 * red[2] and blue[2] > 2 * blue[0]):
        return f"wrong colours: {red.round()} and {blue.round()}"
    if clip.audio is None or abs(len(clip.audio) - 2 * RATE) > RATE // 10:
        return "no sound, or not all of it"
    spectrum = np.abs(np.fft.rfft(clip.audio))
    heard = float(np.fft.rfftfreq(len(clip.audio), 1 / RATE)[spectrum.argmax()])
    return "" if abs(heard - TONE_HZ) < 5 else f"a tone of {heard:.0f} Hz where {TONE_HZ:.0f} Hz was written"


def main() -> None:
    import av

    versions = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    print(json.dumps({"ffmpeg": versions, "av": av.__version__}), flush=True)
    from avst.media import DECODERS

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write(path)
        print(json.dumps({"written": path.stat().st_size}), flush=True)
        for decoder in sys.argv[1:] or DECODERS:
            try:
                said = tried(path, decoder)
            except Exception as error:
                said = " ".join(str(error).split())
            print(json.dumps({"decoder": decoder, "error": said}), flush=True)


if __name__ == "__main__":
    main()
