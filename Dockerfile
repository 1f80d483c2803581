# The service, its workers and its commands: `docker build --tag footfall .`
#
# The first stage has pip and whatever a package needs to be installed; the second has Python, the
# installed packages and the source, and runs as a user that may write to its home folder only.

FROM python:3.11.13-slim-bookworm AS build
WORKDIR /footfall
COPY requirements/runtime.txt requirements/
RUN python -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --no-input --disable-pip-version-check \
        --only-binary :all: --require-hashes --requirement requirements/runtime.txt
COPY . .
RUN .venv/bin/python -m pip install --no-index --no-deps --no-build-isolation --no-cache-dir \
        --disable-pip-version-check --editable . \
    && .venv/bin/python -m compileall -q data jobs migrations resolvers schema server telemetry \
    && .venv/bin/footfall --help >/dev/null

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin footfall \
    && install --directory --owner footfall --group footfall --mode 0700 \
        /var/lib/footfall /run/vault-credentials /run/vault-keys
COPY --from=build /footfall /footfall
ENV PATH=/footfall/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FOOTFALL_HOME=/var/lib/footfall
WORKDIR /footfall
USER footfall
VOLUME /var/lib/footfall
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=2m --retries=3 \
    CMD ["python", "/footfall/deploy/api/healthy.py", "http://127.0.0.1:8000/health"]
ENTRYPOINT ["/footfall/deploy/api/start"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
