"""Published protocols once more, from their sources with scikit-learn, plain NumPy and torch: what bb has to equal.

Each oracle gets features, class numbers and sides of labelled images in the order of their IDs, and yields for each run
of the protocol's grid (shots, seed, setting, tested rows, predicted classes). None imports bb.
"""

import random
import warnings
from collections import defaultdict

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize


def rows(side, name):
    return np.flatnonzero(side == name)


def nearest(centroids, x, size=4096):
    """The place of the nearest centroid, distances summed in float64."""
    return np.concatenate([cdist(x[i : i + size], centroids).argmin(axis=1) for i in range(0, len(x), size)])


def biobench_simpleshot(x, y, side):
    train, test = rows(side, "train"), rows(side, "test")
    mean = x[train].mean(axis=0, keepdims=True)

    def centred(part):
        part = part - mean
        return part / np.linalg.norm(part, ord=2, axis=1, keepdims=True)

    fitted = NearestCentroid().fit(centred(x[train]), y[train])
    yield "all", 0, "", test, fitted.classes_[nearest(fitted.centroids_, centred(x[test]))]


def bioclip2_fewshot(x, y, side):
    """Lists of each class, in the order of its first image, are shuffled in place draw after draw."""
    x = normalize(x)
    lists = defaultdict(list)
    for row, label in enumerate(y.tolist()):
        lists[label].append(row)
    for shots in (1, 5):
        for fold in range(5):
            random.seed(fold)
            train, test = [], []
            for each in lists.values():
                random.shuffle(each)
                train += each[:shots]
                test += each[shots:]
            mean = x[train].mean(axis=0)
            centre = x[train] - mean
            centre /= np.linalg.norm(centre, 2, 1)[:, None]
            centre = centre.reshape(len(lists), shots, -1).mean(1)
            tested = x[test] - mean
            tested /= np.linalg.norm(tested, 2, 1)[:, None]
            yield shots, fold, "", np.array(test), np.array(list(lists))[nearest(centre, tested)]


def dinov2_knn(x, y, side, size=512):
    train, test = rows(side, "train"), rows(side, "test")
    gallery, queries = normalize(x[train]).astype(np.float64), normalize(x[test]).astype(np.float64)
    classes = int(y.max()) + 1
    predicted = {k: [] for k in (10, 20, 100, 200)}
    for start in range(0, len(test), size):
        similarity = queries[start : start + size] @ gallery.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :200]
        weights = np.exp(np.take_along_axis(similarity, order, 1) / 0.07)
        weights /= weights.sum(axis=1, keepdims=True)
        for k, found in predicted.items():
            votes = np.zeros((len(order), classes))
            for place in range(k):
                votes[np.arange(len(order)), y[train][order[:, place]]] += weights[:, place]
            found.append(votes.argmax(axis=1))
    for k, found in predicted.items():
        yield "all", 0, f"k={k}", test, np.concatenate(found)


def softmax_regression(C, x, y):
    """The optimum: lbfgs stops early below C = 0.01, where the loss hardly changes."""
    solver = {"solver": "newton-cg", "tol": 1e-10} if C < 0.01 else {"solver": "lbfgs", "tol": 1e-12}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=C, max_iter=10_000, **solver).fit(x, y)


def best_of_45(x, y, train, val, test, refit=True):
    x, best, C_of_best = x.astype(np.float64), -1, None
    for C in (10 ** torch.linspace(-6, 5, 45)).tolist():
        right = int((softmax_regression(C, x[train], y[train]).predict(x[val]) == y[val]).sum())
        if right > best:
            best, C_of_best = right, C
    fitted = np.concatenate([train, val]) if refit else train
    return softmax_regression(C_of_best, x[fitted], y[fitted]).predict(x[test])


def dinov2_logreg(x, y, side):
    train, test = rows(side, "train"), rows(side, "test")
    torch.manual_seed(0)
    order = train[torch.randperm(len(train)).numpy()]
    tenth = len(train) // 10
    yield "all", 0, "", test, best_of_45(x, y, order[tenth:], order[:tenth], test)


def dinov3_split(y, train, share):
    generator = torch.Generator()
    generator.manual_seed(0)
    order = train[torch.randperm(len(train), generator=generator).numpy()]
    labels, places = torch.sort(torch.from_numpy(y[order]), stable=True)
    val = torch.zeros(len(order), dtype=torch.bool)
    for label in labels.unique():
        of_class = places[labels == label]
        val[of_class[: max(1, int(share * len(of_class))) if len(of_class) > 1 else 0]] = True
    return order[~val.numpy()], order[val.numpy()]


def dinov3_logreg(x, y, side):
    test = rows(side, "test")
    train, val = dinov3_split(y, rows(side, "train"), 0.1)
    yield "all", 0, "", test, best_of_45(x, y, train, val, test)


def dinov3_few(x, y, side, shots, seed):
    """One try of few-shot evaluation: predictions of the test rows."""
    train, val = dinov3_split(y, rows(side, "train"), 0.01)
    generator = torch.Generator()
    generator.manual_seed(seed)
    chosen = torch.zeros(len(train), dtype=torch.bool)
    for label in np.unique(y[train]):
        of_class = torch.from_numpy(np.flatnonzero(y[train] == label))
        chosen[of_class[torch.randperm(len(of_class), generator=generator)[:shots]]] = True
    return best_of_45(x, y, train[chosen.numpy()], val, rows(side, "test"), refit=False)


def clip_linear(x, y, side):
    train, val, test = (rows(side, name) for name in ("train", "val", "test"))
    x, strengths, accuracy = x.astype(np.float64), np.logspace(-6, 2, num=97).tolist(), {}

    def peak_of(places):
        best, most = 0, 0
        for place in places:
            if place not in accuracy:
                fitted = softmax_regression(1 / strengths[place], x[train], y[train])
                accuracy[place] = (fitted.predict(x[val]) == y[val]).mean()
            if most < accuracy[place]:
                best, most = place, accuracy[place]
        return best

    peak, span = peak_of([i for i, v in enumerate(strengths) if v in np.logspace(-6, 2, num=7).tolist()]), 8
    while span > 0:
        peak = peak_of([max(peak - span, 0), peak, min(peak + span, 96)])
        span //= 2
    both = np.concatenate([train, val])
    yield "all", 0, "", test, softmax_regression(1 / strengths[peak], x[both], y[both]).predict(x[test])


def mieb_linear(x, y, side):
    train, test = rows(side, "train"), rows(side, "test")
    places = list(range(len(train)))
    for experiment in range(5):
        np.random.RandomState(42).shuffle(places)
        count, taken = defaultdict(int), []
        for place in places:
            if count[y[train[place]]] < 16:
                count[y[train[place]]] += 1
                taken.append(train[place])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = LogisticRegression(max_iter=100, random_state=42).fit(x[taken], y[taken])
        yield 16, experiment, "", test, fitted.predict(x[test])


def bigvision_fewshot(x, y, side):
    train, test = rows(side, "train"), rows(side, "test")
    for seed in range(3):
        generator = np.random.default_rng(seed)
        of_class = [generator.permutation(np.where(y[train] == label)[0]) for label in range(int(y.max()) + 1)]
        for shots in (1, 5, 10, 25):
            chosen = train[np.concatenate([each[:shots] for each in of_class])]
            support = x[chosen].astype(np.float64)
            mean, deviation = support.mean(axis=0), support.std(axis=0) + 1e-5

            def with_bias(part, mean=mean, deviation=deviation):
                return np.pad((part - mean) / deviation, ((0, 0), (0, 1)), constant_values=100.0)

            z, columns = with_bias(support), 2.0 * np.eye(int(y.max()) + 1)[y[chosen]] - 1
            weights = np.linalg.solve(z.T @ z + 1024.0 * np.eye(z.shape[1]), z.T @ columns)
            yield shots, seed, "", test, (with_bias(x[test].astype(np.float64)) @ weights).argmax(axis=1)


def biobench_fungiclef(x, y, side):
    """The last class number stands for unknown; poison and observations are no matter of what is predicted."""
    train, test, unknown = rows(side, "train"), rows(side, "test"), int(y.max())
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", store_covariance=True)
    lda.fit(x[train].astype(np.float64), y[train])
    inverse = np.linalg.inv(lda.covariance_)

    def distance(part):
        apart = [part.astype(np.float64) - mean for mean in lda.means_]
        return np.min([np.einsum("nd,de,ne->n", each, inverse, each, optimize=True) for each in apart], axis=0)

    far = distance(x[test]) > np.percentile(distance(x[train]), 95)
    _, _, _, _, nearest_class = next(biobench_simpleshot(x, y, side))
    yield "all", 0, "", test, np.where(far, unknown, nearest_class)


ORACLES = {
    "biobench-simpleshot": biobench_simpleshot,
    "bioclip2-fewshot": bioclip2_fewshot,
    "dinov2-knn": dinov2_knn,
    "dinov2-logreg": dinov2_logreg,
    "dinov3-logreg": dinov3_logreg,
    "clip-linear": clip_linear,
    "mieb-linear": mieb_linear,
    "bigvision-fewshot": bigvision_fewshot,
}
OPEN = {"biobench-fungiclef": biobench_fungiclef}  # whose labels are of an open set
