//! Tasks of a runtime whose turns somebody else gives.
//!
//! Tokio cannot say that it has nothing left to do, and an event that its driver has fetched is not announced by its
//! epoll descriptor again: so every task is [`counted`], and a turn lasts until no task is runnable.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;

/// Tasks that are woken and not yet polled. Threads for blocking work wake tasks as well.
static RUNNABLE: AtomicUsize = AtomicUsize::new(0);

/// Whether a task is runnable.
pub(super) fn is_runnable() -> bool {
    RUNNABLE.load(Ordering::Acquire) > 0
}

struct Woken {
    /// It counts as runnable.
    counts: AtomicBool,
    task: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.counts.swap(true, Ordering::AcqRel) {
            RUNNABLE.fetch_add(1, Ordering::AcqRel);
        }
        self.task.wake_by_ref();
    }
}

pin_project! {
    /// A task that counts as runnable while it is.
    pub(super) struct Counted<F> {
        #[pin]
        task: F,
        count: Count,
    }
}

/// The task's part in [`RUNNABLE`]; leaves it when dropped.
struct Count(Option<(Arc<Woken>, Waker)>);

impl Count {
    /// Takes back what it counts, and whoever wakes it from now on adds nothing.
    fn leave(&self) {
        let counts = match &self.0 {
            Some((woken, _)) => woken.counts.swap(true, Ordering::AcqRel),
            // Not polled yet.
            None => true,
        };
        if counts {
            RUNNABLE.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Wraps a task of the worker. It is runnable from now on, so it is to be spawned at once.
pub(super) fn counted<F: Future>(task: F) -> Counted<F> {
    RUNNABLE.fetch_add(1, Ordering::AcqRel);
    Counted {
        task,
        count: Count(None),
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let count = this.count;
        match &count.0 {
            // The same waker all the task's life, as a rule.
            Some((woken, _)) if woken.task.will_wake(cx.waker()) => {
                if woken.counts.swap(false, Ordering::AcqRel) {
                    RUNNABLE.fetch_sub(1, Ordering::AcqRel);
                }
            }
            Some(_) | None => {
                count.leave();
                let task = cx.waker().clone();
                let woken = Arc::new(Woken {
                    counts: AtomicBool::new(false),
                    task,
                });
                let waker = Waker::from(Arc::clone(&woken));
                count.0 = Some((woken, waker));
            }
        }
        let Some((_, waker)) = &count.0 else {
            return Poll::Pending;
        };
        this.task.poll(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;

    use super::*;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    /// The count is the process's: one test for all that is said of it.
    #[test]
    fn a_task_counts_while_it_is_runnable() {
        let before = RUNNABLE.load(Ordering::Acquire);
        let count = || RUNNABLE.load(Ordering::Acquire) - before;
        let kept = RefCell::new(None);
        let mut polls = 0;
        let mut task = Box::pin(counted(poll_fn(|cx| {
            *kept.borrow_mut() = Some(cx.waker().clone());
            polls += 1;
            if polls == 3 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })));
        assert_eq!(count(), 1, "runnable from the start");
        let nobody = Waker::from(Arc::new(Nobody));
        let mut cx = Context::from_waker(&nobody);
        assert!(task.as_mut().poll(&mut cx).is_pending());
        assert_eq!(count(), 0);
        let waker = kept.borrow().clone().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count(), 1, "once, however often it is woken");
        assert!(task.as_mut().poll(&mut cx).is_pending());
        waker.wake_by_ref();
        assert!(task.as_mut().poll(&mut cx).is_ready());
        assert_eq!(count(), 0);
        waker.wake_by_ref();
        assert_eq!(count(), 1, "until it is dropped, tokio may yet be told");
        drop(task);
        assert_eq!(count(), 0);
        waker.wake();
        assert_eq!(count(), 0, "what is gone is never runnable");

        let never = counted(poll_fn(|_| Poll::<()>::Pending));
        assert_eq!(count(), 1);
        drop(never);
        assert_eq!(count(), 0, "dropped before its first poll");
    }
}
