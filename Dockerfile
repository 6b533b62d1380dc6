# syntax=docker/dockerfile:1

# Pin it for production: --build-arg BASE=python@sha256:… (docs/handbook/containers.md says how to find the digest).
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
# `run-extras` brings what sends traces and reports of faults elsewhere (docs/tracing.md).
ARG LOCK=run
WORKDIR /build
RUN python -m venv /opt/refundry
COPY requirements/${LOCK}.txt requirements/run.txt
RUN /opt/refundry/bin/pip install --no-cache-dir --require-hashes --requirement requirements/run.txt
COPY . /app
RUN printf '#!/opt/refundry/bin/python\nfrom cli.main import main\n\nmain()\n' > /opt/refundry/bin/refundry \
    && chmod 755 /opt/refundry/bin/refundry \
    && /opt/refundry/bin/python -m compileall -q /app \
    && /opt/refundry/bin/pip uninstall --yes --quiet pip

FROM ${BASE}
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent refundry
COPY --from=build /opt/refundry /opt/refundry
COPY --from=build /app /app
ENV PATH="/opt/refundry/bin:$PATH" \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# By number, so that Kubernetes can tell that it is not root.
USER 10001:10001
WORKDIR /tmp
# A worker then finishes what is in flight: give it as long as its slowest provider may take, and ten seconds.
STOPSIGNAL SIGTERM
ENTRYPOINT ["refundry"]
CMD ["--help"]
