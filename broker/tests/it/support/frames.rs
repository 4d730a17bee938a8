//! HTTP/2 by hand, for what no client would send.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GO_AWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a connection begins with.
pub(crate) fn beginning() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Of a call of this path.
pub(crate) fn headers(path: &str) -> Vec<u8> {
    let len = u8::try_from(path.len()).unwrap();
    let mut block = vec![0x83, 0x86, 0x04, len];
    block.extend(path.as_bytes());
    block.extend(b"\x01\x04test");
    block.extend(b"\x00\x02te\x08trailers");
    block.extend(b"\x0f\x10\x10application/grpc");
    block
}

/// The streams of a client are odd.
pub(crate) fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// The frames in what came in: kind, stream, payload. A cut one at the end is left out.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let Some((payload, rest)) = rest.split_at_checked(len) else { break };
        frames.push((head[3], stream, payload.to_vec()));
        bytes = rest;
    }
    frames
}
