# Tidemark. `make` explains itself.
.DEFAULT_GOAL := help
SHELL := /bin/bash
GO ?= go
BIN := bin/connector
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo development)
TAGS := synctests
CACHE := $(CURDIR)/.cache
KILLS ?= 50
COST_KEYS ?= 10000000
PASSES ?= 2000
HOURS ?= 10
TOKENS ?= 100
SEED ?= 1
FUZZTIME ?= 30s
FUZZ ?= .
LINT_VERSION := v2.15.0

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/connector
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o $(BIN) ./cmd/connector

demo: build ## the main job in one process, with a simulated API; ends with a verdict (DEMO_FOR=30s)
	$(BIN) demo

test: ## everything that needs only Go (with -race where a C compiler is)
	deploy/test $(TAGS)

test-kafka: build ## the same promises on a real Apache Kafka: KAFKA_BROKERS, or one started here (needs java, mvn, python3, npm)
	deploy/test-kafka

kill-test: build ## KILLS=50 kill -9 of the connector, and some of the broker, on a real Kafka; then the books are checked
	deploy/kill-test $(KILLS)

sim-deletions: ## PASSES=2000 passes against an API that lies about what there is, in simulated time: no false tombstone, none missed
	$(GO) test -tags $(TAGS) -timeout 0 -v -run 'TestDeletions$$' ./internal/supervisor -deletions.passes $(PASSES)

sim-systems: ## HOURS=10 simulated hours of each of the four systems against its simulator, with all of its faults (SEED=1)
	$(GO) test -tags $(TAGS) -count=1 -v -timeout 4h ./internal/supervisor -run '^TestSystems$$' -systems.hours $(HOURS) -systems.seed $(SEED)

tokens-test: ## kill -9 at each step of a refresh of a token, TOKENS=100 times each, with grace of the server and without
	$(GO) test -tags $(TAGS) -count=1 -v -timeout 2h ./internal/supervisor -run '^TestTokens$$' -tokens.seeds $(TOKENS)

hostile: ## thousands of hostile answers through the real path: nothing lost, nothing moved, nothing leaked (HOSTILE_SEED=N)
	deploy/hostile $(TAGS)

fuzz: ## each fuzz target for FUZZTIME=30s; FUZZ=regexp chooses
	deploy/fuzz $(FUZZTIME) '$(FUZZ)'

rules: ## docs/rules.md: where each rule is enforced, which tests name it, and what switches it off
	$(GO) test -run '^TestRulesPageIsTrue$$' ./cmd/connector -rules.write

rules-off: ## switch every rule off, or RULE=P3, and see its tests fail
	$(GO) test -tags $(TAGS) -timeout 0 -parallel 8 -v -run '^TestRulesHaveATest$$' ./internal/supervisor -rules.off '/$(RULE)$(if $(RULE),-)'

bench: ## this machine's limits and ours, side by side
	$(GO) test -run '^$$' -bench . -benchtime 2s ./internal/record ./internal/state ./internal/codec ./internal/capture

cost: ## what a reconciliation of COST_KEYS=10000000 keys costs beside an ordinary pass over them
	$(GO) test -tags $(TAGS) -count=1 -v -timeout 1h -run '^TestCostOfReconciliation$$' ./internal/capture -cost.keys $(COST_KEYS) -cost.turns 5

lint: ## go vet and golangci-lint (built from the module proxy)
	$(GO) vet -tags $(TAGS),kafka ./...
	@mkdir -p $(CACHE)/bin
	@test -x $(CACHE)/bin/golangci-lint || GOBIN=$(CACHE)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	$(CACHE)/bin/golangci-lint run --build-tags $(TAGS),kafka ./...

vuln: ## known vulnerabilities, where govulncheck's database can be reached
	$(GO) run golang.org/x/vuln/cmd/govulncheck@latest ./...

reference: ## docs/reference.md, every key of the language
	@mkdir -p $(CACHE)
	$(GO) run ./cmd/connector sources reference > $(CACHE)/reference.md && mv $(CACHE)/reference.md docs/reference.md

clean: ## what was built and cached here
	rm -rf bin $(CACHE)

.PHONY: help build demo test test-kafka kill-test sim-deletions sim-systems tokens-test hostile fuzz rules rules-off bench cost lint vuln reference clean
