# The image of the pipeline's steps, in Docker and on Kubeflow. kfp.local requires "python" in its name.
# Built by `digits images build`, or:  docker build -f dev/images/steps.Dockerfile .
ARG BASE_IMAGE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

FROM ${BASE_IMAGE} AS libraries
WORKDIR /build
COPY requirements/train.txt requirements/build.txt dev/images/strip.py ./
RUN python3 -m venv tools \
    && python3 -m venv --without-pip /opt/venv \
    && tools/bin/pip install --no-cache-dir --require-hashes -r build.txt \
    && tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --require-hashes -r train.txt
# Remove headers, symbol tables (280 MB), test suites, and dependencies of MLflow, scikit-learn and TensorFlow that the steps
# never import; of scikit-learn they read one data file. The import compiles the others once here, not in every container.
RUN cd /opt/venv/lib/python3*/site-packages \
    && mv sklearn/datasets/data/digits.csv.gz /tmp && rm -rf sklearn scipy scipy.libs matplotlib mpl_toolkits \
        pyarrow/tests pyarrow/include pyarrow/*flight* fontTools kiwisolver contourpy clang tensorflow/include mlflow/server/js \
        tensorflow/compiler/mlir/stablehlo/stablehlo_extension.so onnxruntime/capi/libonnxruntime.so.* \
        onnx/backend/test pandas/tests numpy/*/tests tests tensorflow/compiler/tf2xla/ops/_xla_ops.so onnxruntime/transformers \
    && mkdir -p sklearn/datasets/data && mv /tmp/digits.csv.gz sklearn/datasets/data \
    && find . \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h' -o -name '*_test.py' \) -delete \
    && python3 /build/strip.py . \
    && TF_CPP_MIN_LOG_LEVEL=2 /opt/venv/bin/python -c "import kfp.dsl.executor_main, tensorflow, keras, tf2onnx, mlflow, \
mlflow.onnx, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store, onnx, onnxruntime, jinja2, \
pyarrow.parquet, PIL.Image, cv2, minio, dotenv, click"

FROM libraries AS code
COPY pyproject.toml README.md LICENSE ./
COPY digits digits
COPY pipeline pipeline
COPY backends backends
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
    PYTHONPATH=/opt/digits PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
LABEL org.opencontainers.image.title="digits pipeline steps" \
      org.opencontainers.image.description="The steps of the digits pipeline" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /tmp
USER 1000:1000
CMD ["digits", "--help"]
