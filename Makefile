# The doors of the repository. Everything goes through cargo; this file only names the ways in.
#
#   make run                a Linux shell inside Atoll
#   make test               every check and test; what .ci/run runs
#   make guests             guests that take long: an i386 Linux, passes of memtest86+, Linux on Xen, boots by firmware
#   make debian-test        of that, the Debian disk: systemd, python3, gcc, a long write, kills during it
#   make isa                the long campaign against the host CPU, and the comparison with QEMU's trace
#   make fuzz               guests made by chance, for FUZZ_SECONDS from FUZZ_SEED on
#   make fuzz-parsers       libFuzzer on everything that reads hostile bytes, each for FUZZ_SECONDS; FUZZ_TARGETS names some
#   make workloads          programs that check the computer, on a Debian disk: stress-ng, openssl, Python's own tests
#   make lockstep           further guests' whole boots and U-Boot's, interpreter beside translator
#   make lockstep-debian    the Debian disk's whole boot likewise
#   make bench              Atoll and QEMU side by side

export PATH := $(HOME)/.cargo/bin:$(PATH)

# The guest's files, found where `cargo xtask guest` keeps them.
GUESTS := $(or $(ATOLL_GUESTS),.atoll/guests)
LINUX  := $(GUESTS)/linux-cloud
DISK   := .atoll/disk.qcow2

# Alpine's user space is no Debian package. Its test runs where the tarball is.
export ATOLL_ALPINE_TARBALL ?= $(abspath $(firstword $(wildcard ../shared/guests/alpine-minirootfs-*-x86_64.tar.gz)))

# One profile for everything, so that nothing is compiled twice.
CARGO_FLAGS := --release --locked
PROGRAMS    := -p atoll -p broker -p cpu-worker -p seriald -p blockd

.PHONY: run test bench isa fuzz fuzz-parsers guests debian-test workloads lockstep lockstep-debian build guest checks clean

run: build guest $(DISK)
	target/release/atoll run -m 512 -nographic -no-reboot \
	    -kernel $(LINUX)/vmlinuz -initrd $(LINUX)/initrd.img -append "console=ttyS0" \
	    -drive file=$(DISK),format=qcow2,if=virtio

build:
	@.ci/setup run
	cargo build $(CARGO_FLAGS) $(PROGRAMS)

guest:
	@.ci/setup run
	@cargo xtask guest > /dev/null

# The disk of `make run` is the user's: it is made once and never replaced.
$(DISK): | guest
	@mkdir -p $(@D)
	cp $(LINUX)/disk.qcow2 $@

test: checks build guest
	cargo test $(CARGO_FLAGS) --workspace --exclude guest-tests --exclude block-backend
	# One at a time: a program started by one test holds copies of the others' image locks until it has begun.
	cargo test $(CARGO_FLAGS) -p block-backend -- --test-threads=1
	RUSTFLAGS="--cfg loom" cargo test $(CARGO_FLAGS) --target-dir target/loom -p atoll-transport --lib loom
	cargo test $(CARGO_FLAGS) -p guest-tests -- --test-threads=2

checks:
	@.ci/setup test
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --workspace --no-deps

isa: build
	@.ci/setup isa
	cargo test $(CARGO_FLAGS) -p sim --test hand -- --ignored in_qemu
	cargo test $(CARGO_FLAGS) -p isa-tests -- --include-ignored --nocapture

fuzz:
	@.ci/setup test
	ATOLL_FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) ATOLL_FUZZ_SEED=$(or $(FUZZ_SEED),1000000) \
	    cargo test $(CARGO_FLAGS) -p sim --test hostile -- --ignored --exact --nocapture a_campaign

# libFuzzer is steered by counters in every crate, which the stable compiler's code generator makes too. Programs of the build itself have none:
# that is what naming the target is for. Versions are the workspace's.
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))
FUZZ_HOST    := x86_64-unknown-linux-gnu
FUZZ_FLAGS   := --cfg fuzzing -C codegen-units=1 -C passes=sancov-module \
    $(addprefix -C llvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)

fuzz-parsers:
	@.ci/setup fuzz
	cp Cargo.lock tests/fuzz/Cargo.lock
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --manifest-path tests/fuzz/Cargo.toml --target $(FUZZ_HOST) --target-dir target/fuzz
	@for target in $(FUZZ_TARGETS); do \
	    echo "fuzzing $$target"; \
	    mkdir -p target/fuzz/corpus/$$target; \
	    target/fuzz/$(FUZZ_HOST)/release/$$target -max_total_time=$(or $(FUZZ_SECONDS),60) -timeout=10 -rss_limit_mb=1024 \
	        -max_len=16384 -len_control=0 -verbosity=0 -print_final_stats=1 -artifact_prefix=target/fuzz/found-$$target- \
	        target/fuzz/corpus/$$target $$(ls -d tests/fuzz/seeds/$$target 2> /dev/null) || exit 1; \
	done

guests: build
	@.ci/setup test
	cargo test $(CARGO_FLAGS) -p guest-tests --test i386 --test memtest --test xen -- --include-ignored
	cargo test $(CARGO_FLAGS) -p guest-tests --test firmware -- --ignored kernels

debian-test: build
	@.ci/setup debian
	cargo test $(CARGO_FLAGS) -p guest-tests --test debian -- --nocapture

workloads: build
	@.ci/setup workloads
	cargo test $(CARGO_FLAGS) -p guest-tests --test workloads -- --ignored --nocapture --test-threads=1

lockstep: build guest
	@.ci/setup test
	cargo test $(CARGO_FLAGS) -p guest-tests --test lockstep -- --ignored --nocapture --skip disk
	cargo test $(CARGO_FLAGS) -p guest-tests --test firmware -- --ignored lockstep

lockstep-debian: build
	@.ci/setup debian
	cargo test $(CARGO_FLAGS) -p guest-tests --test lockstep -- --ignored --nocapture disk

bench: build
	@.ci/setup bench
	cargo build $(CARGO_FLAGS) -p atoll-transport --example latency
	cargo run $(CARGO_FLAGS) -p atoll-bench

clean:
	cargo clean
