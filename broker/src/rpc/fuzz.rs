//! For `fuzz/` and the property in `arbitrary`: what a call does with its message before it asks anybody.
//! What can be read is refused or becomes what the pipeline expects; the asserts say what that is.

use currant_proto::v1 as pb;
use prost::Message;

use super::{
    check, convert, convert_queue, convert_schedule, convert_token, filter::Filter, list::Token,
    report_progress::checked_report, status::Violations,
};
use crate::domain::{NAME_CHARS_MAX, PRIORITY_MAX, PRIORITY_MIN, QueueId, Start};

/// Microseconds since 1970.
const NOW: i64 = 1_700_000_000_000_000;
const BYTES_MAX: usize = 20;

/// Takes bytes for a message.
type Take = fn(&[u8]);

/// The messages of all calls, by the contract's names.
pub(super) const REQUESTS: [(&str, Take); 37] = [
    ("EnqueueRequest", |bytes| {
        take(bytes, |it: pb::EnqueueRequest| it.jobs.into_iter().for_each(job));
    }),
    ("EnqueueStreamRequest", |bytes| {
        take(bytes, |it: pb::EnqueueStreamRequest| {
            it.request.unwrap_or_default().jobs.into_iter().for_each(job);
        });
    }),
    ("GetRequest", |bytes| take(bytes, |it: pb::GetRequest| name(&it.queue))),
    ("ExplainRequest", |bytes| take(bytes, |it: pb::ExplainRequest| name(&it.queue))),
    ("ListRequest", |bytes| {
        take(bytes, |it: pb::ListRequest| {
            filter(it.filter);
            let _ = Token::check(&it.page_token, QueueId(1), it.newest_first);
        });
    }),
    ("WatchRequest", |bytes| take(bytes, |it: pb::WatchRequest| name(&it.queue))),
    ("CancelRequest", |bytes| take(bytes, |it: pb::CancelRequest| ids(it.job_ids))),
    ("RetryRequest", |bytes| take(bytes, |it: pb::RetryRequest| ids(it.job_ids))),
    ("DeleteRequest", |bytes| take(bytes, |it: pb::DeleteRequest| ids(it.job_ids))),
    ("ChangeAllRequest", |bytes| {
        take(bytes, |it: pb::ChangeAllRequest| {
            let _ = it.change();
            filter(it.filter);
            let _ = Token::check(&it.page_token, QueueId(1), false);
        });
    }),
    ("SubscribeRequest", |bytes| {
        take(bytes, |it: pb::SubscribeRequest| {
            it.queues.iter().for_each(|queue| name(queue));
            let _ = (check::text(&it.worker, 128), check::session(&it.session_id));
            attempts(it.held);
        });
    }),
    ("HeartbeatRequest", |bytes| {
        take(bytes, |it: pb::HeartbeatRequest| {
            let _ = check::session(&it.session_id);
            attempts(it.held);
        });
    }),
    ("CompleteRequest", |bytes| {
        take(bytes, |it: pb::CompleteRequest| {
            let _ = check::session(&it.session_id);
            let _ = it.mean_run_time.map(|time| check::run_time(&time));
            it.completions.into_iter().for_each(completion);
        });
    }),
    ("ReportProgressRequest", |bytes| {
        take(bytes, |it: pb::ReportProgressRequest| {
            let _ = check::session(&it.session_id);
            for report in it.reports {
                let _ = checked_report(report, BYTES_MAX);
            }
        });
    }),
    ("GetCheckpointRequest", |bytes| {
        take(bytes, |it: pb::GetCheckpointRequest| {
            let _ = (check::session(&it.session_id), convert::attempt_of(it.job_id, it.attempt));
        });
    }),
    ("ListBrokersRequest", |bytes| take(bytes, |_: pb::ListBrokersRequest| {})),
    ("ListSessionsRequest", |bytes| {
        take(bytes, |it: pb::ListSessionsRequest| {
            let _ = check::page_size(it.page_size);
        });
    }),
    ("WatchQueueStatsRequest", |bytes| {
        take(bytes, |it: pb::WatchQueueStatsRequest| {
            name(&it.after);
            let _ = check::duration_ms(&it.interval.unwrap_or_default(), 1000, 60_000);
        });
    }),
    ("ListQueuesRequest", |bytes| {
        take(bytes, |it: pb::ListQueuesRequest| page(it.page_size, &it.page_token));
    }),
    ("GetQueueRequest", |bytes| take(bytes, |it: pb::GetQueueRequest| name(&it.queue))),
    ("ConfigureQueueRequest", |bytes| {
        take(bytes, |it: pb::ConfigureQueueRequest| {
            name(&it.queue);
            convert_queue::queue_settings(&it.settings.unwrap_or_default(), is_said);
        });
    }),
    ("PauseQueueRequest", |bytes| take(bytes, |it: pb::PauseQueueRequest| name(&it.queue))),
    ("ResumeQueueRequest", |bytes| take(bytes, |it: pb::ResumeQueueRequest| name(&it.queue))),
    ("DrainQueueRequest", |bytes| {
        take(bytes, |it: pb::DrainQueueRequest| {
            name(&it.queue);
            let _ = check::duration_ms(&it.wait.unwrap_or_default(), 0, 60_000);
        });
    }),
    ("QueueStatsRequest", |bytes| take(bytes, |it: pb::QueueStatsRequest| name(&it.queue))),
    ("CreateScheduleRequest", |bytes| {
        take(bytes, |it: pb::CreateScheduleRequest| schedule(it.schedule));
    }),
    ("UpdateScheduleRequest", |bytes| {
        take(bytes, |it: pb::UpdateScheduleRequest| schedule(it.schedule));
    }),
    ("DeleteScheduleRequest", |bytes| take(bytes, |it: pb::DeleteScheduleRequest| name(&it.name))),
    ("GetScheduleRequest", |bytes| take(bytes, |it: pb::GetScheduleRequest| name(&it.name))),
    ("ListSchedulesRequest", |bytes| {
        take(bytes, |it: pb::ListSchedulesRequest| page(it.page_size, &it.page_token));
    }),
    ("PauseScheduleRequest", |bytes| take(bytes, |it: pb::PauseScheduleRequest| name(&it.name))),
    ("ResumeScheduleRequest", |bytes| take(bytes, |it: pb::ResumeScheduleRequest| name(&it.name))),
    ("RunScheduleNowRequest", |bytes| {
        take(bytes, |it: pb::RunScheduleNowRequest| name(&it.name));
    }),
    ("NextFiresRequest", |bytes| take(bytes, |it: pb::NextFiresRequest| name(&it.name))),
    ("CreateTokenRequest", |bytes| {
        take(bytes, |it: pb::CreateTokenRequest| {
            if let Ok(token) = convert_token::new_token(it, NOW) {
                assert!(!token.grant.scopes.is_empty() && !token.grant.queues.is_empty());
                assert!(token.expires_at.is_none_or(|at| at > NOW));
            }
        });
    }),
    ("ListTokensRequest", |bytes| take(bytes, |_: pb::ListTokensRequest| {})),
    ("RevokeTokenRequest", |bytes| take(bytes, |_: pb::RevokeTokenRequest| {})),
];

/// Takes the bytes for the message of each call.
///
/// # Panics
/// When what was taken isn't what the pipeline expects.
pub fn requests(bytes: &[u8]) {
    for (_, take) in REQUESTS {
        take(bytes);
    }
}

fn take<T: Message + Default>(bytes: &[u8], look: impl FnOnce(T)) {
    if let Ok(message) = T::decode(bytes) {
        look(message);
    }
}

fn job(job: pb::NewJob) {
    let defaults =
        convert::Defaults { queue: true, kind: true, payload_bytes_max: BYTES_MAX, now: NOW };
    let mut wrong = 0;
    convert::check_new_job(&job, &defaults, |field, problem| {
        is_said(field, problem);
        wrong += 1;
    });
    if wrong > 0 {
        return;
    }
    let new = convert::new_job(job, (QueueId(1), 0), "kind", NOW);
    assert!((PRIORITY_MIN..=PRIORITY_MAX).contains(&new.priority));
    assert!(new.payload.len() <= BYTES_MAX && !new.kind.is_empty());
    let ten_years = i64::try_from(check::AHEAD_MS_MAX).expect("ten years") * 1000;
    match new.start {
        Start::Now => {}
        Start::AtMicros(at) => assert!((check::TIME_MICROS_MIN..=NOW + ten_years).contains(&at)),
        Start::AfterMicros(after) => assert!((0..=ten_years).contains(&after)),
    }
}

fn completion(completion: pb::Completion) {
    if let Ok(completion) = convert::completion(completion, BYTES_MAX) {
        assert!(completion.attempt.number >= 1);
        // What failures say is cut, a result is bounded.
        assert!(completion.bytes() <= 17 * 1024);
    }
}

fn attempts(held: Vec<pb::Attempt>) {
    let attempts = convert::attempts(held).unwrap_or_default();
    assert!(attempts.iter().all(|attempt| attempt.number >= 1));
}

fn ids(ids: Vec<i64>) {
    let (some, many) = (!ids.is_empty(), ids.len() > 1000);
    assert_eq!(check::job_ids(ids).is_ok(), some && !many);
}

fn name(name: &str) {
    assert!(check::name(name).is_err() || (1..=NAME_CHARS_MAX).contains(&name.len()));
}

fn page(size: u32, token: &str) {
    assert!(check::page(size, token).is_err() || size <= 1000);
}

fn schedule(schedule: Option<pb::Schedule>) {
    let schedule = schedule.unwrap_or_default();
    if let Some((new, queue)) = convert_schedule::new_schedule(schedule, BYTES_MAX, NOW, is_said) {
        assert!(new.job.payload.len() <= BYTES_MAX);
        [&new.name, &new.job.kind, &queue].into_iter().for_each(|it| name(it));
    }
}

fn is_said(field: &str, problem: String) {
    assert!(!field.is_empty() && !problem.is_empty());
}

fn filter(filter: Option<pb::JobFilter>) {
    Filter::check(filter.unwrap_or_default(), NOW, &mut Violations::default());
}
