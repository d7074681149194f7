//! In the place of TLS where it was not built: nothing that asks for it can be configured.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use super::error::TlsError;
use super::{Files, Spec};

/// No keys.
#[derive(Clone, Debug)]
pub(crate) struct TicketKeys;

#[expect(
    clippy::unused_self,
    clippy::needless_pass_by_ref_mut,
    reason = "as where there is TLS"
)]
impl TicketKeys {
    /// None.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::unnecessary_wraps, reason = "as where there is TLS")]
    pub(crate) fn inherited(
        _copy: Option<File>,
        _lifetime: Duration,
        _now: Instant,
    ) -> io::Result<Self> {
        Ok(Self)
    }

    /// None.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::unnecessary_wraps, reason = "as where there is TLS")]
    pub(crate) const fn copy(&self, _now: Instant) -> io::Result<Option<File>> {
        Ok(None)
    }

    /// Does nothing.
    pub(crate) const fn live(&mut self, _lifetime: Duration, _now: Instant) {}

    /// Never.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Does nothing.
    pub(crate) const fn turn(&mut self, _now: Instant) {}
}

/// Refuses any TLS.
///
/// # Errors
/// Where any is asked for.
pub(crate) fn check(specs: &[Spec], _: &Files) -> Result<Vec<String>, Vec<TlsError>> {
    if specs.is_empty() {
        Ok(Vec::new())
    } else {
        Err(vec![TlsError::NotBuilt])
    }
}
