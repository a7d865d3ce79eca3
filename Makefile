# sixin4. `make demo` shows it working, `make test` runs all tests; both do
# their own set-up. `make help` lists the rest.

GO        ?= go
BIN       := bin
STATIC    := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w'
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME  ?= 60s

.PHONY: all build demo test check fuzz bench bpf clean help deps

all: build

help:
	@echo 'make build   bin/sixin4, bin/tspc and bin/tspd, one static file each'
	@echo 'make demo    shows tunnels and a broker in namespaces (root, or user namespaces)'
	@echo 'make test    all tests, with the race detector; those of namespaces need the same'
	@echo 'make check   gofmt, vet (Linux and macOS), staticcheck'
	@echo 'make fuzz    every fuzz target for FUZZTIME=$(FUZZTIME)'
	@echo 'make bench   the benchmark of docs/performance.md'
	@echo 'make bpf     compiles the BPF programs of encap/kernelpath again (clang-14)'
	@echo 'make clean   removes bin/'

build:
	@mkdir -p $(BIN)
	$(STATIC) -o $(BIN)/ ./cmd/sixin4 ./cmd/tspc ./cmd/tspd

demo: build
	$(BIN)/sixin4 demo

# The race detector needs a C compiler. It is all that a bare Debian may lack.
deps:
	@if ! command -v gcc >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && [ -z "$(NO_APT)" ] && command -v apt-get >/dev/null; then \
	    echo 'make test: the race detector needs gcc: apt-get install gcc libc6-dev'; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null; \
	  else \
	    echo 'make test: gcc is missing, which the race detector needs: apt-get install gcc libc6-dev' >&2; exit 1; \
	  fi; \
	fi

# All tests with the race detector. Those of namespaces need root; for others they
# make a user namespace in which they are root, or say what is missing. Then, without
# the race detector, those that count allocations, since it allocates itself, and
# what is large: millions of random packets, 100 MB over links that merge. STRICT=1
# makes an unexpected skip a failure.
test: deps
	$(GO) test -race -json ./... | $(GO) run ./cmd/internal/testlog $(if $(STRICT),-strict)
	$(GO) test -json -run 'Alloc|Survives|Oracle|GRO' ./encap/... ./tun/... ./cmd/internal/e2e | $(GO) run ./cmd/internal/testlog $(if $(STRICT),-strict)

check:
	@test -z "$$(gofmt -l .)" || { echo 'not gofmt-ed:'; gofmt -l .; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$pkg || exit 1; \
	  done; \
	done

bench: build
	$(BIN)/sixin4 bench micro
	$(BIN)/sixin4 bench pair

# The object is committed, so that nobody needs a compiler for it: a test compares it
# with what clang-14 makes of the source.
CLANG := clang-14
bpf:
	cd encap/kernelpath/bpf && $(CLANG) -O2 -g -target bpfel -mcpu=v3 -Wall -Werror \
	  -ffile-prefix-map="$$PWD"=. -c path.c -o path.o

clean:
	rm -rf $(BIN)
