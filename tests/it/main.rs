//! Black-box tests: each starts the real binary and speaks to it as its users do, by sockets, signals and its log.
#![expect(
    clippy::disallowed_methods,
    reason = "the bans protect the forking server; this process never forks, and polls with deadlines"
)]

mod harness;

mod access_log;
mod asgi;
mod asgi_bad_apps;
mod asgi_loop;
mod binds;
mod boot;
mod chaos;
mod colours;
mod compression;
mod crowd;
mod deflate;
mod drain;
mod early_hints;
mod faults;
mod frameworks;
mod generations;
mod gunicorn_conf;
mod heartbeat;
mod hooks;
mod hostile;
mod http;
mod http2;
mod http2_floods;
mod http2_spec;
mod http_vectors;
mod identity;
mod idle;
mod layers;
mod limits;
mod listeners;
mod load;
mod overload;
mod preload;
mod proxy;
mod python;
mod reload;
mod scale;
mod sendfile;
mod services;
mod shop;
mod signals;
mod slow;
mod spread;
mod stacks;
mod static_files;
mod survive;
mod switched;
mod threads;
mod tls;
mod together;
mod upgrade;
mod uwsgi;
mod websocket;
mod websocket_suite;
mod wsgi_bad_apps;
