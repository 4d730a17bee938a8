use super::{Client, StoreError, statement::Statement};

/// What a dead broker had is free at once.
const TAKE: Statement = Statement::new(
    "take_duty",
    "/* take_duty */
INSERT INTO currant.duty AS d (name, owner, until)
VALUES ($1::text, $2::int, now() + $3::bigint * interval '1 millisecond')
ON CONFLICT (name) DO UPDATE SET owner = EXCLUDED.owner, until = EXCLUDED.until
WHERE d.owner = EXCLUDED.owner OR d.until < now()
   OR NOT EXISTS (SELECT FROM currant.broker b WHERE b.id = d.owner AND b.dead_at IS NULL)",
);

pub(super) const STATEMENTS: [Statement; 1] = [TAKE];

/// Takes a duty for so long, or goes on with it. False: another broker has it.
pub async fn take_duty(
    client: &Client,
    name: &str,
    owner: i32,
    for_ms: i64,
) -> Result<bool, StoreError> {
    Ok(TAKE.execute(client, &[&name, &owner, &for_ms]).await? > 0)
}
