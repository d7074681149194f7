//! In the place of TLS where it was not built.

use std::rc::Rc;

use super::http::HttpService;
use super::stream::Stream;
use crate::app::{App, Ends};

/// There is none.
#[derive(Debug)]
pub(crate) enum Port {}

impl<A: App> HttpService<A> {
    #[expect(clippy::unused_async, reason = "as where there is TLS")]
    pub(crate) async fn secure(
        &self,
        _: Stream,
        _: Ends,
        port: Rc<Port>,
        _refused: bool,
    ) -> Option<(Stream, Ends)> {
        match *port {}
    }
}
