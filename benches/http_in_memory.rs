//! The hot path of HTTP without sockets: the guard alone, and whole requests to `builtin:hello`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rgun_async::app::builtin::Builtin;
use rgun_async::proto::bench::{Server, rules};
use rgun_async::proto::guard::Guard;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What wrk sends.
const WRK: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

/// What a browser sends.
const BROWSER: &[u8] =
    b"GET /articles/2026/10/a-title-with-words?page=2&sort=date HTTP/1.1\r\n\
Host: www.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Referer: https://www.example.com/articles/2026/10/\r\n\
Connection: keep-alive\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n\
Upgrade-Insecure-Requests: 1\r\n\
Sec-Fetch-Dest: document\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-Site: same-origin\r\n\
Priority: u=0, i\r\n\r\n";

/// Large enough for the answers to 16 requests.
const PIPE: usize = 64 * 1024;

fn guard(criterion: &mut Criterion) {
    let rules = rules();
    let mut group = criterion.benchmark_group("guard");
    for (name, head) in [("wrk", WRK), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(u64::try_from(head.len()).unwrap_or(0)));
        group.bench_function(name, |bencher| {
            let mut guard = Guard::new();
            bencher.iter(|| black_box(guard.look(&rules, black_box(head))));
        });
    }
}

fn request(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    let server = Server::new(Builtin::Hello);
    let mut group = criterion.benchmark_group("request");
    for (name, head, pipelined) in [
        ("wrk", WRK, 1_u32),
        ("browser", BROWSER, 1),
        ("wrk_pipelined_16", WRK, 16),
    ] {
        let requests = head.repeat(usize::try_from(pipelined).unwrap_or(1));
        group.throughput(Throughput::Elements(u64::from(pipelined)));
        group.bench_function(name, |bencher| {
            let (mut client, stream) = tokio::io::duplex(PIPE);
            let answer = runtime.block_on(async {
                tokio::task::spawn_local(server.serve(stream));
                client.write_all(head).await.expect("sent");
                client.read(&mut [0; 1024]).await.expect("an answer")
            });
            let mut answers = vec![0; answer * usize::try_from(pipelined).unwrap_or(1)];
            bencher.iter_batched_ref(
                || (),
                |()| {
                    runtime.block_on(async {
                        client.write_all(&requests).await.expect("sent");
                        client.read_exact(&mut answers).await.expect("answers");
                    });
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, guard, request);
criterion_main!(benches);
