use std::{
    io::{self, Read},
    path::PathBuf,
};

use clap::Args;
use currant_worker_sdk::NewJob;

use crate::end::Failure;

const JSON: &str = "application/json";

/// What a job is to do.
#[derive(Args)]
pub(crate) struct PayloadArgs {
    /// The payload: JSON, unless there is another --content-type [default: null]
    payload: Option<String>,
    /// A file that has the payload; - is the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    payload_file: Option<PathBuf>,
    /// MIME type of the payload
    #[arg(long, value_name = "TYPE", default_value = JSON)]
    content_type: String,
}

impl PayloadArgs {
    pub(crate) fn job(self, queue: String, kind: String) -> Result<NewJob, Failure> {
        let PayloadArgs { payload, payload_file, content_type } = self;
        let payload = match (payload, payload_file) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(path)) => read(&path)
                .map_err(|error| Failure::System(format!("reading {}", path.display()), error))?,
            (None, None) if content_type == JSON => b"null".to_vec(),
            (None, None) => Vec::new(),
        };
        if content_type == JSON
            && let Err(error) = serde_json::from_slice::<serde_json::Value>(&payload)
        {
            return Err(Failure::Usage(format!(
                "the payload isn't JSON: {error}; say what it is with --content-type"
            )));
        }
        Ok(NewJob::raw(queue, kind, payload).content_type(content_type))
    }
}

fn read(path: &PathBuf) -> io::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return std::fs::read(path);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}
