//! The bodies of requests.

use super::*;

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
