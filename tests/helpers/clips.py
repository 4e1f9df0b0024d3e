"""Small random CLIP models and their files, for tests of backbones and converters."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
VIT = {"image_size": 32, "patch_size": 8, "layers": 4, "width": 64, "head_width": 64}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
EMBED_DIM = 64
SIGLIP_TEXT = {
    "context_length": 32,
    "vocab_size": 1000,
    "no_causal_mask": True,
    "pool_type": "last",
    "proj_bias": True,
}


def timm_tower(name: str, size: int, pool: str = "", projection: str = "linear") -> dict:
    """Vision config of a timm tower in open_clip."""
    return {
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": pool,
        "timm_proj": projection,
        "image_size": size,
    }


def clip_config(
    vision: dict, *, embed_dim: int = EMBED_DIM, text: dict | None = None, **top
) -> dict:
    """Architecture config in open_clip's form."""
    return {
        "embed_dim": embed_dim,
        "vision_cfg": vision,
        "text_cfg": {**TEXT, **(text or {})},
        **top,
    }


def make_clip(config: dict, seed: int = 0) -> nn.Module:
    """A random model of ``config``; the global random state stays as it was."""
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    kind = open_clip.model.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(**arguments).eval()
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(std=0.1)
    return model


def write_folder(folder: Path, config: dict, clip: nn.Module | None = None, **preprocess) -> Path:
    """An open_clip folder, as `local-dir:` wants it; without ``clip``, without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    if clip is not None:
        state = {name: value.clone() for name, value in clip.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
    return folder


def openai_state(clip: nn.Module, size: int) -> dict[str, Tensor]:
    """State of a model as OpenAI's files hold it: in float16, with three extra entries."""
    state = {name: value.half() for name, value in clip.state_dict().items()}
    marks = {"input_resolution": size, "context_length": 77, "vocab_size": 49408}
    return state | {name: torch.tensor(value) for name, value in marks.items()}


def as_modules(state: dict[str, Tensor]) -> nn.Module:
    """A tree of empty modules with these tensors as parameters and buffers."""
    root = nn.Module()
    for name, value in state.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if value.is_floating_point() and "running" not in leaf:
            module.register_parameter(leaf, nn.Parameter(value))
        else:
            module.register_buffer(leaf, value)
    return root


class WordTokenizer:
    """Stands for SigLIP's: lower-case words, no [SOS], the end is the padding (id 1)."""

    def __call__(self, texts, context_length=77):
        ids = torch.ones(len(texts), context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            words = [2 + sum(map(ord, word)) % 997 for word in text.lower().split()]
            ids[row, : len(words)] = torch.tensor(words[:context_length])
        return ids


def activations(module: nn.Module) -> tuple[set[str], list[str | None]]:
    """Kinds of the activations in a transformer's blocks, and how each is approximated."""
    blocks = [m.mlp.gelu for m in module.modules() if hasattr(getattr(m, "mlp", None), "gelu")]
    return {type(x).__name__ for x in blocks}, [getattr(x, "approximate", None) for x in blocks]


def openai_files(folder: Path, vision: dict, size: int) -> tuple[nn.Module, Path, Path]:
    """A CLIP, and its weights as a plain state dict and as a TorchScript archive."""
    clip = make_clip(clip_config(vision, quick_gelu=True))
    state = openai_state(clip, size)
    clip.load_state_dict({k: v.float() for k, v in state.items() if k in clip.state_dict()})
    plain, archive = folder / "plain.pt", folder / "archive.pt"
    torch.save(state, plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated; the published files stay
        torch.jit.script(as_modules(state)).save(str(archive))
    return clip, plain, archive
