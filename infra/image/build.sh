#!/bin/sh
# Build Lehr's image with docker, podman or buildah: called by `make image`, which says what may be given.
set -eu

fail() { echo "error: $1" >&2; exit 2; }

# The first that is there and answers: a docker command without its daemon builds nothing.
for name in docker podman buildah; do
  [ -n "$BUILDER" ] && break
  if command -v $name >/dev/null && $name info >/dev/null 2>&1; then BUILDER=$name; fi
done
[ -n "$BUILDER" ] || fail "no docker, podman or buildah that answers. Install or start one, or name it: make image BUILDER=..."
command -v "${BUILDER%% *}" >/dev/null || fail "$BUILDER is not on the path. Name another: make image BUILDER=..."
[ -n "$BASE_IMAGE" ] || fail "BASE_IMAGE is not given. Name an image with Python 3.11 or 3.12, by its digest:
  make image BASE_IMAGE=python@sha256:...    # of python:3.12-slim: skopeo inspect --format '{{.Digest}}' docker://python:3.12-slim"
case $BASE_IMAGE in
  *@sha256:*|localhost/*) ;; # what was built here has no digest yet
  *) fail "BASE_IMAGE=$BASE_IMAGE names no digest, and a tag is another image tomorrow. Write NAME@sha256:..." ;;
esac

# The time of the commit, so that the same commit is the same image: files and layers have no other.
created=$(git log -1 --format=%ct 2>/dev/null || echo 0)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision="$revision-dirty"
version=$(sed -n 's/^__version__ = "\([^"]*\)".*/\1/p' lehr/__init__.py)

set -- --build-arg "BASE_IMAGE=$BASE_IMAGE" --build-arg "REVISION=$revision" --build-arg "VERSION=$version" \
  --build-arg "SOURCE_DATE_EPOCH=$created" --build-arg "TORCH_INDEX=$TORCH_INDEX" --build-arg "EXTRAS=${EXTRAS:-all}" --tag "$IMAGE"
case $BUILDER in
  buildah*) set -- build --format oci --layers --timestamp "$created" "$@" ;;
  podman*) set -- build --format oci --timestamp "$created" "$@" ;;
  *) export SOURCE_DATE_EPOCH="$created"; set -- build "$@" ;;
esac
# shellcheck disable=SC2086  # BUILDER and BUILD_FLAGS are words: `sudo podman`, `--network host`
exec $BUILDER "$@" $BUILD_FLAGS .
