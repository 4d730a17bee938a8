//! The gRPC contract of Currant: generated code, and the codec that it is sent by.
//!
//! The `.proto` files under `proto/proto` are the documentation of every message, with units,
//! defaults, limits and errors.

mod codec;

pub use codec::{BoundedDecoder, Codec, RoomyEncoder, limit_fields};

/// Package `currant.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("currant.v1");
}

/// The encoded `FileDescriptorSet` of the contract, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
