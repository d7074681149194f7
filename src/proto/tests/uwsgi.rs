//! Connections from a front end that speaks uwsgi.

use super::answers::response;
use super::*;

fn packet(variables: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for part in variables.iter().flat_map(|(name, value)| [name, value]) {
        let size = u16::try_from(part.len()).expect("a size");
        block.extend_from_slice(&size.to_le_bytes());
        block.extend_from_slice(part.as_bytes());
    }
    let [low, high] = u16::try_from(block.len()).expect("a size").to_le_bytes();
    [&[0, low, high, 0], &*block].concat()
}

/// A GET, after which the connection may be kept.
fn get() -> Vec<u8> {
    packet(&[
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", "/"),
        ("HTTP_HOST", "x"),
        ("HTTP_CONNECTION", "keep-alive"),
    ])
}

fn post(length: &str) -> Vec<u8> {
    packet(&[
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/"),
        ("CONTENT_LENGTH", length),
        ("HTTP_HOST", "x"),
        ("HTTP_CONNECTION", "keep-alive"),
        ("HTTP_EXPECT", "100-continue"),
    ])
}

async fn connect<A: App>(http: &Rc<HttpService<A>>) -> TcpStream {
    connect_from(http, "127.0.0.1:99").await
}

/// Serves one connection from `peer` over loopback; the client's end of it.
async fn connect_from<A: App>(http: &Rc<HttpService<A>>, peer: &str) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address: SocketAddr = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("a connection");
    let (stream, _) = listener.accept().await.expect("a connection");
    let peer = Address::Tcp(peer.parse().expect("an address"));
    let ends = Ends::new(peer, Address::Tcp(address));
    tokio::task::spawn_local(http.serve_uwsgi(Stream::Tcp(stream), ends));
    client
}

async fn talk<A: App>(http: &Rc<HttpService<A>>, bytes: &[u8]) -> String {
    let mut client = connect(http).await;
    client.write_all(bytes).await.expect("sent");
    client.shutdown().await.expect("closed");
    read_all(&mut client).await
}

/// Answers with the body of the request, and its length.
fn mirror() -> impl App {
    app(|request: Request<Body>| async move {
        let whole = request.into_body().collect().await?.to_bytes();
        Ok::<_, BodyError>(Response::new(Full::from(whole)))
    })
}

#[test]
fn a_packet_is_answered_as_by_http_1_0() {
    run(async {
        let answer = talk(&hello(), &get()).await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-length: 12\r\n"), "{answer}");
        assert!(answer.contains("server: rgun-async\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhello world!"), "{answer}");
    });
}

#[test]
fn the_connection_is_kept_where_the_front_end_says_so() {
    run(async {
        let http = serve(mirror());
        let mut client = connect(&http).await;
        for body in ["first", "second"] {
            let length = body.len().to_string();
            let sent = [&*post(&length), body.as_bytes()].concat();
            client.write_all(&sent).await.expect("sent");
            let answer = read_until(&mut client, body).await;
            assert!(answer.contains("connection: keep-alive\r\n"), "{answer}");
        }
        // Two at once, the second's body on its own.
        let both = [&*post("1"), b"a", &*post("2")].concat();
        client.write_all(&both).await.expect("sent");
        read_until(&mut client, "\r\n\r\na").await;
        client.write_all(b"bc").await.expect("sent");
        read_until(&mut client, "\r\n\r\nbc").await;
        let unsaid = packet(&[("REQUEST_METHOD", "GET"), ("PATH_INFO", "/")]);
        client.write_all(&unsaid).await.expect("sent");
        let answer = read_all(&mut client).await;
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    });
}

#[test]
fn bytes_may_come_one_by_one() {
    run(async {
        let http = serve(mirror());
        let mut client = connect(&http).await;
        client.set_nodelay(true).expect("a socket");
        for byte in [&*post("5"), b"hello", &*post("2"), b"ab"].concat() {
            client.write_all(&[byte]).await.expect("sent");
            settle().await;
        }
        read_until(&mut client, "\r\n\r\nhello").await;
        read_until(&mut client, "\r\n\r\nab").await;
    });
}

#[test]
fn an_answer_of_unknown_length_ends_with_the_connection() {
    run(async {
        let http = serve(app(|_| async { response(&[], &["some ", "text"]) }));
        let answer = talk(&http, &get()).await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(!answer.contains("transfer-encoding"), "{answer}");
        assert!(!answer.contains("content-length"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nsome text"), "{answer}");
    });
}

#[test]
fn a_head_request_is_answered_by_a_head() {
    run(async {
        let head = packet(&[
            ("REQUEST_METHOD", "HEAD"),
            ("PATH_INFO", "/"),
            ("HTTP_CONNECTION", "keep-alive"),
        ]);
        let mut client = connect(&hello()).await;
        for _ in 0..2 {
            client.write_all(&head).await.expect("sent");
            let answer = read_until(&mut client, "\r\n\r\n").await;
            assert!(answer.contains("content-length: 12\r\n"), "{answer}");
            assert!(answer.contains("connection: keep-alive\r\n"), "{answer}");
        }
    });
}

#[test]
fn interim_answers_are_not_sent() {
    use crate::app::Line;
    use http::StatusCode;

    struct Hinting;
    impl App for Hinting {
        type Body = crate::app::builtin::Whole;
        type Future = crate::app::builtin::Answer;
        fn call(&self, request: Request<Body>, origin: Origin) -> Self::Future {
            Builtin::Hello.call(request, origin)
        }
        fn serve(&self, request: Request<Body>, origin: Origin, line: Line) -> Self::Future {
            let early = StatusCode::EARLY_HINTS;
            let sent = line.inform(early, &http::HeaderMap::new());
            assert_eq!(sent, origin.gateway.is_none());
            self.call(request, origin)
        }
    }

    run(async {
        let http = serve(Hinting);
        let answer = talk(&http, &get()).await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        let answer = super::talk(&http, GET_AND_CLOSE).await;
        assert!(answer.starts_with("HTTP/1.1 103 "), "{answer}");
    });
}

#[test]
fn the_app_sees_the_request_of_the_client() {
    run(async {
        let request = packet(&[
            ("REQUEST_METHOD", "PUT"),
            ("REQUEST_URI", "/app/a%20b?c"),
            ("SCRIPT_NAME", "/app"),
            ("PATH_INFO", "/a b"),
            ("QUERY_STRING", "c"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("REMOTE_PORT", "4711"),
            ("HTTPS", "on"),
            ("SERVER_PROTOCOL", "HTTP/1.0"),
            ("MINE", "yes"),
            ("HTTP_CONNECTION", "x"),
        ]);
        let http = serve(app(|request: Request<Body>| {
            let origin = request.extensions().get::<Origin>().expect("an origin");
            let gateway = origin.gateway.as_ref().expect("a gateway");
            let text = format!(
                "{} {} {:?} {:?} {:?} {:?} {:?} {:?}",
                request.method(),
                request.uri(),
                request.version(),
                request.headers(),
                origin.scheme,
                origin.ends.peer,
                String::from_utf8_lossy(gateway.script_name()),
                gateway.variable("MINE"),
            );
            async { Ok::<_, Infallible>(Response::new(Full::from(text))) }
        }));
        let answer = talk(&http, &request).await;
        let (_, seen) = answer.split_once("\r\n\r\n").expect("a body");
        assert_eq!(
            seen,
            "PUT /app/a%20b?c HTTP/1.0 {\"connection\": \"x\"} Https \
             Tcp(192.0.2.7:4711) \"/app\" Some([121, 101, 115])"
        );
    });
}

#[test]
fn what_is_wrong_is_answered_and_ends_the_connection() {
    let with = |name, value| {
        packet(&[
            ("REQUEST_METHOD", "GET"),
            ("REQUEST_URI", "/"),
            (name, value),
        ])
    };
    let fields = (0..101).map(|number| (format!("HTTP_X_{number}"), String::new()));
    let fields: Vec<_> = fields.collect();
    let mut many: Vec<(&str, &str)> = vec![("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/")];
    many.extend(fields.iter().map(|(name, value)| (&**name, &**value)));
    let long = "a".repeat(9000);
    let long_line = format!("/{long}");
    for (bytes, status) in [
        (b"\x05\x00\x00\x00".to_vec(), 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 501),
        (b"\x16\x03\x01\x02\x00".to_vec(), 501),
        (vec![0, 0, 0, 0], 400),
        (vec![0, 4, 0, 0, 0, 0, 0, 0], 400),
        (vec![0, 9, 0, 0, 1, 0, b'A'], 400),
        (with("CONTENT_LENGTH", "-1"), 400),
        (with("CONTENT_LENGTH", "18446744073709551616"), 400),
        (with("CONTENT_LENGTH", "1048577"), 413),
        (with("HTTP_TRANSFER_ENCODING", "chunked"), 411),
        (with("HTTP_HOST", "a b"), 400),
        (with("HTTP_LONG", &long), 431),
        (with("REQUEST_URI", &long_line), 414),
        (packet(&many), 431),
        (with("REQUEST_URI", "nowhere"), 400),
    ] {
        run(async move {
            let answer = talk(&hello(), &bytes).await;
            let line = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&line), "{status}: {answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert!(answer.trim_end().ends_with("</html>"), "{answer}");
        });
    }
}

#[test]
fn a_stranger_is_told_that_it_may_not() {
    run(async {
        let http = hello();
        let mut client = connect_from(&http, "192.0.2.1:99").await;
        client.write_all(&get()).await.expect("sent");
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(!answer.contains("hello"), "{answer}");
    });
}

#[test]
fn a_body_that_is_cut_is_not_taken_for_whole() {
    run(async {
        let answer = talk(&serve(mirror()), &[&*post("5"), b"abc"].concat()).await;
        assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    });
}

#[test]
fn a_packet_that_stalls_is_timed_out() {
    run(async {
        let http = hello();
        let now = clock(&http);
        let mut client = connect(&http).await;
        client.write_all(&get()[..20]).await.expect("sent");
        settle().await;
        pass(&http, &now, 12).await;
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    });
}

#[test]
fn a_body_that_stalls_is_timed_out() {
    run(async {
        let http = serve(mirror());
        let now = clock(&http);
        let mut client = connect(&http).await;
        let part = [&*post("5"), b"abc"].concat();
        client.write_all(&part).await.expect("sent");
        settle().await;
        pass(&http, &now, 12).await;
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.0 408 "), "{answer}");
    });
}

#[test]
fn an_idle_connection_is_closed() {
    run(async {
        let http = hello();
        let now = clock(&http);
        let mut client = connect(&http).await;
        client.write_all(&get()).await.expect("sent");
        read_until(&mut client, "hello world!").await;
        settle().await;
        pass(&http, &now, 4).await;
        assert_eq!(read_all(&mut client).await, "");
        settle().await;
        assert_eq!(http.connections().len(), 0);
    });
}

#[test]
fn a_drain_ends_the_connection_after_the_answer() {
    run(async {
        let http = hello();
        let now = clock(&http);
        let mut client = connect(&http).await;
        client.write_all(&get()).await.expect("sent");
        read_until(&mut client, "hello world!").await;
        http.connections().announce();
        client.write_all(&get()).await.expect("sent");
        let answer = read_all(&mut client).await;
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        http.connections().drain(now.get(), Departure::End);
    });
}

#[test]
fn an_app_may_leave_http_behind_a_front_end() {
    run(async {
        let http = serve(app(|request: Request<Body>| async move {
            let upgrade = hyper::upgrade::on(request);
            tokio::task::spawn_local(async move {
                let stream = hyper_util::rt::TokioIo::new(upgrade.await.expect("the stream"));
                let (mut from, mut to) = tokio::io::split(stream);
                tokio::io::copy(&mut from, &mut to).await.expect("copied");
            });
            let switch = Response::builder().status(101).header("upgrade", "echo");
            switch.body(Full::<Bytes>::default())
        }));
        let mut client = connect(&http).await;
        let ask = packet(&[
            ("REQUEST_METHOD", "GET"),
            ("PATH_INFO", "/"),
            ("HTTP_CONNECTION", "upgrade"),
            ("HTTP_UPGRADE", "echo"),
        ]);
        let sent = [&*ask, b"\x00early"].concat();
        client.write_all(&sent).await.expect("sent");
        let head = read_until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        let mut back = [0; 6];
        client.read_exact(&mut back).await.expect("the echo");
        assert_eq!(&back, b"\x00early");
    });
}

#[test]
fn a_body_waits_until_the_app_reads_it() {
    run(async {
        let (open, opened) = oneshot::channel::<()>();
        let opened = Rc::new(RefCell::new(Some(opened)));
        let http = serve(app(move |request: Request<Body>| {
            let opened = opened.borrow_mut().take();
            async move {
                if let Some(opened) = opened {
                    opened.await.expect("a word");
                }
                let whole = request.into_body().collect().await?.to_bytes();
                Ok::<_, BodyError>(Response::new(Full::from(whole.len().to_string())))
            }
        }));
        // No kernel, whose buffers would hold all of it.
        let (mut client, stream) = tokio::io::duplex(4096);
        let address = Address::Tcp("127.0.0.1:99".parse().expect("an address"));
        let ends = Ends::new(address.clone(), address);
        tokio::task::spawn_local(http.serve_uwsgi(Stream::Memory(stream), ends));
        let length = 1 << 20;
        let head = post(&length.to_string());
        client.write_all(&head).await.expect("sent");
        let piece = vec![0; 1 << 16];
        let mut sent = 0;
        // Until nothing moves.
        loop {
            settle().await;
            let mut write = std::pin::pin!(client.write(&piece));
            let written = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
            match written {
                Poll::Ready(bytes) => sent += bytes.expect("sent"),
                Poll::Pending => break,
            }
        }
        assert!(sent < length / 4, "{sent} bytes are held");
        open.send(()).expect("the app waits");
        let rest = vec![0; length - sent];
        client.write_all(&rest).await.expect("sent");
        client.shutdown().await.expect("closed");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{length}")), "{answer}");
    });
}
