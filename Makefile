# Everything a developer types. `make` alone lists it. Needs Go 1.26 (also found at /usr/local/go without being on the PATH).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build run test test-deploy test-jaeger jaeger lint lint-format lint-code lint-proto lint-cross gen demo bench compare compare-nats compare-others test-compare chaos sim sim-selftest hostile fuzz clean deps

export PATH := $(PATH):/usr/local/go/bin
# We stamp the version ourselves: Go's own stamping fails where git refuses to look into a checkout of another user.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
BINARIES := multiraftd mrctl mrbench
TIME ?= 30s
ARGS ?=
STATICCHECK := go tool -modfile=deploy/tools/go.mod staticcheck
BUF := go tool -modfile=../deploy/tools/buf/go.mod buf

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

build: ## static binaries: bin/multiraftd bin/mrctl bin/mrbench
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(BINARIES))

# exec: the daemon takes the place of the recipe's shell, so that Ctrl-C and TERM reach it and make waits for its end.
run: build ## three nodes in one process; prints what to type next
	@exec bin/multiraftd dev

# Fuzzing comes first, so that the last word is that of the tests; it starts from the committed inputs alone.
test: deps ## every fuzz target for 2 s, then all tests under the race detector (ARGS='-run X -v' for some tests only)
	@$(if $(ARGS),,deploy/tools/fuzz 2s fresh)
	go test -race -timeout 15m $(ARGS) ./...

# The query API of Jaeger, without its web page, which is not in the module. The checksum database lacks versions that
# it needs, of these two prefixes; deploy/tools/jaeger/go.sum has the sums of all.
bin/jaeger: deploy/tools/jaeger/go.mod deploy/tools/jaeger/go.sum
	@mkdir -p bin
	GONOSUMDB='go.opentelemetry.io/*,github.com/open-telemetry/*' CGO_ENABLED=0 \
		go -C deploy/tools/jaeger build -trimpath -o ../../../bin/jaeger github.com/jaegertracing/jaeger/cmd/all-in-one

jaeger: deps bin/jaeger ## Jaeger on loopback: OTLP on 127.0.0.1:4317, its query API on 127.0.0.1:16686 (the first time it is built: minutes)
	@echo "multiraftd start ... --otlp-endpoint http://127.0.0.1:4317; then mrctl trace ID --jaeger http://127.0.0.1:16686"
	@exec bin/jaeger --collector.otlp.grpc.host-port 127.0.0.1:4317 --collector.otlp.http.host-port 127.0.0.1:4318 \
		--collector.grpc-server.host-port 127.0.0.1:14250 --collector.http-server.host-port 127.0.0.1:14268 \
		--query.http-server.host-port 127.0.0.1:16686 --query.grpc-server.host-port 127.0.0.1:16685 --admin.http.host-port 127.0.0.1:14269

test-jaeger: build deps bin/jaeger ## traces of three real processes, as a real Jaeger has them
	JAEGER_TEST_BIN=$(CURDIR)/bin go test -count=1 -timeout 5m -v ./deploy/jaeger $(ARGS)

lint: lint-format lint-code lint-proto lint-cross ## gofmt, vet, staticcheck, layer rules, buf, generated code, builds for other systems
	@echo "lint: clean"

lint-format:
	@unformatted=$$("$$(go env GOROOT)/bin/gofmt" -l .); [ -z "$$unformatted" ] || { echo "not formatted (gofmt -w):"; echo "$$unformatted"; exit 1; }

lint-code: deps
	go vet ./...
	$(STATICCHECK) ./...
	go test ./deploy/layers

# The generated code and the image are made anew in a scratch folder and compared: no git needed, nothing overwritten.
lint-proto: deps
	cd proto && $(BUF) lint
	cd proto && $(BUF) breaking --against image.binpb
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; cd proto; \
	$(BUF) generate -o "$$scratch"; $(BUF) build --exclude-source-info -o "$$scratch/image.binpb"; \
	for want in $$(cd "$$scratch" && find . -type f); do \
		cmp -s "$$want" "$$scratch/$$want" || { echo "proto/$$want is not what the .proto files say: make gen, and commit it"; exit 1; }; \
	done; \
	for have in $$(find . -name '*.pb.go'); do \
		[ -e "$$scratch/$$have" ] || { echo "proto/$$have has no .proto file any more: delete it"; exit 1; }; \
	done

# Servers run on Linux; the rest is for those who develop against them. Quick once Go's build cache has it: the first
# time, each platform takes about a minute of a processor.
lint-cross: deps
	@for platform in $(foreach os,linux darwin windows,$(os)/amd64 $(os)/arm64); do \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} go build -o /dev/null $(addprefix ./cmd/,$(BINARIES)) || \
			{ echo "does not build for $$platform"; exit 1; }; \
	done

# The image is what clients and nodes in the field may rely on; it only moves forward. To break it knowingly, delete it first and say so in the commit.
gen: deps ## generated Go and the image of the wire formats, from proto/**.proto; pages of docs/ that are made from code
	cd proto && $(BUF) lint
	cd proto && if [ -e image.binpb ]; then $(BUF) breaking --against image.binpb; fi
	cd proto && $(BUF) generate
	cd proto && $(BUF) build --exclude-source-info -o image.binpb
	go test ./node ./cmd/multiraftd -run '^TestThePageOn' -update

demo: build ## the guarantee, shown: real lines appended while leaders are killed with -9 (3 minutes; ARGS='-lines 200000 -kills 3')
	@go build -o bin/demo ./deploy/demo
	@exec bin/demo $(ARGS)

bench: build ## mrbench against three real processes, 48 partitions, 16 B and 1 KiB, verified
	@go build -o bin/bench ./deploy/bench
	@exec bin/bench $(ARGS)

# Other systems, each a module of its own: the servers with the dependencies that they were released with, the load programs
# in one module that also takes ours for the load. When our own dependencies have changed: go -C deploy/tools/peers mod tidy.
compare-nats: deps
	@mkdir -p bin/peers
	CGO_ENABLED=0 go -C deploy/tools/peers/natsserver build -trimpath -o ../../../../bin/peers/ github.com/nats-io/nats-server/v2
	CGO_ENABLED=0 go -C deploy/tools/peers build -trimpath -o ../../../bin/peers/ ./natsload

compare-others: compare-nats
	CGO_ENABLED=0 go -C deploy/tools/peers/etcdserver build -trimpath -o ../../../../bin/peers/etcd go.etcd.io/etcd/server/v3
	CGO_ENABLED=0 go -C deploy/tools/peers build -trimpath -o ../../../bin/peers/ ./etcdload ./dragonboatload

compare: build compare-others ## the same loads on NATS JetStream, etcd and dragonboat, as ratios (12 minutes; ARGS='-h', or some: ARGS='-workloads 16B -systems multiraftd,etcd -rounds 2')
	@go build -o bin/compare ./deploy/peers
	@exec bin/compare $(ARGS)

test-compare: build compare-nats ## what make compare is made of, and one short run of it with NATS
	cd deploy/tools/peers && go vet ./... && go test -count=1 ./...
	COMPARE_TEST_BIN=$(CURDIR)/bin go test -count=1 -timeout 5m $(ARGS) ./deploy/peers

# What is tested here needs tools of Debian's; a test that lacks one fails.
test-deploy: deps ## what deploy/ holds, against systemd's, Prometheus's and Kubernetes' own tools and types
	@deploy/tools/need systemd-analyze=systemd strace=strace prometheus=prometheus promtool=prometheus curl=curl \
		protoc=protobuf-compiler grpc_python_plugin=protobuf-compiler-grpc /usr/lib/python3/dist-packages/grpc=python3-grpcio /usr/lib/python3/dist-packages/google/protobuf=python3-protobuf
	TEST_DEPLOY=1 go test -count 1 $(ARGS) ./deploy/systemd ./deploy/prometheus ./deploy/manifests ./deploy/protocol
	cd deploy/tools/manifests && go vet ./... && go test -count 1 $(ARGS) ./...

chaos: build ## what a cluster lives through, on real processes, with figures (10 minutes; ARGS='-h', or some: ARGS='rolling groups')
	@go build -o bin/ ./deploy/chaos ./deploy/flood
	@exec bin/chaos $(ARGS)

SEEDS ?= 1000
FROM ?= 1
SEED ?=
V ?=

sim: ## whole clusters in simulated time with faults (SEEDS=1000 FROM=1), or one seed with what happens in it (SEED=17 V=1)
	@mkdir -p bin && go build -o bin/mrsim ./cmd/mrsim
	@exec bin/mrsim $(if $(SEED),-seed $(SEED) $(if $(V),-v),-seeds $(SEEDS) -from $(FROM)) $(ARGS)

sim-selftest: ## each bug planted in the product's source must be found by the simulator (SEEDS=2000)
	@mkdir -p bin && go build -o bin/mrsim ./cmd/mrsim
	@exec bin/mrsim -selftest -seeds $(if $(filter file,$(origin SEEDS)),2000,$(SEEDS)) $(ARGS)

# The race detector would measure itself; make test has smaller floods under it.
hostile: ## floods as large as strangers can make them, and the memory that they cost (minutes; ARGS='-run TestFloods/pings')
	HOSTILE_FULL=1 go test -count=1 -timeout 30m -v -run TestFloods $(ARGS) ./node

fuzz: deps ## every fuzz target for TIME (make fuzz TIME=10m), as many at a time as there are processors
	@deploy/tools/fuzz $(TIME)

clean: ## bin/ and what tests left
	rm -rf bin
	find . -name '*.test' -type f -delete

# What a bare Debian lacks: certificates to fetch modules with; a C compiler, which the race detector needs.
deps:
	@deploy/tools/need /etc/ssl/certs/ca-certificates.crt=ca-certificates gcc="gcc libc6-dev"
	@go mod download
