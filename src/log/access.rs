//! The access log's gatherer: lines of one turn of the worker go out by one write(2).

use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::out::{Out, PIECE, Stream};
use crate::config::LogTarget;

/// Above this many bytes `append` writes by itself.
const FULL: usize = 64 * 1024;

/// The most bytes kept for a reader that does not keep up; lines beyond are dropped and counted.
const KEPT: usize = 1024 * 1024;

/// How long the last flush may wait for a reader.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    /// The sink of this thread's worker, for [`flush_access`].
    static CURRENT: RefCell<Weak<AccessSink>> = const { RefCell::new(Weak::new()) };
}

/// Writes what this thread's [`AccessSink`] has gathered; for the runtime's park hook, which may hold nothing that is
/// not `Send`.
pub(crate) fn flush_access() {
    let current = CURRENT.with(|current| current.borrow().upgrade());
    if let Some(sink) = current {
        sink.flush();
    }
}

/// The access log of one worker: one thread, no lock.
#[derive(Debug)]
pub(crate) struct AccessSink {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    target: LogTarget,
    out: Out,
    /// Whole lines, but for the first, of which `sent` bytes are out.
    gathered: Vec<u8>,
    sent: usize,
    /// Lines dropped since the last one that went out.
    dropped: u64,
    /// A fault was reported and lasts.
    faulty: bool,
}

impl AccessSink {
    /// Opens the log; `-` is standard output. The newest sink of a thread is the one [`flush_access`] flushes.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(target: &LogTarget) -> io::Result<Rc<Self>> {
        let sink = Rc::new(Self {
            inner: RefCell::new(Inner {
                target: target.clone(),
                out: Out::open(target, Stream::Output)?,
                gathered: Vec::with_capacity(FULL + PIECE),
                sent: 0,
                dropped: 0,
                faulty: false,
            }),
        });
        CURRENT.with(|current| *current.borrow_mut() = Rc::downgrade(&sink));
        Ok(sink)
    }

    /// Gathers `line`, which ends in a line feed.
    pub(crate) fn append(&self, line: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        if inner.pending() + line.len() > KEPT {
            inner.drop_line();
            return;
        }
        inner.gathered.extend_from_slice(line);
        // While the reader is stuck, only the flush of each turn asks again.
        if inner.pending() > FULL && !inner.faulty {
            inner.flush();
        }
    }

    /// Writes what was gathered: one write(2) to a file, pieces of whole lines to a pipe. Never waits.
    pub(crate) fn flush(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.pending() > 0 {
            inner.flush();
        }
    }

    /// Opens the file anew (USR1).
    ///
    /// # Errors
    /// The new file cannot be opened; the old one stays.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        let out = Out::open(&inner.target, Stream::Output)?;
        if inner.pending() > 0 {
            inner.flush();
        }
        inner.out = out;
        Ok(())
    }
}

impl Drop for AccessSink {
    /// The last lines may wait a moment for their reader.
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        let deadline = Instant::now() + LAST_PATIENCE;
        while inner.pending() > 0 {
            inner.flush();
            let left = deadline.saturating_duration_since(Instant::now());
            if inner.pending() > 0 && (left.is_zero() || !inner.out.ready_within(left)) {
                return;
            }
        }
    }
}

impl Inner {
    fn pending(&self) -> usize {
        self.gathered.len() - self.sent
    }

    fn drop_line(&mut self) {
        self.dropped += 1;
        if !self.faulty {
            self.faulty = true;
            tracing::warn!("access log: its reader does not keep up; lines are dropped");
        }
    }

    fn flush(&mut self) {
        while let Some(pending) = self
            .gathered
            .get(self.sent..)
            .filter(|left| !left.is_empty())
        {
            let piece = if self.out.is_file() {
                pending
            } else {
                whole_lines(pending)
            };
            match self.out.write(piece) {
                Ok(written) => self.sent += written,
                Err(Errno::EAGAIN) => break,
                Err(error) => return self.fail(error),
            }
        }
        if self.sent == self.gathered.len() {
            self.recover();
            self.gathered.clear();
            self.sent = 0;
            // What a stuck reader made it grow to is not kept for ever.
            self.gathered.shrink_to(FULL + PIECE);
        } else if self.sent > FULL {
            self.gathered.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// The log cannot be written: its lines are lost, and that is told once.
    fn fail(&mut self, error: Errno) {
        let lost = self.gathered.get(self.sent..).unwrap_or_default();
        let lost = memchr::memchr_iter(b'\n', lost).count();
        self.dropped += u64::try_from(lost).unwrap_or_default();
        self.gathered.clear();
        self.sent = 0;
        if !self.faulty {
            self.faulty = true;
            tracing::error!(
                "access log {}: {}; lines are dropped",
                self.target,
                error.desc()
            );
        }
    }

    fn recover(&mut self) {
        if self.faulty {
            self.faulty = false;
            tracing::warn!("access log: {} lines were dropped", self.dropped);
            self.dropped = 0;
        }
    }
}

/// The first lines of `pending` that a pipe takes as one piece, so that lines of other workers do not fall into the
/// middle of ours; a longer line goes alone.
fn whole_lines(pending: &[u8]) -> &[u8] {
    let Some(piece) = pending.get(..PIECE) else {
        return pending;
    };
    let end = memchr::memrchr(b'\n', piece).or_else(|| memchr::memchr(b'\n', pending));
    end.and_then(|end| pending.get(..=end)).unwrap_or(pending)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::{Path, PathBuf};

    use nix::sys::stat::Mode;

    use super::*;

    fn file(directory: &tempfile::TempDir) -> (PathBuf, LogTarget) {
        let path = directory.path().join("access.log");
        (path.clone(), LogTarget::File(path))
    }

    /// A FIFO and a reader that does not wait.
    fn fifo(path: &Path) -> File {
        nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        File::options()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .unwrap()
    }

    /// What is there to read now.
    fn drain(reader: &mut File) -> String {
        let mut text = Vec::new();
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = reader.read(&mut part) {
            text.extend_from_slice(&part[..length]);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn lines_are_gathered_until_the_flush() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = file(&directory);
        let sink = AccessSink::open(&target).unwrap();
        sink.append(b"one\n");
        sink.append(b"two\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        flush_access();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        let long = vec![b'x'; FULL + 1];
        sink.append(&long);
        assert_eq!(fs::read(&path).unwrap().len(), 8 + long.len());
        sink.append(b"last\n");
        drop(sink);
        assert!(fs::read(&path).unwrap().ends_with(b"last\n"));
        flush_access();
    }

    #[test]
    fn reopening_writes_to_the_new_file_and_keeps_the_old_on_failure() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = file(&directory);
        let old = directory.path().join("access.log.1");
        let sink = AccessSink::open(&target).unwrap();
        sink.append(b"before\n");
        fs::rename(&path, &old).unwrap();
        sink.reopen().unwrap();
        sink.append(b"after\n");
        sink.flush();
        assert_eq!(fs::read_to_string(&old).unwrap(), "before\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(sink.reopen().is_err());
        sink.append(b"still\n");
        sink.flush();
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_no_wait() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = file(&directory);
        let mut reader = fifo(&path);
        let sink = AccessSink::open(&target).unwrap();
        let line = |number: usize| format!("{number:0>99}\n");
        let lines = 3 * KEPT / 100;
        for number in 0..lines {
            sink.append(line(number).as_bytes());
        }
        sink.flush();
        assert!(sink.inner.borrow().dropped > 0);
        assert!(sink.inner.borrow().gathered.len() <= KEPT + FULL);
        // The reader is back: what was kept comes whole and in order, and lines go out again.
        let mut text = String::new();
        while sink.inner.borrow().pending() > 0 {
            text += &drain(&mut reader);
            sink.flush();
        }
        sink.append(b"again\n");
        sink.flush();
        text += &drain(&mut reader);
        assert_eq!(sink.inner.borrow().dropped, 0);
        let mut read = text.lines();
        assert_eq!(read.next_back(), Some("again"));
        let mut count = 0;
        for (number, text) in read.enumerate() {
            assert_eq!(text, line(number).trim_end());
            count += 1;
        }
        assert!(count > KEPT / 100 && count < lines);
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_only() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = file(&directory);
        let reader = fifo(&path);
        let sink = AccessSink::open(&target).unwrap();
        drop(reader);
        sink.append(b"one\ntwo\n");
        sink.flush();
        assert_eq!(
            (sink.inner.borrow().dropped, sink.inner.borrow().pending()),
            (2, 0)
        );
    }

    #[test]
    fn a_full_disk_costs_lines_only() {
        let sink = AccessSink::open(&LogTarget::File("/dev/full".into())).unwrap();
        sink.append(b"one\n");
        sink.flush();
        sink.append(b"two\n");
        sink.flush();
        assert_eq!(sink.inner.borrow().dropped, 2);
    }

    #[test]
    fn pieces_for_a_pipe_are_whole_lines() {
        let line = [b'x'; 1000]
            .iter()
            .copied()
            .chain([b'\n'])
            .collect::<Vec<_>>();
        let pending = line.repeat(10);
        assert_eq!(whole_lines(&pending).len(), 4 * line.len());
        let long = [vec![b'y'; 2 * PIECE], b"\nz\n".to_vec()].concat();
        assert_eq!(whole_lines(&long).len(), 2 * PIECE + 1);
        assert_eq!(whole_lines(b"a\nb\n"), b"a\nb\n");
    }
}
