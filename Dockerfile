# One image for every process: `fettle up`, or `fettle broker | ingest | monitor | api` apart (docker-compose.yml).
#
# The tag names one version. To pin the very bytes, put the digest behind it: `docker pull python:3.11.14-slim-bookworm`
# prints it, and `--build-arg PYTHON=python:3.11.14-slim-bookworm@sha256:…` builds with it.
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
# What builds packages (ours, and one of the others that comes as source) is pinned as in development and stays here.
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock > build.lock \
 && pip install --require-hashes --only-binary :all: -r build.lock \
 && pip wheel --require-hashes --no-build-isolation --wheel-dir /wheels -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY fettle fettle
COPY ingest ingest
COPY monitor monitor
COPY api api
COPY firmware_sim firmware_sim
# A folder of its own that holds what runs and nothing else: no pip, no build tools.
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/fettle \
 && pip --python /opt/fettle/bin/python install --no-deps --no-index /wheels/*.whl \
 && /opt/fettle/bin/fettle --help > /dev/null

FROM ${PYTHON}
LABEL org.opencontainers.image.title="fettle" org.opencontainers.image.licenses="Apache-2.0"
# What PDFs are drawn with: Pango, and a font that has Chinese.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 fonts-noto-cjk \
 && rm -rf /var/lib/apt/lists/*
# A fixed number, so that volumes keep their owner. New volumes take these folders' owner and mode over.
RUN groupadd --gid 10001 fettle \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin fettle \
 && install -d -m 0700 -o fettle -g fettle /data /data/broker /data/broker/storage
COPY --from=build /opt/fettle /opt/fettle
ENV PATH=/opt/fettle/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FETTLE_HOME=/data \
    FETTLE_BIND=0.0.0.0
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000 1883
# For `up` and `api`; docker-compose.yml names the port of the other processes' probes.
HEALTHCHECK --interval=15s --timeout=6s --start-period=30s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('FETTLE_HTTP_PORT', '8000') + '/readyz', timeout=5)"]
ENTRYPOINT ["fettle"]
CMD ["up"]
