"""`python -m avst.doctor.try_gpu`: what torch and transformers find on this machine. Run by avst.doctor.machine."""

from __future__ import annotations

import json
import warnings
from typing import Any


def gpus() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "devices": [],
    }
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        ones = torch.ones(8, 8, device=f"cuda:{index}")
        works = float((ones @ ones).sum()) == 512.0
        found["devices"].append(
            {
                "name": about.name,
                "capability": f"{about.major}.{about.minor}",
                "total": total,
                "free": free,
                "bf16": bool(torch.cuda.is_bf16_supported(including_emulation=False)),
                "works": works,
            }
        )
    return found


def attentions() -> dict[str, Any]:
    import torch
    from transformers.utils import is_flash_attn_2_available

    q = torch.ones(1, 1, 2, 8)
    same = torch.allclose(torch.nn.functional.scaled_dot_product_attention(q, q, q), q)
    return {"sdpa": bool(same), "flash_attention_2": bool(is_flash_attn_2_available())}


def main() -> None:
    warnings.simplefilter("ignore")
    for name, look in (("gpu", gpus), ("attention", attentions)):
        try:
            print(json.dumps({name: look()}), flush=True)
        except BaseException as error:
            print(json.dumps({name: {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}}), flush=True)


if __name__ == "__main__":
    main()
