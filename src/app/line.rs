//! What an app and the connection that its request came on tell each other besides request and response.

use std::fmt::Debug;
use std::rc::{Rc, Weak};

use http::HeaderMap;

/// A request's connection, as far as it concerns an app. It keeps no connection open.
#[derive(Clone, Debug, Default)]
pub struct Line(Option<Weak<dyn Connection>>);

/// The connection's side of a [`Line`].
pub(crate) trait Connection: Debug {
    /// Has `client` told, once, when the client closes its sending half while the request is with the app.
    fn mind(&self, client: Weak<dyn Client>);

    /// Sends an interim response (1xx) with these fields before the answer.
    fn inform(&self, status: http::StatusCode, headers: &HeaderMap) -> bool;
}

/// Who is told that the client has left.
pub(crate) trait Client {
    /// Nothing more comes from the client: it has gone, or wants nothing but the answer.
    fn left(&self);
}

impl Line {
    pub(crate) fn new(connection: Weak<dyn Connection>) -> Self {
        Self(Some(connection))
    }

    /// Has `client` told, once, when the client closes its sending half while the request is with the app.
    #[cfg_attr(
        not(feature = "python"),
        expect(dead_code, reason = "Python apps alone ask for it")
    )]
    pub(crate) fn mind(&self, client: Weak<dyn Client>) {
        if let Some(connection) = self.connection() {
            connection.mind(client);
        }
    }

    /// Sends an interim response (RFC 9110, section 15.2) before the answer; false where it cannot be sent now, or the
    /// client would not understand it.
    #[must_use]
    pub fn inform(&self, status: http::StatusCode, headers: &HeaderMap) -> bool {
        self.connection()
            .is_some_and(|connection| connection.inform(status, headers))
    }

    fn connection(&self) -> Option<Rc<dyn Connection>> {
        self.0.as_ref()?.upgrade()
    }
}

/// An answer broke off as its client had left, and the app has done nothing for it since: nobody's fault.
#[derive(Debug, thiserror::Error)]
#[error("the client has left")]
pub(crate) struct Forsaken;
