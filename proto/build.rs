//! Compiles the contract without a system protoc: protox parses, tonic generates.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

/// What these import is compiled too.
const FILES: [&str; 6] = [
    "currant/v1/broker.proto",
    "currant/v1/job.proto",
    "currant/v1/queue.proto",
    "currant/v1/schedule.proto",
    "currant/v1/token.proto",
    "currant/v1/worker.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        // An empty one costs nothing, and its order is the same each time.
        .btree_map(".")
        .codec_path("crate::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
