"""Two hosts take the steps of one process: two network namespaces with a cable between them, or where these may not be
made, two launchers on one loopback device."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.scripts.engines import CASES, run_case

CASE = "omni, LoRA"


@dataclass(frozen=True)
class Host:
    """enter: what a command is begun with to run there;  device: the network device that leads to the other."""

    enter: tuple[str, ...]
    device: str


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[list[Host], str]]:
    """Two hosts and the address of the first."""
    names, devices = ([f"avst{os.getpid()}{side}" for side in "ab"], [f"v{os.getpid() % 10**6}{side}" for side in "ab"])
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", devices[0], "type", "veth", "peer", "name", devices[1])
        for number, (name, device) in enumerate(zip(names, devices, strict=True), start=1):
            ip("link", "set", device, "netns", name)
            ip("-n", name, "addr", "add", f"10.213.7.{number}/30", "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield (
            [Host(("ip", "netns", "exec", name), device) for name, device in zip(names, devices, strict=True)],
            "10.213.7.1",
        )
    except (OSError, subprocess.CalledProcessError):
        yield [Host((), "lo"), Host((), "lo")], "127.0.0.1"
    finally:
        if shutil.which("ip"):
            for name in names:
                subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return one.getsockname()[1]


def test_two_hosts_take_the_steps_of_one_process(
    hosts: tuple[list[Host], str], tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    both, address = hosts
    checkpoints, port = tiny_folders["qwen2_5_vl"].parent, free_port()
    running: list[subprocess.Popen[str]] = []
    for rank, host in enumerate(both):
        launch = [*host.enter, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
        launch += ["--node_rank", str(rank), "--master_addr", address, "--master_port", str(port)]
        script = [str(ROOT / "tests" / "scripts" / "engines.py"), "ddp", str(checkpoints), str(tmp_path), CASE]
        here = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": host.device}
        running.append(subprocess.Popen([*launch, *script], cwd=ROOT, env=here, stderr=subprocess.PIPE, text=True))
    wanted = run_case(CASE, checkpoints, tmp_path / "alone", 2, use_cpu=True)
    said = [process.communicate(timeout=400)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said[0][-2000:] + said[1][-2000:]
    number = list(CASES).index(CASE)
    ranks: list[dict[str, Any]] = [
        torch.load(tmp_path / f"ddp{number}-rank{rank}.pt", weights_only=False)[0] for rank in range(2)
    ]
    for name, value in wanted["weights"].items():
        torch.testing.assert_close(ranks[0]["weights"][name], value, rtol=1e-6, atol=1e-6, msg=name)
        assert torch.equal(ranks[0]["weights"][name], ranks[1]["weights"][name]), f"the hosts differ in {name}"
    losses = [[line["loss"] for line in run["logs"] if "loss" in line] for run in (ranks[0], wanted)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-6)
