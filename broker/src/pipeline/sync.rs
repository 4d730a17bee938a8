//! What tasks wake each other with, where that isn't a channel. Under this name, so that
//! `tests/interleavings` can put in its place what tries every order of steps.

pub(super) use std::sync::atomic::{AtomicI64, Ordering};

pub(super) use parking_lot::Mutex;
pub(super) use tokio::{sync::Notify, time::timeout};
