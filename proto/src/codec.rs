use std::{
    marker::PhantomData,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Buf;
use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

/// Each call, and each open stream for as long as it is open, has buffers of this size from its start.
/// What is larger makes room for itself.
const BUFFER_BYTES: usize = 1024;
/// Messages that are ready together are sent together up to this size: tonic's default.
const YIELD_BYTES: usize = 32 * 1024;
/// What is smaller can't become large.
const SMALL_BYTES: usize = 64 * 1024;

static FIELDS_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

/// From now on this process refuses messages of more than 64 KiB with more fields than so many; each element
/// of a list is one, what is in it isn't counted. An empty one takes two bytes on the wire, and hundreds in
/// memory.
pub fn limit_fields(most: usize) {
    FIELDS_MAX.store(most, Ordering::Relaxed);
}

/// tonic's codec for prost, but a message finds room for all of it when it is encoded, and a call begins
/// with small buffers. Else a buffer is 8 KiB at first, whatever it is for, and grows by doubling and is
/// copied each time. And a message that would become much larger than it is can be refused ([`limit_fields`]).
#[derive(Clone, Copy, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// See [`Codec`].
#[derive(Clone, Copy, Debug)]
pub struct RoomyEncoder<T>(PhantomData<T>);

/// See [`Codec`].
#[derive(Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

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
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> RoomyEncoder<T> {
        RoomyEncoder(PhantomData)
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(ProstDecoder::new(buffers()))
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

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let most = FIELDS_MAX.load(Ordering::Relaxed);
        if most < usize::MAX && buf.remaining() > SMALL_BYTES && has_more(buf.chunk(), most) {
            let refusal = format!("a message has at most {most} fields and elements of lists");
            return Err(Status::invalid_argument(refusal));
        }
        self.0.decode(buf)
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

/// Whether there are more fields than so many. What can't be read is the decoder's to refuse.
fn has_more(mut message: &[u8], most: usize) -> bool {
    for _ in 0..=most {
        let Ok((tag, kind)) = decode_key(&mut message) else { return false };
        if skip_field(kind, tag, &mut message, DecodeContext::default()).is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{EnqueueRequest, NewJob};

    #[test]
    fn elements_of_lists_are_counted_and_what_is_in_them_is_not() {
        let job = NewJob { tags: vec!["tag".to_owned(); 100], ..NewJob::default() };
        let message = EnqueueRequest { jobs: vec![job; 7], ..EnqueueRequest::default() };
        let message = message.encode_to_vec();
        assert!(has_more(&message, 6) && !has_more(&message, 7));
        assert!(!has_more(&message[..message.len() - 1], 6), "the last one is cut off");
        assert!(!has_more(&[], 0));
    }
}
