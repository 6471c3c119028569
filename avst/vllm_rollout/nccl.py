"""Weights into a vLLM server over NCCL, by TRL's client. Not yet run on a GPU by us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avst.errors import AvstError
from avst.vllm_rollout.engine import Named
from avst.vllm_rollout.server import Channel


def nccl_channel(base_url: str, group_port: int, device: Any) -> Channel:
    """Joins the server's workers in a group of which this process is rank 0; vLLM must be installed here too.

    device: the GPU that the weights are sent from.
    """
    from trl.generation.vllm_client import VLLMClient

    try:
        client = VLLMClient(base_url=base_url, group_port=group_port)
        client.init_communicator(device=device)
    except Exception as error:  # TRL raises bare Exceptions, and what NCCL raises is its own
        raise AvstError(f"{base_url}: no way to send weights: {' '.join(str(error).split())}") from error

    def send(weights: Sequence[Named]) -> None:
        metadata = [(weight.name, weight.dtype, list(weight.shape)) for weight in weights]
        try:
            client.update_named_params(metadata, ((weight.name, weight.make()) for weight in weights))
        except Exception as error:
            raise AvstError(f"{base_url}: the weights did not arrive: {' '.join(str(error).split())}") from error

    return send
