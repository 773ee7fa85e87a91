# What one does with a checkout. `./nozle` makes the environment; here are only the commands.
# `exec` leaves no shell between make and the command: Ctrl-C reaches it once, and make waits for it.
.DEFAULT_GOAL := help
.PHONY: help run test check chaos bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## start the server and play the demonstration (PORT, WORKERS, NOZLE_DATA_DIR, TRACE=file.csv, DEMO=0)
	@$(if $(WORKERS),NOZLE_WORKERS=$(WORKERS)) exec ./nozle run nozle-server dev

JS_CLIENT = server/tests/realtime/client

test: lint ## everything that must hold before a merge
	@if command -v npm >/dev/null && [ ! -d $(JS_CLIENT)/node_modules ]; then \
		NODE_EXTRA_CA_CERTS=$${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt} \
		npm ci --prefix $(JS_CLIENT) --ignore-scripts --no-audit --no-fund \
		|| echo "npm could not fetch the JavaScript client: the tests that need it are skipped"; fi
	@exec ./nozle run --dev pytest

check: lint ## the part of `test` that takes seconds
	@exec ./nozle run --dev pytest -m "not database and not slow"

chaos: ## kill servers and databases while they are used (N=1000, SEED=... of a failure, T=m06)
	@N=$(or $(N),100) SEED=$(SEED) exec ./nozle run --dev pytest -s server/tests/chaos server/tests/credits/test_state_machine.py -k "$(or $(T),test)"

bench: ## measure this machine, each figure beside its yardstick
	@exec ./nozle run python bench/all.py

clean: ## remove what was built and cached, not the data in .nozle
	rm -rf .venv .boot dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: lint
lint:
	@./nozle sync --dev
	./nozle run --dev ruff format --check
	./nozle run --dev ruff check
	./nozle run --dev mypy
	./nozle run --dev lint-imports
