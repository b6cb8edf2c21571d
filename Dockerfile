# The sidecar in a small image: nothing but Python, the program and what it needs.
#
#   docker build --tag resilience-sidecar .
#   docker run --publish 8080:8080 --publish 9900:9900 \
#     --volume ./sidecar.yaml:/etc/sidecar/sidecar.yaml:ro resilience-sidecar
#   docker run --network host resilience-sidecar run --upstream http://127.0.0.1:9000
#   docker exec CONTAINER sidecar top --once     # the admin address is the container's own: 127.0.0.1:9901
#
# Traces and reports of faults: install '.[otel]' or '.[sentry]' below instead of '.'.

FROM python:3.13-slim AS build
# The hot modules are compiled (docs/adr/0016); the compiler stays behind.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
WORKDIR /src
RUN python -m venv /opt/sidecar
COPY deploy/backend.py deploy/constraints.txt deploy/
COPY pyproject.toml README.md ./
COPY config config
COPY sidecar sidecar
RUN SIDECAR_COMPILED=1 /opt/sidecar/bin/python -m pip install --no-cache-dir --constraint deploy/constraints.txt .

FROM python:3.13-slim
COPY --from=build /opt/sidecar /opt/sidecar
# One line a log line, at once; and the environment's programs first.
ENV PATH=/opt/sidecar/bin:$PATH PYTHONUNBUFFERED=1
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
# Callers; health and metrics.
EXPOSE 8080 9900
# SIGTERM lets the requests under way finish.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 CMD ["sidecar", "healthcheck", "--timeout", "2"]
ENTRYPOINT ["sidecar"]
CMD ["run", "--config", "/etc/sidecar/sidecar.yaml"]
