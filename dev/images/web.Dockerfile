# The drawing page and its gateway.
# Built by `digits images build`, or:  docker build -f dev/images/web.Dockerfile .
ARG BASE_IMAGE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

FROM ${BASE_IMAGE} AS libraries
WORKDIR /build
COPY requirements/web.txt requirements/build.txt dev/images/strip.py ./
RUN python3 -m venv tools \
    && python3 -m venv --without-pip /opt/venv \
    && tools/bin/pip install --no-cache-dir --require-hashes -r build.txt \
    && tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --require-hashes -r web.txt
RUN cd /opt/venv/lib/python3*/site-packages && rm -rf numpy/*/tests && python3 /build/strip.py . \
    && /opt/venv/bin/python -c "import granian.server.embed, httpx, PIL.Image, cv2, numpy, orjson, minio, uvloop, \
prometheus_client, dotenv, click"

FROM libraries AS code
COPY pyproject.toml README.md LICENSE ./
COPY digits digits
COPY web_app web_app
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
LABEL org.opencontainers.image.title="digits web" \
      org.opencontainers.image.description="The drawing page and its gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
# The predictor's address if it shares the network. Without an address the page would import a backend, which is not installed.
ENV DIGITS_ENDPOINTS=http://127.0.0.1:8080
WORKDIR /tmp
USER 1000:1000
EXPOSE 8000
CMD ["digits", "web", "--host", "0.0.0.0"]
