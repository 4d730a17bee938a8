//! Decisions: events in, actions out. No I/O, no clock, no randomness: time is an argument, so that
//! the same code runs under simulation.
//!
//! [`Dispatcher`] knows every session, every job in this broker's memory and what is known of the
//! backlog in the database. The pipeline tells it what happened and carries out what it answers.

mod backlog;
mod batcher;
#[doc(hidden)]
pub mod bench;
mod bucket;
mod buffer;
mod dispatcher;
mod fill;
mod gate;
mod keys;
mod line;
mod load_book;
mod pace;
mod places;
mod pruner;
mod session;
mod turns;

pub use backlog::ClaimFrom;
pub use batcher::Batcher;
pub use dispatcher::{
    Action, Admission, Completing, Delivery, Dispatcher, FailCause, Heartbeat, Hungry,
    LimitedQueue, Limits, Load, LostReason, Opened, QueueLoad, Running, SessionId, SessionLoad,
    SessionRequest, Storing, ToStop, UnknownSession,
};
pub use keys::{KeyClaim, LimitedClaim, Walked};
pub use load_book::{LoadBook, ToldLoad};
pub use pruner::{Pruner, PrunerLimits};

#[cfg(test)]
mod simulation;
