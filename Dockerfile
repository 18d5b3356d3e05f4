# The image of every role: `serve` by default, any other command by its name (`docker run IMAGE apply -f ...`).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
# pip lives in an environment of its own, so that the one that is copied on never held it.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/gateway
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock requirements-dev.lock ./
# Wheels only: nothing is compiled here, and no package runs code of its own at build time. The build back end and the SDK that
# `gateway demo` drives come from the lock too.
RUN --mount=type=cache,target=/root/.cache/pip \
    awk '/^[a-z]/ { wanted = /^setuptools==/ } wanted' requirements-dev.lock > build.lock \
    && awk '/^[a-z]/ { wanted = /^segmind==/ } wanted' requirements-dev.lock > demo.lock \
    && /opt/pip/bin/pip install --require-hashes --no-deps --only-binary=:all: -r build.lock \
    && /opt/pip/bin/pip --python /opt/gateway/bin/python install --require-hashes --no-deps --only-binary=:all: -r requirements.lock -r demo.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
# hadolint ignore=DL3042
RUN /opt/pip/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/pip/bin/pip --python /opt/gateway/bin/python install --no-deps --no-index dist/*.whl

FROM ${PYTHON_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="segmind-gateway" \
      org.opencontainers.image.description="Keys, limits, budgets and an exact ledger in front of Segmind's API." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The base brings pip (python.org's layout, then Debian's); a running gateway has no use for an installer.
RUN rm -rf /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels \
    && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/gateway /opt/gateway
# The root file system may be read-only: bytecode was compiled at build time, and state goes to the volume.
ENV PATH="/opt/gateway/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEWAY_HOST=0.0.0.0 \
    GATEWAY_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=4s --start-period=10s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ.get('GATEWAY_OPS_PORT') or 9090}/healthz\", timeout=3)"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
