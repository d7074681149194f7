//! rgun-async: a pre-fork application server. A synchronous master forks N workers and supervises them; each worker
//! is one current-thread Tokio runtime that serves the master's listeners by hyper.
//!
//! # Map
//!
//! | room | what it is | may import |
//! |---|---|---|
//! | `main`, `entry`, `pyentry`, `trampoline` | the ways in: the binary, a Rust program's `main`, an interpreter | all |
//! | `cli` | the command line | `config`, `error` |
//! | `upgrade` | the subcommand: an upgrade of another server, from outside | `cli`, ground, `config`, `os` |
//! | `uwsgi_client` | the subcommand: one request by the uwsgi protocol | `cli`, `config`, `error` |
//! | `server` | assembly: the one file that knows both master and worker | all below |
//! | `master` | forks, supervises, reloads, upgrades; no Tokio, no HTTP | ground, `config`, `os` |
//! | `worker` | one runtime: accept, drain, heartbeat | `proto`, `app`, ground, `config`, `os` |
//! | `proto` | what is spoken on one connection: PROXY, TLS, HTTP/1 and 2, uwsgi, upgrades, TCP services | `app`, ground, `config` |
//! | `app` | what serves a request or a connection: tower services, built-ins, files, Python | ground, `config` |
//! | ground: `channel drain files heartbeat hooks last_words listener log news resident scoreboard tls websocket` | what both sides share | `os`, `config`, `error` |
//! | `config` | every setting, declared once | `error` |
//! | `os` | the only room, with the Python one, where `unsafe` compiles | `error` |

pub mod app;
pub mod config;
pub mod error;
pub mod hooks;
// Not part of the interface: open to the benches and fuzz targets.
#[doc(hidden)]
pub mod proto;
// Likewise.
#[cfg(feature = "websocket")]
#[doc(hidden)]
pub mod websocket;

mod channel;
mod cli;
mod code_files;
mod drain;
mod entry;
mod files;
mod heartbeat;
mod last_words;
mod listener;
mod log;
mod master;
mod news;
mod os;
#[cfg(feature = "python")]
mod pyentry;
mod resident;
mod scoreboard;
mod server;
mod tls;
mod trampoline;
mod upgrade;
mod uwsgi_client;
mod worker;

pub use entry::{Server, binary, serve, try_serve};
