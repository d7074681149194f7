//! What the benches drive. Not part of the interface.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::DuplexStream;

use super::connections::Timeouts;
use super::forwarded::Forwarded;
use super::guard::Rules;
use super::http::{HttpService, Settings};
use super::http2::Http2;
use super::stream::Stream;
use crate::app::builtin::Builtin;
use crate::app::{Address, Ends};
use crate::config::{AllowList, HeaderMapping};

/// The rules of the default settings.
#[must_use]
pub fn rules() -> Rules {
    let watched = [
        "X-Forwarded-Protocol",
        "X-Forwarded-Proto",
        "X-Forwarded-Ssl",
    ];
    Rules::new(4094, 100, 8190, 0, watched)
}

/// A built-in app behind HTTP, as a worker has it, with the default settings.
#[derive(Debug)]
pub struct Server(Rc<HttpService<Builtin>>);

impl Server {
    /// A server of `app`.
    #[must_use]
    pub fn new(app: Builtin) -> Self {
        let settings = Settings {
            rules: rules(),
            timeouts: Timeouts {
                keepalive: Duration::from_secs(2),
                header: Duration::from_secs(10),
                body: Duration::from_secs(10),
                write: Duration::from_secs(10),
                min_rate: 500,
                handshake: Duration::from_secs(10),
            },
            forwarded: Forwarded::new(AllowList::Everybody, &[], &[], HeaderMapping::Drop),
            fronts: AllowList::localhost(),
            access_log_format: String::new(),
            max_requests: 0,
            max_requests_jitter: 0,
            readiness_path: None,
            http2: Http2::default(),
            around: None,
            sendfile: true,
        };
        Self(HttpService::with(app, settings, None, None))
    }

    /// Serves one connection in memory.
    pub fn serve(&self, stream: DuplexStream) -> impl Future<Output = ()> + 'static {
        let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)));
        let ends = Ends::new(address.clone(), address);
        self.0.serve(Stream::Memory(stream), ends)
    }
}
