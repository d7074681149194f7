//! How long a connection lives: deadlines, the drain, the end.

use super::*;

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

/// Bug: a draining worker that was busy for longer than the moment which kept connections have left closed those whose next
/// request had come meanwhile, and so reset them.
#[test]
fn a_request_that_came_while_its_connection_was_given_up_is_answered() {
    run(async {
        for drains in [true, false] {
            let http = hello();
            let now = clock(&http);
            let mut client = connect(&http).await;
            client.write_all(GET).await.expect("sent");
            read_until(&mut client, "hello world!").await;
            settle().await;
            if drains {
                http.connections().drain(now.get(), Departure::End);
            }
            for _ in 0..6 {
                now.set(now.get() + Duration::from_millis(500));
                http.connections().sweep(now.get());
            }
            // The connection's task has had no turn since, and the runtime has not looked at the socket.
            assert_eq!(client.try_write(GET).expect("sent"), GET.len());
            let answer = read_until(&mut client, "hello world!").await;
            assert_eq!(answer.contains("connection: close\r\n"), drains, "{answer}");
        }
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
