use tokio::sync::mpsc;

/// A channel between tasks of the pipeline. It has no bound of its own, because what may be in it has
/// one: the budget that callers pass first, or the credit and bytes of a session. Its sender can thus
/// speak while it holds the engine's lock, where nothing may wait.
#[expect(clippy::disallowed_methods, reason = "bounded by what may be sent, see above")]
pub(super) fn channel<T>() -> (mpsc::UnboundedSender<T>, mpsc::UnboundedReceiver<T>) {
    mpsc::unbounded_channel()
}
