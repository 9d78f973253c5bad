from types import SimpleNamespace

import numpy as np

from lib.datasets import read_dataset
from lib.embeddings import embed
from lib.precision import Decision
from lib.progress import quiet
from lib.tasks import load_task, save_task


def test_a_task_comes_back_with_labels_and_vectors_in_one_order(lite0, tiny_folder):
    dataset = read_dataset(str(tiny_folder), seed=0, test_fraction=0.2, val_fraction=0.1, min_class_size=5)
    result = embed(dataset.root, dataset.manifest["path"], dataset.manifest["sha256"], lite0, progress=quiet)
    decision = Decision(lite0, "fp32", "onnxruntime", "asked for")
    files = save_task("t", dataset, decision, data_dir=str(tiny_folder), reason="asked", seed=0)
    assert all(path.exists() for path in files)
    train = load_task("t", ["train"])
    rows = dataset.manifest["split"] == "train"
    np.testing.assert_array_equal(train.vectors, result.vectors[rows])
    assert [train.classes[code] for code in train.labels] == list(dataset.manifest.loc[rows, "label"])
    assert train.facts["n_rejected"] == 1
    assert train.facts["backbone"]["reason"] == "asked"
    assert train.facts["backbone"]["precision"] == "fp32"
    assert train.facts["backbone"]["export"] == lite0.folder.name
    assert train.facts["backbone"]["int8_check"] is None


def test_vectors_for_a_predictor_are_those_of_its_own_backbone(tiny_task, monkeypatch):
    test, other = load_task(tiny_task, ["test"]), object()
    same = SimpleNamespace(card={"backbone": test.facts["backbone"]}, encoder=other)
    assert test.vectors_for(same) is test.vectors
    asked, made = [], np.zeros((len(test.labels), 3), dtype=np.float32)
    monkeypatch.setattr("lib.tasks.embed", lambda *given: asked.append(given) or SimpleNamespace(vectors=made))
    assert test.vectors_for(SimpleNamespace(card={"backbone": {"fingerprint": "g"}}, encoder=other)) is made
    ((root, paths, hashes, encoder),) = asked
    assert (root, list(paths), list(hashes)) == (test.root, list(test.manifest["path"]), list(test.manifest["sha256"]))
    assert encoder is other
