"""Arrays in, matplotlib Axes out. No model, no file; every function draws on `ax`, or on a new figure without one."""

from lib.plots.data import plot_class_counts, plot_image_sizes, plot_norms
from lib.plots.embedding import plot_centroid_cosines, plot_map, plot_variance
from lib.plots.evaluation import (
    plot_class_f1,
    plot_confidence,
    plot_confusion,
    plot_corruptions,
    plot_precision_recall,
    plot_reliability,
    plot_risk_coverage,
    plot_set_sizes,
    plot_slices,
)
from lib.plots.learning import plot_recall_changes, plot_running_difference
from lib.plots.monitoring import (
    plot_accuracy_course,
    plot_confidence_shift,
    plot_control_chart,
    plot_mix,
    plot_plane,
    plot_traffic,
)
from lib.plots.style import MARKERS, class_styles, share_color, use_style
from lib.plots.training import plot_fold_scores, plot_learning_curve, plot_mlp_grid, plot_validation_curve

__all__ = [
    "MARKERS",
    "class_styles",
    "plot_accuracy_course",
    "plot_centroid_cosines",
    "plot_class_counts",
    "plot_class_f1",
    "plot_confidence",
    "plot_confidence_shift",
    "plot_confusion",
    "plot_control_chart",
    "plot_corruptions",
    "plot_fold_scores",
    "plot_image_sizes",
    "plot_learning_curve",
    "plot_map",
    "plot_mix",
    "plot_mlp_grid",
    "plot_norms",
    "plot_plane",
    "plot_precision_recall",
    "plot_recall_changes",
    "plot_reliability",
    "plot_risk_coverage",
    "plot_running_difference",
    "plot_set_sizes",
    "plot_slices",
    "plot_traffic",
    "plot_validation_curve",
    "plot_variance",
    "share_color",
    "use_style",
]
