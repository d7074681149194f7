//! What a server wrote, line by line, as it comes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The lines of one output stream so far.
#[derive(Clone, Default)]
pub(super) struct Log {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Collects `stream` to its end, in a thread of its own.
    pub(super) fn of(stream: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let shared = Arc::clone(&log.shared);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                shared.with(|lines| lines.lines.push(text));
                line.clear();
            }
            shared.with(|lines| lines.ended = true);
        });
        log
    }

    /// All lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.shared
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lines
            .clone()
    }

    /// The first `count` answers of `find` among the lines, or `None` at the deadline or the stream's end.
    pub(super) fn wait<T>(
        &self,
        count: usize,
        deadline: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let end = Instant::now() + deadline;
        let mut lines = self
            .shared
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            let found: Vec<T> = lines
                .lines
                .iter()
                .filter_map(|line| find(line))
                .take(count)
                .collect();
            if found.len() == count {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.ended {
                return None;
            }
            lines = self
                .shared
                .grown
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Shared {
    fn with(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        self.grown.notify_all();
    }
}
