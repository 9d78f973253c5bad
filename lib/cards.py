"""What a reader must know of a model before using it: its card and the metrics of its selection."""

from sklearn.calibration import CalibratedClassifierCV

from lib.search import Search, Selection
from lib.training import temperature


def model_card(
    facts: dict,
    selection: Selection,
    model: CalibratedClassifierCV,
    *,
    n_train: int,
    n_folds: int,
    seed: int,
    provenance: dict,
) -> dict:
    """What a reader must know of a model before using it (Mitchell et al. 2019), as JSON values.

    Parameters
    ----------
    facts : dict
        dataset.json of the task.
    selection : Selection
    model : CalibratedClassifierCV
    n_train : int
        Images it was fitted on.
    n_folds : int
        Folds of the search.
    seed : int
    provenance : dict
        From `lib.provenance`.
    """
    return {
        "task": facts["task"],
        "model": str(selection.spec),
        "spec": selection.spec.to_json(),
        "selection": selection.reason,
        "classes": facts["classes"],
        "backbone": facts["backbone"],
        "data": {"hash": facts["data_hash"], "n": facts["n"], "n_rejected": facts["n_rejected"]},
        "n_train": n_train,
        "n_folds": n_folds,
        "temperature": temperature(model),
        "seed": seed,
        "intended_use": "Sorting images like those of the data set into its classes; a person decides what matters.",
        "limits": "It answers with one of its classes whatever it is shown, and was never tried on other sources.",
        "provenance": provenance,
    }


def selection_metrics(logistic: Search, mlp: Search, selection: Selection, others: dict[str, float]) -> dict:
    """The "selection" part of metrics.json: out-of-fold scores of both families' best and of the baselines."""
    best = {
        name: {"spec": search.best_spec.to_json(), **search.summary.loc[search.best].astype(float).to_dict()}
        for name, search in (("logistic_regression", logistic), ("mlp", mlp))
    }
    return {"chosen": selection.spec.family, "reason": selection.reason, **best, "baselines": others}
