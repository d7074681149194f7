//! How long connections learn that their worker is about to leave.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// Why a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Another one takes its place: by a reload, an upgrade, a recycling.
    Replaced,
    /// The server ends.
    End,
}

/// Tells that the worker drains: it accepts nothing more, and cuts what is still open at `--graceful-timeout`.
///
/// All clones of one worker's tell the same. The default one never tells anything.
#[derive(Clone, Debug, Default)]
pub struct Drain(Option<Arc<State>>);

#[derive(Debug, Default)]
struct State {
    begun: OnceLock<Departure>,
    told: Notify,
}

impl Drain {
    /// One that can begin.
    pub(crate) fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// The worker drains from now on.
    pub(crate) fn begin(&self, departure: Departure) {
        if let Some(state) = &self.0 {
            // The first reason counts.
            let _ = state.begun.set(departure);
            state.told.notify_waiters();
        }
    }

    /// Whether the worker drains.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.departure().is_some()
    }

    /// Why the worker drains; `None` as long as it does not.
    #[must_use]
    pub fn departure(&self) -> Option<Departure> {
        self.0.as_ref()?.begun.get().copied()
    }

    /// Waits until the worker drains: the time to bring a long answer or an upgraded connection to its end.
    ///
    /// *Cancel safety*: call it again, nothing is lost.
    pub async fn begun(&self) {
        let Some(state) = &self.0 else {
            return std::future::pending().await;
        };
        let mut told = std::pin::pin!(state.told.notified());
        // From here on a notification is kept for us, so none can fall between the look and the wait.
        told.as_mut().enable();
        if state.begun.get().is_none() {
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn who_waits_and_who_comes_later_are_told() {
        let drain = Drain::new();
        let waiting = drain.clone();
        let early = tokio::spawn(async move { waiting.begun().await });
        tokio::task::yield_now().await;
        assert!(!drain.has_begun());
        drain.begin(Departure::End);
        early.await.unwrap();
        drain.begun().await;
        assert!(drain.has_begun());
        drain.begin(Departure::Replaced);
        assert_eq!(drain.departure(), Some(Departure::End));
    }

    #[tokio::test]
    async fn the_default_one_never_begins() {
        let drain = Drain::default();
        drain.begin(Departure::End);
        assert!(!drain.has_begun());
        let waited = timeout(Duration::from_millis(1), drain.begun()).await;
        assert!(waited.is_err());
    }
}
