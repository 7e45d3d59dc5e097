# Lehr's image: the tasks', the controller's, and `lehr` itself. `make image` builds it with docker, podman or buildah.
#
# BASE_IMAGE holds Python 3.11 or 3.12 with venv and nothing of CUDA: torch's wheels bring their own. Name it by digest: a tag is
# another image tomorrow. docs/fleet.md says how to find one.
ARG BASE_IMAGE=scratch

FROM ${BASE_IMAGE} AS build
# For a mirror, or for wheels in a folder; they stay in this stage. TORCH_INDEX: where torch's wheels without CUDA are.
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ARG TORCH_INDEX=
ARG EXTRAS=all
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
RUN python3 -m venv /opt/lehr && python3 -m venv /opt/tools

# Packages before code: where only code has changed, this layer, which holds gigabytes, is found again.
COPY pyproject.toml requirements.lock ./
COPY infra/image/requirements.py infra/image/
RUN python3 infra/image/requirements.py "${EXTRAS}" >wanted.txt \
    && if [ -n "${TORCH_INDEX}" ]; then \
         /opt/lehr/bin/pip install --no-compile --index-url "${TORCH_INDEX}" --constraint requirements.lock torch; fi \
    && /opt/lehr/bin/pip install --no-compile --constraint requirements.lock --requirement wanted.txt
RUN /opt/tools/bin/pip install --no-compile cyclonedx-bom==7.5.0 setuptools==84.2.1

COPY . .
# The commit's time, so that the wheel is the same to the byte in every build.
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
# A wheel holds the rooms in their places, which a checkout has links for; it is made of an sdist, as `make dist` does. Modules are
# compiled here, for nothing can be written later, and by their content, so that their files are the same in every build. One that
# is written for another Python (torch has some) cannot be compiled, and is never imported. The stages' code versions are worked out
# here for the same reason.
RUN /opt/tools/bin/python -c 'from setuptools import build_meta; build_meta.build_sdist("dist")' \
    && /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist dist/lehr-*.tar.gz \
    && /opt/lehr/bin/pip install --no-compile --no-deps --no-index dist/lehr-*.whl \
    && /opt/lehr/bin/pip check \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/lehr/sbom.cdx.json /opt/lehr/bin/python \
    && /opt/lehr/bin/pip uninstall --yes pip \
    && { /opt/lehr/bin/python -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/lehr/lib || true; } \
    && PYTHONDONTWRITEBYTECODE= /opt/lehr/bin/python -m lehr.pipeline.versions

FROM ${BASE_IMAGE}
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Lehr" \
      org.opencontainers.image.description="Trains open language models end to end" \
      org.opencontainers.image.licenses="Apache-2.0 AND PSF-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/lehr /opt/lehr
# The root file system is read-only in a pod: /tmp is what can be written, and where Flyte unpacks code that it brings.
# A restart inside torchrun's agent must not meet the store of the attempt before (torch 2.13).
ENV PATH=/opt/lehr/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp TMPDIR=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MLFLOW_DISABLE_TELEMETRY=true TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /tmp
USER 1000:1000
CMD ["lehr", "--help"]
