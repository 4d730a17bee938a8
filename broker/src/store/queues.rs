use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

use super::{Client, StoreError, statement::Statement};
use crate::domain::{Queue, QueueId, RetryPolicy};

macro_rules! columns {
    () => {
        "id, name, max_attempts, retry_base_ms, retry_max_ms, retry_factor, retry_jitter, timeout_ms"
    };
}

const FIND: Statement = Statement::new(
    "find_queues",
    concat!(
        "/* find_queues */ SELECT ",
        columns!(),
        " FROM currant.queue WHERE name = ANY ($1::text[])"
    ),
);

const BY_ID: Statement = Statement::new(
    "queues_by_id",
    concat!(
        "/* queues_by_id */ SELECT ",
        columns!(),
        " FROM currant.queue WHERE id = ANY ($1::int[])"
    ),
);

const CREATE: Statement = Statement::new(
    "create_queues",
    "/* create_queues */
INSERT INTO currant.queue (name) SELECT n FROM unnest($1::text[]) AS v (n) ORDER BY n
ON CONFLICT DO NOTHING",
);

const COUNT: Statement =
    Statement::new("count_queues", "/* count_queues */ SELECT count(*) FROM currant.queue");

const ALL: Statement =
    Statement::new("all_queues", "/* all_queues */ SELECT id FROM currant.queue ORDER BY id");

pub(super) const STATEMENTS: [Statement; 5] = [FIND, BY_ID, CREATE, COUNT, ALL];

/// The queues of these names, as far as they're there; what one leaves open comes from `defaults`.
pub async fn find_queues(
    client: &Client,
    names: &[&str],
    defaults: &Queue,
) -> Result<Vec<Queue>, StoreError> {
    let rows = FIND.query(client, &[&names]).await?;
    Ok(rows.iter().map(|row| queue(row, defaults)).collect())
}

/// The same, by number.
pub async fn queues_by_id(
    client: &Client,
    ids: &[QueueId],
    defaults: &Queue,
) -> Result<Vec<Queue>, StoreError> {
    let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
    let rows = BY_ID.query(client, &[&ids]).await?;
    Ok(rows.iter().map(|row| queue(row, defaults)).collect())
}

/// Creates those that aren't there.
pub async fn create_queues(client: &Client, names: &[&str]) -> Result<(), StoreError> {
    CREATE.execute(client, &[&names]).await?;
    Ok(())
}

pub async fn count_queues(client: &Client) -> Result<usize, StoreError> {
    let rows = COUNT.query(client, &[]).await?;
    Ok(rows.first().map_or(0, |row| usize::try_from(row.get::<_, i64>(0)).unwrap_or(usize::MAX)))
}

/// The numbers of all queues.
pub async fn all_queues(client: &impl GenericClient) -> Result<Vec<QueueId>, StoreError> {
    let rows = ALL.query(client, &[]).await?;
    Ok(rows.iter().map(|row| QueueId(row.get(0))).collect())
}

fn queue(row: &Row, defaults: &Queue) -> Queue {
    // The table's checks keep these positive.
    let ms = |column: usize| row.get::<_, Option<i64>>(column).map(i64::unsigned_abs);
    Queue {
        id: QueueId(row.get(0)),
        name: row.get(1),
        max_attempts: row
            .get::<_, Option<i16>>(2)
            .map_or(defaults.max_attempts, i16::cast_unsigned),
        retry: RetryPolicy {
            base_ms: ms(3).unwrap_or(defaults.retry.base_ms),
            max_ms: ms(4).unwrap_or(defaults.retry.max_ms),
            factor: row.get::<_, Option<f64>>(5).unwrap_or(defaults.retry.factor),
            jitter: row.get::<_, Option<f64>>(6).unwrap_or(defaults.retry.jitter),
        },
        timeout_ms: ms(7).or(defaults.timeout_ms),
    }
}
