//! What can go wrong, and the exit code that says so.

use std::process::ExitCode;

/// How the process ends; the numbers are Gunicorn's.
///
/// Gunicorn: `gunicorn/arbiter.py` (`WORKER_BOOT_ERROR`, `APP_LOAD_ERROR`), `gunicorn/errors.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: stopped by a signal, or a check that found nothing wrong.
    Done,
    /// 1: the configuration is wrong, or an address cannot be bound.
    Config,
    /// 2: the command line cannot be read.
    Usage,
    /// 3: a worker could not boot.
    WorkerBoot,
    /// 4: the app could not be loaded.
    AppLoad,
    /// 5: an upgrade was left half-way, and somebody has to look.
    Unsettled,
    /// 22: the subcommand `uwsgi` was answered by a status of 400 or more (as `curl --fail`).
    BadAnswer,
    /// 255: the server itself failed.
    Internal,
}

impl Exit {
    /// The number the operating system sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Config => 1,
            Self::Usage => 2,
            Self::WorkerBoot => 3,
            Self::AppLoad => 4,
            Self::Unsettled => 5,
            Self::BadAnswer => 22,
            Self::Internal => 255,
        }
    }

    /// The meaning of a worker's exit status, where it has one beyond "it ended".
    #[must_use]
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Done),
            1 => Some(Self::Config),
            2 => Some(Self::Usage),
            3 => Some(Self::WorkerBoot),
            4 => Some(Self::AppLoad),
            5 => Some(Self::Unsettled),
            255 => Some(Self::Internal),
            _ => None,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Any error an app may answer with; its chain of sources is printed once, where it is logged.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// `error` and its sources on one line, outermost first.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
