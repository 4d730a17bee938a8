use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::types::{ToSql, Type};

use super::column::put_value;

/// Rows in the binary form of COPY.
pub(super) struct CopyData(BytesMut);

/// Signature, flags, length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;

impl CopyData {
    /// `bytes`: what the rows will take, roughly.
    pub(super) fn new(bytes: usize) -> Self {
        let mut data = BytesMut::with_capacity(HEADER.len() + bytes + 2);
        data.put_slice(HEADER);
        Self(data)
    }

    /// Begins a row with so many fields.
    pub(super) fn row(&mut self, fields: i16) {
        self.0.put_i16(fields);
    }

    pub(super) fn field(&mut self, value: &impl ToSql, ty: &Type) {
        put_value(value, ty, &mut self.0).expect("every value here has a form of its type");
    }

    pub(super) fn into_bytes(mut self) -> Bytes {
        self.0.put_i16(END);
        self.0.freeze()
    }
}
