# List the recipes
default:
    @just --list --unsorted

# All that CI runs, but for the other systems (see `cross`)
check: fmt lint test doc deny

# Check the formatting
fmt:
    cargo fmt --all --check

# Run clippy; warnings are errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Run all tests
test:
    cargo test --workspace

# Let real processes suffer, and check what they wrote down: `just hubcheck --minutes 10`
hubcheck *ARGS:
    cargo test --release -p localhub --test hubcheck -- {{ARGS}}

# Break the hub and the SDK line by line, and see that the tests notice: `just mutants [NAME..]`
mutants *ARGS:
    tests/mutants/run {{ARGS}}

# Build the documentation; warnings are errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Check licences, sources, duplicates and security advisories of the dependencies
deny:
    cargo deny check

# Run clippy for Windows and macOS, after installing what that needs
cross:
    scripts/cross-setup.sh
    cargo clippy --workspace --all-targets --target x86_64-pc-windows-gnu -- -D warnings
    cargo clippy --workspace --all-targets --target aarch64-apple-darwin -- -D warnings

# Show the hub at work
demo:
    cargo run --release -p localhub -- demo

# Fuzz a target of fuzz/ until it fails or is stopped
fuzz TARGET:
    cargo +nightly fuzz run {{TARGET}}

# Measure localhub and its peers side by side; writes docs/performance.md (see benches/peers)
peers *ARGS:
    benches/peers/run {{ARGS}}

# Count the instructions of the hot paths and hold them against the baseline: `just guards [--save]`
guards *ARGS:
    benches/guards/run {{ARGS}}
