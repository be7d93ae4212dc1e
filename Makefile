# `make` explains the targets. Needed: Python 3.10 or later; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
# Other projects' writers and readers, for the benchmarks, in environments of their own.
PEERS := .venv-peers
PEER_PYTHON ?= $(PYTHON)
MINIO ?= minio
# Of tests at a time, each with files of its own.
TEST_PROCESSES ?= 2
# TensorFlow 2.17 with tensorflow-io, for `input.reader: tfio` and its tests.
TFIO := .venv-tfio
TFIO_BASE ?= $(PYTHON)
WRITERS_READY := $(patsubst %,$(PEERS)/%/.ready,torch_writers img2dataset tfds)
READERS_READY := $(patsubst %,$(PEERS)/%/.ready,torch_writers input_readers)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check serve screenshots bench bench-evaluate bench-serve bench-step bench-input bench-input-storage bench-convert rehearsal real-images clean-demo prism flink-job-server tfio-environment fuzz licences audit-dependencies

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: $(VENV)/.ready-test ## make .venv with everything that the demo, the tests and the checks need

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no $(PYTHON); name one with make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: $(PYTHON) is older than 3.10; name another with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "error: $(PYTHON) has no venv; on Debian: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.ready-run: setup.py | $(BIN)/python
	@echo "installing the packages into $(VENV) (TensorFlow alone is half a gigabyte) ..."
	@$(BIN)/python -m pip install --quiet --editable '.[engine,beam]'
	@touch $@

$(VENV)/.ready-serve: setup.py $(VENV)/.ready-run
	@$(BIN)/python -m pip install --quiet --editable '.[serve]'
	@touch $@

$(VENV)/.ready-test: setup.py $(VENV)/.ready-run
	@echo "installing what tests and checks need into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# Each of its commands works as well on the real data set and recognises what it has done before, so a second run is
# quick and one that was cut off goes on; `engine run --dry-run` shows them.
demo: $(VENV)/.ready-serve ## phantoms -> shards -> two trained members -> ensemble -> judgement -> report, in 6 minutes on 2 cores
	$(BIN)/engine run --config configs/pipeline.yaml
	$(BIN)/engine predict --run-dir $(DEMO)/ensemble $$(find $(DEMO)/phantom -name '*.png' | sort | head -n 2)
	@echo "the report: $(DEMO)/ensemble/report.html"
	@echo "the page that reads X-rays: make serve"

serve: $(VENV)/.ready-serve ## the page that reads X-rays, with what the demo trained, on http://127.0.0.1:8000
	@$(BIN)/engine serve --run-dir $(DEMO)/ensemble --data $(DEMO)/shards/manifest.json \
	  --boxes $(DEMO)/phantom/BBox_List_2017.csv

screenshots: $(VENV)/.ready-test ## pictures of the served page in build/screenshots (after make demo; needs Chromium)
	@$(BIN)/python tests/engine/serving/screenshots.py --run-dir $(DEMO)/ensemble \
	  --data $(DEMO)/shards/manifest.json --boxes $(DEMO)/phantom/BBox_List_2017.csv

clean-demo: ## remove what the demo made
	rm -rf $(DEMO)

test: $(VENV)/.ready-test ## run all tests (NIH_SAMPLE_DIR=folder adds those on real images)
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

prism: $(VENV)/.ready-run ## Beam's Prism runner as .venv/bin/prism (needs Go)
	GOBIN="$$PWD/$(BIN)" go install "github.com/apache/beam/sdks/v2/go/cmd/prism@v$$($(BIN)/pip show apache-beam | \
	  sed -n 's/^Version: //p')"

flink-job-server: ## Beam's Flink job server as .venv/share/flink/flink-job-server.jar (needs Maven and Java 17)
	mvn -q -B -Dstyle.color=never -f .ci/flink/pom.xml -Doutput="$$PWD/$(VENV)/share/flink" \
	  dependency:copy-dependencies jar:jar

tfio-environment: $(TFIO)/.ready ## TensorFlow 2.17 with tensorflow-io in .venv-tfio (needs Python 3.10 to 3.12)

$(TFIO)/.ready: setup.py
	@$(TFIO_BASE) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || { echo "error:" \
	  "tensorflow-io needs Python 3.10 to 3.12; name one with make tfio-environment TFIO_BASE=python3.12"; exit 1; }
	@echo "installing TensorFlow 2.17 and tensorflow-io into $(TFIO) ..."
	@$(TFIO_BASE) -m venv --clear $(TFIO)
	@$(TFIO)/bin/python -m pip install --quiet --upgrade pip
	@$(TFIO)/bin/python -m pip install --quiet --editable '.[tfio]'
	@touch $@

check: $(VENV)/.ready-test ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

fuzz: $(VENV)/.ready-test ## fuzz the readers of foreign bytes, 10 min
	@$(BIN)/python tests/fuzz/run.py --seconds 600

licences: $(VENV)/.ready-test ## list the licences of all that is needed
	@$(BIN)/python tests/security/licences.py

audit-dependencies: $(VENV)/.ready-test ## hold the installed versions against known vulnerabilities (needs pypi.org)
	@mkdir -p build && $(BIN)/pip freeze --exclude-editable > build/installed.txt
	@$(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit
	@build/audit/bin/pip-audit --strict --no-deps --disable-pip -r build/installed.txt

bench: $(VENV)/.ready-run ## images/s of the training input beside plain TFRecordDataset and PNGs decoded in the loop
	@$(BIN)/engine benchmark input --data $(DEMO)/shards/manifest.json --seconds 10

bench-input: real-images $(VENV)/.ready-run $(READERS_READY) ## training input beside limits and peers, 20 min (NIH_SAMPLE_DIR=folder)
	@$(BIN)/python tests/benchmarks/input_rate_peers.py --peers $(PEERS)

bench-input-storage: real-images $(VENV)/.ready-run $(PEERS)/torch_writers/.ready ## the same from object storage 0, 20 and 100 ms away, 40 min; needs MINIO=program (NIH_SAMPLE_DIR=folder)
	@$(BIN)/python tests/benchmarks/storage_rate.py --peers $(PEERS) --minio $(MINIO)

bench-evaluate: $(VENV)/.ready-run ## bootstrap of 25,596 images x 14 findings beside a loop of scikit-learn, 2 min
	@$(BIN)/python tests/benchmarks/evaluation_speed.py

bench-serve: $(VENV)/.ready-test ## pictures/s of the server, batched beside one at a time, 4 min (after make demo)
	@$(BIN)/python tests/benchmarks/serving_load.py --run-dir $(DEMO)/ensemble \
	  --images $(DEMO)/phantom/images_001/images --cores 0,1 --client-cores 2,3

bench-step: $(VENV)/.ready-run ## training step beside a plain model.fit, 10 min (after make demo; taskset -c 0,1 make ...)
	@$(BIN)/python tests/benchmarks/step_seed.py --data $(DEMO)/shards/manifest.json

bench-convert: real-images $(VENV)/.ready-run $(WRITERS_READY) ## conversion beside a bare pool, one process and peers, 20 min (NIH_SAMPLE_DIR=folder)
	@$(BIN)/python tests/benchmarks/convert_rate.py --files 20000 --peers $(PEERS)

rehearsal: real-images $(VENV)/.ready-run ## convert 112,120 linked images twice and audit them, 20 min (NIH_SAMPLE_DIR=folder)
	@$(BIN)/python tests/benchmarks/rehearsal.py

real-images:
	@test -n "$(NIH_SAMPLE_DIR)" || { echo "error: NIH_SAMPLE_DIR is not set; name a folder with real images in" \
	  "images/ and the NIH's table and lists in labels/: make ... NIH_SAMPLE_DIR=folder"; exit 2; }

# A peer that can't be installed here is listed as such by the benchmark.
$(PEERS)/%/.ready: tests/benchmarks/peers/%.txt
	@echo "installing the peers of $< into $(@D) ..."
	@$(PEER_PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --upgrade pip
	@if $(@D)/bin/python -m pip install --quiet --requirement $<; then touch $@; \
	  else echo "note: not installed: $<"; rm -rf $(@D); fi
