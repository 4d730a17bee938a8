# What `just` runs; every recipe is a plain command that works without it.

# Everything that CI checks.
default: ci

ci:
    .ci/run

test:
    cargo test --workspace

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# A broker with a Postgres of its own.
dev:
    cargo run --release -p currant-broker -- dev

# 100,000 jobs end to end; writes report.html and report.json.
loadtest *arguments:
    cargo run --release -p currant-loadtest -- {{ arguments }}

# What stands in deploy/ and docs/, without building the image.
check-deploy:
    deploy/check

# docs/configuration.md, docs/metrics.md and deploy/currant.example.toml.
generate:
    CURRANT_UPDATE_GENERATED=1 cargo test -p currant-broker --lib reference
