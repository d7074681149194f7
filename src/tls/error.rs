//! What can be wrong with the files of TLS.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The server's certificate chain.
    Certificate,
    /// Its private key.
    Key,
    /// The authorities that client certificates are checked by.
    ClientCa,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
            Self::ClientCa => "client CA",
        })
    }
}

/// Why TLS cannot be served with these files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// It cannot be read.
    #[error("TLS {role} {path:?}")]
    Unreadable {
        /// What it is for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It does not have what it should.
    #[error("TLS {role} {path:?}: {problem}")]
    Unusable {
        /// What it is for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The parts do not make a whole.
    #[error("TLS: {0}")]
    Unfit(String),
    /// This program was built without it.
    #[error(
        "TLS is not in this build of the server: it was made without the cargo feature \"tls\""
    )]
    #[cfg_attr(feature = "tls", expect(dead_code, reason = "said by builds without"))]
    NotBuilt,
}

impl TlsError {
    /// For `path`, which was to have something else in it.
    pub(crate) fn unusable(role: Role, path: &Path, problem: impl Into<String>) -> Self {
        Self::Unusable {
            role,
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
