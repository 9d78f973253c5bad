"""A LitServe service as its documentation shows one, image by image or in batches of up to as many as asked for."""

import sys

import litserve
import torch
from network import TRANSFORM, load_network, top5
from PIL import Image


class Classifier(litserve.LitAPI):
    """One image a request."""

    def setup(self, device: str) -> None:
        """Load the network in the worker."""
        self.network = load_network().to(device)

    def decode_request(self, request: litserve.Request) -> torch.Tensor:
        """The form's image -> (3, 224, 224) float32."""
        return TRANSFORM(Image.open(request["image"].file).convert("RGB"))

    def predict(self, pixels: torch.Tensor) -> torch.Tensor:
        """(3, 224, 224) -> (n_classes,)."""
        with torch.inference_mode():
            return self.network(pixels.unsqueeze(0)).softmax(1)[0]

    def encode_response(self, output: torch.Tensor) -> dict:
        """Probabilities -> the answer."""
        return top5(output)


class BatchClassifier(Classifier):
    """Several requests a forward pass."""

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """n x (3, 224, 224) -> (n, 3, 224, 224)."""
        return torch.stack(inputs)

    def predict(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, 224, 224) -> (n, n_classes)."""
        with torch.inference_mode():
            return self.network(pixels).softmax(1)

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """(n, n_classes) -> n x (n_classes,)."""
        return list(output)


if __name__ == "__main__":
    port, largest_batch = map(int, sys.argv[1:])
    api = BatchClassifier(max_batch_size=largest_batch, batch_timeout=0.005) if largest_batch > 1 else Classifier()
    litserve.LitServer(api, accelerator="cpu").run(host="127.0.0.1", port=port, generate_client_file=False)
