"""Bayes-PFL written out from its description, slowly: one image, one prompt, one layer at a time.

It shares no code with the package, and makes fixtures in the format of tests/data/parity.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from tests.helpers.clips import clip_config, make_clip


@dataclass(frozen=True)
class Sizes:
    """Sizes of a fixture."""

    width: int = 48
    heads: int = 2
    layers: int = 5
    taps: tuple[int, ...] = (2, 3, 5)
    patch: int = 8
    native: int = 24
    size: int = 40
    text_width: int = 32
    text_heads: int = 2
    text_layers: int = 2
    context: int = 77
    activation: str = "gelu"
    flows: int = 3
    P: int = 3
    Q: int = 2
    M: int = 2
    R: int = 2
    pair: int = 1
    classes: tuple[str, ...] = ("bottle", "pipe_fryum")
    labels: tuple[int, ...] = (1, 0)
    shaped_mask: str = "box"


def authors_state(s: Sizes, generator: torch.Generator) -> dict[str, Tensor]:
    """Random weights under the authors' names."""
    D, H, K = s.text_width, s.width // 2, s.flows
    shapes: dict[str, tuple[int, ...]] = {
        "prompt_context": (s.M, s.P, D),
        "prompt_state_normal": (s.M, s.Q, D),
        "prompt_state_abnormal": (s.M, s.Q, D),
        "PFL_context.amor_u.weight": (K * D, D),
        "PFL_context.amor_u.bias": (K * D,),
        "PFL_context.amor_w.weight": (K * D, D),
        "PFL_context.amor_w.bias": (K * D,),
        "PFL_context.amor_b.weight": (K, D),
        "PFL_context.amor_b.bias": (K,),
        "RCA.q_proj_pre.weight": (D, D, 1),
        "RCA.q_proj_pre.bias": (D,),
        "class_mapping.weight": (D, D),
        "class_mapping.bias": (D,),
        "image_mapping.weight": (D, D),
        "image_mapping.bias": (D,),
        "fuse.fuse_modules.weight": (H, len(s.taps) * s.width),
        "fuse.fuse_modules.bias": (H,),
        "fuse.compress.weight": (1, H),
        "fuse.compress.bias": (1,),
        "fuse.post_process.weight": (D, H),
        "fuse.post_process.bias": (D,),
        "state_decoder.weight_mean.module.0.weight": (H, D),  # as in real files: of no use
    }
    shapes |= {f"RCA.linear_proj.{i}.weight": (D, s.width) for i in range(len(s.taps))}
    for state in ("normal", "abnormal"):
        shapes |= {
            f"PFL_{state}.amor_u": (1, K, D, 1),
            f"PFL_{state}.amor_w": (1, K, 1, D),
            f"PFL_{state}.amor_b": (1, K, 1, 1),
            f"PFL_{state}.state": (1, D),
        }
    for encoder in ("context_encoder", "state_encoder"):
        for part in ("weight_mean", "weight_log_variance"):
            for index, (rows, columns) in ((0, (H, D)), (2, (H, H)), (4, (D, H))):
                shapes[f"{encoder}.{part}.module.{index}.weight"] = (rows, columns)
                shapes[f"{encoder}.{part}.module.{index}.bias"] = (rows,)
    state = {k: torch.randn(v, generator=generator) * 0.15 for k, v in shapes.items()}
    temperatures = {"temperature_image": torch.tensor(2.5), "temperature_pixel": torch.tensor(2.8)}
    return state | temperatures


class Reference:
    """The published model, from its weights under the authors' names."""

    def __init__(self, s: Sizes, clip: torch.nn.Module, state: dict[str, Tensor]) -> None:
        self.s, self.clip, self.state = s, clip, state
        self.tokenizer = open_clip.get_tokenizer("ViT-B-32")

    # Image ----------------------------------------------------------------------------------

    def image(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(S, S, 3) normalised as (3, S, S) -> f (D,), tokens of each tapped layer (N, V)."""
        visual = self.clip.visual
        x = visual._embeds(pixels[None])
        taps = []
        for number, block in enumerate(visual.transformer.resblocks, start=1):
            x = block(x)
            if number in self.s.taps:
                taps.append(x[0, 1:])
        return (visual.ln_post(x[0, 0]) @ visual.proj), taps

    # Prompts --------------------------------------------------------------------------------

    def mlp(self, name: str, x: Tensor) -> Tensor:
        for index in (0, 2, 4):
            x = self.state[f"{name}.module.{index}.weight"] @ x
            x = x + self.state[f"{name}.module.{index}.bias"]
            if index < 4:
                x = F.softplus(x)
        return x

    def flow(self, encoder: str, condition: Tensor, steps: list, noise: Tensor):
        """One draw z_K, with log q(z_0), and the sum of log|det|."""
        mean = self.mlp(f"{encoder}.weight_mean", condition)
        variance = torch.exp(self.mlp(f"{encoder}.weight_log_variance", condition) / 2)
        z = mean + variance.sqrt() * noise
        log_q = (-0.5 * variance.log() - 0.5 * (z - mean) ** 2 / variance).sum()
        total = torch.zeros(())
        for u, w, b in steps:
            h = torch.tanh(w @ z + b)
            psi = w * (1 - h**2)
            total = total + torch.log(torch.abs(1 + u @ psi) + 1e-5)
            z = z + u * h
        return z, log_q, total

    def specific(self, f: Tensor, noise: Tensor):
        D, state = self.s.text_width, self.state
        u, w, b = (
            state[f"PFL_context.amor_{x}.weight"] @ f + state[f"PFL_context.amor_{x}.bias"]
            for x in "uwb"
        )
        steps = [
            (u[k * D : (k + 1) * D], w[k * D : (k + 1) * D], b[k]) for k in range(self.s.flows)
        ]
        return self.flow("context_encoder", f, steps, noise)

    def agnostic(self, name: str, noise: Tensor):
        part = {x: self.state[f"PFL_{name}.amor_{x}"] for x in "uwb"}
        steps = [
            (part["u"][0, k, :, 0], part["w"][0, k, 0], part["b"][0, k, 0, 0])
            for k in range(self.s.flows)
        ]
        return self.flow("state_encoder", self.state[f"PFL_{name}.state"][0], steps, noise)

    def ids(self, word: str) -> Tensor:
        return self.tokenizer([f"X {word}"], context_length=self.s.context)[0]

    def encode(self, vectors: Tensor, word: str) -> Tensor:
        """One prompt: its vectors in place of the X, the full padded length, read at [EOS]."""
        ids, clip = self.ids(word), self.clip
        x = clip.token_embedding(ids)
        x = torch.cat([x[:1], vectors, x[2:]])[: self.s.context] + clip.positional_embedding
        x = clip.transformer(x[None], attn_mask=clip.attn_mask)[0]
        end = int(ids.argmax()) + len(vectors) - 1
        text = clip.ln_final(x[end]) @ clip.text_projection
        return text / text.norm()

    def texts(self, context: Tensor, normal: Tensor, abnormal: Tensor, word: str) -> list[Tensor]:
        """Draws (R, D) of each part -> [normal (R*M, D), abnormal (R*M, D)]."""
        both = []
        for name, draws in (("normal", normal), ("abnormal", abnormal)):
            rows = [
                self.encode(
                    torch.cat(
                        [
                            self.state["prompt_context"][m] + context[r],
                            self.state[f"prompt_state_{name}"][m] + draws[r],
                        ]
                    ),
                    word,
                )
                for r in range(len(context))
                for m in range(self.s.M)
            ]
            both.append(torch.stack(rows))
        return both

    # Scores ---------------------------------------------------------------------------------

    def attended(self, text: Tensor, patches: Tensor, heads: int = 4) -> Tensor:
        D = self.s.text_width
        q = self.state["RCA.q_proj_pre.weight"][..., 0] @ text + self.state["RCA.q_proj_pre.bias"]
        parts = []
        for h in range(heads):
            cut = slice(h * D // heads, (h + 1) * D // heads)
            weights = (patches[:, cut] @ q[cut] / D**0.5).softmax(0)
            parts.append(weights @ patches[:, cut])
        out = text + torch.cat(parts)
        return out / out.norm()

    def layer_map(self, layer: int, tokens: Tensor, normal: Tensor, abnormal: Tensor) -> Tensor:
        """Abnormal probability of one pair at the pixels, from one layer, (S, S)."""
        patches = F.normalize(tokens @ self.state[f"RCA.linear_proj.{layer}.weight"].T, dim=-1)
        scale = self.state["temperature_pixel"].exp()
        logits = torch.stack(
            [scale * patches @ self.attended(text, patches) for text in (normal, abnormal)]
        )
        side = self.s.size // self.s.patch
        size = (self.s.size, self.s.size)
        pixels = F.interpolate(
            logits.view(1, 2, side, side), size, mode="bilinear", align_corners=True
        )
        return pixels.softmax(1)[0, 1]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def pair_logits(self, f: Tensor, taps: list, normal: Tensor, abnormal: Tensor, stage: int):
        """Scaled cosines of one image with one pair, (2,)."""
        if stage == 2:
            fused = self.linear("fuse.fuse_modules", torch.cat(taps, dim=1))
            weights = self.linear("fuse.compress", fused).softmax(0)
            f = f + self.linear("fuse.post_process", (weights * fused).sum(0))
            f = self.linear("image_mapping", f)
        mapped = [self.linear("class_mapping", t) for t in (normal, abnormal)]
        cosines = torch.stack([F.cosine_similarity(t, f, dim=0) for t in mapped])
        return cosines * self.state["temperature_image"].exp()


def _test_outputs(ref: Reference, images: Tensor, words: list[str], eps: dict) -> dict:
    outputs = {}
    agnostic = {
        name: torch.stack([ref.agnostic(name, n)[0] for n in eps[f"test.eps_agnostic_{name}"]])
        for name in ("normal", "abnormal")
    }
    for i, (pixels, word) in enumerate(zip(images, words, strict=True)):
        f, taps = ref.image(pixels)
        context = torch.stack([ref.specific(f, n)[0] for n in eps[f"test.{i}.eps_specific"]])
        texts = ref.texts(context, agnostic["normal"], agnostic["abnormal"], word)
        outputs[f"test.{i}.text_embeddings"] = torch.cat(texts)[None]
        pairs = list(zip(*texts, strict=True))
        maps = [
            ref.layer_map(layer, tokens, *pair)
            for pair in pairs
            for layer, tokens in enumerate(taps)
        ]
        for stage in (1, 2):
            scores = [ref.pair_logits(f, taps, *pair, stage).softmax(0)[1] for pair in pairs]
            outputs[f"test.{i}.stage{stage}.image_score"] = torch.stack(scores).mean()
            outputs[f"test.{i}.stage{stage}.anomaly_map"] = torch.stack(maps).mean(0)
    return outputs


def _map_losses(maps: list[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the layers of focal and dice, each map of the whole batch (B, S, S)."""
    focal, dice = torch.zeros(()), torch.zeros(())
    for p in maps:
        for part, q in ((mask == 1, p), (mask == 0, 1 - p)):
            if part.any():
                focal = focal + (-((1 - q[part]) ** 2) * q[part].log()).mean()
        overlap = 2 * (p * mask).sum() + 1e-5
        dice = dice + 1 - overlap / (p.sum() + mask.sum() + 1e-5)
    return focal, dice


def _training_losses(ref: Reference, images: Tensor, words: list[str], eps: dict) -> dict:
    batch, agnostic = len(images), {}
    loss = {name: torch.zeros(()) for name in ("specific", "normal", "abnormal", "orthogonal")}
    for name in ("normal", "abnormal"):
        z, log_q, log_det = ref.agnostic(name, eps[f"train.eps_agnostic_{name}"][0])
        agnostic[name] = z[None]
        loss[name] = 0.01 * (log_q + (z**2).sum() / 2 - log_det / batch)
    entropy, texts_of, maps = torch.zeros(()), [], []
    for i, (pixels, word) in enumerate(zip(images, words, strict=True)):
        f, taps = ref.image(pixels)
        z, log_q, log_det = ref.specific(f, eps["train.eps_specific"][i])
        loss["specific"] = loss["specific"] + 0.01 * (log_q + (z**2).sum() / 2 - log_det) / batch
        texts = ref.texts(z[None], agnostic["normal"], agnostic["abnormal"], word)
        texts_of.append(torch.cat(texts))
        for state in texts:
            for a in range(ref.s.M):
                for b in range(ref.s.M):
                    if a != b:
                        square = (state[a] @ state[b]) ** 2 / (batch * ref.s.M**2)
                        loss["orthogonal"] = loss["orthogonal"] + square
        pair = [state[ref.s.pair] for state in texts]
        logits = ref.pair_logits(f, taps, *pair, stage=1)
        entropy = entropy - logits.log_softmax(0)[eps["train.label"][i]] / batch
        maps.append([ref.layer_map(layer, tokens, *pair) for layer, tokens in enumerate(taps)])
    layered = [torch.stack(layer) for layer in zip(*maps, strict=True)]
    focal, dice = _map_losses(layered, eps["train.mask"])
    terms = {
        "classification": entropy,
        "focal": focal,
        "dice": dice,
        "orthogonal": loss["orthogonal"],
        "kl_specific_x0_01": loss["specific"],
        "kl_agnostic_normal_x0_01": loss["normal"],
        "kl_agnostic_abnormal_x0_01": loss["abnormal"],
    }
    terms["total"] = torch.stack(list(terms.values())).sum()
    outputs = {f"train.loss.{name}": value for name, value in terms.items()}
    return outputs | {"train.text_embeddings": torch.stack(texts_of)}


def _inputs(s: Sizes, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws, masks, labels: what a fixture gives and does not check."""
    B, D = len(s.classes), s.text_width

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    mask = torch.zeros(B, s.size, s.size)
    if s.shaped_mask == "box":
        mask[torch.tensor(s.labels) == 1, 5:19, 8:30] = 1
    given = {f"test.{i}.eps_specific": normal(s.R, D) for i in range(B)}
    given |= {f"test.eps_agnostic_{x}": normal(s.R, D) for x in ("normal", "abnormal")}
    given |= {f"train.eps_agnostic_{x}": normal(1, D) for x in ("normal", "abnormal")}
    return given | {
        "train.eps_specific": normal(B, D),
        "train.mask": mask,
        "train.label": torch.tensor(s.labels),
        "train.prompt_index": torch.tensor([s.pair]),
    }


def _pictures(folder: Path, s: Sizes, generator: torch.Generator) -> Tensor:
    """Writes the images; returns them as the model wants them."""
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
    std = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
    tensors = []
    for i in range(len(s.classes)):
        shape = (30 + 17 * i, 52, 3)
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        image = Image.fromarray(pixels.numpy())
        image.save(folder / f"image_{i}.png")
        resized = image.resize((s.size, s.size), Image.Resampling.BICUBIC)
        data = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8)
        tensors.append(data.view(s.size, s.size, 3).permute(2, 0, 1) / 255)
    return (torch.stack(tensors) - mean) / std


def _config(s: Sizes) -> dict:
    return {
        "classes": list(s.classes),
        "vision": {
            "width": s.width,
            "layers": s.layers,
            "heads": s.heads,
            "patch_size": s.patch,
            "pretrain_image_size": s.native,
            "activation": s.activation,
        },
        "text": {
            "width": s.text_width,
            "layers": s.text_layers,
            "heads": s.text_heads,
            "context_length": s.context,
            "vocab_size": 49408,
            "activation": s.activation,
        },
        "embed_dim": s.text_width,
        "image_size": s.size,
        "feature_layers_1based": list(s.taps),
    }


def _clip(s: Sizes, size: int) -> torch.nn.Module:
    vision = {"image_size": size, "patch_size": s.patch, "layers": s.layers, "width": s.width}
    vision["head_width"] = s.width // s.heads
    text = {"width": s.text_width, "heads": s.text_heads, "layers": s.text_layers}
    text["context_length"] = s.context
    quick = s.activation == "quick_gelu"
    return make_clip(clip_config(vision, embed_dim=s.text_width, text=text, quick_gelu=quick))


def write_fixture(folder: Path, s: Sizes, words: list[str], seed: int = 0) -> Path:
    """A fixture folder; ``words`` are the classes as they stand in the prompts."""
    generator = torch.Generator().manual_seed(seed)
    state = authors_state(s, generator)
    native, clip = _clip(s, s.native), _clip(s, s.size)
    weights = {k: v.clone() for k, v in native.state_dict().items()}
    resized = dict(weights)
    open_clip.model.resize_pos_embed(resized, clip)
    clip.load_state_dict(resized)
    for parameter in clip.parameters():
        parameter.requires_grad_(False)

    images, given = _pictures(folder, s, generator), _inputs(s, generator)
    ref = Reference(s, clip, state)
    with torch.no_grad():
        features = [ref.image(pixels) for pixels in images]
        outputs = _test_outputs(ref, images, words, given)
    outputs |= {
        "preprocessed": images,
        "tokens": torch.stack([ref.ids(word) for word in words]),
        "image_features": torch.stack([f for f, _ in features]),
    }
    for index, layer in enumerate(s.taps):
        outputs[f"patch_tokens.{layer}"] = torch.stack([taps[index] for _, taps in features])
    leaves = {name: value.requires_grad_() for name, value in state.items()}
    losses = _training_losses(ref, images, words, given)
    losses["train.loss.total"].backward()
    outputs |= losses
    outputs |= {
        f"train.grad_norm.{name}": leaf.grad.norm()
        for name, leaf in leaves.items()
        if leaf.grad is not None
    }
    ids = torch.unique(torch.cat([outputs["tokens"].flatten(), ref.ids("X")]))
    saved = {f"clip.{k}": v for k, v in weights.items() if k != "token_embedding.weight"}
    saved |= {"clip.token_ids": ids, "clip.token_rows": weights["token_embedding.weight"][ids]}
    saved |= {f"model.{k}": v.detach() for k, v in leaves.items()}
    detached = {k: v.detach().contiguous() for k, v in (outputs | given).items()}
    save_file({k: v.contiguous() for k, v in saved.items()}, folder / "weights.safetensors")
    save_file(detached, folder / "outputs.safetensors")
    (folder / "config.json").write_text(json.dumps(_config(s)))
    return folder
