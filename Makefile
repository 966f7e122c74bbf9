# eproxy. Two targets need root: demo and test. Both install what they need.
GO ?= go
CLANG_PACKAGES := clang-19 llvm-19 libbpf-dev
KERNEL_PACKAGES := qemu-system-x86 seabios busybox-static iproute2 mosquitto-clients
TEST_PACKAGES := mosquitto-clients nginx-light tshark tcpdump nftables gcc libc6-dev

.PHONY: all build generate check-generated deps test-deps test test-kernels soak demo bench fuzz lint clean

all: build

## build: bin/loader, bin/mapsctl, bin/userspace-fallback (no clang needed)
build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./loader ./mapsctl ./userspace-fallback

## generate: compile the BPF programs, write generated docs (needs clang-19)
generate: deps
	cd internal/bpf && $(GO) generate ./...
	$(GO) run ./internal/gen

## check-generated: fail if the committed objects or docs are not what the sources give
check-generated: generate
	git diff --exit-code -- internal/bpf internal/abi internal/reason docs

deps:
	@./test/install.sh $(CLANG_PACKAGES)

test-deps:
	@./test/install.sh $(TEST_PACKAGES)

## test: everything; root
test: test-deps build
	$(GO) vet ./...
	$(GO) test ./bpf/native/... ./internal/mqtt
	$(GO) test -race $$($(GO) list ./... | grep -v -e /bpf/native -e /internal/mqtt -e /test/netns)
	$(GO) test -race -count=1 -parallel 4 -timeout 35m -v ./test/netns

## test-kernels: Debian's kernels 6.12 and 6.1 in an emulator, and what works on each; root for apt
test-kernels: build
	@./test/install.sh $(KERNEL_PACKAGES)
	$(GO) build -o bin/demo ./demo
	$(GO) build -o bin/kernels ./test/kernels
	bin/kernels

## soak: all faults at once, for as long as you like; SOAK=1h
SOAK ?= 10m
soak: test-deps build
	EPROXY_SOAK=$(SOAK) $(GO) test -race -count=1 -timeout 0 -v -run TestSoak ./test/netns

## demo: the whole system in network namespaces, in under a minute; root
demo: build
	$(GO) build -o bin/demo ./demo
	bin/demo

## bench: figures side by side; root
bench: build
	$(GO) build -o bin/bench ./bench
	bin/bench
	$(GO) test ./internal/bpf -run '^$$' -bench Message -benchtime 50000x

## fuzz: open-ended; FUZZTIME=10m per target
FUZZTIME ?= 1m
fuzz: test-deps
	for t in FuzzModel FuzzPublish FuzzResponses FuzzFraming; do $(GO) test ./bpf/native -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x || exit 1; done
	$(GO) test ./internal/topic -run '^$$' -fuzz FuzzAutomaton -fuzztime $(FUZZTIME)

clean:
	rm -rf bin
