# Each target makes the environment it needs. Python >= 3.11 and make are all it takes.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
# The tests that talk to a server are tests of both transports; some go over grpcio every time.
OVER_EITHER := tests/server tests/ids tests/client tests/cli/test_commands.py tests/deploy/test_no_egress.py tests/deploy/test_proxies.py \
	tests/project/test_other_clients.py tests/project/test_first_alert_page.py
OVER_GRPCIO := tests/client/test_streams.py tests/project/test_other_clients.py tests/server/services/test_unary.py tests/server/streaming/test_session.py \
	tests/server/test_lifecycle.py tests/server/net/test_listener.py tests/server/services/test_health_and_reflection.py \
	tests/server/security/test_authentication.py tests/server/onnx/test_open_session.py

# Two processes that each run whole modules, whose fixtures are made once then. A process takes about 2 GB of memory.
PROCESSES ?= 2
IN_PARALLEL := -n $(PROCESSES) --dist loadfile

# venv --clear would empty the folder that a link leads to
refuse_link = test ! -L $(1) || { echo "$(1) is a symbolic link, and what it leads to would be emptied: remove the link, or touch $(1)/"; exit 1; }

.PHONY: help demo serve test test-slow test-grpcio check format docs protos lock clean results

help: ## List the targets
	@grep -hE '^[a-z.-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv: requirements/dev.txt pyproject.toml ## Everything for development, from the lock file
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; set PYTHON=python3.x"; exit 1; }
	@$(call refuse_link,.venv)
	@echo "Making .venv: 2.8 GB on disk, a minute or two"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
# compat: the checkout itself is on the path, and with it training, which no distribution holds
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch .venv

.venv-protos: requirements/protos.txt ## The stub generator, which pins an older protobuf
	@$(call refuse_link,.venv-protos)
	$(PYTHON) -m venv --clear .venv-protos
	.venv-protos/bin/python -m pip install --quiet --require-hashes -r requirements/protos.txt
	@touch .venv-protos

demo: .venv ## Raw logs to alerts: simulate, aggregate, train, serve, replay; write a picture
	$(BIN)/python -m examples.demo

serve: .venv ## Serve the shipped models on 127.0.0.1:50051
	$(BIN)/mods-grpc serve exported

test: .venv .venv-protos ## Run the tests, all but the slow ones
	$(BIN)/python -m pytest $(IN_PARALLEL)
	$(BIN)/python -m pytest $(IN_PARALLEL) --transport grpcio -q $(OVER_GRPCIO)

test-slow: .venv .venv-protos ## Run the slow, container and GPU tests
	$(BIN)/python -m pytest -m 'slow or container or gpu'

test-grpcio: .venv .venv-protos ## Run the tests that talk to a server over grpcio
	$(BIN)/python -m pytest --transport grpcio $(OVER_EITHER)
	$(BIN)/python -m pytest --transport grpcio -m slow tests/benchmarks/test_serving.py tests/benchmarks/test_chaos.py tests/server/streaming/test_dead_peer.py tests/server/persistence tests/deploy/test_proxies.py

check: .venv .venv-protos ## Lint, types, protocol lint, stub drift, rules of structure
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/buf lint 'mods_grpc/v1/mods.v1.protoset#format=binpb' --config buf.yaml --path mods_grpc/v1
	$(BIN)/python -m pytest -q tests/project/test_stub_drift.py tests/project/test_structure.py

format: .venv ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv ## Write the generated pages of docs/reference
	$(BIN)/python docs/generate_reference.py

results: .venv ## List what docs/results is made of; PAGES='NAME ...' runs the commands and writes the pages
	$(BIN)/python -m benchmarks.results $(PAGES)

protos: .venv-protos ## Generate the stubs and the descriptor set
	PATH="$(CURDIR)/.venv-protos/bin:$$PATH" .venv-protos/bin/python protos/generate.py .

lock: .venv ## Renew the lock files
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra ids --extra otel --extra signing --extra train --group dev --python-version 3.11 --universal --generate-hashes --quiet --upgrade --no-header --output-file requirements/dev.txt
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra ids --extra otel --extra signing --python-version 3.11 --universal --generate-hashes --quiet --upgrade --no-header --output-file requirements/serve.txt
	$(BIN)/uv pip compile pyproject.toml --extra gpu --extra ids --extra otel --extra signing --python-version 3.11 --universal --generate-hashes --quiet --upgrade --no-header --output-file requirements/serve-gpu.txt
	$(BIN)/uv pip compile requirements/build.in --python-version 3.11 --universal --generate-hashes --quiet --upgrade --no-header --output-file requirements/build.txt
	$(BIN)/uv pip compile requirements/proxies.in --python-version 3.11 --universal --generate-hashes --quiet --upgrade --no-header --output-file requirements/proxies.txt
	$(BIN)/uv pip compile requirements/protos.in --python-version 3.11 --universal --generate-hashes --quiet --upgrade --no-header --output-file requirements/protos.txt

clean: ## Remove environments and caches
	rm -rf .venv .venv-protos .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
