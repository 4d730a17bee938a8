//! The broker's program: allocator, command line.

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    currant_broker::cli::run(std::env::args_os())
}
