use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type};

/// Rows in the binary form of COPY.
pub(super) struct CopyData(BytesMut);

/// Signature, flags, length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;
const NULL: i32 = -1;

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
        let at = self.0.len();
        self.0.put_i32(NULL);
        let null = value.to_sql(ty, &mut self.0).expect("every value here has a form of its type");
        if let IsNull::No = null {
            let bytes = i32::try_from(self.0.len() - at - 4).expect("a value is far below 2 GiB");
            self.0[at..at + 4].copy_from_slice(&bytes.to_be_bytes());
        }
    }

    pub(super) fn into_bytes(mut self) -> Bytes {
        self.0.put_i16(END);
        self.0.freeze()
    }
}
