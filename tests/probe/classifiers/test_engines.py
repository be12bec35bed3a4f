"""Every probe engine passes this suite: scikit-learn's answers written out plainly, and the same refusals.

A new engine joins ENGINES; one whose `identical` is False is held to agreement instead of equality.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import bb.probe.classifiers.cuml
import bb.probe.classifiers.exact
import bb.probe.classifiers.svm_fit
from bb.probe.classifiers.choose_engine import BACKENDS, choose
from bb.probe.classifiers.engine import Engine, Problem, Size, check
from bb.probe.classifiers.protocol import BioBench, Classifier, GridLinearSVC, LinearSVM, NeWT2021, RandomSearchSVM
from bb.probe.classifiers.sklearn import ScikitLearn
from bb.store.errors import BBError, UsageError
from tests.helpers.servers import GUARD

NO_CUML = bb.probe.classifiers.cuml.missing()
ENGINES = ["exact", "sklearn", pytest.param("cuml", marks=pytest.mark.skipif(bool(NO_CUML), reason=str(NO_CUML)))]
CLASSIFIERS = [LinearSVM(), RandomSearchSVM(n_iter=20), GridLinearSVC()]
PUBLISHED = pytest.param(RandomSearchSVM(), marks=pytest.mark.e2e, id="all tries")  # whose first are the 20 above


def problem(task: str = "t", counts: tuple[int, int] = (10, 10), d: int = 16, noise: float = 1.0) -> Problem:
    """Two blobs that overlap, preprocessed as biobench does, rows in order of class as sampling has them."""
    rng = np.random.default_rng([len(task), *task.encode()])
    y_train = np.repeat(np.array([0, 1], dtype=np.uint8), counts)
    y_test = np.arange(40, dtype=np.uint8) % 2
    direction = rng.normal(size=d) / np.sqrt(d)
    x_train, x_test = (noise * rng.normal(size=(len(y), d)) + np.outer(y, direction) for y in (y_train, y_test))
    x_train, x_test = BioBench().preprocess(x_train.astype(np.float32), x_test.astype(np.float32))
    return Problem(task, x_train, y_train, x_test)


def oracle(classifier: Classifier):
    """The issue's protocol in scikit-learn's own words."""
    match classifier:
        case LinearSVM():
            return SVC(kernel="linear")
        case RandomSearchSVM():
            return RandomizedSearchCV(
                make_pipeline(StandardScaler(), SVC()),
                {
                    "svc__C": loguniform(1e-3, 1e1),
                    "svc__kernel": ["rbf", "linear", "sigmoid", "poly"],
                    "svc__gamma": loguniform(1e-4, 1e-3),
                },
                n_iter=100,
                cv=5,
                random_state=42,
            )
        case GridLinearSVC():
            return GridSearchCV(
                LinearSVC(dual=False, tol=1e-5, random_state=0, max_iter=1000),
                {"C": [1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100, 1000]},
                cv=3,
            )


@pytest.mark.parametrize("classifier", [*CLASSIFIERS, PUBLISHED], ids=lambda classifier: type(classifier).__name__)
@pytest.mark.parametrize("backend", ENGINES)
def test_answers_are_scikit_learns(backend: str, classifier: Classifier):
    engine = choose(backend)
    problems = [problem("even"), problem("uneven", (7, 12), d=5), problem("clear", noise=0.1)]
    outcomes = {outcome.task: outcome for outcome in engine.solve(problems, classifier, jobs=1)}
    assert set(outcomes) == {"even", "uneven", "clear"}
    for p in problems:
        expected = oracle(classifier)
        if isinstance(classifier, RandomSearchSVM) and classifier != RandomSearchSVM():
            expected.set_params(n_iter=classifier.n_iter)
        expected.fit(p.x_train, p.y_train)
        got = outcomes[p.task]
        assert got.y_pred.dtype == p.y_train.dtype
        if not engine.identical:
            assert (got.y_pred == expected.predict(p.x_test)).mean() > 0.9
            continue
        assert np.array_equal(got.y_pred, expected.predict(p.x_test))
        np.testing.assert_allclose(got.decision, expected.decision_function(p.x_test), rtol=0, atol=1e-10)
        assert got.notes == ()
        if isinstance(classifier, LinearSVM):
            assert got.parameters == {"C": 1.0, "kernel": "linear"} and got.cv_score is None
        else:
            best = {name.removeprefix("svc__"): value for name, value in expected.best_params_.items()}
            assert got.parameters == best and got.cv_score == expected.best_score_
            assert all(type(value) in (float, str) for value in got.parameters.values())


@pytest.mark.parametrize("backend", ENGINES)
def test_number_of_jobs_and_order_of_tasks_change_nothing(backend: str):
    engine = choose(backend)
    problems = [problem(f"task {i}", (5, 5)) for i in range(6)]
    one = {o.task: o for o in engine.solve(problems, LinearSVM(), jobs=1)}
    two = {o.task: o for o in engine.solve(reversed(problems), LinearSVM(), jobs=2)}
    assert one.keys() == two.keys()
    for task in one:
        assert np.array_equal(one[task].y_pred, two[task].y_pred)
        assert np.array_equal(one[task].decision, two[task].decision)
    assert list(engine.solve([], LinearSVM(), jobs=2)) == []


@pytest.mark.parametrize("backend", ENGINES)
def test_bad_input_is_refused_before_any_fitting(backend: str):
    outcomes = choose(backend).solve([problem("good"), problem("small", (1, 9))], RandomSearchSVM(), jobs=1)
    with pytest.raises(BBError, match="task 'small'"):
        next(outcomes)


@pytest.mark.parametrize("backend", ENGINES)
def test_a_class_smaller_than_the_folds_is_done_and_noted(backend: str):
    small = problem("small", (3, 9))
    (outcome,) = choose(backend).solve([small], RandomSearchSVM(n_iter=5), jobs=1)
    assert outcome.notes == (
        "3 of class 0 and 9 of class 1 to train on, fewer than the 5 folds: some folds test on one class only",
    )
    expected = oracle(RandomSearchSVM()).set_params(n_iter=5)
    with pytest.warns(UserWarning, match="least populated class"):
        expected.fit(small.x_train, small.y_train)
    if choose(backend).identical:
        assert np.array_equal(outcome.y_pred, expected.predict(small.x_test))


@pytest.mark.parametrize("backend", ["exact", "sklearn"])
def test_scikit_learns_warnings_become_notes(backend: str, capfd: pytest.CaptureFixture, recwarn):
    hasty = GridLinearSVC(max_iter=1)
    (outcome,) = choose(backend).solve([problem()], hasty, jobs=1)
    assert len(outcome.notes) == 1
    assert outcome.notes[0].startswith("scikit-learn: Liblinear failed to converge")
    assert outcome.notes[0].endswith("times)")
    assert not recwarn.list and capfd.readouterr().err == ""


def spoilt(split: str, value: float) -> Problem:
    p = problem("fox")
    (p.x_train if split == "training" else p.x_test)[2, 3] = value
    return p


@pytest.mark.parametrize(
    ("bad", "classifier", "message"),
    [
        (
            spoilt("training", np.nan),
            LinearSVM(),
            "task 'fox': 1 of 20 training images have NaN or infinite features",
        ),
        (spoilt("test", np.inf), LinearSVM(), "task 'fox': 1 of 40 test images have NaN.*extract again with"),
        (problem("fox", (0, 4)), LinearSVM(), "task 'fox': the training images are all of class 1"),
        (
            problem("fox", (1, 9)),
            RandomSearchSVM(),
            "task 'fox': 1 of class 0 and 9 of class 1.* needs 2 of each",
        ),
        (
            problem("fox", (4, 4)),
            RandomSearchSVM(),
            "task 'fox': 4 of class 0 and 4 of class 1.*5 folds. Raise --n-train",
        ),
        (
            problem("fox", (2, 2)),
            GridLinearSVC(),
            "task 'fox': 2 of class 0.*both fewer than the search's 3 folds",
        ),
    ],
)
def test_check_refuses(bad: Problem, classifier: Classifier, message: str):
    with pytest.raises(BBError, match=message):
        check(bad, classifier)


def test_check_passes_what_can_be_fitted():
    assert check(problem(counts=(1, 1)), LinearSVM()) == ()
    assert check(problem(counts=(5, 5)), RandomSearchSVM()) == ()
    assert check(problem(counts=(2, 3)), GridLinearSVC()) != ()


def test_what_scikit_learn_refuses_names_the_task():
    impossible = RandomSearchSVM(C=(-2.0, -1.0))
    with pytest.raises(BBError, match="task 't' can't be fitted: "):
        list(ScikitLearn().solve([problem()], impossible, jobs=1))


def test_unknown_backend_lists_those_there_are():
    with pytest.raises(UsageError, match="--backend 'gpu' is unknown; choose auto, exact, sklearn, cuml"):
        choose("gpu")
    assert BACKENDS[0] == "auto"


@pytest.mark.parametrize("backend", ["exact", "sklearn"])
def test_engines_say_what_they_are(backend: str):
    engine: Engine = choose(backend)
    assert (engine.name, engine.identical) == (backend, True)
    assert engine.version[0].isdigit()


NEWT, HUGE = Size(n=220, m=220, d=1024), Size(n=20_000, m=100, d=1024)


def test_auto_decides_by_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bb.probe.classifiers.cuml, "missing", lambda: "no GPU")
    assert choose("auto").name == "exact"
    assert choose("auto", [NEWT] * 164, RandomSearchSVM()).name == "exact"
    split = choose("auto", [NEWT, HUGE], RandomSearchSVM())
    assert (split.name, split.identical) == ("exact+sklearn", True)
    assert choose("auto", [HUGE], GridLinearSVC()).name == "exact"  # which makes no Gram matrix
    assert choose("exact", [HUGE], RandomSearchSVM()).name == "exact"


def test_tasks_too_large_for_the_exact_engine_go_to_the_other_with_a_note(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bb.probe.classifiers.cuml, "missing", lambda: "no GPU")
    needed = bb.probe.classifiers.svm_fit.bytes_a_thread(20, 40, 16)
    monkeypatch.setattr(bb.probe.classifiers.exact, "MEMORY_A_THREAD", needed)
    problems = [problem("small"), problem("large", (11, 10))]
    engine = choose("auto", [Size.of(p) for p in problems], LinearSVM())
    outcomes = {outcome.task: outcome for outcome in engine.solve(problems, LinearSVM(), jobs=1)}
    assert outcomes["small"].notes == ()
    assert outcomes["large"].notes == ("too large for the exact engine, so done by sklearn",)
    for p in problems:
        assert np.array_equal(outcomes[p.task].y_pred, SVC(kernel="linear").fit(p.x_train, p.y_train).predict(p.x_test))


def test_cuml_that_is_not_there_is_an_error_and_auto_does_without(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cuml", None)
    monkeypatch.delitem(sys.modules, "cuml")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--backend cuml can't run here: .*pip install \"backbone-bench\[cuml\]\""):
        choose("cuml")
    assert choose("auto").name == "exact"


def test_cuml_without_a_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cuml", ModuleType("cuml"))
    monkeypatch.setattr(bb.probe.classifiers.cuml, "gpus", lambda: 0)
    with pytest.raises(UsageError, match="the NVIDIA driver shows no GPU"):
        choose("cuml")
    assert choose("auto", [HUGE], RandomSearchSVM()).name == "exact+sklearn"


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda classifier: type(classifier).__name__)
def test_cumls_plumbing_with_scikit_learn_in_its_place(monkeypatch: pytest.MonkeyPatch, classifier: Classifier):
    class StubSVC(SVC):
        """cuML's signature, as far as it is used; its classes are those of the labels given."""

        def __init__(self, *, C=1.0, kernel="rbf", gamma="scale", tol=1e-3, output_type=None):
            super().__init__(C=C, kernel=kernel, gamma=gamma, tol=tol)
            self.output_type = output_type

    class StubLinearSVC(LinearSVC):
        def __init__(self, *, C=1.0, tol=1e-4, max_iter=1000, output_type=None):
            super().__init__(C=C, tol=tol, max_iter=max_iter, dual=False, random_state=0)
            self.output_type = output_type

    stub, svm = ModuleType("cuml"), ModuleType("cuml.svm")
    stub.__version__, stub.svm, svm.SVC, svm.LinearSVC = "26.10.0", svm, StubSVC, StubLinearSVC
    monkeypatch.setitem(sys.modules, "cuml", stub)
    monkeypatch.setitem(sys.modules, "cuml.svm", svm)
    monkeypatch.setattr(bb.probe.classifiers.cuml, "gpus", lambda: 1)

    assert choose("auto", [HUGE], RandomSearchSVM()).name == "exact+cuml"
    engine = choose("cuml")
    assert (engine.name, engine.version, engine.identical) == ("cuml", "26.10.0", False)
    (got,) = engine.solve([problem()], classifier, jobs=1)
    (expected,) = ScikitLearn().solve([problem()], classifier, jobs=1)
    assert np.array_equal(got.y_pred, expected.y_pred) and got.y_pred.dtype == np.uint8
    assert np.array_equal(got.decision, expected.decision)
    assert (got.parameters, got.cv_score) == (expected.parameters, expected.cv_score)


def test_newt2021_runs_from_features_to_outcome():
    p = problem()
    x_train, x_test = NeWT2021().preprocess(p.x_train, p.x_test)
    (outcome,) = ScikitLearn().solve([Problem("t", x_train, p.y_train, x_test)], NeWT2021().classifier(20), jobs=1)
    assert outcome.cv_score is not None and 0 <= outcome.cv_score <= 1


@pytest.mark.e2e
def test_closing_the_iterator_stops_the_work_in_silence(recwarn: pytest.WarningsRecorder):
    outcomes = ScikitLearn().solve([problem(f"{i}", (30, 30)) for i in range(50)], RandomSearchSVM(n_iter=5), jobs=2)
    next(outcomes)
    outcomes.close()
    assert not recwarn.list


@pytest.mark.e2e
def test_ctrl_c_stops_all_processes_without_their_tracebacks(tmp_path: Path):
    script = tmp_path / "long.py"
    script.write_text(
        textwrap.dedent(
            """
            import numpy as np
            from bb.probe.classifiers.engine import Problem
            from bb.probe.classifiers.protocol import RandomSearchSVM
            from bb.probe.classifiers.sklearn import ScikitLearn

            rng = np.random.default_rng(0)
            y = np.arange(60, dtype=np.uint8) % 2
            x = rng.normal(size=(60, 64)).astype(np.float32)
            problems = [Problem(str(i), x, y, x) for i in range(100_000)]
            try:
                for outcome in ScikitLearn().solve(problems, RandomSearchSVM(n_iter=10), jobs=2):
                    print("one", flush=True)
            except KeyboardInterrupt:
                print("stopped", flush=True)
            """
        )
    )
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job, as which the tests may run, ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert process.stdout and process.stdout.readline() == "one\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        out, err = process.communicate(timeout=GUARD)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.endswith("stopped\n") and err == ""
    while group_lives(process.pid):  # workers that outlive Ctrl-C have hours of work left
        time.sleep(0.1)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
