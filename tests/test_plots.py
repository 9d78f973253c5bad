import io
import warnings
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from lib import metrics, plots
from lib.forgetting import BeforeAfter, recall_changes
from lib.plots.style import LARGEST_SIDE, matrix_size, plain
from lib.selective import risk_coverage

ODD_LABELS = ["$5 & $6", "<b>bold</b>", "x" * 60, "鳥", "عربي", "_hidden", "a\\$b", "50 %", "{x}_^", "two\nlines"]
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def clean_figures():
    """Figures in memory, with our style, closed afterwards."""
    plt.switch_backend("Agg")
    with mpl.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def png(ax):
    """The figure's file; glyphs that no installed font has become boxes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        ax.figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def counts(classes):
    return pd.DataFrame({"train": 700, "val": 200, "test": 100}, index=classes)


def scores(classes):
    codes = np.arange(len(classes)).repeat(3)
    return metrics.per_class_table(codes, np.roll(codes, 1), list(classes))


def recalls(classes):
    codes = np.arange(len(classes)).repeat(3)
    before, after = (np.eye(len(classes))[np.roll(codes, shift)] for shift in (1, 0))
    return recall_changes(BeforeAfter(codes, before, after, list(classes)))


def course(n=20):
    value = np.linspace(-0.05, 0.1, n)
    return pd.DataFrame({"n": np.arange(n) + 20, "value": value, "low": value - 0.1, "high": value + 0.1})


def bins(n=60):
    proba = RNG.dirichlet(np.ones(3), n)
    return metrics.reliability_bins(RNG.integers(0, 3, n), proba)


def cosines(n):
    return np.corrcoef(RNG.normal(size=(n, 30)))


def codes_of(classes, n=60):
    return np.arange(n) % len(classes)


CURVE = pd.DataFrame({"C": [0.1, 1.0], "alpha": [0.1, 1.0], "accuracy": [0.7, 0.8], "standard_error": [0.01, 0.02]})
CURVE[["folds", "train_accuracy"]] = 5, 1.0
FOLDS = pd.DataFrame({"logistic regression": [0.7, 0.8], "MLP": [0.75, 0.7]})
SIZES = pd.DataFrame({"n_train": [10, 10, 20, 20], "fold": [0, 1, 0, 1], "accuracy": [0.5, 0.6, 0.7, 0.7]})
RIGHT = np.arange(1234) % 4 > 0
CURVES = metrics.precision_recall(RNG.integers(0, 3, 60), RNG.dirichlet(np.ones(3), 60), list("abc"))
SETS = pd.DataFrame({"size": [1, 2], "n": [1200, 34], "coverage": [0.9, 1.0], "low": 0.8, "high": 1.0})
DAMAGE = pd.DataFrame({"corruption": "blur", "unit": "%", "severity": range(4), "level": [0, 1, 2, 4], "n": 1234})
DAMAGE[["accuracy", "low", "high"]] = [0.8, 0.7, 0.9]
SLICES = pd.DataFrame({"slice": "brightness", "range": ["0 to 1", "1 to 2"], "n": 5, "accuracy": [0.7, 0.9]})
SLICES[["low", "high"]] = [0.6, 0.95]
WINDOWS = pd.DataFrame(
    {"window": list("abc"), "n": [1000, 230, 4], "failed": [0, 3, 0], "p_value": [0.5, 0.001, np.nan]}
)
WINDOWS["state"] = ["ok", "alarm", "not over yet"]
RIGHTS = pd.DataFrame(
    {"window": list("ab"), "n": [1234, 0], "accuracy": [0.8, np.nan], "low": [0.7, 0], "high": [0.9, 1]}
)
RIGHTS[["expected", "expected_low", "expected_high"]] = [0.8, 0.7, 0.9]


def mix(classes):
    shares = RNG.dirichlet(np.ones(len(classes)))
    return pd.DataFrame({"label": classes, "reference": shares, "share": shares, "low": 0.0, "high": 1.0})


DRAW = {
    "plot_class_counts": lambda ax: plots.plot_class_counts(counts(["a", "b"]), ax),
    "plot_image_sizes": lambda ax: plots.plot_image_sizes(np.full(1234, 40), np.full(1234, 30), ax),
    "plot_norms": lambda ax: plots.plot_norms(RNG.random(1234), ax),
    "plot_variance": lambda ax: plots.plot_variance(np.array([0.6, 0.3, 0.1]), ax),
    "plot_map": lambda ax: plots.plot_map(RNG.random((60, 2)), codes_of("ab"), ["a", "b"], "n = 60", ax),
    "plot_centroid_cosines": lambda ax: plots.plot_centroid_cosines(cosines(4), list("abcd"), ax),
    "plot_confusion": lambda ax: plots.plot_confusion(np.array([[1000, 34], [0, 200]]), ["a", "b"], ax),
    "plot_class_f1": lambda ax: plots.plot_class_f1(scores(["a", "b"]), ax),
    "plot_recall_changes": lambda ax: plots.plot_recall_changes(recalls(["a", "b"]), ax),
    "plot_running_difference": lambda ax: plots.plot_running_difference(course(), 0.05, ax),
    "plot_reliability": lambda ax: plots.plot_reliability({"before": bins(), "after": bins()}, ax),
    "plot_confidence": lambda ax: plots.plot_confidence(RNG.random(1234), RIGHT, ax),
    "plot_precision_recall": lambda ax: plots.plot_precision_recall(CURVES, ax=ax),
    "plot_risk_coverage": lambda ax: plots.plot_risk_coverage(risk_coverage(RIGHT, RNG.random(1234)), 0.5, ax),
    "plot_set_sizes": lambda ax: plots.plot_set_sizes(SETS, ax),
    "plot_corruptions": lambda ax: plots.plot_corruptions(DAMAGE, ax),
    "plot_slices": lambda ax: plots.plot_slices(SLICES, 0.8, ax),
    "plot_validation_curve": lambda ax: plots.plot_validation_curve(CURVE.assign(preprocessing="scaler"), ax),
    "plot_mlp_grid": lambda ax: plots.plot_mlp_grid(CURVE.assign(network="scaler + MLP (64)"), ax),
    "plot_fold_scores": lambda ax: plots.plot_fold_scores(FOLDS, ax),
    "plot_learning_curve": lambda ax: plots.plot_learning_curve(SIZES, ax),
    "plot_control_chart": lambda ax: plots.plot_control_chart(WINDOWS, 0.05, 0.002, ax),
    "plot_traffic": lambda ax: plots.plot_traffic(WINDOWS, ax),
    "plot_accuracy_course": lambda ax: plots.plot_accuracy_course(RIGHTS, 0.8, ax),
    "plot_mix": lambda ax: plots.plot_mix(mix(["a", "b"]), ax),
    "plot_confidence_shift": lambda ax: plots.plot_confidence_shift(RNG.random(90), RNG.random(30), ax),
    "plot_plane": lambda ax: plots.plot_plane(RNG.random((90, 2)), RNG.random((30, 2)), ax),
}


def test_every_plot_is_tried_here():
    assert set(DRAW) == {name for name in plots.__all__ if name.startswith("plot_")}


@pytest.mark.parametrize("name", DRAW)
def test_a_plot_draws_on_the_axes_it_is_given(name):
    ax = plt.subplots()[1]
    assert DRAW[name](ax) is ax
    assert ax.has_data()
    assert ax.get_title(loc="left")
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", DRAW)
def test_without_axes_a_plot_makes_one_figure(name):
    ax = DRAW[name](None)
    assert [plt.figure(number) for number in plt.get_fignums()] == [ax.figure]
    assert png(ax).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("plot_class_counts", "2,000"),
        ("plot_image_sizes", "1,234"),
        ("plot_norms", "1,234"),
        ("plot_confusion", "1,234"),
        ("plot_class_f1", "6"),
        ("plot_recall_changes", "6"),
        ("plot_reliability", "60"),
        ("plot_confidence", "1,234"),
        ("plot_risk_coverage", "1,234"),
        ("plot_set_sizes", "1,234"),
        ("plot_corruptions", "1,234"),
        ("plot_map", "60"),
    ],
)
def test_titles_say_how_many_images_they_show(name, n):
    assert f"n = {n}" in DRAW[name](None).get_title(loc="left")


@pytest.mark.parametrize(
    "draw",
    [
        lambda c: plots.plot_class_counts(counts(c)),
        lambda c: plots.plot_map(RNG.random((60, 2)), codes_of(c), c, "map"),
        lambda c: plots.plot_centroid_cosines(cosines(len(c)), c),
        lambda c: plots.plot_confusion(np.eye(len(c), dtype=int), c),
        lambda c: plots.plot_class_f1(scores(c)),
        lambda c: plots.plot_recall_changes(recalls(c)),
        lambda c: plots.plot_mix(mix(c)),
    ],
)
def test_no_label_breaks_a_drawing(draw):
    assert png(draw(ODD_LABELS)).startswith(b"\x89PNG")


def test_labels_are_shown_as_they_are_up_to_24_characters():
    assert plain("<b>bold</b>") == "<b>bold</b>"
    assert plain("$5 & $6") == r"\$5 & \$6"
    assert plain("two\nlines") == "two lines"
    assert plain("x" * 24) == "x" * 24
    assert plain("x" * 60) == "x" * 22 + "…"
    assert plain("x" * 21 + "$$$$") == "x" * 21 + r"\$…"


def test_a_label_with_a_leading_underscore_is_in_the_legend():
    ax = plots.plot_map(RNG.random((4, 2)), codes_of("ab", 4), ["_background", "b"], "map")
    assert [text.get_text().strip("\u200b") for text in ax.get_legend().get_texts()] == ["_background", "b"]


def test_up_to_100_classes_have_colours_and_markers_of_their_own():
    styles = [(style["color"], style["marker"]) for style in plots.class_styles(100)]
    assert len(set(styles)) == 100
    assert len({color for color, _ in styles[:10]}) == 10
    assert plots.class_styles(3) == plots.class_styles(100)[:3]


@pytest.mark.parametrize(("n", "legend"), [(60, True), (100, True), (101, False)])
def test_a_map_of_many_classes_still_has_room_for_its_points(n, legend):
    classes = [f"class number {code}" for code in range(n)]
    ax = plots.plot_map(RNG.random((200, 2)), np.arange(200) % n, classes, "map")
    png(ax)
    assert (ax.get_legend() is not None) == legend
    assert min(ax.get_window_extent().size) > 200


def test_matrices_of_many_classes_do_not_grow_without_end():
    assert matrix_size(10, 0.5) == (7.0, 10.0)
    assert matrix_size(2, 0.5)[0] == 3.5
    side, font = matrix_size(1000, 0.5)
    assert side == LARGEST_SIDE
    assert 0 < font < 2


def test_a_confusion_matrix_writes_its_counts_true_classes_down():
    ax = plots.plot_confusion(np.array([[5, 2], [0, 7]]), ["a", "b"])
    assert {text.get_position(): text.get_text() for text in ax.texts} == {(0, 0): "5", (1, 0): "2", (1, 1): "7"}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    np.testing.assert_allclose(ax.images[0].get_array(), [[5 / 7, 2 / 7], [0, 1]])


def test_a_class_without_a_test_image_is_a_dark_row():
    ax = plots.plot_confusion(np.array([[3, 0], [0, 0]]), ["a", "absent"])
    np.testing.assert_allclose(ax.images[0].get_array(), [[1, 0], [0, 0]])


def test_bars_stack_the_splits():
    ax = plots.plot_class_counts(pd.DataFrame({"train": [3, 4], "test": [1, 2]}, index=["a", "b"]))
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 3), (0, 4), (3, 1), (4, 2)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train", "test"]


def test_the_variance_curve_marks_half_and_nine_tenths():
    ax = plots.plot_variance(np.array([0.4, 0.2, 0.35, 0.05]))
    assert [text.get_text() for text in ax.texts] == ["50%: 2", "90%: 3"]
    assert len(plots.plot_variance(np.array([0.3, 0.1])).texts) == 0


@pytest.mark.parametrize("norms", [np.ones(5, np.float32), np.array([1, 1 + 1e-7], np.float32), np.array([3.0])])
def test_vectors_of_one_length_have_a_histogram(norms):
    assert sum(bar.get_height() for bar in plots.plot_norms(norms).patches) == len(norms)


def test_confidence_bars_count_every_image():
    ax = plots.plot_confidence(np.array([0.96, 0.97, 1.0, 0.5]), np.array([True, True, False, True]))
    assert sum(bar.get_height() for bar in ax.containers[0]) == 3
    assert sum(bar.get_height() for bar in ax.containers[1]) == 1


@pytest.mark.parametrize("right", [np.ones(3, bool), np.zeros(3, bool)])
def test_confidence_of_a_model_always_right_or_always_wrong_can_be_drawn(right):
    assert png(plots.plot_confidence(np.full(3, 0.9), right))


def test_reliability_lines_are_all_drawn():
    ax = plots.plot_reliability({"one": bins(), "two": bins(), "three": bins()})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two", "three"]


def test_f1_is_drawn_best_on_top_and_an_absent_class_without_a_dot():
    table = metrics.per_class_table(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), ["good", "worse", "absent"])
    ax = plots.plot_class_f1(table)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names.index("worse (n = 2)") < names.index("good (n = 2)")
    assert np.isnan(ax.lines[0].get_xdata()).sum() == 1
    assert png(ax)


def test_two_classes_have_a_cosine_matrix():
    ax = plots.plot_centroid_cosines(np.array([[1.0, -1.0], [-1.0, 1.0]]), ["a", "b"])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b"]


def test_similar_classes_stand_beside_each_other():
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ax = plots.plot_centroid_cosines(directions @ directions.T, list("abcd"))
    order = "".join(text.get_text() for text in ax.get_xticklabels())
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}


def test_curves_have_a_line_a_group():
    both = pd.concat([CURVE.assign(preprocessing=name, network=name) for name in ("first", "second")])
    for ax in (plots.plot_validation_curve(both), plots.plot_mlp_grid(both)):
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["first", "second"]
        assert ax.get_xscale() == "log"


def test_a_network_that_was_given_up_is_a_cross_without_an_error_bar():
    grid = pd.DataFrame(
        {
            "network": ["a", "a"],
            "alpha": [0.1, 1.0],
            "accuracy": [0.8, 0.5],
            "standard_error": [0.01, np.nan],
            "folds": [5, 1],
        }
    )
    ax = plots.plot_mlp_grid(grid)
    (crosses,) = [collection for collection in ax.collections if isinstance(collection, PathCollection)]
    np.testing.assert_allclose(crosses.get_offsets(), [[1.0, 0.5]])
    assert ax.lines[0].get_xdata().tolist() == [0.1]
    plt.close(ax.figure)


def test_the_darker_a_cell_the_larger_its_share_and_its_number_stays_legible():
    def light(color):
        return sum(weight * int(color[at : at + 2], 16) for weight, at in ((0.2126, 1), (0.7152, 3), (0.0722, 5)))

    grounds, inks = zip(*(plots.share_color(share) for share in np.linspace(0, 1, 11)), strict=True)
    assert [light(ground) for ground in grounds] == sorted((light(ground) for ground in grounds), reverse=True)
    assert all(abs(light(ground) - light(ink)) > 90 for ground, ink in zip(grounds, inks, strict=True))


@pytest.mark.parametrize("sides", [(28, 28), (1, 2), (20, 12_000), (375, 500)])
def test_ticks_of_image_sizes_are_pixels_that_can_be_read(sides):
    ax = plots.plot_image_sizes(np.array(sides), np.array(sides[::-1]))
    ax.figure.canvas.draw()
    texts = [label.get_text() for label in ax.get_xticklabels()]
    assert len(texts) >= 2
    assert all(text.replace(",", "").isdigit() for text in texts)
    assert [text for text in ax.get_xticklabels(minor=True) if text.get_text()] == []
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
