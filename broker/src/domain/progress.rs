use bytes::Bytes;

/// What a worker says of an attempt that runs; what it leaves out stays as it said it before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgressReport {
    /// 0 to 100.
    pub percent: Option<f32>,
    pub message: Option<String>,
    /// What the next attempt goes on from.
    pub checkpoint: Option<Bytes>,
}

impl ProgressReport {
    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        96 + self.message.as_ref().map_or(0, String::len)
            + self.checkpoint.as_ref().map_or(0, Bytes::len)
    }

    /// Takes over what a later report of the same attempt says.
    pub fn update(&mut self, later: Self) {
        let Self { percent, message, checkpoint } = later;
        self.percent = percent.or(self.percent);
        self.message = message.or(self.message.take());
        self.checkpoint = checkpoint.or(self.checkpoint.take());
    }
}

/// How far a job has come, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub attempt: i32,
    pub percent: Option<f32>,
    pub message: Option<String>,
    /// Microseconds since 1970.
    pub reported_at: i64,
}
