use std::{
    pin::Pin,
    task::{self, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::status;
use crate::pipeline::Room;

/// The body of a call. What has come of a message counts until it is whole and read.
pub(super) struct Counted<B> {
    body: B,
    room: Room,
    place: Place,
}

/// Where in the messages of a body what comes next belongs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    /// So much of a message's head has come, and the length in it as far as that is known.
    head: usize,
    length: u32,
    /// What is to come of the message whose head is there.
    left: usize,
}

/// A byte for its compression, four for its length.
const HEAD: usize = 5;

impl Place {
    fn pass(&mut self, mut data: &[u8]) {
        while let Some((first, rest)) = data.split_first() {
            if self.left > 0 {
                let passed = self.left.min(data.len());
                self.left -= passed;
                data = &data[passed..];
                continue;
            }
            if self.head > 0 {
                self.length = self.length << 8 | u32::from(*first);
            }
            self.head += 1;
            if self.head == HEAD {
                *self = Self { left: self.length as usize, ..Self::default() };
            }
            data = rest;
        }
    }

    fn is_between(&self) -> bool {
        *self == Self::default()
    }
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, room: Room) -> Self {
        Self { body, room, place: Place::default() }
    }
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // Whoever asks for more has read what is whole.
        if self.place.is_between() {
            self.room.give_back();
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            if let Err(error) = self.room.take(data.len()) {
                return Poll::Ready(Some(Err(status::of(&error))));
            }
            self.place.pass(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let message = |len: u8| [&[0, 0, 0, 0, len][..], &vec![9; len.into()]].concat();
        let all = [message(3), message(0), message(200), message(1)].concat();
        let ends: Vec<usize> = [0, 8, 13, 218, 224].into();
        for size in 1..=all.len() {
            let mut place = Place::default();
            let mut passed = 0;
            for piece in all.chunks(size) {
                place.pass(piece);
                passed += piece.len();
                assert_eq!(place.is_between(), ends.contains(&passed), "{passed}, by {size}");
            }
        }
    }
}
