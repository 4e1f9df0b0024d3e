"""Tensors of a TorchScript archive, read without running the program in it.

OpenAI published CLIP as TorchScript. ``torch.jit.load`` compiles and may run what an archive holds;
here its pickle is read by an unpickler that accepts tensors, containers and inert modules only.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_MAX_UNPACKED = 64 * 2**20
_MAX_MODULES = 10_000  # the largest CLIP of OpenAI has some hundreds


class _Inert:
    """Replaces every scripted module of the archive: it keeps attributes and runs nothing."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def _refuse_room(_: pickle.Unpickler) -> None:
    """Replaces the instruction that allocates as many bytes as the file says."""
    raise pickle.UnpicklingError("the archive holds a bytearray, which is refused")


# The unpickler in Python: the one in C allocates memory for any memo index of a file.
class _Unpickler(pickle._Unpickler):
    """Accepts tensors and inert modules; refuses every other name."""

    dispatch = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: _refuse_room}

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return type(name, (_Inert,), {})
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        wraps = name.startswith("build_") or name == "restore_type_tag"
        if module == "torch.jit._pickle" and wraps:
            return lambda value=None, *_: value
        raise pickle.UnpicklingError(f"the archive asks for {module}.{name}, which is refused")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        data = bytearray(self._archive.read(f"{self._root}data/{key}"))
        if len(data) < count * dtype.itemsize:
            raise pickle.UnpicklingError(f"storage {key} is cut short")
        if not count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(data, dtype=dtype, count=count)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    view = storage.as_strided(size, stride, offset)
    if view.numel() > storage.numel():  # repeated by its strides: any size from a few bytes
        raise pickle.UnpicklingError(f"a tensor claims {view.numel()} of {storage.numel()} values")
    return view.clone()


def check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to much more than its size: torch compresses no tensors.

    Raises:
        pickle.UnpicklingError: compressed entries that are too large for code and names.
        OSError: no regular file, or unreadable.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a regular file")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            packed = [e for e in archive.infolist() if e.compress_type != zipfile.ZIP_STORED]
        if sum(entry.file_size for entry in packed) > _MAX_UNPACKED:
            raise pickle.UnpicklingError("its archive unpacks to more than torch would compress")


def is_torchscript(path: Path) -> bool:
    """Whether ``path`` is an archive that ``torch.jit.save`` wrote."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of an archive under their dotted names, on the CPU.

    Raises:
        pickle.UnpicklingError: the archive needs more than tensors and modules.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise pickle.UnpicklingError(f"{len(pickles)} data.pkl in the archive, one is wanted")
        module = _Unpickler(archive, pickles[0].removesuffix("data.pkl")).load()
    if not isinstance(module, _Inert):
        raise pickle.UnpicklingError("the archive holds no module")
    return dict(_tensors(module))


def _tensors(module: _Inert) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    waiting, visits = [("", module)], 0
    while waiting:
        visits += 1
        if visits > _MAX_MODULES:  # modules that contain each other
            raise pickle.UnpicklingError(f"more than {_MAX_MODULES} modules")
        prefix, module = waiting.pop()
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                found.append((prefix + name, value))
            elif isinstance(value, _Inert):
                waiting.append((f"{prefix}{name}.", value))
    return found
