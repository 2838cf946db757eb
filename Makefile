# The two commands a newcomer needs are `make quickstart` and `make test`; each does all the set-up it needs.
# PYTHON may name another interpreter from 3.11 on. PIP_EXTRA_INDEX_URL is honoured by pip; see the README.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More than two cores can run, since tests wait for servers too. tests/conftest.py says which tests share a process.
PROCESSES ?= 4
PARALLEL = -n $(PROCESSES) --dist loadfile
# The processes of the tests load the same modules: they are compiled once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-engine faults compose-test installation manifests audit pictures lint up down clean lock hashes pin-digests

quickstart: $(VENV)/installed
	$(BIN)/hop2rag engine install
	$(BIN)/hop2rag run vllm-metrics --limit 8 --max-hops 2 --order AB

test: $(VENV)/installed-dev
	$(BIN)/hop2rag engine install
	$(BIN)/python -m pytest $(PARALLEL)

# The main job on the real vLLM, which is started twice: prefix caching off, then on.
test-engine: $(VENV)/installed-dev
	$(BIN)/hop2rag engine install
	$(BIN)/python -m pytest -m engine

# Breaks everything around a run, and kills the run itself; no engine is needed.
faults: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m faults $(PARALLEL)

# Builds wheel and sdist, installs them into empty environments, and says what that takes. RUN=1 adds the extra [run].
UV := $(VENV)/uv/bin/uv
installation: $(VENV)/installed $(UV)
	$(BIN)/python tests/installation.py --uv $(UV) $(if $(RUN),--run)

# Validates every Kubernetes manifest against published schemas; see tests/manifests.py.
manifests: $(VENV)/installed $(UV)
	$(UV) pip install --quiet --python $(BIN)/python --target $(VENV)/manifests kubernetes-validate==1.37.0
	PYTHONPATH=$(VENV)/manifests:. $(BIN)/python tests/manifests.py

# The stack in containers, with an experiment and a steered soak; needs Docker and compose 2 (tests/compose/README.md).
compose-test: $(VENV)/installed-dev
	$(BIN)/python -m tests.compose.trial

# Asks PyPI for known vulnerabilities of every pinned version; what can be checked without a connection is in the tests.
audit: $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	for lock in */*.lock workload/engine/requirements.lock; do \
	  echo "$$lock"; $(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r "$$lock" || exit 1; done

# Draws the README's figures and dashboards again from the recording of an H200.
PICTURES := $(VENV)/pictures
pictures: $(VENV)/installed
	$(BIN)/hop2rag demo --recording tests/fixtures/reference-run/h200 --results $(PICTURES) --once --dashboards
	cp $(PICTURES)/*-vllm-metrics/hop2rag/vllm_metrics/paired.png docs/images
	cp $(PICTURES)/*-gpu-memory/hop2rag/gpu_memory/memory_timeline.png docs/images
	cp $(PICTURES)/*-vllm-metrics/runs/*/export/vllm-metrics/dashboard.png docs/images/dashboard_vllm_metrics.png
	cp $(PICTURES)/*-concurrency/runs/*/export/concurrency/dashboard.png docs/images/dashboard_concurrency.png

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

up: $(VENV)/installed
	$(BIN)/hop2rag engine install
	$(BIN)/hop2rag up

down: $(VENV)/installed
	$(BIN)/hop2rag down

# Removes what was made in this folder. The engine, the model and Prometheus stay in the cache (~/.cache/hop2rag).
clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Writes the lock files again from what is installed in a fresh environment; `make hashes` adds the hash of every file.
lock:
	rm -rf $(VENV) && $(PYTHON) -m venv --upgrade-deps $(VENV)
	$(BIN)/python -m pip install -q -r workload/torch.lock
	$(BIN)/python -m pip install -q ".[run]"
	$(BIN)/python -m pip freeze --exclude hop2rag-observatory | grep -v '^torch==' > workload/requirements.lock
	$(BIN)/python -m pip install -q --group test --group lint
	$(BIN)/python -m pip freeze --exclude hop2rag-observatory | grep -v '^torch==' | grep -vxFf workload/requirements.lock > tests/requirements.lock
	$(MAKE) hashes

# Writes every pin with the hashes of all files that the package index has of it; pip refuses any other file.
hashes: $(UV)
	for lock in */requirements.lock workload/build.lock workload/engine/requirements.lock; do \
	  $(UV) pip compile --quiet --no-deps --generate-hashes --no-annotate --no-header --universal \
	    --python-version 3.11 --output-file "$$lock" "$$lock" >/dev/null || exit 1; done

# Writes the digest of every image behind its tag, in the compose files and the Dockerfiles. It asks the images'
# registry through Docker, so it needs both; without it the exact tags hold.
pin-digests: $(VENV)/installed
	$(BIN)/hop2rag compose pin-digests

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(UV): | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/uv
	$(VENV)/uv/bin/python -m pip install --quiet uv==0.13.9

LOCKED := install --no-deps --require-hashes
$(VENV)/installed: workload/requirements.lock workload/torch.lock workload/build.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --progress-bar on --no-deps -r workload/torch.lock
	$(BIN)/python -m pip $(LOCKED) --progress-bar on -r workload/requirements.lock
	$(BIN)/python -m pip $(LOCKED) --quiet -r workload/build.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c "import torch" || { echo "This PyTorch wants CUDA. See 'Install' in the README: PIP_EXTRA_INDEX_URL"; exit 3; }
	touch $@

$(VENV)/installed-dev: tests/requirements.lock $(VENV)/installed
	$(BIN)/python -m pip $(LOCKED) --quiet -r tests/requirements.lock
	touch $@
