//! Whole connections over loopback, through hyper and back.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::connections::Timeouts;
use super::forwarded::Forwarded;
use super::guard::Rules;
use super::http::{HttpService, Settings};
use super::io::Stream;
use crate::app::builtin::Builtin;
use crate::app::{Address, App, Ends};
use crate::config::{AllowList, HeaderMapping};

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
        max_requests: 0,
        max_requests_jitter: 0,
    }
}

/// Runs `test` on a worker's kind of runtime, with a patience that only a hang exhausts.
fn run<F: Future<Output = ()> + 'static>(test: F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .build_local(Default::default())
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), test)
            .await
            .expect("the test hangs");
    });
}

/// Serves one connection; the client's end of it.
async fn connect<A: App>(http: &Rc<HttpService<A>>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address: SocketAddr = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("a connection");
    let (stream, peer) = listener.accept().await.expect("a connection");
    let ends = Ends {
        peer: Address::Tcp(peer),
        local: Address::Tcp(address),
    };
    tokio::task::spawn_local(http.serve(Stream::Tcp(stream), ends));
    client
}

/// Sends `request`, then reads until the server closes.
async fn talk<A: App>(http: &Rc<HttpService<A>>, request: &[u8]) -> String {
    let mut client = connect(http).await;
    client.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    client
        .read_to_end(&mut answer)
        .await
        .expect("an orderly close");
    String::from_utf8(answer).expect("text")
}

fn hello() -> Rc<HttpService<Builtin>> {
    HttpService::with(Builtin::Hello, settings(), None, None)
}

#[test]
fn hello_is_served() {
    run(async {
        let answer = talk(
            &hello(),
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("server: rgun-async\r\n"), "{answer}");
        assert!(answer.contains("content-length: 12\r\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhello world!"), "{answer}");
    });
}

#[test]
fn pipelined_requests_are_all_answered_before_a_refusal() {
    run(async {
        let good = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut bytes = good.repeat(20);
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        let answer = talk(&hello(), &bytes).await;
        assert_eq!(answer.matches("hello world!").count(), 20, "{answer}");
        assert!(answer.contains("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.trim_end().ends_with("</html>"), "{answer}");
    });
}
