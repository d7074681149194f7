//! Signal handlers that the app has in Python: they run on the main thread, which is told of them by the wakeup descriptor of
//! Python's `signal` module, and takes the GIL for them alone.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::app::python::gil;

/// How often it is looked for signals where the descriptor is the app's own.
const LOOK: Duration = Duration::from_millis(250);

/// How the main thread learns of a signal.
pub(super) enum Wakeup {
    /// A byte arrives at `ours`; Python writes to `theirs`.
    Told {
        ours: UnixStream,
        theirs: UnixStream,
    },
    /// The app has taken the descriptor for itself.
    Unknown,
}

impl Wakeup {
    /// On the main thread, after the app was loaded.
    pub(super) fn install(py: Python<'_>) -> PyResult<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let quietly = PyDict::new(py);
        quietly.set_item("warn_on_full_buffer", false)?;
        let module = py.import("signal")?;
        let name = intern!(py, "set_wakeup_fd");
        let before: i32 = module
            .call_method(name, (theirs.as_raw_fd(),), Some(&quietly))?
            .extract()?;
        if before == -1 {
            return Ok(Self::Told { ours, theirs });
        }
        module.call_method(name, (before,), Some(&quietly))?;
        Ok(Self::Unknown)
    }

    /// Lets the handlers run; never ends. On the main thread, which does not hold the GIL.
    pub(super) async fn watch(self) {
        let told = match self {
            Self::Told { ours, theirs } => watch(ours, &theirs).await,
            Self::Unknown => Ok(()),
        };
        if let Err(error) = told {
            tracing::debug!("signals of the app are looked for: {error}");
        }
        loop {
            tokio::time::sleep(LOOK).await;
            run_handlers();
        }
    }
}

async fn watch(ours: UnixStream, _theirs: &UnixStream) -> io::Result<()> {
    let ours = tokio::net::UnixStream::from_std(ours)?;
    let mut signals = [0; 64];
    loop {
        ours.readable().await?;
        match ours.try_read(&mut signals) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => run_handlers(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn run_handlers() {
    gil::acquire();
    gil::release();
}
