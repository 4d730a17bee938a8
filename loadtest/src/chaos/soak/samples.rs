//! What brokers and tables take, once a second.

use anyhow::Result;
use tokio::time::Instant;

use crate::chaos::{cluster::Cluster, metrics::sum};

const SIZES: &str = "SELECT sum(pg_table_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint
FROM pg_class c WHERE c.relnamespace = 'currant'::regnamespace AND c.relkind = 'r'";

#[derive(Debug)]
pub(super) struct Samples {
    begun: Instant,
    pub(super) rows: Vec<Sample>,
    pub(super) faults: u32,
    /// Processes that nobody had ended.
    pub(super) ended: u32,
}

/// All that is to be flat, each by its name.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    pub(super) values: Vec<(String, f64)>,
}

impl Samples {
    pub(super) fn new() -> Samples {
        Samples { begun: Instant::now(), rows: Vec::new(), faults: 0, ended: 0 }
    }

    pub(super) async fn take(&mut self, cluster: &Cluster) -> Result<()> {
        let mut values = Vec::new();
        for (number, text) in cluster.metrics().await?.into_iter().enumerate() {
            let text = [text];
            for name in ["process_resident_memory_bytes", "process_open_fds", "currant_tasks"] {
                values.push((format!("{name} of broker {number}"), sum(&text, name)));
            }
        }
        // Others' connections may have been the last that there were a moment ago.
        let Ok(client) = cluster.connect().await else { return Ok(()) };
        let sizes = client.query_one(SIZES, &[]).await?;
        for (name, bytes) in [("tables", sizes.get::<_, i64>(0)), ("indexes", sizes.get(1))] {
            values.push((format!("bytes of {name}"), bytes as f64));
        }
        self.rows.push(Sample { seconds: self.begun.elapsed().as_secs_f64(), values });
        Ok(())
    }
}
