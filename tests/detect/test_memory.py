"""Distances to remembered patches: against brute force, and nothing but the patches counts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bayes_pfl.detect import memory as module
from bayes_pfl.detect.memory import PatchMemory, memory_score


def directions(pictures, cells=12, channels=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(pictures, cells, channels, generator=generator)
    return F.normalize(drawn, dim=-1).half()


def far(memory, patches):
    """Distances by hand, (N, n): to the nearest patch of each picture."""
    similar = patches.double().numpy() @ memory.vectors.double().numpy().T
    owners = memory.owners.numpy()
    return np.stack([1 - similar[:, owners == one].max(1) for one in np.unique(owners)], axis=1)


def test_the_nearest_patch_of_all_pictures_counts():
    known, new = directions(5), directions(3, seed=1)
    memory = PatchMemory.of(known, 1000)
    found = memory.nearest(new)
    for image in range(3):
        by_hand = far(memory, new[image])
        np.testing.assert_allclose(found.distance[image], by_hand.min(1), atol=1e-6)
        owners = memory.owners[found.patch[image]].numpy()
        np.testing.assert_array_equal(owners, by_hand.argmin(1))


def test_mutual_distances_are_the_mean_over_the_nearest_third_of_the_pictures():
    known, new = directions(10), directions(2, seed=1)
    memory = PatchMemory.of(known, 1000, mutual=True)
    found = memory.without(4).nearest(new)
    for image in range(2):
        nearest = np.sort(far(memory.without(4), new[image]), axis=1)[:, :2]  # 30% of 9
        np.testing.assert_allclose(found.distance[image], nearest.mean(1), atol=1e-6)


def test_a_picture_that_is_left_out_is_not_compared_with():
    known = directions(4)
    memory = PatchMemory.of(known, 1000)
    assert memory.nearest(known[:1]).distance.abs().max() < 1e-3
    assert memory.without(0).nearest(known[:1]).distance.min() > 0.01
    assert memory.without(0).pictures == 4


def test_a_memory_keeps_the_same_share_of_every_picture():
    memory = PatchMemory.of(directions(7), 40)
    assert len(memory.vectors) == 35 and memory.bytes == 35 * 8 * 2
    assert torch.bincount(memory.owners).tolist() == [5] * 7
    for picture in range(7):
        cells = memory.cells[memory.owners == picture].tolist()
        assert len(set(cells)) == 5 and cells == sorted(cells)
    assert len(PatchMemory.of(directions(7), 3).vectors) == 7  # one of each at least


def test_parts_of_a_batch_change_nothing(monkeypatch):
    memory, new = PatchMemory.of(directions(5), 1000, mutual=True), directions(4, seed=2)
    whole = memory.nearest(new)
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    for a, b in zip(memory.nearest(new), whole, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("cells", [50, 400])
def test_the_score_is_the_mean_of_the_farthest_hundredth(cells):
    distance = torch.rand(3, cells, generator=torch.Generator().manual_seed(0))
    wanted = distance.sort(dim=1, descending=True).values[:, : max(1, cells // 100)].mean(1)
    torch.testing.assert_close(memory_score(distance), wanted)
