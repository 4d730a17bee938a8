//! The plan of every statement, whatever the size of the table, under the pool's own settings.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use currant_broker::store::{self, Client, Settings, Statement, Store};
use serde_json::Value;

use crate::support::Database;

/// Connections as the broker has them, but only one.
fn store(database: &Database) -> Store {
    let settings = Settings {
        address: database.url.as_str().into(),
        transaction_pooler: false,
        pool_size: 1,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
        completion_synchronous_commit: true,
    };
    Store::new(&settings).unwrap()
}

/// The index and the condition of each scan of currant.job, outermost first.
fn expected(statement: &Statement) -> &'static [(&'static str, &'static str)] {
    match statement.name {
        "locate_jobs" => &[("job_pkey", "queue_id = q.id AND id = v.i")],
        "get_job" => &[("job_pkey", "queue_id = q.id AND id = $1")],
        "get_job_in" => &[("job_pkey", "queue_id = $1 AND id = $2")],
        "claim_cursor" => &[
            ("job_ready", "queue_id = $1 AND priority = $5 AND id > $6"),
            ("Tid Scan", "ctid = p.place"),
        ],
        "claim_keys" => &[
            ("job_keyed", "queue_id = $1 AND key > $5"),
            ("job_keyed", "queue_id = $1 AND key > w.key"),
            ("job_keyed", "queue_id = $1 AND key = k.key"),
            ("Tid Scan", "ctid = p.place"),
        ],
        "claim_limited_keys" => &[
            ("job_keyed", "queue_id = $1 AND key > $5"),
            ("job_keyed", "queue_id = $1 AND key > w.key"),
            ("job_keyed", "queue_id = $1 AND key = k.key"),
            ("Tid Scan", "ctid = p.place"),
        ],
        "claim_ordered_keys" => &[
            ("job_keyed", "queue_id = $1 AND key > $5"),
            ("job_keyed", "queue_id = $1 AND key > w.key"),
            // The key: a plan's own parameter.
            ("job_held", "queue_id = $1 AND key = $6"),
            ("job_keyed", "queue_id = $1 AND key = $6"),
            ("job_keyed", "queue_id = $1 AND key = $6 AND priority < h.priority"),
            ("job_pkey", "queue_id = $1 AND id = minhead.id"),
            ("Tid Scan", "ctid = p.place"),
        ],
        "claim_sweep" => &[("job_ready", "queue_id = $1"), ("Tid Scan", "ctid = p.place")],
        "complete_jobs" if statement.sql.contains("($7::int") => &[(
            "job_pkey",
            "queue_id = ANY ARRAY[\"*VALUES*\".column1] AND id >= \"*VALUES*\".column2 \
             AND id <= \"*VALUES*\".column3",
        )],
        "complete_jobs" => &[("job_pkey", "queue_id = ANY ARRAY[$2] AND id >= $3 AND id <= $4")],
        "job_states" | "watched_jobs" | "report_progress" => {
            &[("job_pkey", "queue_id = v.q AND id = v.i")]
        }
        "settle_jobs" | "adopt_jobs" => {
            &[("job_pkey", "queue_id = ANY ARRAY[v.q] AND id >= v.i AND id <= v.i")]
        }
        "cancel_jobs" | "retry_jobs" | "delete_jobs" => {
            &[("job_pkey", "queue_id = ANY ARRAY[v.q] AND id >= v.i AND id <= v.i")]
        }
        "find_idempotent" => &[(
            "job_idempotency",
            "queue_id = ANY ARRAY[v.q] AND idempotency_key >= v.y AND idempotency_key <= v.y",
        )],
        "promote_jobs" => &[
            ("job_scheduled", "run_at <= $1"),
            ("job_pkey", "queue_id = ANY ARRAY[d.queue_id] AND id >= d.id AND id <= d.id"),
        ],
        "next_due" => &[("job_scheduled", ""), ("job_scheduled", "run_at > $1")],
        "sample_jobs" => &[("Sample Scan", "")],
        "next_scheduled" => &[("job_scheduled", "")],
        "jobs_ahead" => &[
            ("job_ready", "queue_id = $1 AND priority > $3"),
            ("job_ready", "queue_id = $1 AND priority = $3 AND id < $2"),
        ],
        "jobs_ahead_of_key" => &[
            ("job_keyed", "queue_id = $1 AND key = $4 AND priority > $3"),
            ("job_keyed", "queue_id = $1 AND key = $4 AND priority = $3 AND id < $2"),
        ],
        "first_of_key" => &[
            ("job_held", "queue_id = $1 AND key = $2"),
            ("job_keyed", "queue_id = $1 AND key = $2"),
            ("job_keyed", "queue_id = $1 AND key = $2 AND priority < h.priority"),
        ],
        "lock_keys" => &[("job_pkey", "queue_id = v.q AND id = v.i")],
        "job_owner" => &[("job_pkey", "queue_id = $1 AND id = $2")],
        "queue_standings" => &[
            ("job_ready", "queue_id = q.id"),
            ("job_keyed", "queue_id = q.id"),
            ("job_ready", "queue_id = q.id"),
            ("job_ready", "queue_id = q.id AND priority < h.priority"),
            ("job_keyed", "queue_id = q.id"),
            ("job_keyed", "queue_id = q.id AND key > k.key"),
        ],
        "due_schedules" => &[("job_pkey", "queue_id = s.queue_id AND id = s.last_job")],
        "running_attempts" => &[
            ("job_pkey", "queue_id = $1 AND id >= $0"),
            ("job_pkey", "queue_id = s.queue_id AND id = s.id"),
        ],
        "attempts_over" => &[("job_pkey", "queue_id = $1 AND id = v.i")],
        "ready_queues" => &[("job_keyed", "queue_id = v.q"), ("job_ready", "queue_id = v.q")],
        "prune_jobs" => &[
            ("job_pkey", "queue_id = $1 AND id > $2 AND id < $3"),
            ("job_pkey", "queue_id = $1 AND id > $2 AND id <= $1"),
        ],
        "list_oldest" | "list_newest" => &[
            ("job_pkey", "queue_id = $1 AND id > $2 AND id < $3"),
            ("job_pkey", "queue_id = $1 AND id = job.id"),
        ],
        "list_oldest_tagged" | "list_newest_tagged" => {
            &[("job_pkey", "queue_id = $1 AND id = tag.id")]
        }
        "list_oldest_dead" | "list_newest_dead" => {
            &[("job_pkey", "queue_id = $1 AND id = dead_job.id")]
        }
        "next_jobs" => &[("job_pkey", "queue_id = v.q AND id > v.i")],
        "rescue_range" => &[("job_pkey", "queue_id = $1 AND id >= $2")],
        // The watermark: a plan's own parameter.
        "find_orphans" => &[
            ("job_pkey", "queue_id = $1 AND id >= GREATEST$2, $0"),
            ("job_pkey", "queue_id = ANY ARRAY[s.queue_id] AND id >= s.id AND id <= s.id"),
        ],
        "rescue_stragglers" => {
            &[("job_pkey", "queue_id = ANY ARRAY[s.queue_id] AND id >= s.id AND id <= s.id")]
        }
        // They read no jobs.
        "enqueue_unique"
        | "get_checkpoint"
        | "insert_jobs"
        | "insert_tagged_jobs"
        | "broker_lives"
        | "delete_rare"
        | "failed_attempts"
        | "notify_ready"
        | "find_queues"
        | "queues_by_id"
        | "create_queues"
        | "count_queues"
        | "all_queues"
        | "list_queues"
        | "changed_queues"
        | "job_pages"
        | "tell_loads"
        | "follow_queues"
        | "list_brokers"
        | "brokers_of_queue"
        | "lost_workers"
        | "own_queues"
        | "disown_queues"
        | "queue_loads"
        | "brokers_behind"
        | "examine_server"
        | "examine_rights"
        | "examine_schema"
        | "remember"
        | "remembered"
        | "say_something"
        | "get_schedule"
        | "list_schedules"
        | "count_schedules"
        | "create_schedule"
        | "update_schedule"
        | "delete_schedule"
        | "pause_schedule"
        | "resume_schedule"
        | "delete_other_schedules"
        | "fire_schedule"
        | "next_schedule"
        | "queue_retentions"
        | "configure_queue"
        | "pause_queue"
        | "resume_queue"
        | "database_time"
        | "register_broker"
        | "supersede_broker"
        | "retire_broker"
        | "heartbeat_broker"
        | "lower_watermark"
        | "bury_brokers"
        | "find_cancels"
        | "forget_cancels"
        | "notify_cancelled"
        | "take_duty"
        | "forget_dead"
        | "next_dead_broker"
        | "note_rescue"
        | "forget_broker"
        | "create_token"
        | "list_tokens"
        | "valid_tokens"
        | "revoke_token"
        | "touch_tokens"
        | "prune_tokens"
        | "note_action"
        | "note_action_on"
        | "prune_audit" => &[],
        other => panic!("{other} is new: say here which indexes of currant.job it reads"),
    }
}

/// The generic plan: no parameter has a say in it.
async fn plan(client: &Client, sql: &str) -> Value {
    client.batch_execute(&format!("PREPARE planned AS {sql}")).await.unwrap();
    let plan = explain(client, "planned").await;
    client.batch_execute("DEALLOCATE planned").await.unwrap();
    plan
}

async fn explain(client: &Client, prepared: &str) -> Value {
    let count = "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = $1";
    let count: i32 = client.query_one(count, &[&prepared]).await.unwrap().get(0);
    let nulls = vec!["NULL"; count.unsigned_abs() as usize].join(", ");
    let arguments = if count == 0 { nulls } else { format!("({nulls})") };
    let explain = format!("EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE {prepared} {arguments}");
    let plan: Value = client.query_one(&explain, &[]).await.unwrap().get(0);
    plan[0]["Plan"].clone()
}

/// Depth first.
fn nodes(plan: &Value) -> Vec<&Value> {
    let inner = plan["Plans"].as_array().into_iter().flatten().flat_map(nodes);
    std::iter::once(plan).chain(inner).collect()
}

/// Index and condition of each scan of currant.job. A scan without an index is shown by its type.
fn job_scans(plan: &Value) -> Vec<(String, String)> {
    let text = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let scan = |node: &Value| {
        let kind = text(node, "Node Type");
        let indexed = node["Index Name"].as_str().filter(|name| name.starts_with("job_"));
        if let Some(index) = indexed {
            let condition = text(node, "Index Cond").replace(['(', ')'], "");
            return Some((index.to_owned(), condition));
        }
        // The bitmap's index comes below it.
        let other = node["Relation Name"] == "job"
            && !["ModifyTable", "Bitmap Heap Scan"].contains(&kind.as_str());
        let condition = if kind == "Tid Scan" { "TID Cond" } else { "Filter" };
        other.then(|| (kind, text(node, condition).replace(['(', ')'], "")))
    };
    nodes(plan).into_iter().filter_map(scan).collect()
}

/// A tenth of the jobs is scheduled, a tenth ready, a tenth running; the rest succeeded.
async fn fill(database: &Database, jobs: u32) {
    let client = database.connect().await;
    client
        .batch_execute(&format!(
            "INSERT INTO currant.queue (name) SELECT 'q' || n FROM generate_series(1, 3) n;
             INSERT INTO currant.job (queue_id, id, owner, attempt, priority, phase, outcome,
                                      run_at, kind, payload, idempotency_key, key)
             SELECT n % 3 + 1, 1000000 + n, CASE WHEN n % 10 < 8 THEN 1 END, 1, n % 3,
                    CASE WHEN n % 10 = 9 THEN 0 WHEN n % 10 = 8 THEN 1 ELSE 2 END,
                    CASE WHEN n % 10 < 7 THEN 1 END,
                    CASE WHEN n % 10 = 9 THEN now() + n * interval '1 second' END, 'test', 'x',
                    CASE WHEN n % 50 = 0 THEN n::text END, CASE WHEN n % 4 < 2 THEN 'key ' || n % 7 END
             FROM generate_series(1, {jobs}) n"
        ))
        .await
        .unwrap();
}

/// Which scans of currant.job, and whether it sorts.
type Reads = (Vec<(String, String)>, bool);

fn reads(plan: &Value) -> Reads {
    let sorts = nodes(plan).iter().any(|node| node["Node Type"] == "Sort");
    (job_scans(plan), sorts)
}

fn is_as_expected((scans, sorts): &Reads, statement: &Statement) -> bool {
    let expected = expected(statement);
    let scans = scans.iter().map(|(index, condition)| (&**index, &**condition));
    // A sample has an end, and the keys of a call too: to sort them does no harm.
    let may_sort = expected.is_empty() || ["sample_jobs", "lock_keys"].contains(&statement.name);
    scans.eq(expected.iter().copied()) && (!sorts || may_sort)
}

async fn every_plan_is_as_expected(jobs: u32, analyse: bool) {
    let database = Database::fresh().await;
    fill(&database, jobs).await;
    if analyse {
        database.connect().await.batch_execute("ANALYZE").await.unwrap();
    }
    let client = store(&database).client().await.unwrap();
    let mut wrong = Vec::new();
    let planned = |statement: &Statement| !statement.sql.contains(" COPY ");
    for statement in store::statements().into_iter().filter(planned) {
        let reads = reads(&plan(&client, statement.sql).await);
        if !is_as_expected(&reads, &statement) {
            wrong.push(format!("{}: {reads:?}", statement.name));
        }
    }
    assert!(wrong.is_empty(), "with {jobs} jobs: {wrong:#?}");
    // A bad one would be seen.
    let bad = plan(&client, "SELECT FROM currant.job WHERE outcome IS NULL").await;
    assert_eq!(job_scans(&bad), [("Seq Scan".to_owned(), "outcome IS NULL".to_owned())]);
}

const LARGE: u32 = 200_000;

#[tokio::test]
async fn every_statement_reads_the_right_index_of_a_new_table() {
    every_plan_is_as_expected(0, false).await;
}

#[tokio::test]
async fn every_statement_reads_the_right_index_of_an_empty_table() {
    every_plan_is_as_expected(0, true).await;
}

#[tokio::test]
async fn every_statement_reads_the_right_index_of_a_small_table() {
    every_plan_is_as_expected(100, true).await;
}

#[tokio::test]
async fn every_statement_reads_the_right_index_of_a_large_table() {
    every_plan_is_as_expected(LARGE, true).await;
}

#[tokio::test]
async fn every_statement_reads_the_right_index_of_a_large_table_that_was_never_analysed() {
    every_plan_is_as_expected(LARGE, false).await;
}

/// Through a pooler of transactions statements aren't prepared: the types are those of the casts.
#[tokio::test]
async fn the_types_of_parameters_are_as_cast() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    for statement in store::statements() {
        let prepared = client.prepare(statement.sql).await.unwrap();
        assert_eq!(prepared.params(), statement.parameter_types(), "{}", statement.name);
    }
}

/// `/* name */` at the beginning of a statement's text, and those whose names a macro puts there.
fn names_in(source: &str) -> BTreeSet<String> {
    let after = |mark: &str| {
        let pieces: Vec<&str> = source.split(mark).skip(1).collect();
        pieces
    };
    let name = |piece: &str| {
        let end = piece.find(|c: char| !c.is_ascii_lowercase() && c != '_')?;
        Some(piece[..end].to_owned()).filter(|name| !name.is_empty())
    };
    let marks = ["\"/* ", "claim!(\"", "claim_keys!(\"", "list!(\"", "queues!(\"", "schedules!(\""];
    marks.into_iter().flat_map(after).filter_map(name).collect()
}

/// Those that have no plan to look at.
const UNPLANNED: [&str; 5] =
    ["applied_migrations", "create_schema", "listen", "lock_migrations", "oldest_broker"];

#[test]
fn every_statement_of_the_store_is_listed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut written = BTreeSet::new();
    for file in fs::read_dir(directory).unwrap() {
        written.extend(names_in(&fs::read_to_string(file.unwrap().path()).unwrap()));
    }
    let listed = store::statements().into_iter().map(|statement| statement.name);
    let listed: BTreeSet<String> = listed.chain(UNPLANNED).map(str::to_owned).collect();
    assert_eq!(written, listed, "store::statements() and the SQL in broker/src/store differ");
    assert_eq!(names_in("\"/* one */ SELECT\", claim!(\"two\", \"\")").len(), 2);
}
