"""Run from tests/test_faulty_processes.py: two processes of one run, and a fault in one of them, fault after fault.

    python -m tests.scripts.faulty_processes RECIPE OUT [CASE …]

Every case is a whole `avst train` on two processes, forked from this one, which has imported everything. Unlike
torchrun, nobody ends the second process when the first has failed (as on another host), but for the cases in ENDED.
What became of both goes to OUT/results.json: exit status and screen, by process, and what was still running afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

import avst.rollout
from avst import trainer as trainer_module
from avst.cli import main
from avst.data import PromptDataset
from avst.errors import AvstError
from avst.run_folder import RunFolder
from avst.trainer import GRPOTrainer

DEADLINE_S = 60.0  # far above what any case takes: a process that is still there then hangs
GRACE_S = 20.0  # a loader's worker looks every 5 s whether its parent is still there


def instead(owner: Any, name: str, act: Callable[[Any], object]) -> None:
    """Before the function `name` of `owner` runs, `act` does, with its first argument."""
    original = getattr(owner, name)

    def run(*args: Any, **kwargs: Any) -> Any:
        act(args[0])
        return original(*args, **kwargs)

    setattr(owner, name, run)


def raising(error: BaseException) -> Callable[[Any], object]:
    def act(_: Any) -> None:
        raise error

    return act


def at_step_2(act: Callable[[], object]) -> Callable[[Any], object]:
    return lambda trainer: act() if trainer.state.global_step == 1 else None


def me(number: int) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


# case -> (the process at fault, what is done to it before it starts)
CASES: dict[str, tuple[int, Callable[[], None]]] = {
    "reward": (1, lambda: instead(trainer_module, "score_groups", raising(AvstError("reward 'r' raised KeyError; q")))),
    "rollout": (1, lambda: instead(avst.rollout, "_prefill", raising(torch.OutOfMemoryError("CUDA out of memory")))),
    "forward": (0, lambda: instead(GRPOTrainer, "_policy_loss", raising(torch.OutOfMemoryError("CUDA out of memory")))),
    "bug": (1, lambda: instead(GRPOTrainer, "_policy_loss", raising(KeyError("no such thing")))),
    "sink": (0, lambda: instead(RunFolder, "write_completions", raising(ValueError("a bug of the sink")))),
    "data": (1, lambda: instead(PromptDataset, "__getitem__", raising(AvstError("clip7: cannot be decoded")))),
    "killed": (1, lambda: instead(GRPOTrainer, "_policy_loss", at_step_2(me(signal.SIGKILL)))),
    "exit": (0, lambda: instead(GRPOTrainer, "_policy_loss", at_step_2(lambda: os._exit(3)))),
    "hangs": (1, lambda: instead(GRPOTrainer, "_policy_loss", at_step_2(lambda: time.sleep(600)))),
    "SIGTERM": (1, lambda: instead(GRPOTrainer, "_policy_loss", at_step_2(me(signal.SIGTERM)))),
}
ENDED = {"hangs"}  # the other one is sent SIGTERM once one has failed, as torchrun does
WITH_WORKERS = {"data", "killed", "exit", "SIGTERM"}  # of the loader, and decoders: the others do without, to be quick


def start(case: str, rank: int, port: int, recipe: str, out: Path) -> int:
    """Fork a process of the run, in a session of its own, by which its children are known."""
    if pid := os.fork():
        return pid
    os.setsid()
    screen = os.open(out / f"{case}-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(screen, 1)
    os.dup2(screen, 2)
    os.environ |= {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"},
    }
    at_fault, prepare = CASES[case]
    if rank == at_fault:
        prepare()
    words = ["train", recipe, "--output-dir", str(out / case)]
    words += [] if case in WITH_WORKERS else ["grpo.dataloader_num_workers=0", f"media.cache_dir={out / 'cache'}"]
    words += ["grpo.ddp_timeout=4"] if case == "hangs" else []
    raise SystemExit(main(words))


def keep_a_store() -> tuple[int, int]:
    """(process, port) of the store by which the two meet: with neither of them, as under torchrun."""
    read, write = os.pipe()
    if not (pid := os.fork()):
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(write, str(store.port).encode())
        while True:
            signal.pause()
    port = int(os.read(read, 16))
    os.close(read)
    os.close(write)
    return pid, port


def both_ended(case: str, pids: list[int]) -> list[int | None]:
    """Exit statuses, None for a process that did not end; negative: by which signal."""
    until, found = time.monotonic() + DEADLINE_S, dict[int, int]()
    while len(found) < 2 and time.monotonic() < until:
        for pid in set(pids) - set(found):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                found[pid] = os.waitstatus_to_exitcode(status)
                if found[pid] and case in ENDED:
                    for other in set(pids) - set(found):
                        os.kill(other, signal.SIGTERM)
        time.sleep(0.05)
    for pid in set(pids) - set(found):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return [found.get(pid) for pid in pids]


def left_over(sessions: list[int]) -> list[str]:
    """The command lines of processes that the two started and that still run, after they had time to end."""
    until, found = time.monotonic() + GRACE_S, [""]
    while found and time.monotonic() < until:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) in sessions and fields[0] != "Z":
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:  # it has just ended
                continue
        time.sleep(0.1)
    return found


def run(case: str, recipe: str, out: Path) -> dict[str, Any]:
    keeper, port = keep_a_store()
    pids = [start(case, rank, port, recipe, out) for rank in (0, 1)]
    statuses = both_ended(case, pids)
    os.kill(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)
    screens = [(out / f"{case}-{rank}.txt").read_text() for rank in (0, 1)]
    return {"statuses": statuses, "screens": screens, "left over": left_over(pids)}


if __name__ == "__main__":
    results = {case: run(case, sys.argv[1], Path(sys.argv[2])) for case in sys.argv[3:] or CASES}
    (Path(sys.argv[2]) / "results.json").write_text(json.dumps(results, indent=1))
