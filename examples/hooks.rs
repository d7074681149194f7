//! A Rust program that is told of its server's life: `cargo run --example hooks -- -w 2`.

use std::convert::Infallible;
use std::io::Write;
use std::process::ExitCode;

use rgun_async::app::Body;
use rgun_async::config::Config;
use rgun_async::hooks::{Failed, Hooks, Outcome, Server, Worker};

#[derive(Debug)]
struct Diary;

impl Hooks for Diary {
    fn on_starting(&self, server: &Server<'_>) -> Outcome {
        if server.workers_wanted > 4 {
            return Err(Failed {
                message: String::from("no more than 4 workers here"),
                exit: None,
            });
        }
        Ok(())
    }

    fn when_ready(&self, server: &Server<'_>) -> Outcome {
        let addresses: Vec<_> = server
            .listeners
            .iter()
            .map(|(url, _)| url.as_str())
            .collect();
        note(&format!("ready at {}", addresses.join(", ")));
        Ok(())
    }

    fn post_worker_init(&self, worker: &Worker, _: &Config) -> Outcome {
        note(&format!(
            "worker {} of age {} serves",
            worker.slot, worker.age
        ));
        Ok(())
    }

    fn worker_exit(&self, worker: &Worker, _: &Config) -> Outcome {
        note(&format!(
            "worker {} has answered {}",
            worker.slot,
            worker.requests()
        ));
        Ok(())
    }
}

/// A line in one piece: several processes write to standard error.
fn note(entry: &str) {
    let line = format!("diary: {entry}\n");
    // Nobody is left to tell where standard error is gone.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

async fn hello(_: http::Request<Body>) -> Result<http::Response<String>, Infallible> {
    Ok(http::Response::new(String::from("hello world!")))
}

fn main() -> ExitCode {
    rgun_async::Server::new()
        .hooks(Diary)
        .serve(|| async { tower::service_fn(hello) })
}
