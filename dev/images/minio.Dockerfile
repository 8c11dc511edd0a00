# The MinIO server, built from source because its makers no longer publish images. It holds one static program.
# Built by `digits images build minio`, or:  docker build -f dev/images/minio.Dockerfile .
# The version is one of the Go module registry, whose checksum database verifies its content.
ARG GO_IMAGE=golang:1.25-bookworm@sha256:3b4a11519ad929d1e1d261a12cff056f0c85b735253d7d861346b9c6f8b36437

FROM ${GO_IMAGE} AS build
ARG MINIO=v0.0.0-20260212201848-7aac2a2c5b7c
RUN CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOBIN=/build go install -ldflags "-s -w" "github.com/minio/minio@$MINIO"

FROM scratch
COPY --from=build /build/minio /usr/bin/minio
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
LABEL org.opencontainers.image.title="MinIO" org.opencontainers.image.licenses="AGPL-3.0-only"
EXPOSE 9000
ENTRYPOINT ["/usr/bin/minio"]
