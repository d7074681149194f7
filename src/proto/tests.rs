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
use super::io::Stream;
use crate::app::builtin::Builtin;
use crate::app::tower::Tower;
use crate::app::{Address, App, Body, BodyError, Departure, Ends, Origin};
use crate::config::{AllowList, HeaderMapping};
use crate::error::AnyError;

mod upgrade;

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
            min_rate: 500,
        },
        forwarded: Forwarded::new(
            AllowList::Everybody,
            &pairs,
            &["SCRIPT_NAME".to_owned()],
            HeaderMapping::Drop,
        ),
        access_log_format: "%(r)s %(s)s %(b)s".to_owned(),
        max_requests: 0,
        max_requests_jitter: 0,
        readiness_path: None,
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

#[test]
fn hello_is_served() {
    run(async {
        let answer = talk(&hello(), GET_AND_CLOSE).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("server: rgun-async\r\n"), "{answer}");
        assert!(answer.contains("content-length: 12\r\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\ndate: "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhello world!"), "{answer}");
    });
}

#[test]
fn pipelined_requests_are_all_answered_before_a_refusal() {
    run(async {
        let mut bytes = GET.repeat(20);
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        let answer = talk(&hello(), &bytes).await;
        assert_eq!(answer.matches("hello world!").count(), 20, "{answer}");
        assert!(answer.contains("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.trim_end().ends_with("</html>"), "{answer}");
    });
}

#[test]
fn an_answer_does_not_wait_for_the_rest_of_the_next_request() {
    run(async {
        let http = hello();
        let mut client = connect(&http).await;
        client
            .write_all(&[GET, b"GET / HT"].concat())
            .await
            .expect("sent");
        read_until(&mut client, "hello world!").await;
        client
            .write_all(b"TP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("sent");
        read_until(&mut client, "hello world!").await;
    });
}

#[test]
fn an_answer_does_not_wait_for_the_next_answer() {
    run(async {
        let (send, receive) = oneshot::channel::<()>();
        let gate = Rc::new(RefCell::new(Some(receive)));
        let http = serve(app(move |request: Request<Body>| {
            let gate = (request.uri().path() == "/slow").then(|| gate.borrow_mut().take());
            async move {
                if let Some(Some(gate)) = gate {
                    gate.await.expect("opened");
                }
                Ok::<_, Infallible>(Response::new(Full::from("done")))
            }
        }));
        let mut client = connect(&http).await;
        let slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";
        client
            .write_all(&[GET, slow, GET].concat())
            .await
            .expect("sent");
        read_until(&mut client, "done").await;
        send.send(()).expect("a waiting app");
        read_until(&mut client, "done").await;
        read_until(&mut client, "done").await;
    });
}

#[test]
fn a_half_closed_client_is_answered() {
    run(async {
        let http = hello();
        let mut client = connect(&http).await;
        client.write_all(GET).await.expect("sent");
        client.shutdown().await.expect("half closed");
        assert!(read_all(&mut client).await.ends_with("hello world!"));
    });
}

#[test]
fn connection_is_a_list_and_1_0_keeps_alive_if_asked() {
    run(async {
        let close = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n";
        assert!(talk(&hello(), close).await.ends_with("hello world!"));
        let old = b"GET / HTTP/1.0\r\n\r\n";
        assert!(talk(&hello(), old).await.starts_with("HTTP/1.0 200 OK\r\n"));
        let http = hello();
        let mut client = connect(&http).await;
        for _ in 0..2 {
            let ab = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
            client.write_all(ab).await.expect("sent");
            let answer = read_until(&mut client, "hello world!").await;
            assert!(answer.contains("connection: keep-alive\r\n"), "{answer}");
        }
    });
}

#[test]
fn refusals_are_pages_and_close() {
    run(async {
        for (status, request) in [
            ("400 Bad Request", &b"GET / HTTP/1.1\r\n\r\n"[..]),
            (
                "414 URI Too Long",
                &[b"GET /", "a".repeat(5000).as_bytes()].concat(),
            ),
            (
                "417 Expectation Failed",
                b"GET / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n",
            ),
            (
                "413 Payload Too Large",
                b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n",
            ),
            (
                "501 Not Implemented",
                b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
            ),
            (
                "505 HTTP Version Not Supported",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ),
        ] {
            let answer = talk(&hello(), request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{answer}"
            );
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
    });
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

#[test]
fn a_broken_body_is_an_error_to_the_app_and_400_to_the_client() {
    run(async {
        let (http, seen) = body_reader();
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = talk(&http, format!("{head}5\r\nhello\r\nx\r\n").as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        let too_large = format!(
            "{head}{}",
            "10000\r\n".to_owned() + &"a".repeat(65536) + "\r\n"
        );
        let too_large = too_large + "FFFFFF\r\n";
        let answer = talk(&http, too_large.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"),
            "{answer}"
        );
        let seen = seen.borrow();
        assert!(matches!(seen[0], Err(BodyError::Broken(_))), "{seen:?}");
        assert_eq!(seen[1], Err(BodyError::TooLarge));
    });
}

#[test]
fn a_cut_body_is_an_error_to_the_app() {
    run(async {
        let (http, seen) = body_reader();
        let mut client = connect(&http).await;
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello";
        client.write_all(head).await.expect("sent");
        client.shutdown().await.expect("half closed");
        let answer = read_all(&mut client).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert_eq!(*seen.borrow(), [Err(BodyError::Cut)]);
    });
}

#[test]
fn bodies_and_trailers_come_whole() {
    run(async {
        let (http, seen) = body_reader();
        let mut client = connect(&http).await;
        let body = "a".repeat(100_000);
        let sized =
            format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{body}");
        let chunked = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
             186A0\r\n{body}\r\n0\r\nA: b\r\n\r\n"
        );
        for request in [&sized, &chunked, &sized] {
            client.write_all(request.as_bytes()).await.expect("sent");
            read_until(&mut client, "read").await;
        }
        for seen in &*seen.borrow() {
            assert_eq!(seen.as_ref().map(Bytes::len), Ok(100_000));
        }
    });
}

#[test]
fn expect_100_continue_is_answered_when_the_app_reads() {
    run(async {
        let (http, seen) = body_reader();
        let mut client = connect(&http).await;
        let head =
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        client.write_all(head).await.expect("sent");
        read_until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
        client.write_all(b"ok").await.expect("sent");
        read_until(&mut client, "read").await;
        assert_eq!(seen.borrow()[0].as_deref(), Ok(&b"ok"[..]));
    });
}

#[test]
fn an_unread_body_does_not_cost_the_client_the_answer() {
    run(async {
        let http = hello();
        let mut client = connect(&http).await;
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
        client.write_all(head).await.expect("sent");
        client.write_all(&vec![0; 60_000]).await.expect("sent");
        let answer = read_until(&mut client, "hello world!").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        drop(client);
    });
}

#[test]
fn a_connection_goes_on_after_a_body_that_the_app_left() {
    run(async {
        let http = hello();
        let mut client = connect(&http).await;
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n";
        for _ in 0..3 {
            client.write_all(head.as_bytes()).await.expect("sent");
            client.write_all(&vec![0; 60_000]).await.expect("sent");
            read_until(&mut client, "hello world!").await;
        }
        // But not after one that may never have been sent.
        let head =
            "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        client.write_all(head.as_bytes()).await.expect("sent");
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

type Frames = StreamBody<Iter<std::vec::IntoIter<Result<Frame<Bytes>, AnyError>>>>;

/// A response of unknown length, whose body is these pieces.
fn response(
    fields: &[(&str, &str)],
    body: &[&'static str],
) -> Result<Response<Frames>, http::Error> {
    let mut response = Response::builder();
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let frames: Vec<_> = body
        .iter()
        .map(|text| match *text {
            "ERROR" => Err(AnyError::from("the body broke")),
            text => Ok(Frame::data(Bytes::from(text))),
        })
        .collect();
    response.body(StreamBody::new(Iter(frames.into_iter())))
}

/// A stream of what an iterator gives.
struct Iter<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Iter<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

#[test]
fn more_than_the_announced_length_is_not_sent() {
    run(async {
        let http = serve(app(|_| async {
            response(&[("content-length", "5")], &["hel", "lo wo", "rld"])
        }));
        let mut client = connect(&http).await;
        for _ in 0..2 {
            client.write_all(GET).await.expect("sent");
            let answer = read_until(&mut client, "hello").await;
            assert!(answer.contains("content-length: 5\r\n"), "{answer}");
        }
    });
}

#[test]
fn less_than_the_announced_length_cuts_the_connection() {
    run(async {
        let http = serve(app(|_| async {
            response(&[("content-length", "5")], &["hel"])
        }));
        let mut client = connect(&http).await;
        client.write_all(GET).await.expect("sent");
        assert!(
            client.read_to_end(&mut Vec::new()).await.is_err(),
            "a reset"
        );
        // Where it is known in time, the client is told.
        let http = serve(app(|_| async {
            let response = Response::builder().header("content-length", "5");
            response.body(Full::<Bytes>::from("hel"))
        }));
        let answer = talk(&http, GET_AND_CLOSE).await;
        assert!(
            answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
            "{answer}"
        );
    });
}

#[test]
fn a_body_of_unknown_length_is_chunked_and_an_error_cuts_it() {
    run(async {
        let http = serve(app(|request: Request<Body>| async move {
            match request.uri().path() {
                "/bad" => response(&[], &["hel", "ERROR"]),
                _ => response(&[], &["hel", "", "lo"]),
            }
        }));
        let answer = talk(&http, GET_AND_CLOSE).await;
        assert!(
            answer.ends_with("\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
            "{answer}"
        );
        let answer = talk(&http, b"GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
        let mut client = connect(&http).await;
        client
            .write_all(b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("sent");
        assert!(
            client.read_to_end(&mut Vec::new()).await.is_err(),
            "a reset"
        );
    });
}

#[test]
fn head_204_and_304_have_no_body() {
    run(async {
        let http = serve(app(|request: Request<Body>| async move {
            let status = request
                .uri()
                .path()
                .trim_start_matches('/')
                .parse()
                .unwrap_or(200);
            Response::builder()
                .status(status)
                .body(Full::<Bytes>::from("hello"))
        }));
        let head = b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = talk(&http, head).await;
        assert!(answer.contains("content-length: 5\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        for status in ["204", "304"] {
            let get = format!("GET /{status} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = talk(&http, get.as_bytes()).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(
                answer.ends_with("\r\n\r\n") && !answer.contains("content-length"),
                "{answer}"
            );
        }
        let answer = talk(
            &http,
            b"GET /103 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    });
}

#[test]
fn fields_that_are_the_servers_are_not_the_apps() {
    run(async {
        let http = serve(app(|_| async {
            let fields = [
                ("transfer-encoding", "gzip"),
                ("connection", "upgrade"),
                ("keep-alive", "timeout=5"),
                ("upgrade", "websocket"),
                ("server", "mine"),
                ("x-other", "stays"),
            ];
            response(&fields, &["ok"])
        }));
        let answer = talk(&http, GET_AND_CLOSE).await;
        assert!(
            answer.contains("transfer-encoding: chunked\r\n"),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("server: mine\r\n"), "{answer}");
        assert!(answer.contains("x-other: stays\r\n"), "{answer}");
        assert!(
            !answer.contains("upgrade") && !answer.contains("keep-alive"),
            "{answer}"
        );
        let http = serve(app(|_| async {
            response(&[("connection", "Close")], &["ok"])
        }));
        assert!(talk(&http, GET).await.contains("connection: close\r\n"));
    });
}

#[test]
fn an_app_that_fails_or_panics_is_a_500_and_the_connection_goes_on() {
    run(async {
        std::panic::set_hook(Box::new(|_| ()));
        let http = serve(app(|request: Request<Body>| async move {
            assert_ne!(request.uri().path(), "/panic", "as asked");
            Err::<Response<Full<Bytes>>, _>("no")
        }));
        let mut client = connect(&http).await;
        for path in ["/", "/panic", "/"] {
            let get = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            client.write_all(get.as_bytes()).await.expect("sent");
            let answer = read_until(&mut client, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
            client = connect(&http).await;
        }
        let _ = std::panic::take_hook();
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_body_back() {
    run(async {
        let given = Rc::new(Cell::new(0));
        let count = Rc::clone(&given);
        let http = serve(app(move |_| {
            let count = Rc::clone(&count);
            let frames = std::iter::repeat_with(move || {
                count.set(count.get() + 50_000);
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(PIECE)))
            });
            async {
                Ok::<_, Infallible>(Response::new(StreamBody::new(Iter(frames.take(2000)))))
            }
        }));
        let now = clock(&http);
        let mut client = connect(&http).await;
        client.write_all(GET_AND_CLOSE).await.expect("sent");
        let mut before = usize::MAX;
        while before != given.get() {
            before = given.get();
            settle().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(
            before > 0 && before < 50_000_000,
            "{before} bytes given to a client that reads none"
        );
        // It goes on when the client does.
        let mut sink = vec![0; 1 << 20];
        for _ in 0..20 {
            assert!(client.read(&mut sink).await.expect("bytes") > 0);
            settle().await;
        }
        assert!(given.get() > before);
        // And is cut when it stops for good.
        pass(&http, &now, 13).await;
        assert_eq!(http.connections().len(), 0);
    });
}

#[test]
fn idle_connections_close_after_keepalive_without_a_word() {
    run(async {
        let http = hello();
        let now = clock(&http);
        let mut client = connect(&http).await;
        client.write_all(GET).await.expect("sent");
        read_until(&mut client, "hello world!").await;
        pass(&http, &now, 2).await;
        assert_eq!(http.connections().len(), 1, "not early");
        pass(&http, &now, 1).await;
        assert_eq!(http.connections().len(), 0);
        assert_eq!(read_all(&mut client).await, "");
    });
}

#[test]
fn without_keepalive_every_answer_closes() {
    run(async {
        let mut settings = settings();
        settings.timeouts.keepalive = Duration::ZERO;
        let http = HttpService::with(Builtin::Hello, settings, None, None);
        let answer = talk(&http, GET).await;
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.ends_with("hello world!"), "{answer}");
    });
}

#[test]
fn a_slow_head_is_408_and_a_silent_client_is_closed() {
    run(async {
        let http = hello();
        let now = clock(&http);
        let mut slow = connect(&http).await;
        let mut silent = connect(&http).await;
        slow.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
        settle().await;
        for _ in 0..10 {
            pass(&http, &now, 1).await;
            slow.write_all(b"a: b\r\n").await.expect("sent");
        }
        assert_eq!(http.connections().len(), 2, "not early");
        pass(&http, &now, 2).await;
        let answer = read_all(&mut slow).await;
        assert!(
            answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{answer}"
        );
        assert_eq!(read_all(&mut silent).await, "");
    });
}

#[test]
fn a_client_that_goes_on_sending_after_a_408_is_closed() {
    run(async {
        let http = hello();
        let now = clock(&http);
        let mut client = connect(&http).await;
        for _ in 0..17 {
            let _ = client.write_all(b"G").await;
            settle().await;
            pass(&http, &now, 1).await;
        }
        assert_eq!(http.connections().len(), 0);
    });
}

#[test]
fn a_slow_body_is_408_and_a_steady_one_is_not() {
    run(async {
        let (http, seen) = body_reader();
        let now = clock(&http);
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n";
        let mut slow = connect(&http).await;
        let mut steady = connect(&http).await;
        slow.write_all(head).await.expect("sent");
        steady.write_all(head).await.expect("sent");
        settle().await;
        for _ in 0..20 {
            pass(&http, &now, 1).await;
            let _ = slow.write_all(b"a").await;
            steady.write_all(&[b'a'; 1000]).await.expect("sent");
            settle().await;
        }
        let answer = read_all(&mut slow).await;
        assert!(
            answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{answer}"
        );
        read_until(&mut steady, "read").await;
        assert_eq!(seen.borrow()[0], Err(BodyError::TimedOut));
    });
}

#[test]
fn a_busy_worker_times_nobody_out() {
    run(async {
        let http = hello();
        let now = clock(&http);
        let mut client = connect(&http).await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
        settle().await;
        // The thread was away for a minute.
        now.set(now.get() + Duration::from_secs(60));
        http.connections().sweep(now.get());
        settle().await;
        client.write_all(b"Host: x\r\n\r\n").await.expect("sent");
        read_until(&mut client, "hello world!").await;
    });
}

#[test]
fn a_draining_worker_answers_what_has_begun() {
    run(async {
        let http = hello();
        let now = clock(&http);
        let mut idle = connect(&http).await;
        idle.write_all(GET).await.expect("sent");
        read_until(&mut idle, "hello world!").await;
        let mut half = connect(&http).await;
        half.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
        let mut fresh = connect(&http).await;
        let mut silent = connect(&http).await;
        settle().await;
        let mut on_its_way = connect(&http).await;
        on_its_way.write_all(GET).await.expect("sent");
        read_until(&mut on_its_way, "hello world!").await;
        http.connections().drain(now.get(), Departure::End);
        on_its_way.write_all(GET).await.expect("sent");
        let answer = read_all(&mut on_its_way).await;
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        now.set(now.get() + Duration::from_millis(200));
        http.connections().sweep(now.get());
        assert_eq!(read_all(&mut idle).await, "");
        half.write_all(b"Host: x\r\n\r\n").await.expect("sent");
        fresh.write_all(GET).await.expect("sent");
        for client in [&mut half, &mut fresh] {
            let answer = read_all(client).await;
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert!(answer.ends_with("hello world!"), "{answer}");
        }
        pass(&http, &now, 2).await;
        assert_eq!(read_all(&mut silent).await, "");
        assert_eq!(http.connections().len(), 0);
    });
}

#[test]
fn aborting_cuts_every_connection() {
    run(async {
        let http = serve(app(|_| async {
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("never")))
        }));
        let mut client = connect(&http).await;
        client.write_all(GET).await.expect("sent");
        settle().await;
        http.connections().abort_all();
        assert!(
            client.read_to_end(&mut Vec::new()).await.is_err(),
            "a reset"
        );
        assert_eq!(http.connections().len(), 0);
    });
}

#[test]
fn a_worker_is_recycled_after_enough_requests() {
    run(async {
        let settings = Settings {
            max_requests: 3,
            ..settings()
        };
        let http = HttpService::with(Builtin::Hello, settings, None, None);
        let mut recycle = std::pin::pin!(http.recycle());
        for asked in 0..3 {
            let early = poll_fn(|cx| Poll::Ready(recycle.as_mut().poll(cx).is_ready())).await;
            assert!(!early, "after {asked}");
            talk(&http, GET_AND_CLOSE).await;
        }
        recycle.await;
    });
}

#[test]
fn a_proxy_is_believed_and_underscores_are_dropped() {
    run(async {
        let http = serve(Builtin::Echo);
        let answer = talk(
            &http,
            b"GET http://other/p HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\nScript_Name: /s\r\n\
              X_Y: z\r\nConnection: close\r\n\r\n",
        )
        .await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let told: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(told["scheme"], "https");
        let headers = told["headers"].to_string();
        assert!(headers.contains(r#"["script_name","/s"]"#), "{headers}");
        assert!(headers.contains(r#"["host","other"]"#), "{headers}");
        assert!(!headers.contains("x_y"), "{headers}");
        let quarrel = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\
                        X-Forwarded-Proto: http\r\n\r\n";
        assert!(talk(&http, quarrel).await.starts_with("HTTP/1.1 400 "));
    });
}

#[test]
fn every_answer_has_its_line_in_the_access_log() {
    #[derive(Default)]
    struct Lines(RefCell<String>);
    impl Sink for Lines {
        fn append(&self, line: &[u8]) {
            self.0
                .borrow_mut()
                .push_str(std::str::from_utf8(line).expect("text"));
        }
    }
    run(async {
        let lines = Rc::<Lines>::default();
        let sink: Rc<dyn Sink> = lines.clone();
        let http = HttpService::with(Builtin::Hello, settings(), Some(sink), None);
        let quarrel = b"GET /q HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\
                        X-Forwarded-Proto: http\r\n\r\n";
        let head = b"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n";
        talk(&http, &[GET, head, quarrel].concat()).await;
        let lines = lines.0.borrow();
        let mut lines = lines.lines();
        assert_eq!(lines.next(), Some("GET / HTTP/1.1 200 12"));
        assert_eq!(lines.next(), Some("HEAD /h HTTP/1.1 200 0"));
        assert!(
            lines
                .next()
                .is_some_and(|line| line.starts_with("GET /q HTTP/1.1 400 "))
        );
        assert_eq!(lines.next(), None);
    });
}

#[test]
fn apps_find_both_ends() {
    run(async {
        let http = serve(app(|request: Request<Body>| async move {
            let origin = request.extensions().get::<Origin>().expect("an origin");
            assert!(matches!(origin.ends.peer, Address::Tcp(_)) && origin.trusted);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok")))
        }));
        assert!(talk(&http, GET_AND_CLOSE).await.ends_with("ok"));
    });
}

/// hyper parses behind the guard. It must never be the one to refuse: its answers would not be ours.
#[test]
fn hyper_takes_whatever_the_guard_lets_through() {
    run(async {
        let (http, seen) = body_reader();
        let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body =
            "5;a=\"b\\\"c\"\r\nhello\r\n00A\r\n0123456789\r\n0;z\r\nA: b\r\nCd: e f\r\n\r\n";
        let spice = "\r\n\t ;:=\"\\0aF_\u{7f}x";
        let mut good = 0;
        for (at, _) in body.char_indices() {
            for spice in spice.chars() {
                for put_in in [true, false] {
                    let rest = body.get(at + usize::from(!put_in)..).expect("ASCII");
                    let request = format!("{head}{}{spice}{rest}", &body[..at]);
                    let mut client = connect_in_memory(&http);
                    client.write_all(request.as_bytes()).await.expect("sent");
                    client.shutdown().await.expect("half closed");
                    let mut answer = String::new();
                    client.read_to_string(&mut answer).await.expect("text");
                    let told = seen.borrow_mut().pop().expect("the app was called");
                    let ok = answer.starts_with("HTTP/1.1 200 ");
                    assert_eq!(ok, told.is_ok(), "{request:?} -> {told:?} {answer}");
                    assert!(ok || answer.contains("</html>"), "{request:?} -> {answer}");
                    good += u32::from(ok);
                }
            }
        }
        assert!(
            good > 100,
            "only {good} bodies were good: the comparison is worth nothing"
        );
    });
}

fn connect_in_memory<A: App>(http: &Rc<HttpService<A>>) -> tokio::io::DuplexStream {
    let (client, stream) = tokio::io::duplex(1 << 16);
    let ends = Ends::new(Address::Unix(None), Address::Unix(None));
    tokio::task::spawn_local(http.serve(Stream::Memory(stream), ends));
    client
}
