use std::{error::Error, fmt};

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

/// An array parameter with one value of each row, written without being collected before.
pub(super) struct Column<'a, R, F> {
    rows: &'a [R],
    value: F,
}

const DIMENSIONS: i32 = 1;
const MAY_HAVE_NULLS: i32 = 1;
const FIRST_INDEX: i32 = 1;
const NULL: i32 = -1;

impl<'a, R, F> Column<'a, R, F> {
    pub(super) fn new<T>(rows: &'a [R], value: F) -> Self
    where
        F: Fn(&'a R) -> T,
    {
        Self { rows, value }
    }
}

impl<R, F> fmt::Debug for Column<'_, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl<'a, R, T, F> ToSql for Column<'a, R, F>
where
    T: ToSql,
    F: Fn(&'a R) -> T,
{
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Kind::Array(member) = ty.kind() else {
            return Err(format!("a column is an array, not {ty}").into());
        };
        out.put_i32(DIMENSIONS);
        out.put_i32(MAY_HAVE_NULLS);
        out.put_u32(member.oid());
        out.put_i32(i32::try_from(self.rows.len())?);
        out.put_i32(FIRST_INDEX);
        for row in self.rows {
            put_value(&(self.value)(row), member, out)?;
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Array(member) if T::accepts(member))
    }

    to_sql_checked!();
}

/// A value behind its length, as arrays and COPY have it.
pub(super) fn put_value(
    value: &impl ToSql,
    ty: &Type,
    out: &mut BytesMut,
) -> Result<(), Box<dyn Error + Sync + Send>> {
    let at = out.len();
    out.put_i32(NULL);
    if let IsNull::No = value.to_sql(ty, out)? {
        let bytes = i32::try_from(out.len() - at - 4)?;
        out[at..at + 4].copy_from_slice(&bytes.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_is_written_as_the_collected_values_would_be() {
        let rows = [(1i64, Some("a")), (2, None), (i64::MAX, Some("längst"))];
        let numbers: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let texts: Vec<Option<&str>> = rows.iter().map(|row| row.1).collect();
        let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
        Column::new(&rows, |row| row.1).to_sql(&Type::TEXT_ARRAY, &mut ours).unwrap();
        texts.to_sql(&Type::TEXT_ARRAY, &mut theirs).unwrap();
        assert_eq!(ours, theirs);
        ours.clear();
        theirs.clear();
        Column::new(&rows, |row| row.0).to_sql(&Type::INT8_ARRAY, &mut ours).unwrap();
        numbers.to_sql(&Type::INT8_ARRAY, &mut theirs).unwrap();
        // Nothing but whether there are nulls, which Postgres finds out for itself.
        assert_eq!((&ours[..4], &ours[8..]), (&theirs[..4], &theirs[8..]));
    }
}
