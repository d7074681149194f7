//! Which files the app was loaded from, told to the master, which watches them (`--reload`).

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::control;
use crate::app::Host;
use crate::channel::{Report, WorkerContext};
use crate::code_files::CodeFiles;
use crate::os::timer::Timer;

/// How often it is looked whether the app has loaded more.
const LOOK: Duration = Duration::from_secs(1);

/// Tells of the files.
pub(super) struct Code {
    files: CodeFiles,
    channel: OwnedFd,
    told: RefCell<Vec<PathBuf>>,
}

impl Code {
    /// `None` where nobody watches.
    pub(super) fn of(context: &mut WorkerContext) -> Option<Self> {
        let files = context.code.take()?;
        Some(Self {
            files,
            channel: context.channel.try_clone().ok()?,
            told: RefCell::default(),
        })
    }

    /// Tells the files, if there are others than before.
    pub(super) fn tell(&self, files: Vec<PathBuf>) {
        if *self.told.borrow() == files {
            return;
        }
        match self.files.write(&files) {
            Ok(()) => control::tell(&self.channel, Report::Code),
            Err(error) => tracing::debug!("--reload: the files cannot be told: {error}"),
        }
        self.told.replace(files);
    }

    /// Tells them whenever there are more; never ends.
    pub(super) async fn follow<H: Host>(self, host: std::rc::Rc<H>, timer: Timer) {
        loop {
            self.tell(host.code());
            timer.after(LOOK).await;
        }
    }
}

/// The files that a traceback names: the one with the mistake is not among those that are loaded.
pub(super) fn named_in(traceback: &str) -> impl Iterator<Item = PathBuf> {
    traceback.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("File \"")?;
        let (path, _) = rest.split_once("\", line ")?;
        path.starts_with('/').then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceback_names_its_files() {
        let text = "Exception in worker process\nTraceback (most recent call last):\n  \
                    File \"/app/site.py\", line 3, in <module>\n    import other\n  \
                    File \"<frozen importlib._bootstrap>\", line 1204, in _gcd_import\n  \
                    File \"/app/other.py\", line 1\n    def (\n        ^\nSyntaxError: invalid syntax";
        let named: Vec<_> = named_in(text).collect();
        assert_eq!(named, ["/app/site.py", "/app/other.py"].map(PathBuf::from));
    }
}
