"""SimpleShot's episodes: each equals the classifier fitted to its rows, and what can't be drawn is refused."""

import numpy as np
import pytest

from bb.probe.classifiers.multiclass import episodes as module
from bb.probe.classifiers.multiclass.episodes import simpleshot_episodes
from bb.store.errors import BBError, UsageError


def data(classes=8, each=20, d=12, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes) * 3, each)
    x = rng.normal(size=(classes, d))[y // 3] + rng.normal(size=(len(y), d)) + 2
    return x.astype(np.float32), y


@pytest.mark.parametrize("variant", ["CL2N", "L2N", "UN"])
@pytest.mark.parametrize("shots", [1, 5])
def test_an_episode_is_a_nearest_mean(variant, shots, monkeypatch):
    x, y = data()
    base, _ = data(seed=1)
    drawn = []
    draw = module._draw
    monkeypatch.setattr(module, "_draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    found = simpleshot_episodes(x, y, base, shots=shots, queries=10, episodes=30, variant=variant)
    z = x.astype(float) - (base.astype(float).mean(axis=0) if variant == "CL2N" else 0)
    if variant != "UN":
        z /= np.linalg.norm(z, axis=1, keepdims=True)
    for rows, accuracy in zip(drawn, found.accuracy, strict=True):
        assert len(np.unique(rows)) == rows.size and all(len(set(y[each])) == 1 for each in rows)
        assert len(set(y[rows[:, 0]])) == 5
        means = z[rows[:, :shots]].mean(axis=1)
        apart = np.linalg.norm(z[rows[:, shots:]][:, :, None] - means, axis=3)
        assert accuracy == pytest.approx((apart.argmin(axis=2) == np.arange(5)[:, None]).mean())
    assert found.mean == found.accuracy.mean() and 0.3 < found.mean <= 1
    assert found.half_width == pytest.approx(1.96 * found.accuracy.std() / np.sqrt(30))


def test_draws_repeat_whatever_the_memory(monkeypatch):
    x, y = data()
    whole = simpleshot_episodes(x, y, episodes=20, queries=5).accuracy
    monkeypatch.setattr(module, "_BYTES", 1)
    np.testing.assert_array_equal(simpleshot_episodes(x, y, episodes=20, queries=5).accuracy, whole)
    assert (simpleshot_episodes(x, y, episodes=20, queries=5, seed=1).accuracy != whole).any()


def test_small_classes_are_left_out_and_too_few_refused():
    x, y = data(classes=6)
    y[:10] = 99  # ten images of a seventh class, and ten of the first are left
    assert len(simpleshot_episodes(x, y, episodes=3).accuracy) == 3
    with pytest.raises(BBError, match="^5 of 7 classes have the 16 images that an episode needs of each of 6: ask for"):
        simpleshot_episodes(x, y, ways=6)
    with pytest.raises(UsageError, match="^ways is 1; give 2 or more."):
        simpleshot_episodes(x, y, ways=1)
    with pytest.raises(BBError, match="images have 11 features, but the classifier was fitted on 12"):
        simpleshot_episodes(x, y, x[:, :11])
