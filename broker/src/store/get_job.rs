use super::{
    Client, StoreError,
    row::{stored_columns, stored_job},
    statement::Statement,
};
use crate::domain::{JobId, StoredJob};

const GET: Statement = Statement::new(
    "get_job",
    concat!(
        "/* get_job */ SELECT ",
        stored_columns!(),
        "
FROM currant.queue q,
     LATERAL (SELECT * FROM currant.job WHERE queue_id = q.id AND id = $1::bigint OFFSET 0) j"
    ),
);

pub(super) const STATEMENTS: [Statement; 1] = [GET];

/// One job, found by a look into each queue.
pub async fn get_job(client: &Client, id: JobId) -> Result<Option<StoredJob>, StoreError> {
    let rows = GET.query(client, &[&id.0]).await?;
    Ok(rows.first().map(stored_job))
}
