use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{self, BufferSettings, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

/// Each call, and each open stream for as long as it is open, has buffers of this size from its start.
/// What is larger makes room for itself.
const BUFFER_BYTES: usize = 1024;
/// Messages that are ready together are sent together up to this size: tonic's default.
const YIELD_BYTES: usize = 32 * 1024;

/// tonic's codec for prost, but a message finds room for all of it when it is encoded, and a call begins
/// with small buffers. Else a buffer is 8 KiB at first, whatever it is for, and grows by doubling and is
/// copied each time.
#[derive(Clone, Copy, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// See [`Codec`].
#[derive(Clone, Copy, Debug)]
pub struct RoomyEncoder<T>(PhantomData<T>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = RoomyEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> RoomyEncoder<T> {
        RoomyEncoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(buffers())
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

impl<T: Message> Encoder for RoomyEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        item.encode(buf).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
