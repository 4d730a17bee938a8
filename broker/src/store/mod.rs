//! Every statement that the broker runs, one function each, named by its verb.
//!
//! The SQL is a constant beside the function; its first line is a comment with the statement's name,
//! which logs, metrics and `pg_stat_statements` share. In statements on jobs times are bound by the
//! broker, never computed in SQL; every hot one says `queue_id = …`.
//!
//! Plans are kept while tables grow, so each is pinned whatever the planner thinks of a table's size:
//! by the session's settings in `connect`, in an UPDATE's join by `job_by_key`, in a SELECT by
//! `LATERAL (… OFFSET 0)`, a look into the table for each row beside it.

mod address;
mod adopt_jobs;
mod audit;
#[doc(hidden)]
pub mod bench;
mod brokers;
mod cancel_jobs;
mod claim_jobs;
mod claim_keys;
mod column;
mod complete_jobs;
mod configure_queues;
mod connect;
mod connection;
mod copy;
mod delete_jobs;
mod duties;
mod enqueue_unique;
mod error;
mod examine;
mod explain_job;
mod fire_schedules;
mod get_job;
mod insert_jobs;
mod list_jobs;
mod listener;
mod locate_jobs;
mod migrate;
mod notify;
mod promote_jobs;
mod prune_jobs;
mod queue_depths;
mod queue_loads;
mod queue_owners;
mod queues;
mod ready_queues;
mod report_progress;
mod rescue_jobs;
mod retry_jobs;
mod row;
mod schedules;
mod settle_jobs;
mod statement;
mod tokens;
mod watched_jobs;

pub use address::{Address, AddressError};
pub use adopt_jobs::adopt_jobs;
pub use audit::{note_action, note_action_on, prune_audit};
pub use brokers::{
    BrokerRow, Heartbeat, bury_brokers, database_time, heartbeat_broker, list_brokers,
    register_broker, retire_broker,
};
pub use cancel_jobs::{Cancelled, cancel_jobs, find_cancels, forget_cancels, notify_cancelled};
pub use claim_jobs::{Claim, claim_cursor, claim_sweep};
pub use claim_keys::{ClaimedKeys, KeyWalk, claim_keys};
pub use complete_jobs::{COMPLETE_ROWS_MAX, Success};
pub use configure_queues::{configure_queue, pause_queue, resume_queue};
pub use connect::{Settings, Store};
pub use connection::Client;
pub use delete_jobs::delete_jobs;
pub use duties::take_duty;
pub use enqueue_unique::{UniqueRow, enqueue_unique};
pub use error::{Refusal, StoreError, Violation};
pub use examine::{
    Rights, Server, examine_rights, examine_schema, examine_server, hears, keeps_sessions,
};
pub use explain_job::{brokers_of_queue, first_of_key, job_owner, jobs_ahead};
pub use fire_schedules::{DueSchedule, due_schedules, fire_schedule, next_schedule};
pub use get_job::{failed_attempts, get_job};
pub use insert_jobs::{InsertRow, StoredCall, find_idempotent, insert_jobs};
pub use list_jobs::{Found, list_jobs};
pub use listener::{Listener, Notice};
pub use locate_jobs::{
    JobState, OUTCOME_CANCELLED, OUTCOME_DEAD, OUTCOME_SUCCEEDED, PHASE_READY, PHASE_SCHEDULED,
    PHASE_TAKEN, job_states, locate_jobs, lost_workers,
};
pub use migrate::{MigrateError, migrate, missing, newest_version};
pub use notify::notify_ready;
pub use promote_jobs::{NextDue, next_due, promote_jobs};
pub use prune_jobs::{next_jobs, prune_jobs};
pub use queue_depths::{Standing, job_pages, next_scheduled, queue_standings, sample_jobs};
pub use queue_loads::{Load, LoadRow, brokers_behind, follow_queues, queue_loads, tell_loads};
pub use queue_owners::{attempts_over, disown_queues, own_queues, running_attempts};
pub use queues::{
    all_queues, changed_queues, count_queues, create_queues, find_queues, list_queues,
    queue_retentions, queues_by_id,
};
pub use ready_queues::ready_queues;
pub use report_progress::{get_checkpoint, report_progress};
pub use rescue_jobs::{Rescued, held_jobs, rescue_jobs};
pub use retry_jobs::retry_jobs;
pub use schedules::{
    count_schedules, create_schedule, delete_other_schedules, delete_schedule, get_schedule,
    list_schedules, pause_schedule, resume_schedule, update_schedule,
};
pub use settle_jobs::{Settled, Settlement, settle_jobs};
pub use statement::Statement;
pub use tokens::{
    Actor, create_token, list_tokens, prune_tokens, revoke_token, touch_tokens, valid_tokens,
};
pub use watched_jobs::{Changed, Sight, watched_jobs};

/// Every statement, for those who look at plans; `complete_jobs` once for each of its sizes.
pub fn statements() -> Vec<Statement> {
    let others: [&[Statement]; 32] = [
        &adopt_jobs::STATEMENTS,
        &audit::STATEMENTS,
        &brokers::STATEMENTS,
        &cancel_jobs::STATEMENTS,
        &claim_jobs::STATEMENTS,
        &claim_keys::STATEMENTS,
        &configure_queues::STATEMENTS,
        &delete_jobs::STATEMENTS,
        &duties::STATEMENTS,
        &enqueue_unique::STATEMENTS,
        &examine::STATEMENTS,
        &explain_job::STATEMENTS,
        &fire_schedules::STATEMENTS,
        &get_job::STATEMENTS,
        &insert_jobs::STATEMENTS,
        &list_jobs::STATEMENTS,
        &locate_jobs::STATEMENTS,
        &notify::STATEMENTS,
        &promote_jobs::STATEMENTS,
        &prune_jobs::STATEMENTS,
        &queue_depths::STATEMENTS,
        &queue_loads::STATEMENTS,
        &queue_owners::STATEMENTS,
        &queues::STATEMENTS,
        &ready_queues::STATEMENTS,
        &report_progress::STATEMENTS,
        &rescue_jobs::STATEMENTS,
        &retry_jobs::STATEMENTS,
        &schedules::STATEMENTS,
        &settle_jobs::STATEMENTS,
        &tokens::STATEMENTS,
        &watched_jobs::STATEMENTS,
    ];
    [others.concat(), complete_jobs::statements().to_vec()].concat()
}
