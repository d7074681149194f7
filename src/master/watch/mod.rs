//! `--reload`: sees that the code has changed on disk. In the master, so that neither a worker that is stuck nor a start
//! that has failed is in the way.
//!
//! What tells of a change is a difference between two looks at the files. inotify only says when to look; without it
//! there is a look every second. Editors write a file in several steps, and many files at once: a look waits until nothing has
//! happened for a moment.

mod kernel;
mod links;
mod sources;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::{Config, ReloadEngine};
use kernel::Kernel;
pub(crate) use links::directories;
use sources::{Look, Sources};

/// Nothing must have happened for so long.
const QUIET: Duration = Duration::from_millis(150);
/// But who writes without end is not waited for longer than this.
const ENDLESS: Duration = Duration::from_secs(1);
/// How often the files are looked at where the kernel does not tell.
const POLL: Duration = Duration::from_secs(1);

/// Something has happened.
#[derive(Clone, Copy, Debug)]
struct Stir {
    first: Instant,
    last: Instant,
}

impl Stir {
    fn due(self) -> Instant {
        (self.last + QUIET).min(self.first + ENDLESS)
    }
}

#[derive(Debug)]
enum Engine {
    /// The kernel tells of directories in which something happens.
    Kernel(Kernel),
    /// The next look is at this moment.
    Poll(Instant),
}

/// Watches the code.
#[derive(Debug)]
pub(crate) struct Watcher {
    engine: Engine,
    sources: Sources,
    seen: Look,
    stir: Option<Stir>,
}

impl Watcher {
    /// Takes the files as they are now. Called in the directory that the app is loaded in.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let sources = Sources::new(config);
        let seen = sources.look();
        if seen.is_empty() {
            tracing::warn!("--reload has nothing to watch: no Python app, and no extra files");
        }
        let engine = match config.reload_engine {
            ReloadEngine::Poll => Engine::Poll(now + POLL),
            ReloadEngine::Auto | ReloadEngine::Inotify => match Kernel::new(&seen) {
                Ok(kernel) => Engine::Kernel(kernel),
                Err(error) => {
                    tracing::warn!(
                        "inotify cannot be had ({error}): --reload looks at the files every second"
                    );
                    Engine::Poll(now + POLL)
                }
            },
        };
        Self {
            engine,
            sources,
            seen,
            stir: None,
        }
    }

    /// Readable when something has happened.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.engine {
            Engine::Kernel(kernel) => Some(kernel.fd()),
            Engine::Poll(_) => None,
        }
    }

    /// When [`changed`](Self::changed) is to be asked even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (&self.engine, self.stir) {
            (_, Some(stir)) => Some(stir.due()),
            (Engine::Poll(next), None) => Some(*next),
            (Engine::Kernel(_), None) => None,
        }
    }

    /// A worker has loaded these files, too.
    pub(crate) fn add(&mut self, files: Vec<PathBuf>) {
        let added = self.sources.add(files);
        if added.is_empty() {
            return;
        }
        self.seen.take_in(&added);
        self.tell_the_kernel();
        tracing::debug!("--reload watches {} more files", added.len());
    }

    /// A file that has changed since the last one that this told of.
    pub(crate) fn changed(&mut self, now: Instant) -> Option<PathBuf> {
        let happened = match &mut self.engine {
            Engine::Kernel(kernel) => kernel.happened(&self.sources, &self.seen),
            Engine::Poll(next) if self.stir.is_none() && *next <= now => {
                *next = now + POLL;
                // Its first look tells whether it is worth a second one.
                self.sources.look().difference(&self.seen).is_some()
            }
            Engine::Poll(_) => false,
        };
        if happened {
            let first = self.stir.map_or(now, |stir| stir.first);
            self.stir = Some(Stir { first, last: now });
        }
        if self.stir.is_none_or(|stir| stir.due() > now) {
            return None;
        }
        self.stir = None;
        let look = self.sources.look();
        let changed = look.difference(&self.seen);
        self.seen = look;
        self.tell_the_kernel();
        changed
    }

    /// The directories may be others now.
    fn tell_the_kernel(&mut self) {
        if let Engine::Kernel(kernel) = &mut self.engine
            && let Err(error) = kernel.watch(&self.seen)
        {
            tracing::warn!(
                "inotify watches no more ({error}): --reload looks at the files every second"
            );
            self.engine = Engine::Poll(Instant::now() + POLL);
        }
    }
}
