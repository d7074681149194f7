//! The files of TLS, which the master reads and workers only hold: those of each edition, and new ones that are put in
//! their place while it serves.
//!
//! What decides is what the files hold, read again when something happens where they stand, and once a minute, as network
//! file systems do not tell. New contents that serve are sent to the workers, whose new handshakes have them; no worker is replaced,
//! and no connection ends. Others change nothing: a certificate and its key are seldom replaced in one step.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::Master;
use super::watch::directories;
use crate::channel::Generation;
use crate::config::{Config, TlsWatch};
use crate::error::chain;
use crate::tls::{self, Files, Spec};

/// Nothing must have happened for so long: of several files the last one may still be written.
const QUIET: Duration = Duration::from_millis(300);
/// But who writes without end is not waited for longer than this.
const ENDLESS: Duration = Duration::from_secs(3);
/// How often the files are read where nothing tells of a change.
const ANYWAY: Duration = Duration::from_secs(60);

/// What an edition needs for its TLS.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    specs: Vec<Spec>,
    pub(crate) files: Rc<Files>,
}

impl Certificates {
    /// Reads what `config` names, and sees whether TLS can be served with it.
    ///
    /// # Errors
    /// All that is wrong, for the log.
    pub(crate) fn read(config: &Config) -> Result<Self, Vec<String>> {
        let specs = Spec::all(config);
        let files = present(&specs)?;
        check(&specs, &files)?;
        Ok(Self {
            specs,
            files: Rc::new(files),
        })
    }
}

/// The files of `specs` as they are now.
fn present(specs: &[Spec]) -> Result<Files, Vec<String>> {
    Files::read(specs).map_err(|errors| told(&errors))
}

/// Sees whether TLS can be served with them.
fn check(specs: &[Spec], files: &Files) -> Result<(), Vec<String>> {
    for note in tls::check(specs, files).map_err(|errors| told(&errors))? {
        tracing::warn!("{note}");
    }
    Ok(())
}

fn told(errors: &[tls::TlsError]) -> Vec<String> {
    errors.iter().map(|error| chain(error)).collect()
}

/// Sees that files have changed.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// Where the kernel tells; without it there is the look once a minute.
    kernel: Option<Inotify>,
    /// What is watched.
    directories: BTreeSet<std::path::PathBuf>,
    /// When something has happened, first and last.
    stir: Option<(Instant, Instant)>,
    /// The next look that needs no reason.
    anyway: Option<Instant>,
    /// What was wrong with the files at the last look.
    told: Vec<String>,
}

impl Lookout {
    /// Watches the files of `editions`, and nothing where there are none.
    fn watch<'a>(&mut self, files: impl Iterator<Item = &'a Path>, now: Instant) {
        let directories: BTreeSet<_> = files.flat_map(directories).collect();
        self.anyway = (!directories.is_empty()).then(|| now + ANYWAY);
        if directories == self.directories && self.kernel.is_some() {
            return;
        }
        self.kernel = None;
        if !directories.is_empty() {
            match kernel(&directories) {
                Ok(kernel) => {
                    self.kernel = Some(kernel);
                    // What has happened since the files were read, nobody has told: they are read once more.
                    self.stir = Some((now, now));
                }
                Err(error) => tracing::warn!(
                    "inotify cannot be had ({error}): the files of TLS are looked at once a minute"
                ),
            }
        }
        self.directories = directories;
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.kernel.as_ref().map(Inotify::as_fd)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = |(first, last): (Instant, Instant)| (last + QUIET).min(first + ENDLESS);
        self.stir.map(due).into_iter().chain(self.anyway).min()
    }

    /// Whether the files are to be read now.
    fn is_due(&mut self, now: Instant) -> bool {
        if let Some(kernel) = &self.kernel {
            let mut happened = false;
            while kernel.read_events().is_ok_and(|events| !events.is_empty()) {
                happened = true;
            }
            if happened {
                let first = self.stir.map_or(now, |(first, _)| first);
                self.stir = Some((first, now));
            }
        }
        self.deadline().is_some_and(|due| due <= now)
    }
}

fn kernel(directories: &BTreeSet<std::path::PathBuf>) -> io::Result<Inotify> {
    let kernel = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let interesting = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    for directory in directories {
        match kernel.add_watch(directory, interesting) {
            // It is gone: where it stood tells when it comes back.
            Ok(_) | Err(nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(kernel)
}

impl Master {
    /// Watches the files of the editions that there are.
    pub(super) fn watch_certificates(&mut self, now: Instant) {
        let editions = [Some(&self.current), self.coming.as_ref()];
        let watched = editions
            .into_iter()
            .flatten()
            .filter(|edition| edition.config.tls_watch == TlsWatch::On)
            .flat_map(|edition| edition.certificates.files.paths());
        self.lookout.watch(watched, now);
    }

    /// Takes new contents of the files, where they serve.
    pub(super) fn look_at_certificates(&mut self, now: Instant) {
        if !self.lookout.is_due(now) {
            return;
        }
        self.lookout.stir = None;
        let mut told = Vec::new();
        let mut taken = Vec::new();
        let editions = [Some(&mut self.current), self.coming.as_mut()];
        for edition in editions.into_iter().flatten() {
            if edition.config.tls_watch == TlsWatch::Off {
                continue;
            }
            match good_if_new(&edition.certificates) {
                Ok(None) => {}
                Ok(Some(files)) => {
                    edition.certificates.files = Rc::new(files);
                    taken.push(edition.generation);
                }
                Err(mistakes) => told.extend(mistakes),
            }
        }
        told.dedup();
        if told != self.lookout.told {
            for mistake in &told {
                tracing::error!(
                    "Changed files of TLS are not taken, those from before stay: {mistake}"
                );
            }
            self.lookout.told = told;
        }
        for generation in taken {
            tracing::info!("New files of TLS are taken for new handshakes.");
            self.send_certificates(generation);
        }
        self.send_certificates_again();
        // Links may lead elsewhere now.
        self.watch_certificates(now);
    }

    /// Sends the workers of a generation what its files hold.
    fn send_certificates(&mut self, generation: Generation) {
        for child in self.children.iter_mut() {
            if child.generation == generation {
                child.is_behind = true;
            }
        }
        self.send_certificates_again();
    }

    /// The same for those that had no room for it.
    fn send_certificates_again(&mut self) {
        for edition in [Some(&self.current), self.coming.as_ref()]
            .into_iter()
            .flatten()
        {
            let behind = |generation| generation == edition.generation;
            let mut children = self
                .children
                .iter_mut()
                .filter(|child| child.is_behind && behind(child.generation))
                .peekable();
            if children.peek().is_none() {
                continue;
            }
            let sealed = match letter(&edition.certificates.files) {
                Ok(sealed) => sealed,
                Err(error) => {
                    tracing::error!("new files of TLS cannot be sent to workers: {error}");
                    continue;
                }
            };
            for child in children {
                child.is_behind = !child.certify(sealed.as_fd());
            }
        }
    }
}

/// What the files hold now, where that is not what it was and serves.
fn good_if_new(certificates: &Certificates) -> Result<Option<Files>, Vec<String>> {
    let files = present(&certificates.specs)?;
    if files == *certificates.files {
        return Ok(None);
    }
    check(&certificates.specs, &files)?;
    Ok(Some(files))
}

/// In memory that no other process can open by a name.
fn letter(files: &Files) -> io::Result<std::fs::File> {
    let memory = memfd_create(c"rgun-async-tls", MFdFlags::MFD_CLOEXEC)?;
    let mut memory = std::fs::File::from(memory);
    memory.write_all(&files.to_bytes())?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_change_while_their_watch_moves_are_read_again() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = Instant::now();
        let mut lookout = Lookout::default();
        for directory in [&first, &second] {
            let file = directory.path().join("a.pem");
            lookout.watch([file.as_path()].into_iter(), now);
            assert!(!lookout.is_due(now));
            assert!(lookout.is_due(now + QUIET));
            lookout.stir = None;
            lookout.watch([file.as_path()].into_iter(), now);
            assert!(!lookout.is_due(now + QUIET));
            assert!(lookout.is_due(now + ANYWAY));
        }
    }
}
