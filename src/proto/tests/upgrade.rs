//! Connections that leave HTTP.

use hyper_util::rt::TokioIo;

use super::*;

const ASK: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// The lines of an access log.
#[derive(Debug, Default)]
struct Lines(RefCell<String>);

impl Sink for Lines {
    fn append(&self, line: &[u8]) {
        let line = std::str::from_utf8(line).expect("text");
        self.0.borrow_mut().push_str(line);
    }
}

fn switch() -> Response<Full<Bytes>> {
    Response::builder()
        .status(101)
        .header("upgrade", "echo")
        .header("content-length", "5")
        .body(Full::default())
        .expect("a response")
}

/// Switches, and sends back what comes until the client has said all.
fn echo() -> impl App {
    app(|request: Request<Body>| async move {
        let upgrade = hyper::upgrade::on(request);
        tokio::task::spawn_local(async move {
            let stream = TokioIo::new(upgrade.await.expect("the stream"));
            let (mut from, mut to) = tokio::io::split(stream);
            tokio::io::copy(&mut from, &mut to).await.expect("copied");
        });
        Ok::<_, Infallible>(switch())
    })
}

#[test]
fn an_app_gets_the_stream_with_every_byte_behind_the_request() {
    run(async {
        let lines = Rc::<Lines>::default();
        let sink: Rc<dyn Sink> = lines.clone();
        let http = HttpService::with(echo(), settings(), Some(sink), None);
        let now = clock(&http);
        let mut client = connect(&http).await;
        // More than the library reads at a time, along with the request, and none of it HTTP.
        let early = b"\x00\xFF no HTTP\n".repeat(2000);
        let sent = [ASK, &early].concat();
        client.write_all(&sent).await.expect("sent");
        let head = read_until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("upgrade: echo\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        let mut back = vec![0; early.len()];
        client.read_exact(&mut back).await.expect("the echo");
        assert_eq!(back, early);
        // Past every deadline of HTTP.
        pass(&http, &now, 60).await;
        assert_eq!(http.connections().len(), 1);
        assert_eq!(*lines.0.borrow(), "");
        client.write_all(b"later").await.expect("sent");
        let mut back = [0; 5];
        client.read_exact(&mut back).await.expect("the echo");
        assert_eq!(&back, b"later");
        client.shutdown().await.expect("half closed");
        assert_eq!(read_all(&mut client).await, "");
        settle().await;
        assert_eq!(http.connections().len(), 0);
        let line = format!("GET /chat HTTP/1.1 101 {}\n", early.len() + 5);
        assert_eq!(*lines.0.borrow(), line);
    });
}

#[test]
fn a_request_for_an_upgrade_with_a_plain_answer_is_plain_http() {
    run(async {
        let ended = Rc::new(Cell::new(false));
        let told = Rc::clone(&ended);
        let http = serve(app(move |request: Request<Body>| {
            let upgrade = hyper::upgrade::on(request);
            let told = Rc::clone(&told);
            tokio::task::spawn_local(async move {
                match upgrade.await {
                    Ok(stream) => {
                        let read = TokioIo::new(stream).read_u8().await;
                        told.set(read.is_err());
                    }
                    Err(_) => told.set(true),
                }
            });
            async { Ok::<_, Infallible>(Response::new(Full::from("plain"))) }
        }));
        let mut client = connect(&http).await;
        for _ in 0..2 {
            client.write_all(ASK).await.expect("sent");
            let answer = read_until(&mut client, "plain").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(!answer.contains("upgrade"), "{answer}");
        }
        client.write_all(GET_AND_CLOSE).await.expect("sent");
        assert!(read_all(&mut client).await.ends_with("plain"));
        settle().await;
        assert!(ended.get(), "the app still waits for the stream");
    });
}

#[test]
fn an_app_may_switch_protocols_only_when_asked_and_by_name() {
    run(async {
        let asked_with_body = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\
                                Upgrade: echo\r\nContent-Length: 2\r\n\r\nab";
        let http = serve(app(|_| async { Ok::<_, Infallible>(switch()) }));
        for request in [GET, asked_with_body] {
            let answer = talk(&http, request).await;
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        }
        let nameless = serve(app(|_| async {
            let mut response = switch();
            response.headers_mut().remove("upgrade");
            Ok::<_, Infallible>(response)
        }));
        let answer = talk(&nameless, ASK).await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        // Asked, and nobody picks the stream up.
        let answer = talk(&http, ASK).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        settle().await;
        assert_eq!(http.connections().len(), 0);
    });
}

#[test]
fn an_upgraded_connection_is_told_of_the_drain_and_cut_at_its_end() {
    run(async {
        let told = Rc::new(Cell::new(false));
        let seen = Rc::clone(&told);
        let http = serve(app(move |request: Request<Body>| {
            let origin = request.extensions().get::<Origin>().expect("an origin");
            let drain = origin.drain().clone();
            let upgrade = hyper::upgrade::on(request);
            let seen = Rc::clone(&seen);
            tokio::task::spawn_local(async move {
                let mut stream = TokioIo::new(upgrade.await.expect("the stream"));
                drain.begun().await;
                seen.set(true);
                stream.write_all(b"bye").await.expect("sent");
                // It does not go.
                assert!(stream.read_u8().await.is_err());
            });
            async { Ok::<_, Infallible>(switch()) }
        }));
        let now = clock(&http);
        let mut client = connect(&http).await;
        client.write_all(ASK).await.expect("sent");
        read_until(&mut client, "\r\n\r\n").await;
        assert!(!told.get());
        http.connections().drain(now.get(), Departure::End);
        read_until(&mut client, "bye").await;
        assert!(told.get());
        pass(&http, &now, 60).await;
        assert_eq!(http.connections().len(), 1);
        http.connections().abort_all();
        assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
        settle().await;
        assert_eq!(http.connections().len(), 0);
    });
}
