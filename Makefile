# eproxy. `make help` lists the targets; those that say so need root. What a target needs it installs.
# sudo's PATH seldom has Go.
GO ?= $(shell command -v go || echo /usr/local/go/bin/go)
CLANG_PACKAGES := clang-19 llvm-19 libbpf-dev
KERNEL_PACKAGES := qemu-system-x86 seabios busybox-static iproute2 mosquitto-clients
LINT_PACKAGES := clang-format-19 shellcheck
KUBERNETES_PACKAGES := etcd-server
KUBERNETES_NODE_PACKAGES := $(KUBERNETES_PACKAGES) containerd runc containernetworking-plugins nftables mosquitto-clients
LWIP_PACKAGES := gcc libc6-dev liblwip-dev
PAGE_PACKAGES := chromium fonts-dejavu-core
TEST_PACKAGES := mosquitto mosquitto-clients nginx-light gunicorn uvicorn apache2-bin php-cli tshark tcpdump nftables gcc libc6-dev containernetworking-plugins

# Packages whose tests load programs or make network namespaces. All others run without any privilege: as root they
# get none either, so that this list cannot be wrong unnoticed.
ROOT_PACKAGES := ./internal/bpf ./internal/bpf/observer ./internal/chunk ./internal/instances ./internal/netdev ./internal/observe ./internal/pindir ./internal/podgro ./internal/routes ./internal/slot ./test/lib/lab ./test/netns
# Most of their time is spent in C, of which the race detector sees nothing.
NATIVE_PACKAGES := ./bpf/native ./bpf/native/hooks ./bpf/native/observe
UNIT_PACKAGES = $(filter-out $(ROOT_PACKAGES) $(NATIVE_PACKAGES),$(patsubst eproxy/%,./%,$(shell $(GO) list ./...)))
UNPRIVILEGED := $(if $(filter 0,$(shell id -u)),-exec 'setpriv --bounding-set=-all --inh-caps=-all')

.PHONY: all build help generate check-generated deps lint-deps test-deps need-root check unit lint test kernels test-kernels test-many test-kubernetes test-kubernetes-full image generate-manifest soak test-churn test-keda test-knative test-page test-prometheus demo bench bench-brokers bench-changes bench-xdp bench-links bench-proactive bench-paper bench-wake bench-zygote test-sleepers fuzz clean

all: build

## help: this list
help:
	@sed -nE 's/^## ([a-z-]+): (.*)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

# What --version and eproxy_build_info say, where the sources are a git repository.
ifneq ($(wildcard .git),)
VERSION := $(shell git describe --tags --always --dirty=+changes 2>/dev/null)
REVISION := $(shell git describe --always --abbrev=40 --exclude='*' --dirty=+changes 2>/dev/null)
STAMP = -ldflags '-X eproxy/internal/buildinfo.version=$(VERSION) -X eproxy/internal/buildinfo.revision=$(REVISION)'
endif

## build: bin/loader, bin/mapsctl, bin/userspace-fallback (no clang needed)
build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false $(STAMP) -o bin/ ./loader ./mapsctl ./userspace-fallback

## generate: compile the BPF programs, write generated docs (needs clang-19)
generate: deps
	cd internal/bpf && $(GO) generate ./...
	$(GO) run ./internal/gen

## check-generated: fail if the committed objects or docs are not what the sources give
check-generated: generate
	git diff --exit-code -- internal/bpf internal/abi internal/reason docs

deps:
	@./test/install.sh $(CLANG_PACKAGES)

lint-deps:
	@./test/install.sh $(LINT_PACKAGES)

test-deps:
	@./test/install.sh $(TEST_PACKAGES)

need-root:
	@[ "$$(id -u)" = 0 ] || { echo "make test needs root (make check does not)" >&2; exit 1; }

## check: before each commit: unit and lint; no root, no network, under 3 minutes
check: unit lint

## unit: vet, and the tests that need no root, among them the BPF programs compiled for this host
unit:
	$(GO) vet ./...
	$(GO) test $(UNPRIVILEGED) -timeout 30m $(NATIVE_PACKAGES)
	$(GO) test $(UNPRIVILEGED) -race -timeout 30m $(UNIT_PACKAGES)

## lint: .golangci.yaml for Go, .clang-format for C, shellcheck for scripts
lint: lint-deps bin/golangci-lint
	bin/golangci-lint run
	find bpf -type f -name '*.[ch]' -exec clang-format-19 --dry-run -Werror {} +
	shellcheck test/install.sh .ci/run

# A module of its own, so that what the linter depends on stays out of go.mod.
bin/golangci-lint: test/tools/go.mod test/tools/go.sum
	cd test/tools && $(GO) build -o ../../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

## test: everything; root
test: need-root test-deps build bin/lwip-relay unit
	$(GO) test -race -timeout 30m $(filter-out ./test/netns,$(ROOT_PACKAGES))
	EPROXY_OBJECT=bounded $(GO) test -timeout 30m ./internal/bpf
	cd bench/proactive && $(GO) vet ./... && $(GO) test ./...
	cd test/chart && $(GO) vet ./... && $(GO) test ./...
	cd test/cloudevents && $(GO) vet ./... && $(GO) test ./...
	cd test/otlp && $(GO) vet ./... && $(GO) test ./...
	$(GO) test -race -count=1 -parallel 4 -timeout 45m -v ./test/netns

# What emulated machines are made of.
kernels: build
	@./test/install.sh $(KERNEL_PACKAGES)
	$(GO) build -o bin/demo ./demo
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bench ./bench
	$(GO) build -o bin/kernels ./test/kernels
	CGO_ENABLED=0 $(GO) test -c -trimpath -o bin/bpf.test ./internal/bpf
	CGO_ENABLED=0 $(GO) test -c -trimpath -o bin/netns.test ./test/netns

## test-kernels: Debian's kernels 6.12 and 6.1 in an emulator, and what works on each; root for apt
test-kernels: kernels
	bin/kernels

## test-many: DEVICES (100,000) at one loader, in an emulator with 8 GiB of memory, 6 ms each or more; root for apt
DEVICES ?= 100000
test-many: kernels
	bin/kernels --kernel 6.12=many --memory 8192 --devices $(DEVICES) --timeout 40m

# As Kubernetes builds them. A module of its own, so that what Kubernetes depends on stays out of go.mod.
KUBERNETES_VERSION = $(shell cd test/kubernetes && $(GO) list -m -f '{{.Version}}' k8s.io/kubernetes)
KUBERNETES_BUILD = cd test/kubernetes && CGO_ENABLED=0 $(GO) build -trimpath -o ../../bin/kubernetes/ -ldflags '-s -w \
	-X k8s.io/component-base/version.gitVersion=$(KUBERNETES_VERSION) -X k8s.io/component-base/version.gitMajor=1 \
	-X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(KUBERNETES_VERSION)))'

## test-kubernetes: pods from a real API server of Kubernetes, built at first (8 minutes on two processors); root
test-kubernetes: build
	@./test/install.sh $(KUBERNETES_PACKAGES)
	$(KUBERNETES_BUILD) k8s.io/kubernetes/cmd/kube-apiserver
	cd test/kubernetes && $(GO) vet ./... && $(GO) test -race -count=1 -v .

## test-kubernetes-full: a whole node of Kubernetes, eproxy installed by its chart from its image; all of it built at first (13 minutes); root
test-kubernetes-full: image
	@./test/install.sh $(KUBERNETES_NODE_PACKAGES)
	$(KUBERNETES_BUILD) $(addprefix k8s.io/kubernetes/cmd/,kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl)
	cd test/kubernetes && CGO_ENABLED=0 $(GO) build -trimpath -o ../../bin/kubernetes/ ./images/function ./images/pause
	cd test/chart && $(GO) build -o ../../bin/kubernetes/chart .
	$(GO) build -o bin/kubernetes/image ./deploy/image
	cd bin/kubernetes && for i in function pause; do ./image ../../test/kubernetes/images/$$i.Containerfile localhost/$$i:latest $$i.tar || exit 1; done
	cd test/kubernetes && $(GO) vet ./... && $(GO) test -count=1 -v ./full

## image: bin/eproxy-image.tar, a container image of the binaries, for docker load, ctr image import or podman load
IMAGE ?= localhost/eproxy:latest
image: build
	$(GO) run ./deploy/image deploy/Containerfile $(IMAGE) bin/eproxy-image.tar

## generate-manifest: deploy/eproxy.yaml, of the Helm chart in deploy/chart
# A module of its own, so that what Helm depends on stays out of go.mod.
generate-manifest:
	cd test/chart && $(GO) run . ../../deploy/chart > ../../bin/manifest.yaml && mv ../../bin/manifest.yaml ../../deploy/eproxy.yaml

## soak: all faults at once, for as long as you like, SOAK=1h; root
SOAK ?= 10m
soak: test-deps build
	EPROXY_SOAK=$(SOAK) $(GO) test -race -count=1 -timeout 0 -v -run TestSoak ./test/netns

## test-sleepers: messages to functions that fall asleep, wake and are killed at random moments, SLEEPERS=10000 messages; root
SLEEPERS ?= 10000
test-sleepers: test-deps build
	EPROXY_SLEEPERS=$(SLEEPERS) $(GO) test -race -count=1 -timeout 0 -v -run TestSleepersLoseNothing ./test/netns

## test-churn: pods that come and go all the time under load from 50 clients, CHURN=5m for each hook; root
CHURN ?= 5m
test-churn: test-deps build
	EPROXY_CHURN=$(CHURN) $(GO) test -race -count=1 -timeout 0 -v -run TestChurn ./test/netns

## test-page: the page in a headless Chromium, against the metrics; SCREENSHOT=docs/page.png takes the picture of the docs, too; root
SCREENSHOT ?=
test-page: build
	@./test/install.sh $(PAGE_PACKAGES)
	$(GO) vet -tags page ./test/netns
	EPROXY_SCREENSHOT=$(if $(SCREENSHOT),$(abspath $(SCREENSHOT))) $(GO) test -race -count=1 -tags page -v -run '$(if $(SCREENSHOT),^TestPage,^TestPage(ShowsStates)?$$)' ./test/netns

## test-prometheus: the alerts in promtool, the Grafana dashboard's expressions in a real Prometheus against a real run, and promtool's opinion of the metrics, under 2 minutes; root
test-prometheus: build
	@./test/install.sh prometheus
	promtool check rules deploy/prometheus/eproxy.rules.yml
	promtool test rules deploy/prometheus/eproxy.rules.test.yml
	$(GO) vet -tags prometheus ./test/netns
	$(GO) test -race -count=1 -tags prometheus -v -run '^TestDashboard$$' ./test/netns

## demo: the whole system in network namespaces, in one to two minutes; root
demo: build
	$(GO) build -o bin/demo ./demo
	bin/demo

## bench: figures side by side; root
bench: build
	$(GO) build -o bin/bench ./bench
	bin/bench
	$(GO) test ./internal/bpf -run '^$$' -bench Message -benchtime 50000x

## bench-changes: from naming a pod to its first message, and what changes of pods cost messages for others, under a minute; root
CHANGES ?= --rounds 3
bench-changes: build
	$(GO) build -o bin/bench ./bench
	bin/bench changes $(CHANGES)

## bench-brokers: publish and subscribe without functions, TLS, handshakes: eproxy, and eproxy before Mosquitto, against Mosquitto, under 4 minutes; root
BROKERS ?= --rounds 5
bench-brokers: build
	@./test/install.sh mosquitto
	$(GO) build -o bin/bench ./bench
	bin/bench brokers $(BROKERS)

## bench-xdp: what XDP brings against TC, with pods that take XDP redirects and with others, about 10 minutes; root
XDP ?= --rounds 15
bench-xdp: build
	$(GO) build -o bin/bench ./bench
	bin/bench xdp $(XDP)

## bench-links: eproxy against the kernel's TCP over emulated links with delay and loss, under 4 minutes; LINKS=--full: all of them, hours; root
LINKS ?= --seeds 5
bench-links: build bin/lwip-relay
	$(GO) build -o bin/bench ./bench
	bin/bench links $(LINKS)

## bench-proactive: policies for when functions sleep, in simulated time: table and SVG in bench/proactive/results; no root, minutes
# A module of its own, so that Knative's decider and all that it depends on stay out of go.mod.
bench-proactive:
	cd bench/proactive && $(GO) vet ./... && $(GO) test ./... && $(GO) run .

## test-knative: what Knative's autoscaler is told, read by its own code over a simulated day; no root, under a minute
test-knative:
	cd test/knative && $(GO) vet ./... && $(GO) test -race -count=1 ./...

## test-keda: what KEDA is told, asked for by its own scaler; no root; all of KEDA's scalers are built at first (minutes)
test-keda:
	cd test/keda && $(GO) vet ./... && $(GO) test -race -count=1 ./...

## bench-wake: latency of messages that wake frozen functions beside awake ones, processor time while all sleep, 2 minutes; WAKE="--frozen 10s" as long as you like; root
WAKE ?=
bench-wake: build
	$(GO) build -o bin/bench ./bench
	bin/bench wake $(WAKE)

## bench-zygote: cold starts of functions in Python, forked from a zygote beside started plainly, 2 minutes; root
ZYGOTE ?=
bench-zygote: build
	$(GO) build -o bin/bench ./bench
	bin/bench zygote $(ZYGOTE)

## bench-paper: processor time per component and delay over load: HTTP and MQTT with Knative's queue-proxy, a broker and adaptors, and eproxy, under 6 minutes; PAPER="--rounds 40 --duration 2s --limit 0" longer; root
# What cannot be had is a row that says so. A module of its own, so that what Knative depends on stays out of go.mod.
PAPER ?= --rounds 8
bench-paper: build
	-@./test/install.sh mosquitto
	-@command -v npm >/dev/null || ./test/install.sh nodejs npm
	-cd bench/paper && CGO_ENABLED=0 $(GO) build -trimpath -o ../../bin/paper/ knative.dev/serving/cmd/queue ./adaptor
	-cd bench/paper/adaptor && npm ci --ignore-scripts --no-audit --no-fund
	$(GO) build -o bin/bench ./bench
	bin/bench paper --out bin/paper/results $(PAPER)

# Devices with lwIP's TCP.
bin/lwip-relay: test/lwip/relay.c
	@./test/install.sh $(LWIP_PACKAGES)
	$(CC) -O2 -Wall -Wextra -I/usr/include/lwip -o $@ $< -llwip -lpthread

## fuzz: every fuzz target for a while; FUZZTIME=10m each
FUZZTIME ?= 1m
fuzz: test-deps
	@grep -rnoE '^func Fuzz\w+' --include='*_test.go' bpf internal | sed -E 's|/[^/]*:[0-9]+:func | |' | while read -r dir target; do \
		$(GO) test ./$$dir -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x || exit 1; done

## clean: remove bin
clean:
	rm -rf bin
