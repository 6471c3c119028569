"""An exception -> what the command line says about it, in one line, and the exit status.

AvstError is a mistake in the input and says itself what to do. A full disk, a file that may not be read and too little
memory are nobody's bug either: they get a line with what mends them. Everything else is a bug of avst or of a library:
its traceback is kept in a file, and the line names the file.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from avst.errors import AvstError
from avst.secrets import without_secrets
from avst.watch.safe_text import safe

USER, BUG = 1, 70  # 70: EX_SOFTWARE of sysexits.h

_MENDS = {
    errno.ENOSPC: "free some space, or write elsewhere (--output-dir, media.cache_dir, model.feature_cache)",
    errno.EDQUOT: "the disk quota is used up: delete something, or write elsewhere (--output-dir, media.cache_dir)",
    errno.EACCES: "check who owns the file and its permissions, or name another place",
    errno.EPERM: "check who owns the file and its permissions, or name another place",
    errno.EROFS: "the file system is read-only: name another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file: check the path",
    errno.EISDIR: "a folder stands where a file is wanted: name the file",
    errno.EEXIST: "something of that name is there already: name another place",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or use fewer loader workers",
    errno.EIO: "the disk or the network file system fails: try again, or copy the data elsewhere",
    errno.ENOMEM: "the machine has too little memory: see `avst dry-run RECIPE` for what a step needs",
}

_MEMORY = (
    "make the step smaller: fewer answers a micro-batch (per_device_train_batch_size), smaller clips "
    "(media.total_pixels, media.max_frames), gradient_checkpointing, model.lora; `avst dry-run RECIPE` estimates it"
)

_WORKERS = (
    "the system ends processes where memory is short: have fewer loader workers (dataloader_num_workers) or smaller "
    "clips (media.total_pixels, media.max_frames); `avst resume RUN` goes on from the last checkpoint"
)
_NO_ANSWER = (
    "no answer can be drawn, for the model's probabilities are not finite: go on from an earlier checkpoint (`avst "
    "resume`) with a lower learning rate or max_grad_norm"
)

_kept_in: list[Path] = []


def keep_tracebacks_in(folder: Path) -> None:
    """The folder of the run that has begun: a bug's traceback belongs beside its logs."""
    _kept_in.append(folder)


def wants_traceback(argv: Sequence[str]) -> bool:
    """`--traceback`, or AVST_TRACEBACK set to anything but 0."""
    return "--traceback" in argv or os.environ.get("AVST_TRACEBACK", "0") not in ("", "0")


def harmless(line: str) -> str:
    """A message as a terminal may show it: names of files and words of models come into messages."""
    return safe(without_secrets(line))


def tidy_warnings() -> None:
    """The same for what is logged while nobody has set logging up."""
    if logging.lastResort is not None and _tidied not in logging.lastResort.filters:
        logging.lastResort.addFilter(_tidied)


def _tidied(record: logging.LogRecord) -> bool:
    record.msg, record.args = harmless(record.getMessage()), ()
    return True


def explain(error: Exception, command: str | None) -> tuple[str, int]:
    """(the line to print, the exit status). Writes the traceback of a bug to a file, and says to which."""
    if isinstance(error, AvstError):
        return f"avst: error: {error}", USER
    if out_of_memory(error):
        return f"avst: error: not enough memory ({_line(error)}); {_MEMORY}", USER
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        return f"avst: error: {_line(error).rstrip('. ')}; {_WORKERS}", USER
    if isinstance(error, OSError) and error.errno in _MENDS:
        where = "".join(f"{name}: " for name in (error.filename,) if name is not None)
        return f"avst: error: {where}{error.strerror or error}; {_MENDS[error.errno]}", USER
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("avst"):
        return f"avst: error: the package {error.name} is not installed; `avst doctor` says what mends it", USER
    if isinstance(error, RuntimeError) and "probability tensor contains either" in str(error):
        return f"avst: error: {_NO_ANSWER} ({_line(error)})", USER
    kept = _keep(error, command)
    said = f"the traceback is in {kept}" if kept is not None else "run it again with --traceback"
    return f"avst: unexpected {type(error).__name__}: {_line(error)} (a bug: please report it; {said})", BUG


def out_of_memory(error: BaseException | None) -> bool:
    """Python's, CUDA's and the CPU allocator's ways of saying so; torch is not imported to find out."""
    if error is None:
        return False
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    # the CPU's allocator, and CUDA where it is not torch's own allocator that asks
    said = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if len(text) <= 300 else text[:299] + "…"


def _keep(error: BaseException, command: str | None) -> Path | None:
    """Where the traceback was written: the run's folder, else the folder for temporary files, else nowhere."""
    name = f"avst-{command or 'command'}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    text = without_secrets("".join(traceback.format_exception(error)))
    for folder in (*reversed(_kept_in), Path(tempfile.gettempdir())):
        try:
            path = folder / name
            # made anew, readable by its owner alone: in a folder that all may write to, the name may be a trap
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            return path
        except OSError:
            continue
    return None
