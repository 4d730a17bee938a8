//! Ways to break this broker on purpose, so that a checker can be shown to find them
//! (`currant-loadtest chaos --mutation`).
//!
//! Only a build with the feature `mutations` has them, and then the variable `CURRANT_MUTATION` chooses
//! one; no release is built like that. Without the feature [`on`] is `false` for the compiler.

/// One thing done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Jobs are acknowledged though their commit has failed.
    AckBeforeCommit,
    /// A completion is written whatever its attempt.
    NoFencing,
    /// What was notified is never looked for from the front of the queue.
    ForgottenSweep,
    /// Notifications of ready jobs are dropped.
    LostWakeup,
    /// A completion doesn't give its credit back.
    LeakedCredit,
    /// A dead broker's jobs are rescued before their workers could come back with them.
    RescueOfTheLiving,
    /// A limit of a queue lets everything through.
    OpenGate,
    /// A limit of keys lets everything through.
    OpenKeys,
    /// A paused queue goes on.
    DeafToPauses,
    /// Jobs don't expire.
    NoExpiry,
    /// The keys of unique jobs are left out.
    ForgottenKeys,
}

/// Whether this is the chosen one.
#[cfg(not(feature = "mutations"))]
#[inline]
pub const fn on(_: Mutation) -> bool {
    false
}

/// Whether this is the chosen one.
#[cfg(feature = "mutations")]
pub fn on(mutation: Mutation) -> bool {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<Mutation>> = LazyLock::new(|| {
        let name = std::env::var("CURRANT_MUTATION").ok()?;
        let named = match name.as_str() {
            "ack-before-commit" => Mutation::AckBeforeCommit,
            "no-fencing" => Mutation::NoFencing,
            "forgotten-sweep" => Mutation::ForgottenSweep,
            "lost-wakeup" => Mutation::LostWakeup,
            "leaked-credit" => Mutation::LeakedCredit,
            "rescue-of-the-living" => Mutation::RescueOfTheLiving,
            "open-gate" => Mutation::OpenGate,
            "open-keys" => Mutation::OpenKeys,
            "deaf-to-pauses" => Mutation::DeafToPauses,
            "no-expiry" => Mutation::NoExpiry,
            "forgotten-keys" => Mutation::ForgottenKeys,
            _ => panic!("CURRANT_MUTATION is {name:?}, which is no mutation"),
        };
        Some(named)
    });
    *CHOSEN == Some(mutation)
}
