"""A GPU that is not there: tensors of torch's FakeTensorMode that are "on" cuda and have no values.

What mixes devices, or reads values of a device without fetching them, fails as it would on a GPU.
Values that are fetched are ones.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.plugins import MixedPrecision
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

from bayes_pfl.clip.text_tower import TextTower

GPU = torch.device("cuda:0")


@contextlib.contextmanager
def pretend_gpu(monkeypatch):
    """Within, new tensors are fakes, and may be made on or moved to :data:`GPU`."""
    with monkeypatch.context() as patch:
        _fetch_ones(patch)
        # A parameter keeps its identity when it moves; fakes have weak references of their own.
        patch.setattr(torch.utils, "weakref", SimpleNamespace(getweakrefs=lambda tensor: []))
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
        patch.setattr(CPUAccelerator, "setup_device", lambda *_: None)
        patch.setattr(TextTower, "tokenize", with_values(TextTower.tokenize))
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield


def with_values(function):
    """The function outside of the mode: its tensors stay on the CPU and have values."""

    def called(*args, **kwargs):
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return called


def _fetch_ones(patch):
    numpy, tolist = torch.Tensor.numpy, torch.Tensor.tolist

    def fetched(tensor):
        return np.ones(tuple(tensor.shape), _dtype(tensor))

    def numpy_of(tensor, *args, **kwargs):
        if not isinstance(tensor, FakeTensor):
            return numpy(tensor, *args, **kwargs)
        if tensor.device.type != "cpu":
            raise TypeError(f"can't convert {tensor.device} device type tensor to numpy")
        if tensor.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")
        return fetched(tensor)

    def value_of(kind, original):
        def value(tensor, *args):
            if not isinstance(tensor, FakeTensor):
                return with_values(original)(tensor, *args)
            return kind(fetched(tensor).item())

        return value

    patch.setattr(torch.Tensor, "numpy", numpy_of)
    patch.setattr(
        torch.Tensor,
        "tolist",
        lambda tensor: (
            fetched(tensor).tolist() if isinstance(tensor, FakeTensor) else tolist(tensor)
        ),
    )
    patch.setattr(torch.Tensor, "__array__", lambda tensor, dtype=None: tensor.numpy())
    kinds = {"item": lambda x: x, "__bool__": lambda x: False, "__float__": float, "__int__": int}
    for name, kind in kinds.items():
        patch.setattr(torch.Tensor, name, value_of(kind, getattr(torch.Tensor, name)))


def _dtype(tensor):
    return {
        torch.float32: np.float32,
        torch.float64: np.float64,
        torch.int64: np.int64,
        torch.bool: np.bool_,
        torch.uint8: np.uint8,
    }[tensor.dtype]


def with_fake_weights(model):
    """The model with fake parameters and buffers on the CPU in the place of its own."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                fake = torch.empty(tuple(value.shape), dtype=value.dtype)
                module._parameters[name] = torch.nn.Parameter(fake, value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = torch.empty(tuple(value.shape), dtype=value.dtype)
    return model


def give_gradients(model):
    """What a backward pass leaves: the engine of autograd itself wants a real GPU."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


def fabric_on_gpu(precision="32-true"):
    """A Fabric that puts modules and batches on :data:`GPU`."""
    plugins = [] if precision == "32-true" else [MixedPrecision(precision, "cuda")]
    fabric = Fabric(accelerator="cpu", devices=1, plugins=plugins)
    fabric.launch()
    fabric.strategy._root_device = GPU
    return fabric
