"""The Open Inference Protocol, by Triton's own client over a real connection and by hand."""

import base64
import json

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from lib import registry
from lib.web.problems import Problem
from lib.web.tensors import Tensor, classification, pack, read_files, split_body, split_elements
from serve import create_app


@pytest.fixture
def photos(tiny_folder):
    """Bytes of an image of a bag and of one of trousers."""
    return [next((tiny_folder / label).glob("*.png")).read_bytes() for label in ("Bag", "Trouser")]


@pytest.fixture
def triton_client(server):
    client = triton.InferenceServerClient(server.removeprefix("http://"))
    yield client
    client.close()


def image_input(*files):
    """The input as Triton's client sends it, as binary data."""
    tensor = triton.InferInput("image", [len(files)], "BYTES")
    tensor.set_data_from_numpy(np.array(files, dtype=object))
    return tensor


def test_tritons_client_asks_and_is_answered(triton_client, photos, tiny_task):
    version = registry.champion(tiny_task).name
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready(tiny_task)
    assert triton_client.is_model_ready(tiny_task, version)
    assert not triton_client.is_model_ready(tiny_task, "2999-never")
    assert "binary_tensor_data" in triton_client.get_server_metadata()["extensions"]
    metadata = triton_client.get_model_metadata(tiny_task)
    assert metadata["versions"] == [version]
    classes = metadata["parameters"]["classes"]

    answer = triton_client.infer(tiny_task, [image_input(*photos)], request_id="seven")
    assert answer.get_response()["id"] == "seven"
    assert answer.get_response()["model_version"] == version
    assert list(answer.as_numpy("label")) == [b"Bag", b"Trouser"]
    proba = answer.as_numpy("probabilities")
    assert proba.shape == (2, len(classes))
    assert proba.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert [classes[code] for code in proba.argmax(axis=1)] == ["Bag", "Trouser"]
    assert proba.max(axis=1) == pytest.approx(answer.as_numpy("probability"))
    assert {len(name) for name in answer.as_numpy("id")} == {32}


def test_tritons_client_gets_the_outputs_it_asks_for_in_either_form(triton_client, photos, tiny_task):
    wanted = [
        triton.InferRequestedOutput("decision", binary_data=False),
        triton.InferRequestedOutput("probabilities", class_count=2),
    ]
    answer = triton_client.infer(tiny_task, [image_input(photos[0])], outputs=wanted)
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["decision", "probabilities"]
    assert answer.get_response()["outputs"][0]["data"][0] in ("accepted", "unsure", "unknown")
    best, second = answer.as_numpy("probabilities")[0]
    assert best.split(b":")[1:] == [b"1", b"Bag"]
    assert float(best.split(b":")[0]) > float(second.split(b":")[0])


def test_tritons_client_reads_the_errors(triton_client, photos, tiny_task):
    with pytest.raises(InferenceServerException, match="no task 'other'"):
        triton_client.infer("other", [image_input(photos[0])])
    with pytest.raises(InferenceServerException, match="Image 2 of 2: The image was refused"):
        triton_client.infer(tiny_task, [image_input(photos[0], b"no image")])


@pytest.fixture
def client(tiny_task):
    return create_app(tiny_task).test_client()


def request_of(*files, **members):
    """An inference request in JSON."""
    data = [base64.b64encode(file).decode() for file in files]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(files)], "data": data}
    return {"inputs": [tensor | members.pop("input", {})], **members}


def test_json_with_base64_gets_what_predict_answers(client, photos, tiny_task):
    direct = client.post("/predict", data=photos[0]).json["predictions"][0]
    body = client.post(f"/v2/models/{tiny_task}/infer", data=json.dumps(request_of(photos[0], id="\ud800"))).json
    outputs = {output["name"]: output["data"] for output in body["outputs"]}
    assert body["id"] == "\ud800"
    assert outputs["label"] == [direct["label"]]
    assert outputs["decision"] == [direct["decision"]]
    assert outputs["probability"] == pytest.approx([direct["probability"]], abs=1e-6)


DEEP = b'{"inputs": ' + b"[" * 100_000


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (DEEP, "far more parts"),
        (b"[" * 9_000, "no JSON"),
        (b"[]", "is a JSON object"),
        (b"{}", "has one input"),
        (json.dumps(request_of(b"1", input={"name": "pixels"})), "one input is 'image'"),
        (json.dumps(request_of(b"1", input={"datatype": "FP32"})), "datatype BYTES"),
        (json.dumps(request_of(b"1", input={"shape": [2]})), "says 2 images, but 1 came"),
        (json.dumps(request_of(b"1", input={"shape": [-1]})), "[n] or [n, 1]"),
        (json.dumps(request_of(b"1", input={"shape": [True]})), "[n] or [n, 1]"),
        (json.dumps(request_of(b"1", input={"shape": [1, 2]})), "[n] or [n, 1]"),
        (json.dumps(request_of(b"1", input={"shape": "\ud800"})), "[n] or [n, 1]"),
        (json.dumps(request_of(b"1", input={"parameters": {"binary_data_size": "\ud800"}})), "binary_data_size"),
        (b'{"inputs": [' + b"[]," * 20_000 + b"[]]}", "far more parts"),
        (json.dumps(request_of(b"1", input={"data": ["ä"]})), "base64"),
        (json.dumps(request_of(b"1", input={"data": [1]})), "base64"),
        (json.dumps(request_of(b"1", input={"data": None})), "base64"),
        (json.dumps(request_of(b"1", input={"parameters": {"content_type": "str"}})), "not 'str'"),
        (json.dumps(request_of(b"1", input={"parameters": []})), "JSON object"),
        (json.dumps(request_of(b"1", input={"parameters": {"binary_data_size": 5}})), "0 bytes follow"),
        (json.dumps(request_of(b"1", outputs=[{"name": "logits"}])), "no output 'logits'"),
        (json.dumps(request_of(b"1", outputs=[{"name": ["label"]}])), "objects with a `name`"),
        (json.dumps(request_of(b"1", outputs="")), "must be a list"),
        (json.dumps(request_of(b"1", outputs=[{"name": "label", "parameters": {"classification": 1}}])), "belongs to"),
        (json.dumps(request_of(*[b"1"] * 65)), "at most 64"),
    ],
)
def test_a_request_that_is_none_says_why(client, tiny_task, body, said):
    response = client.post(f"/v2/models/{tiny_task}/infer", data=body)
    assert response.status_code == 400
    assert list(response.json) == ["error"]
    assert said in response.json["error"]


def test_every_error_below_v2_has_the_protocols_form(client, tiny_task, photos):
    assert client.post(f"/v2/models/{tiny_task}/infer", json=request_of(b"text")).status_code == 415
    version = f"/v2/models/{tiny_task}/versions/2999-never"
    for path, status in (("/v2/nothing", 404), ("/v2/models/other", 404), (version, 404), (f"{version}/ready", 404)):
        response = client.get(path)
        assert (response.status_code, list(response.json)) == (status, ["error"])
    response = client.delete("/v2")
    assert (response.status_code, set(response.headers["Allow"].split(", "))) == (405, {"GET", "HEAD", "OPTIONS"})
    assert list(response.json) == ["error"]
    large = client.post(f"/v2/models/{tiny_task}/infer", data=b"0" * 25_000_001)
    assert (large.status_code, list(large.json)) == (413, ["error"])
    assert client.get("/v2nothing").content_type == "application/problem+json"


def test_without_a_model_v2_is_live_and_not_ready():
    client = create_app().test_client()
    assert client.get("/v2/health/live").json == {"live": True}
    response = client.get("/v2/health/ready")
    assert response.status_code == 503
    assert "run_pipeline" in response.json["error"]


def test_the_body_is_split_where_the_header_says():
    assert split_body(b'{"a": 1}xyz', "8") == ({"a": 1}, b"xyz")
    assert split_body(b'{"a": 1}', None) == ({"a": 1}, b"")
    for header in ("9", "-1", "²", "9" * 30):
        with pytest.raises(Problem, match="Inference-Header-Content-Length"):
            split_body(b'{"a": 1}', header)


def test_binary_elements_have_their_length_before_them():
    two = b"\x02\x00\x00\x00ab\x00\x00\x00\x00"
    assert split_elements(two, len(two)) == [b"ab", b""]
    for binary, size in ((two, 9), (two, True), (two[:-1], 9), (b"\x05\x00\x00\x00ab", 6), (b"\xff\xff\xff\xffab", 6)):
        with pytest.raises(Problem, match="binary"):
            split_elements(binary, size)
    with pytest.raises(Problem, match="no binary_data_size"):
        read_files({"name": "image", "datatype": "BYTES", "shape": [1], "data": []}, b"more", "image")


def test_a_column_of_texts_in_json_is_read_like_a_list():
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2, 1], "data": [["YQ=="], ["Yg=="]]}
    assert read_files(tensor, b"", "image") == [b"a", b"b"]


def test_tensors_are_packed_as_little_endian_numbers_and_lengths():
    assert pack(Tensor("p", np.array([1.0], dtype=np.float32))) == b"\x00\x00\x80\x3f"
    assert pack(Tensor("l", np.array(["é", ""]))) == b"\x02\x00\x00\x00\xc3\xa9\x00\x00\x00\x00"


def test_a_classification_has_probability_index_and_label():
    proba = np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)
    assert classification(proba, ["a", "b"], 1).tolist() == [["0.750000:1:b"], ["0.500000:0:a"]]
    assert classification(proba, ["a", "b"], 9).shape == (2, 2)
