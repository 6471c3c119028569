"""A model's folder is numbers and JSON: no pickle in it is opened, no code in it runs."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file

from avst.errors import AvstError
from avst.models.loading import load, load_sketch, lora_config, restore_weights
from tests.security.canary import Canary

BIN = {"a folder": "pytorch_model.bin", "adapters": "adapter_model.bin"}


@pytest.fixture
def folder(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folders["qwen2_5_vl"], tmp_path / "model"))


@pytest.fixture
def adapters(folder: Path, tmp_path: Path) -> Path:
    model = load(folder, dtype="float32")[0]
    with torch.no_grad():
        get_peft_model(model, lora_config(model, r=2)).save_pretrained(tmp_path / "adapters")
    change(tmp_path / "adapters" / "adapter_config.json", base_model_name_or_path=str(folder))
    return tmp_path / "adapters"


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def put_in_place(file: Path, value: Any, zipped: bool = True) -> None:
    """value in a .bin where the safetensors file was."""
    (file.parent / f"{file.stem.replace('pytorch_', '')}.safetensors").unlink()
    with file.open("wb") as out:
        torch.save(value, out) if zipped else pickle.dump(value, out)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", BIN)
def test_a_pickle_is_not_opened(kind: str, zipped: bool, folder: Path, adapters: Path, canary: Canary) -> None:
    """Neither without the flag, in a line that names it, nor with it."""
    place = adapters if kind == "adapters" else folder
    put_in_place(place / BIN[kind], {"x": canary.pickled()}, zipped)
    with pytest.raises(AvstError, match=rf"{BIN[kind]} is a pickle.*model\.allow_pickle=true"):
        load(place, dtype="float32")
    with pytest.raises(AvstError, match=r"cannot be read: Weights only load failed"):
        load(place, dtype="float32", allow_pickle=True)
    assert not canary.dead


def test_with_the_flag_tensors_come_through(folder: Path) -> None:
    wanted = load(folder, dtype="float32")[0].state_dict()
    put_in_place(folder / "pytorch_model.bin", load_file(folder / "model.safetensors"))
    found = load(folder, dtype="float32", allow_pickle=True)[0].state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_weights_to_go_on_from_are_safetensors(folder: Path, canary: Canary) -> None:
    model = load(folder, dtype="float32")[0]
    put_in_place(folder / "pytorch_model.bin", {"x": canary.pickled()})
    with pytest.raises((AvstError, OSError)):
        restore_weights(model, folder)
    assert not canary.dead


def test_adapters_without_weights_ask_no_hub(adapters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (adapters / "adapter_model.safetensors").unlink()
    monkeypatch.setattr("peft.utils.save_and_load.hf_hub_download", lambda *a, **k: pytest.fail("the Hub was asked"))
    with pytest.raises(AvstError, match="there is no adapter_model"):
        load(adapters, dtype="float32")


@pytest.mark.parametrize("known", [True, False])
def test_code_beside_a_config_does_not_run(known: bool, folder: Path, canary: Canary) -> None:
    (folder / "sly.py").write_text(canary.code("C M"))
    auto = {"AutoConfig": "sly.C", "AutoModel": "sly.M", "AutoModelForImageTextToText": "sly.M"}
    change(folder / "config.json", auto_map=auto, **({} if known else {"model_type": "sly"}))
    if known:
        load(folder, dtype="float32")
        load_sketch(folder)
    else:
        with pytest.raises(AvstError, match="contains custom code"):
            load(folder, dtype="float32")
    assert not canary.dead


def test_code_beside_a_processor_does_not_run(folder: Path, canary: Canary) -> None:
    (folder / "sly.py").write_text(canary.code("C"))
    classes = ("AutoProcessor", "AutoTokenizer", "AutoImageProcessor", "AutoVideoProcessor")
    for name in ("processor_config.json", "tokenizer_config.json"):
        change(folder / name, processor_class="C", auto_map={c: "sly.C" for c in classes})
    with pytest.raises(AvstError, match="contains custom code"):
        load(folder, dtype="float32")
    assert not canary.dead


def test_a_generate_of_its_own_does_not_run(folder: Path, canary: Canary) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(canary.code() + "def generate(*a, **k): ...\n")
    model = load(folder, dtype="float32")[0]
    assert not canary.dead
    assert model.generate.__func__.__module__.startswith("transformers.")


def test_a_config_fetches_no_attention_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers takes `OWNER/NAME` as an attention from the Hub: code, fetched and run."""
    asked: list[Any] = []
    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", lambda *a, **k: asked.append(a))
    config = json.loads((folder / "config.json").read_text())
    for part in (config, *(v for v in config.values() if isinstance(v, dict))):
        part |= {"attn_implementation": "sly/kernel", "_attn_implementation": "sly/kernel"}
    (folder / "config.json").write_text(json.dumps(config))
    for model in (load(folder, dtype="float32")[0], load_sketch(folder)[0]):
        kinds = {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")}
        assert not any("sly" in str(kind) for kind in kinds)
    assert asked == []


def test_the_list_of_shards_leads_nowhere_else(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(weights, tmp_path / "outside.safetensors", {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "..\\outside.safetensors", 3):
        index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, name)}))
        with pytest.raises(AvstError, match="refused, it names"):
            load(folder, dtype="float32")
    index.write_text("[" * 100_000)
    with pytest.raises(AvstError, match="damaged"):
        load(folder, dtype="float32")


def test_json_without_end_is_one_line(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(AvstError, match="no checkpoint there"):
        load(folder, dtype="float32")
