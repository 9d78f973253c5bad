"""A plain FastAPI service as its documentation shows one: a function in the thread pool, one process of uvicorn."""

import sys

import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from network import TRANSFORM, load_network, top5
from PIL import Image

app = FastAPI()
network = load_network()


@app.post("/predict")
def predict(image: UploadFile) -> dict:
    """Classify one image."""
    pixels = TRANSFORM(Image.open(image.file).convert("RGB"))
    with torch.inference_mode():
        return top5(network(pixels.unsqueeze(0)).softmax(1)[0])


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
