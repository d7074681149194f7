//! At the cap of connections: the listener is left to the other workers until there is room, and if nobody takes who waits,
//! room is made (`--overload-timeout`).

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::pressure::Relief;
use super::{Acceptor, Take};

/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// At most this often the log tells of the overload.
const TOLD: Duration = Duration::from_secs(10);

/// What the log is still to be told.
#[derive(Debug, Default)]
pub(super) struct Untold {
    last: Option<Instant>,
    shed: usize,
    refused: usize,
}

impl Acceptor {
    /// Waits until there is room, or the gate closes.
    pub(super) async fn wait_at_the_cap(&self, to: &impl Take) {
        if self.patience.is_zero() {
            return self.away(self.gate.room()).await;
        }
        self.away(async {
            loop {
                self.relieve(to, Instant::now());
                tokio::select! {
                    biased;
                    () = self.gate.room() => return,
                    () = self.timer.after(LOOK) => {}
                }
            }
        })
        .await;
    }

    fn relieve(&self, to: &impl Take, now: Instant) {
        let relief = self.pressure.borrow_mut().look(self.somebody_waits(), now);
        match relief {
            Relief::Wait => {}
            Relief::Shed(most) => {
                let shed = to.shed(most, now);
                self.pressure.borrow_mut().has_shed(shed, now);
                self.untold.borrow_mut().shed += shed;
            }
            Relief::Refuse => {
                while let Ok(true) = self.refuse(to) {
                    self.untold.borrow_mut().refused += 1;
                }
            }
        }
        self.tell_overload(now);
    }

    /// Takes one connection only to answer it with 503; false when none waits, or too many are being answered so.
    fn refuse(&self, to: &impl Take) -> io::Result<bool> {
        let Some(spare) = self.gate.spare() else {
            return Ok(false);
        };
        let Some((stream, ends)) = self.accept_one()? else {
            return Ok(false);
        };
        to.refuse(stream, ends, spare);
        Ok(true)
    }

    fn somebody_waits(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn tell_overload(&self, now: Instant) {
        let mut untold = self.untold.borrow_mut();
        let quiet = untold
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < TOLD);
        if quiet || (untold.shed == 0 && untold.refused == 0) {
            return;
        }
        tracing::warn!(
            "Overload: {} connections are open here and more wait; closed {} that were idle or stalled, \
             answered {} with 503 (--worker-connections, --overload-timeout)",
            self.gate.open(),
            untold.shed,
            untold.refused
        );
        *untold = Untold {
            last: Some(now),
            ..Untold::default()
        };
    }
}
