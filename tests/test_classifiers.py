import json
import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.classifiers import (
    C_GRID,
    ROWS,
    ChunkedScaler,
    ExactPCA,
    RootNormalizer,
    Spec,
    logistic_space,
    mlp_space,
    usable_widths,
)


def test_roots_keep_their_sign_and_rows_have_length_one():
    # Roots 3, -4, 0: length 5.
    rows = RootNormalizer().fit_transform(np.array([[9.0, -16.0, 0.0], [0.25, 0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, -0.8, 0.0], [1.0, 0.0, 0.0]])


def test_a_row_of_zeros_stays_zero():
    np.testing.assert_array_equal(RootNormalizer().fit_transform(np.zeros((2, 3))), np.zeros((2, 3)))


def test_float32_stays_float32_and_the_input_is_left_alone():
    vectors = np.array([[4.0, 1.0]], dtype=np.float32)
    assert RootNormalizer().fit(vectors).transform(vectors).dtype == np.float32
    np.testing.assert_array_equal(vectors, [[4.0, 1.0]])


def test_the_normalizer_is_an_estimator_that_can_be_cloned():
    fitted = RootNormalizer().fit(np.ones((2, 5)))
    assert fitted.n_features_in_ == 5
    assert fitted.get_params() == {"copy": True}
    assert not hasattr(clone(fitted), "n_features_in_")


def test_rows_are_normalised_one_by_one():
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    together = RootNormalizer().fit_transform(vectors)
    alone = np.concatenate([RootNormalizer().fit_transform(row[None]) for row in vectors])
    np.testing.assert_allclose(together, alone)


def test_in_place_gives_the_same_rows_in_the_input_itself():
    vectors = np.random.default_rng(0).normal(size=(2 * ROWS + 3, 4)).astype(np.float32)
    expected = RootNormalizer().fit_transform(vectors)
    assert RootNormalizer(copy=False).fit_transform(vectors) is vectors
    np.testing.assert_array_equal(vectors, expected)


def test_a_scaler_fitted_in_chunks_learns_what_one_go_does():
    vectors = np.random.default_rng(0).gamma(2.0, size=(2 * ROWS + 3, 5)).astype(np.float32)
    vectors[:, 2] = 7.0  # a dead dimension keeps scale 1
    chunked, whole = ChunkedScaler(), StandardScaler().fit(vectors)
    for _ in range(2):  # a second fit starts anew
        chunked.fit(vectors)
        np.testing.assert_allclose(chunked.mean_, whole.mean_, rtol=1e-12)
        np.testing.assert_allclose(chunked.scale_, whole.scale_, rtol=1e-12)
    assert chunked.n_samples_seen_ == len(vectors)


@pytest.mark.parametrize("shape", [(400, 60), (40, 60)])
def test_pca_finds_the_directions_of_the_full_decomposition(shape):
    vectors = (np.random.default_rng(0).normal(size=shape) * np.geomspace(9, 1, shape[1]) + 0.1).astype(np.float32)
    before = vectors.copy()
    pca, reference = ExactPCA(20), PCA(20, svd_solver="full").fit(vectors.astype(np.float64))
    projected = pca.fit_transform(vectors)
    np.testing.assert_allclose(np.abs(projected), np.abs(reference.transform(vectors)), atol=5e-3)
    np.testing.assert_allclose(pca.explained_variance_, reference.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(pca.explained_variance_ratio_, reference.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(pca.components_ @ pca.components_.T, np.eye(20), atol=1e-5)
    np.testing.assert_array_equal(vectors, before)


def test_preprocessing_in_place_holds_no_second_copy_of_the_rows():
    vectors = np.random.default_rng(0).random((20_000, 300), dtype=np.float32)
    steps = make_pipeline(*(step for _, step in Spec("", True, 64).preprocessing(in_place=True)))
    tracemalloc.start()
    try:
        projected = steps.fit_transform(vectors)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < projected.nbytes + vectors.nbytes / 2


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (Spec("logistic_regression", C=1.0), ["scaler", "classifier"]),
        (Spec("logistic_regression", True, C=1.0), ["root", "scaler", "classifier"]),
        (Spec("logistic_regression", False, 3, C=1.0), ["scaler", "pca", "classifier"]),
        (Spec("mlp", True, 3, hidden=(8,), alpha=1.0), ["root", "scaler", "pca", "classifier"]),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_pipelines_have_their_steps_in_order(spec, names):
    steps = dict(spec.build(seed=7).steps)
    assert list(steps) == names
    kinds = {"root": RootNormalizer, "scaler": ChunkedScaler, "pca": ExactPCA}
    kinds["classifier"] = MLPClassifier if spec.family == "mlp" else LogisticRegression
    assert all(type(step) is kinds[name] for name, step in steps.items())
    assert steps["classifier"].random_state == 7
    if "pca" in steps:
        assert steps["pca"].n_components == 3
    vectors = np.random.default_rng(0).random((30, 5), dtype=np.float32)
    before = vectors.copy()
    spec.build(seed=7).fit(vectors, np.arange(30) % 2).predict(vectors)
    np.testing.assert_array_equal(vectors, before)


def test_a_spec_decides_the_classifier():
    assert Spec("logistic_regression", C=0.25).classifier(0).C == 0.25
    mlp = Spec("mlp", hidden=(128, 64), alpha=10.0).classifier(0)
    assert (mlp.hidden_layer_sizes, mlp.alpha) == ((128, 64), 10.0)


def test_specs_as_json_leave_out_what_means_nothing_for_the_family():
    linear = Spec("logistic_regression", C=0.1).to_json()
    assert linear == {"family": "logistic_regression", "root": False, "n_components": None, "C": 0.1}
    network = json.loads(json.dumps(Spec("mlp", True, 64, hidden=(128, 64), alpha=1.0).to_json()))
    assert network == {"family": "mlp", "root": True, "n_components": 64, "hidden": [128, 64], "alpha": 1.0}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (Spec("logistic_regression", C=1000.0), "scaler + logistic regression (C = 1e+03)"),
        (Spec("logistic_regression", True, 64, C=0.1), "square root + scaler + PCA 64 + logistic regression (C = 0.1)"),
        (Spec("mlp", hidden=(128, 64), alpha=0.1), "scaler + MLP (128, 64; alpha = 0.1)"),
    ],
)
def test_specs_read_as_sentences(spec, text):
    assert str(spec) == text


def test_c_runs_in_half_decades_from_1e_5_to_1e3():
    assert C_GRID[0] == pytest.approx(1e-5)
    assert C_GRID[-1] == pytest.approx(1e3)
    np.testing.assert_allclose(np.diff(np.log10(C_GRID)), 0.5)


def test_a_pca_is_narrower_than_the_images_and_the_vectors():
    assert usable_widths((None, 64, 256), n_train=1000, dim=2048) == (None, 64, 256)
    assert usable_widths((None, 64, 256), n_train=257, dim=256) == (None, 64)
    assert usable_widths((None, 64, 256), n_train=64, dim=2048) == (None,)


def test_regularisation_paths_share_their_preprocessing_and_ascend():
    paths = logistic_space(n_train=100, dim=2048)
    heads = [(path[0].root, path[0].n_components) for path in paths]
    assert heads == [(False, None), (False, 64), (True, None), (True, 64)]
    for path, (root, width) in zip(paths, heads, strict=True):
        assert path == [Spec("logistic_regression", root, width, C=C) for C in sorted(C_GRID)]


def test_networks_come_on_plain_vectors_and_on_the_widest_usable_pca_of_roots():
    for n_train, width in ((1000, 256), (100, 64), (20, None)):
        specs = mlp_space(n_train, dim=2048)
        assert {(spec.root, spec.n_components) for spec in specs} == {(False, None), (True, width)}
        assert len(specs) == len(set(specs)) == 2 * 3 * 3


def test_every_spec_of_the_spaces_can_be_fitted_on_the_smallest_training_part():
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(70, 66)).astype(np.float32), np.arange(70) % 2
    for spec in (path[0] for path in logistic_space(70, 66)):
        assert spec.build(0).fit(vectors, labels).predict_proba(vectors).shape == (70, 2)
