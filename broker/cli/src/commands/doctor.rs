use currant_worker_sdk::{Client, Error, JobId, NewJob};
use serde_json::json;
use tonic::Code;

use crate::{
    arguments::Connection,
    end::{End, Failure},
    printer::Printer,
};

/// What was looked at, and what was found.
struct Check {
    name: &'static str,
    good: bool,
    found: String,
    /// How to mend it; empty: there is nothing to mend.
    mend: &'static str,
}

/// Looks whether the broker answers, and what the token allows. Each question is one that changes nothing:
/// it is answered as wrong, or with nothing, by whoever allows it.
pub(crate) async fn run(connection: &Connection, printer: &mut Printer) -> Result<End, Failure> {
    let mut checks = Vec::new();
    match connection.client().await {
        Err(failure @ Failure::Call(Error::Connect(_) | Error::Endpoint { .. })) => {
            checks.push(Check {
                name: "broker",
                good: false,
                found: failure.message().unwrap_or_default(),
                mend: "is it running, does it listen there (grpc.listen), does a firewall stand between?",
            });
        }
        Err(failure) => return Err(failure),
        Ok(client) => {
            let found = "it answers".to_owned();
            checks.push(Check { name: "broker", good: true, found, mend: "" });
            ask(&client, &mut checks).await?;
        }
    }
    let all_good = checks.iter().all(|check| check.good);
    for Check { name, good, found, mend } in &checks {
        if printer.is_json() {
            let json = json!({ "check": name, "good": good, "found": found, "mend": mend });
            printer.line(&json.to_string())?;
            continue;
        }
        let sign = if *good { "ok" } else { "WRONG" };
        printer.line(&format!("{sign:<5}  {name:<6}  {found}"))?;
        if !mend.is_empty() {
            printer.line(&format!("{:15}to mend it: {mend}", ""))?;
        }
    }
    Ok(if all_good { End::Done } else { End::Refused })
}

async fn ask(client: &Client, checks: &mut Vec<Check>) -> Result<(), Failure> {
    let nobody = JobId(1);
    let answers = [
        ("to look (read)", client.get(nobody).await.map(drop)),
        ("to store (enqueue)", client.enqueue(NewJob::raw("", "", "")).await.map(drop)),
        ("to change (admin)", client.pause_queue("").await.map(drop)),
        ("to make tokens (admin of all queues)", client.tokens().await.map(drop)),
    ];
    let mut allowed = Vec::new();
    for (what, answer) in answers {
        match answer {
            Ok(()) | Err(Error::NotFound { .. } | Error::InvalidArgument { .. }) => {
                allowed.push(what);
            }
            Err(Error::Refused(status)) if status.code() == Code::PermissionDenied => {}
            Err(Error::Refused(status)) if status.code() == Code::Unauthenticated => {
                checks.push(Check {
                    name: "token",
                    good: false,
                    found: status.message().to_owned(),
                    mend: "give a valid one in CURRANT_TOKEN or --token-file; currant-broker token create \
                           makes one",
                });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let found = if allowed.is_empty() {
        "it allows nothing of what this program does".to_owned()
    } else {
        format!("it is allowed {}", allowed.join(", "))
    };
    checks.push(Check { name: "token", good: !allowed.is_empty(), found, mend: "" });
    Ok(())
}
