# syntax=docker/dockerfile:1

FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/refundry
COPY requirements/run.txt requirements/run.txt
RUN /opt/refundry/bin/pip install --no-cache-dir --require-hashes --requirement requirements/run.txt
COPY . /app
RUN printf '#!/opt/refundry/bin/python\nfrom cli.main import main\n\nmain()\n' > /opt/refundry/bin/refundry \
    && chmod 755 /opt/refundry/bin/refundry \
    && /opt/refundry/bin/python -m compileall -q /app

FROM python:3.13-slim
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/refundry --create-home refundry
COPY --from=build /opt/refundry /opt/refundry
COPY --from=build /app /app
ENV PATH="/opt/refundry/bin:$PATH" \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER refundry
WORKDIR /var/lib/refundry
# A worker finishes what is in flight: give it as long as its slowest provider may take, and 10 seconds.
STOPSIGNAL SIGTERM
ENTRYPOINT ["refundry"]
CMD ["--help"]
