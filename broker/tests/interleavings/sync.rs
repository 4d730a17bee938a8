//! In the place of what the broker has (`pipeline/sync`): the same, as loom sees it.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

pub(crate) use loom::sync::atomic::{AtomicI64, Ordering};

/// As parking_lot's.
#[derive(Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// As tokio's, for one who waits: a word that comes before he does is kept, but no more than one.
#[derive(Default)]
pub(crate) struct Notify(Mutex<Words>);

#[derive(Default)]
struct Words {
    kept: bool,
    waiting: Option<Waker>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        let mut words = self.0.lock();
        words.kept = true;
        let waiting = words.waiting.take();
        drop(words);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified(self)
    }
}

pub(crate) struct Notified<'a>(&'a Notify);

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut words = self.0.0.lock();
        if std::mem::take(&mut words.kept) {
            return Poll::Ready(());
        }
        words.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// No time passes, so that what isn't woken waits for ever, which loom finds.
pub(crate) async fn timeout<T>(_: Duration, wait: impl Future<Output = T>) -> Option<T> {
    Some(wait.await)
}
