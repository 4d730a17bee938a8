use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use currant_proto::v1::{
    EnqueueRequest, GetRequest, NewJob, job_service_client::JobServiceClient,
    queue_service_client::QueueServiceClient, schedule_service_client::ScheduleServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tonic::{Code, transport::Channel};

use super::{Database, PATIENCE, http_get_as};

/// A broker process on free ports; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    log: Log,
    channel: Channel,
    /// `127.0.0.1:port`
    pub(crate) grpc: String,
    pub(crate) http: String,
}

/// Its log so far, an object a line.
type Log = Arc<Mutex<Vec<serde_json::Value>>>;

impl Broker {
    pub(crate) async fn start(database: &Database) -> Self {
        Self::start_with(database, &[]).await
    }

    /// With settings, such as `("SESSION__TIMEOUT_MS", "500")`.
    pub(crate) async fn start_with(database: &Database, settings: &[(&str, &str)]) -> Self {
        Self::watch(spawn(program(), &database.url, settings)).await
    }

    /// With so many descriptors and no more.
    pub(crate) async fn start_with_descriptors(database: &Database, max: u32) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh", &max.to_string()]);
        shell.arg(env!("CARGO_BIN_EXE_currant-broker"));
        Self::watch(spawn(shell, &database.url, &[])).await
    }

    /// Waits until it answers.
    async fn watch(mut child: Child) -> Self {
        let log = Log::default();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(serde_json::Value::String(line));
                sink.lock().unwrap().push(line);
            }
        });
        let (grpc, http) = addresses(&mut child, &log).await;
        let channel = Channel::from_shared(format!("http://{grpc}")).unwrap();
        Self { child, log, channel: channel.connect_lazy(), grpc, http }
    }

    /// Expects that it doesn't start, and returns what it says before it ends with an error.
    pub(crate) async fn refused_with(url: &str, settings: &[(&str, &str)]) -> String {
        let child = spawn(program(), url, settings);
        let pid = child.id().to_string();
        let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
        let Ok(output) = tokio::time::timeout(PATIENCE, output).await else {
            Command::new("kill").args(["-9", &pid]).status().unwrap();
            panic!("it runs");
        };
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel())
    }

    pub(crate) fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel())
    }

    pub(crate) fn schedules(&self) -> ScheduleServiceClient<Channel> {
        ScheduleServiceClient::new(self.channel())
    }

    pub(crate) fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel())
    }

    /// Stores the jobs in one call and returns their ids.
    pub(crate) async fn enqueue(&self, jobs: impl IntoIterator<Item = NewJob>) -> Vec<i64> {
        let jobs = jobs.into_iter().collect();
        let request = EnqueueRequest { jobs, ..EnqueueRequest::default() };
        self.jobs().enqueue(request).await.unwrap().into_inner().job_ids
    }

    /// Returns when what was sent before on this connection has come in.
    pub(crate) async fn round_trip(&self) {
        let status =
            self.jobs().get(GetRequest { job_id: 0, ..Default::default() }).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().iter().map(|line| format!("{line}\n")).collect()
    }

    /// What `/metrics` shows.
    pub(crate) async fn metrics(&self) -> String {
        self.metrics_as("").await
    }

    /// The same with a token's secret.
    pub(crate) async fn metrics_as(&self, secret: &str) -> String {
        let (status, metrics) = http_get_as(&self.http, "/metrics", secret).await;
        assert_eq!(status, 200);
        metrics
    }

    /// Whether a line with this message is in the log.
    pub(crate) fn logged(&self, message: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line["message"] == message)
    }

    /// The value of a metric, with its labels if it has some, if it is there.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        value(&self.metrics().await, name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As after a crash: SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; `end` waits for what comes of it.
    pub(crate) fn signal_to_stop(&self) {
        self.signal("TERM");
    }

    /// A signal by its name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until the process has ended.
    pub(crate) async fn end(mut self) -> ExitStatus {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(2 * PATIENCE, wait).await.expect("the broker doesn't end")
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn terminate(self) -> ExitStatus {
        self.signal_to_stop();
        self.end().await
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            for line in self.log.lock().unwrap().iter() {
                eprintln!("broker {}: {line}", self.grpc);
            }
        }
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_currant-broker"))
}

fn spawn(mut program: Command, url: &str, settings: &[(&str, &str)]) -> Child {
    program
        .arg("serve")
        .env("CURRANT_DATABASE__URL", url)
        .env("CURRANT_GRPC__LISTEN", "127.0.0.1:0")
        .env("CURRANT_HTTP__LISTEN", "127.0.0.1:0")
        .env("CURRANT_LOG__FORMAT", "json")
        .envs(settings.iter().map(|(key, value)| (format!("CURRANT_{key}"), value)))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Of a metric, among those that were served.
pub(crate) fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

const READY: &str = "the broker is ready";

/// Where it listens, once it says that it is ready, as text or as JSON.
async fn addresses(child: &mut Child, log: &Log) -> (String, String) {
    let wait = async {
        loop {
            let lines = log.lock().unwrap().clone();
            if let Some(ready) = lines.iter().find(|line| line["message"] == READY) {
                let address = |key: &str| ready[key].as_str().unwrap().to_owned();
                return (address("grpc"), address("http"));
            }
            let mut texts = lines.iter().filter_map(|line| line.as_str());
            if let Some(ready) = texts.find(|text| text.contains(READY)) {
                let address = |key: &str| {
                    let mut words = ready.split_whitespace();
                    words.find_map(|word| word.strip_prefix(key)).unwrap().to_owned()
                };
                return (address("grpc="), address("http="));
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "the broker ended with {ended:?}: {lines:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the broker doesn't get ready")
}
