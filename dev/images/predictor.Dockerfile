# The predictor: KServe's server with ONNX Runtime, without TensorFlow, kfp, mlflow, pip, a compiler or caches.
# Built by `digits images build`, or:  docker build -f dev/images/predictor.Dockerfile .
ARG BASE_IMAGE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

FROM ${BASE_IMAGE} AS libraries
WORKDIR /build
COPY requirements/serve.txt requirements/build.txt dev/images/strip.py ./
RUN python3 -m venv tools \
    && python3 -m venv --without-pip /opt/venv \
    && tools/bin/pip install --no-cache-dir --require-hashes -r build.txt \
    && tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --require-hashes -r serve.txt
# Remove symbol tables, test suites, and dependencies of KServe and ONNX Runtime that a predictor never imports. The import
# compiles the others, because the root file system is read-only at run time. It skips kserve's __init__.py, as digits.serving.grpc does.
RUN cd /opt/venv/lib/python3*/site-packages \
    && rm -rf numpy/*/tests numpy/tests onnxruntime/transformers onnxruntime/tools onnxruntime/quantization \
        onnxruntime/capi/libonnxruntime.so.* \
    && rm -rf PIL pillow* setuptools* _distutils_hack* distutils-precedence.pth grpc_tools/*.so grpc_tools/_proto \
    && rm -rf aiohttp* aiosignal* aiohappyeyeballs* frozenlist* multidict* propcache* yarl* attr attrs* httptools* websockets* \
    && rm -rf pandas* pytz* tzdata* dateutil python_dateutil* kubernetes* pydantic* fastapi* starlette* uvicorn* \
    && python3 /build/strip.py . \
    && /opt/venv/bin/python -c "import importlib.util as u, sys; \
sys.modules['kserve'] = u.module_from_spec(u.find_spec('kserve')); \
import kserve.protocol.grpc.grpc_predict_v2_pb2_grpc, onnxruntime, minio, orjson, uvloop, granian.server.embed, dotenv, click"

FROM libraries AS code
COPY pyproject.toml README.md LICENSE ./
COPY digits digits
RUN tools/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir wheels . \
    && tools/bin/pip --python /opt/venv/bin/python install --quiet --no-deps --no-index --target /opt/digits wheels/*.whl

FROM ${BASE_IMAGE} AS slim
COPY dev/images/slim.sh /tmp/
RUN sh /tmp/slim.sh && rm /tmp/slim.sh

FROM scratch
COPY --from=slim / /
COPY --from=libraries /opt/venv /opt/venv
COPY --from=code /opt/digits /opt/digits
ENV PATH=/opt/venv/bin:/opt/digits/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 \
    PYTHONPATH=/opt/digits PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    MALLOC_ARENA_MAX=2
LABEL org.opencontainers.image.title="digits predictor" \
      org.opencontainers.image.description="Handwritten digits over KServe's V1 and V2 protocols" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /tmp
USER 1000:1000
EXPOSE 8080 8081
CMD ["digits", "serve", "--host", "0.0.0.0"]
