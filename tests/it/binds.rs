//! Listeners with words of their own, next to each other, over reloads and upgrades.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Address, Client, Rgun, Server, patience, process, until};

fn hello(address: &Address) {
    let answer = Client::connect(address).get("/");
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (200, "hello world!")
    );
}

fn reload(server: &Server, workers: usize) {
    let before = server.worker_pids();
    server.signal(Signal::SIGHUP);
    until("the new workers have taken over", patience(), || {
        let now = server.worker_pids();
        now.len() == workers && now.iter().all(|pid| !before.contains(pid))
    });
}

#[test]
fn each_bind_says_what_it_speaks_and_where() {
    let rgun = Rgun::app("builtin:hello").workers(2);
    let directory = rgun.directory();
    let unix = directory.join("a b.sock");
    let server = rgun
        .bind("http://127.0.0.1:0")
        .bind("127.0.0.1:0")
        .bind(format!("http:unix:{}/a%20b.sock", directory.display()))
        .bind("tcp://[::1]:0")
        .start();
    let addresses = server.addresses();
    assert_eq!(addresses.len(), 4);
    assert_eq!(addresses[2], Address::Unix(unix));
    for address in &addresses {
        hello(address);
    }
}

#[test]
fn a_file_has_tables_of_binds() {
    let rgun = Rgun::app("builtin:hello");
    let socket = rgun.directory().join("s");
    let file = rgun.write(
        "conf.toml",
        &format!(
            "loglevel = \"debug\"\n\n[[bind]]\naddress = \"127.0.0.1:0\"\n\n\
             [[bind]]\naddress = \"unix:{}\"\nprotocol = \"http\"\n",
            socket.display()
        ),
    );
    let server = rgun.configured_for(1).arg("-c").arg(file).start();
    assert_eq!(server.addresses()[1], Address::Unix(socket));
    for address in &server.addresses() {
        hello(address);
    }
}

#[test]
fn print_config_shows_binds_as_they_can_be_written() {
    let server = Rgun::app("builtin:hello")
        .bind("http://:8001?proxy=v2")
        .bind("unix:/run/a.sock")
        .arg("--print-config")
        .spawn();
    server.assert_exits(0).within(patience());
    server.wait_for_output(
        "bind = [\"http://0.0.0.0:8001?proxy=v2\", \"unix:/run/a.sock\"]  # --bind",
        1,
    );
}

#[test]
fn print_config_prints_once_also_where_an_interpreter_takes_over() {
    let server = Rgun::app("wsgi:app")
        .bind("127.0.0.1:8001")
        .arg("--print-config")
        .spawn();
    server.assert_exits(0).within(patience());
    let shown = server.output();
    let binds = shown.iter().filter(|line| line.starts_with("bind = "));
    assert_eq!(binds.count(), 1, "{shown:?}");
}

#[test]
fn other_words_for_an_address_keep_its_socket_over_a_reload() {
    let rgun = Rgun::app("builtin:hello");
    let (directory, socket) = (rgun.directory(), rgun.directory().join("s"));
    let text = |scheme: &str| {
        format!(
            "loglevel = \"debug\"\nbind = [\"127.0.0.1:0\", \"{scheme}unix:{}\"]\n",
            socket.display()
        )
    };
    let file = rgun.write("conf.toml", &text(""));
    let server = rgun.configured_for(1).arg("-c").arg(&file).start();
    let (port, before) = (server.port(), fs::metadata(&socket).expect("it is there"));
    let inodes = process::listening(port);
    fs::write(directory.join("conf.toml"), text("http:")).expect("the directory is ours");
    reload(&server, 1);
    let inode = |meta: &fs::Metadata| std::os::unix::fs::MetadataExt::ino(meta);
    let after = fs::metadata(&socket).expect("it is there");
    assert_eq!(inode(&after), inode(&before));
    assert_eq!(process::listening(port), inodes);
    for address in &server.addresses() {
        hello(address);
    }
}

#[test]
fn ports_that_the_kernel_chose_stay_apart_over_a_reload_and_an_upgrade() {
    let server = Rgun::app("builtin:hello")
        .workers(1)
        .bind("127.0.0.1:0")
        .bind("http://127.0.0.1:0")
        .start();
    reload(&server, 1);
    for address in &server.addresses() {
        hello(address);
    }
    server.signal(Signal::SIGUSR2);
    let line = server.wait_for_lines("Listening at: ", 2).remove(1);
    for address in &server.addresses() {
        let Address::Tcp(address) = address else {
            panic!("a TCP address")
        };
        assert!(line.contains(&address.to_string()), "{line}");
    }
    assert_eq!(line.matches("http://").count(), 2, "{line}");
    until("the old master is left alone", patience(), || {
        server.count_lines("The new master") > 0
    });
    server.signal(Signal::SIGTERM);
    for address in &server.addresses() {
        hello(address);
    }
}

#[test]
fn a_bind_that_cannot_be_served_is_refused_at_the_start() {
    for (bind, why) in [
        ("http://127.0.0.1", "names no port"),
        ("http://127.0.0.1:0?prxy=v1", "did you mean proxy?"),
        (
            "https://127.0.0.1:0?cert=a.pem&cert=b.pem&key=a.key",
            "has a cert without its key",
        ),
        ("tcp://127.0.0.1:0=nothing", "there is no such service"),
        ("htps://127.0.0.1:0", "did you mean https?"),
        ("http:8000", "a scheme is written http://HOST:PORT"),
    ] {
        let server = Rgun::app("builtin:hello").bind(bind).spawn();
        server.assert_exits(1).within(patience());
        server.wait_for_line(why);
    }
}
