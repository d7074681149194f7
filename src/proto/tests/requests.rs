//! Requests that come whole, and what is refused.

use super::*;

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
