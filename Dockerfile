# Three images of one tree: serve (no torch), reporting (no torch), pipeline (torch for processors). docs/OPERATIONS.md tells.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

FROM ${BASE_IMAGE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# An environment without pip, which no image needs, and pip beside it
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/venv \
    && echo /app > "$(/opt/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth"

FROM tools AS serve-packages
COPY deploy/serve.lock ./
# Without what no answer needs: tests, C headers, Arrow's parts for other machines, and ONNX Runtime for C
RUN /opt/tools/bin/pip --python /opt/venv install --no-compile --no-deps --require-hashes -r serve.lock \
    && find /opt/venv -depth -type d \( -name tests -o -path '*/pyarrow/include' -o -path '*/pyarrow/src' \) -exec rm -r {} + \
    && find /opt/venv \( -name 'libarrow_flight*' -o -name 'libarrow_s3*' -o -name 'libonnxruntime.so*' \) -delete

FROM tools AS reporting-packages
COPY deploy/reporting.lock ./
RUN /opt/tools/bin/pip --python /opt/venv install --no-compile --no-deps --require-hashes -r reporting.lock

FROM tools AS pipeline-packages
ARG TORCH_INDEX
COPY deploy/pipeline.lock requirements.txt ./
RUN /opt/tools/bin/pip --python /opt/venv install --no-compile --no-deps --require-hashes -r pipeline.lock \
    && grep -E '^torch(vision)?==' requirements.txt > torch.txt \
    && /opt/tools/bin/pip --python /opt/venv install --no-compile --no-deps --index-url "${TORCH_INDEX}" -r torch.txt

FROM ${BASE_IMAGE} AS runtime
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="image-classification-pipeline" \
      org.opencontainers.image.description="A folder of images in, reports and a served classifier out" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/venv/bin:$PATH VIRTUAL_ENV=/opt/venv HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
RUN mkdir -p artifacts data/production reports && chown -R 10001:10001 artifacts data/production reports
STOPSIGNAL SIGTERM

FROM runtime AS serve
COPY --from=serve-packages /opt/venv /opt/venv
COPY lib/ lib/
COPY serve.py ./
# Bytecode of what the service loads, and of nothing else
RUN PYTHONDONTWRITEBYTECODE='' python -c 'import serve, skops.io'
# A folder that `python -m lib.registry export` made, to have its models in the image
ARG MODEL=deploy/no-model
COPY --chown=10001:10001 ${MODEL}/ artifacts/
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=5)"]
CMD ["python", "serve.py", "--host", "0.0.0.0"]

FROM runtime AS reporting
COPY --from=reporting-packages /opt/venv /opt/venv
COPY requirements*.txt ./
COPY lib/ lib/
COPY notebooks/ notebooks/
USER 10001:10001
CMD ["python", "-m", "lib.monitoring", "--every", "15m"]

FROM runtime AS pipeline
COPY --from=pipeline-packages /opt/venv /opt/venv
COPY requirements*.txt ./
COPY data/ data/
COPY lib/ lib/
COPY notebooks/ notebooks/
# Weights that are downloaded stay in the volume
ENV XDG_CACHE_HOME=/app/artifacts/.cache
USER 10001:10001
ENTRYPOINT ["python", "-m", "lib.pipeline"]
