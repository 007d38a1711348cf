# laminar in a container: the scheduler, which has the engine outside run each layer in a container beside its own.
# docs/containers.md says how to start it, and what must be mounted.
#
#   cargo build --release --bin laminar
#   docker build --tag laminar .
#
# laminar is one static binary, and so is the client that it talks to the engine with: it comes from another image, which
# holds it at PROGRAM. For podman that is its remote client:
#
#   podman build --tag laminar --build-arg CLIENT=IMAGE --build-arg PROGRAM=/PATH/podman-remote --build-arg NAME=podman .
ARG CLIENT=docker.io/library/docker:28-cli
FROM ${CLIENT} AS client

FROM scratch
ARG PROGRAM=/usr/local/bin/docker
ARG NAME=docker
COPY --from=client ${PROGRAM} /usr/local/bin/${NAME}
COPY target/*/release/laminar /usr/local/bin/
ENV PATH=/usr/local/bin
# Where podman's client finds the engine; docker's knows by itself.
ENV CONTAINER_HOST=unix:///run/podman/podman.sock
ENTRYPOINT ["laminar"]
