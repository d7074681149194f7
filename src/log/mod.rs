//! The logs. The error log: `tracing` events as Gunicorn's lines, one write(2) each, in every process the same. The
//! access log: see [`AccessSink`].
//!
//! No log stops the server: a full disk or a reader that is gone or stuck loses lines, which is told once.

mod access;
mod event;
mod out;
mod paint;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::{Gid, Uid};
use tracing_subscriber::layer::SubscriberExt as _;

pub(crate) use access::{AccessSink, flush_access};

use crate::config::{LogLevel, LogTarget};
use out::{Out, Stream};
use paint::Reader;

/// The target of events that [`critical!`] makes.
pub(crate) const CRITICAL: &str = "rgun_async::critical";

/// Logs at Gunicorn's level CRITICAL, which `tracing` does not have.
macro_rules! critical {
    ($($event:tt)+) => {
        ::tracing::error!(target: $crate::log::CRITICAL, $($event)+)
    };
}
pub(crate) use critical;

/// How long a line may wait for a reader that was well until now. Once one has waited in vain, none does.
const PATIENCE: Duration = Duration::from_secs(1);

/// The error log. Held for the moment of one write; a fork never falls into it, as a process that forks has one
/// thread.
static LOG: Mutex<Option<ErrorLog>> = Mutex::new(None);

#[derive(Debug)]
struct ErrorLog {
    target: LogTarget,
    out: Out,
    /// Its reader wants colours.
    painted: bool,
    /// Standard output and error were led here.
    captured: bool,
    /// Lines lost since the last one that went out.
    lost: u64,
}

/// Opens the error log (`-` is standard error) and makes it the process's.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn start(target: &LogTarget, level: LogLevel) -> io::Result<()> {
    let out = Out::open(target, Stream::Error)?;
    *log() = Some(ErrorLog {
        target: target.clone(),
        painted: is_painted(&out, target),
        out,
        captured: false,
        lost: 0,
    });
    // A program that uses the library may have set a subscriber of its own: its choice stays.
    let lines = tracing_subscriber::registry().with(event::Lines { write });
    let _ = tracing::subscriber::set_global_default(lines);
    event::set_level(level);
    Ok(())
}

/// Opens the error log's file anew (USR1).
///
/// # Errors
/// The new file cannot be opened; the old one stays.
pub(crate) fn reopen() -> io::Result<()> {
    match &mut *log() {
        Some(log) => log.switch(log.target.clone()),
        None => Ok(()),
    }
}

/// Takes another destination and level (HUP).
///
/// # Errors
/// The new file cannot be opened; the old one stays, and so does the level.
pub(crate) fn reconfigure(target: &LogTarget, level: LogLevel) -> io::Result<()> {
    if let Some(log) = &mut *log() {
        log.switch(target.clone())?;
    }
    event::set_level(level);
    Ok(())
}

/// Leads standard output and standard error into the error log's file, now and at each reopening
/// (`--capture-output`); on standard error there is nothing to lead, as in Gunicorn.
///
/// # Errors
/// dup2(2) failed.
pub(crate) fn capture_output() -> io::Result<()> {
    match &mut *log() {
        Some(log) => {
            log.captured = true;
            log.capture()
        }
        None => Ok(()),
    }
}

/// Gives the error log's file to `user` and `group`, so that workers who are them can open it anew.
///
/// # Errors
/// fchown(2) failed.
pub(crate) fn chown(user: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
    log()
        .as_ref()
        .map_or(Ok(()), |log| log.out.chown(user, group))
}

/// Makes the access log's file, where there is none, and gives it to `user` and `group`: workers open it as them.
///
/// # Errors
/// The file cannot be opened, or fchown(2) failed.
pub(crate) fn prepare_access(
    target: &LogTarget,
    user: Option<Uid>,
    group: Option<Gid>,
) -> io::Result<()> {
    Out::open(target, Stream::Output)?.chown(user, group)
}

fn log() -> MutexGuard<'static, Option<ErrorLog>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(line: &[u8]) {
    if let Some(log) = &mut *log() {
        log.write(line);
    }
}

impl ErrorLog {
    fn switch(&mut self, target: LogTarget) -> io::Result<()> {
        self.out = Out::open(&target, Stream::Error)?;
        self.painted = is_painted(&self.out, &target);
        self.target = target;
        if self.captured {
            self.capture()
        } else {
            Ok(())
        }
    }

    fn capture(&self) -> io::Result<()> {
        if self.target != LogTarget::Standard {
            nix::unistd::dup2_stdout(&self.out)?;
            nix::unistd::dup2_stderr(&self.out)?;
        }
        Ok(())
    }

    fn write(&mut self, line: &[u8]) {
        let patience = if self.lost == 0 {
            PATIENCE
        } else {
            Duration::ZERO
        };
        let painted = self
            .painted
            .then(|| paint::paint(&String::from_utf8_lossy(line)));
        let line = painted.as_ref().map_or(line, String::as_bytes);
        match self.out.write_all(line, patience) {
            Ok(()) if self.lost > 0 => {
                let lost = std::mem::take(&mut self.lost);
                let notice = notice(
                    LogLevel::Warning,
                    &format!("error log: {lost} lines were lost"),
                );
                // The next line finds out if this one does not go.
                let _ = self.out.write_all(notice.as_bytes(), Duration::ZERO);
            }
            Ok(()) => {}
            Err(error) => {
                self.lost += 1;
                if self.lost == 1 && self.target != LogTarget::Standard {
                    let problem = format!(
                        "error log {}: {}; lines are lost",
                        self.target,
                        error.desc()
                    );
                    let notice = notice(LogLevel::Error, &problem);
                    // Standard error is the last place there is: if it fails, too, nobody is left to tell.
                    if let Ok(last) = Out::open(&LogTarget::Standard, Stream::Error) {
                        let _ = last.write_all(notice.as_bytes(), Duration::ZERO);
                    }
                }
            }
        }
    }
}

fn is_painted(out: &Out, target: &LogTarget) -> bool {
    let reader = if out.is_terminal() {
        Reader::Terminal
    } else if *target == LogTarget::Standard && !out.is_file() {
        Reader::Stream
    } else {
        Reader::File
    };
    paint::wanted(reader, |name| std::env::var_os(name))
}

fn notice(level: LogLevel, text: &str) -> String {
    let mut line = String::new();
    event::stamp(&mut line, level);
    line.push_str(text);
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use super::*;

    fn opened(path: &std::path::Path) -> ErrorLog {
        let target = LogTarget::File(path.to_owned());
        let out = Out::open(&target, Stream::Error).unwrap();
        ErrorLog {
            target,
            out,
            painted: false,
            captured: false,
            lost: 0,
        }
    }

    #[test]
    fn switching_opens_the_new_before_it_drops_the_old() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        let mut log = opened(&a);
        log.write(b"1\n");
        assert!(
            log.switch(LogTarget::File(directory.path().join("no/file")))
                .is_err()
        );
        log.write(b"2\n");
        log.switch(LogTarget::File(b.clone())).unwrap();
        log.write(b"3\n");
        assert_eq!(fs::read_to_string(a).unwrap(), "1\n2\n");
        assert_eq!(fs::read_to_string(b).unwrap(), "3\n");
    }

    #[test]
    fn lost_lines_are_counted_and_told_when_the_log_is_well_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = opened(std::path::Path::new("/dev/full"));
        log.write(b"1\n");
        log.write(b"2\n");
        assert_eq!(log.lost, 2);
        log.switch(LogTarget::File(path.clone())).unwrap();
        log.write(b"3\n");
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.starts_with("3\n[")
                && text.ends_with("[WARNING] error log: 2 lines were lost\n"),
            "{text}"
        );
    }

    /// In a process of its own, as it changes what the process has for all tests.
    #[test]
    fn a_process_logs_captures_and_reopens() {
        const CHILD: &str = "RGUN_LOG_TEST";
        let Some(directory) = std::env::var_os(CHILD) else {
            let directory = tempfile::tempdir().unwrap();
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "log::tests::a_process_logs_captures_and_reopens",
                    "--nocapture",
                ])
                .env(CHILD, directory.path())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
            let (old, new) = (read("log.1"), read("log"));
            assert!(
                old.contains("[INFO] first\n") && old.contains("\nprinted\n"),
                "{old}"
            );
            assert!(!old.contains("quiet"), "{old}");
            assert!(
                new.contains("[DEBUG] second\n") && new.contains("\nprinted too\n"),
                "{new}"
            );
            return;
        };
        let path = std::path::PathBuf::from(directory).join("log");
        let target = LogTarget::File(path.clone());
        start(&target, LogLevel::Info).unwrap();
        tracing::info!("first");
        tracing::debug!("quiet");
        capture_output().unwrap();
        let print = |text: &[u8]| nix::unistd::write(io::stdout(), text).unwrap();
        print(b"printed\n");
        fs::rename(&path, path.with_file_name("log.1")).unwrap();
        reopen().unwrap();
        reconfigure(&target, LogLevel::Debug).unwrap();
        tracing::debug!("second");
        print(b"printed too\n");
        chown(None, None).unwrap();
    }
}
