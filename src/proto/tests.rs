//! Whole connections through hyper and back.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::sync::oneshot;

use super::access::Sink;
use super::connections::Timeouts;
use super::forwarded::Forwarded;
use super::guard::Rules;
use super::http::{HttpService, Settings};
use super::http2::Http2;
use super::stream::Stream;
use crate::app::builtin::Builtin;
use crate::app::tower::Tower;
use crate::app::{Address, App, Body, BodyError, Departure, Ends, Origin};
use crate::config::{AllowList, HeaderMapping};
use crate::error::AnyError;

mod answers;
mod bodies;
mod life;
mod requests;
mod upgrade;
mod uwsgi;

static PIECE: &[u8] = &[b'a'; 50_000];
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const GET_AND_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn settings() -> Settings {
    let pairs = [("X-FORWARDED-PROTO".to_owned(), "https".to_owned())];
    Settings {
        rules: Rules::new(
            4094,
            100,
            8190,
            1 << 20,
            pairs.iter().map(|(name, _)| name.as_str()),
        ),
        timeouts: Timeouts {
            keepalive: Duration::from_secs(2),
            header: Duration::from_secs(10),
            body: Duration::from_secs(10),
            write: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            min_rate: 500,
        },
        forwarded: Forwarded::new(
            AllowList::Everybody,
            &pairs,
            &["SCRIPT_NAME".to_owned()],
            HeaderMapping::Drop,
        ),
        fronts: AllowList::localhost(),
        access_log_format: "%(r)s %(s)s %(b)s".to_owned(),
        max_requests: 0,
        max_requests_jitter: 0,
        readiness_path: None,
        http2: Http2::default(),
        around: None,
        sendfile: true,
    }
}

/// Runs `test` on a worker's kind of runtime, with a patience that only a hang exhausts.
fn run<F: Future<Output = ()> + 'static>(test: F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), test)
            .await
            .expect("the test hangs");
    });
}

fn serve<A: App>(app: A) -> Rc<HttpService<A>> {
    HttpService::with(app, settings(), None, None)
}

fn hello() -> Rc<HttpService<Builtin>> {
    serve(Builtin::Hello)
}

/// An app from an async function.
fn app<F, R, B, E>(function: F) -> Tower<tower::util::ServiceFn<F>>
where
    F: FnMut(Request<Body>) -> R + Clone + 'static,
    R: Future<Output = Result<Response<B>, E>> + 'static,
{
    Tower::new(tower::service_fn(function))
}

/// Serves one connection over loopback; the client's end of it.
async fn connect<A: App>(http: &Rc<HttpService<A>>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address: SocketAddr = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("a connection");
    let (stream, peer) = listener.accept().await.expect("a connection");
    let ends = Ends::new(Address::Tcp(peer), Address::Tcp(address));
    tokio::task::spawn_local(http.serve(Stream::Tcp(stream), ends));
    client
}

async fn read_all(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    client
        .read_to_end(&mut answer)
        .await
        .expect("an orderly close");
    String::from_utf8(answer).expect("text")
}

/// Reads until what came ends in `end`.
async fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut answer = String::new();
    while !answer.ends_with(end) {
        let mut byte = [0];
        assert_eq!(
            client.read(&mut byte).await.expect("bytes"),
            1,
            "closed after {answer:?}"
        );
        answer.push(char::from(byte[0]));
    }
    answer
}

/// Sends `request`, then reads until the server closes.
async fn talk<A: App>(http: &Rc<HttpService<A>>, request: &[u8]) -> String {
    let mut client = connect(http).await;
    client.write_all(request).await.expect("sent");
    read_all(&mut client).await
}

/// Lets everything that is ready run.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Sweeps as a worker does, `seconds` long, without waiting for them.
async fn pass<A: App>(http: &HttpService<A>, from: &Cell<Instant>, seconds: u64) {
    for _ in 0..seconds * 4 {
        from.set(from.get() + Duration::from_millis(250));
        http.connections().sweep(from.get());
        settle().await;
    }
}

fn clock<A: App>(http: &HttpService<A>) -> Cell<Instant> {
    let now = Instant::now();
    http.connections().sweep(now);
    Cell::new(now)
}

type Bodies = Rc<RefCell<Vec<Result<Bytes, BodyError>>>>;

/// An app that keeps what it was told of its body.
fn body_reader() -> (Rc<HttpService<impl App>>, Bodies) {
    let seen = Bodies::default();
    let keep = Rc::clone(&seen);
    let http = serve(app(move |request: Request<Body>| {
        let keep = Rc::clone(&keep);
        async move {
            let body = request
                .into_body()
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes);
            keep.borrow_mut().push(body);
            Ok::<_, Infallible>(Response::new(Full::from("read")))
        }
    }));
    (http, seen)
}
