//! The command line of the subcommand `uwsgi`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{Outcome, Program, Sources, outcome};
use crate::config::{Address, Bind, Speaks};

/// The subcommand's name.
const NAME: &str = "uwsgi";

/// The most bytes of a packet's variables.
const MOST: usize = 65_535;

/// A request that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Where to.
    pub(crate) address: Address,
    /// In capitals.
    pub(crate) method: String,
    /// The path, with the query, if there is one.
    pub(crate) target: String,
    /// Header fields.
    pub(crate) fields: Vec<(String, String)>,
    /// Variables of the packet; they replace those that would be sent.
    pub(crate) variables: Vec<(String, String)>,
    /// What is sent behind the packet.
    pub(crate) data: Option<Data>,
    /// The first byte of the packet.
    pub(crate) modifier1: u8,
    /// The longest silence of the server's.
    pub(crate) timeout: Duration,
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// These bytes.
    Text(String),
    /// What is in the file.
    File(PathBuf),
    /// What standard input has.
    Input,
}

/// Whether a command line that begins with these words is this subcommand. With flags behind its name, or nothing, it is a
/// module of that name that is to be served.
pub(crate) fn is_named(first: &str, second: Option<&str>) -> bool {
    let request = |word: &str| !word.starts_with('-') || matches!(word, "-h" | "--help");
    first == NAME && second.is_some_and(request)
}

/// What the command line asks for, if it is this subcommand.
pub(crate) fn asked(program: &Program, sources: &Sources) -> Option<Result<Ask, Outcome>> {
    let mut words = sources.argv.iter().skip(1);
    let first = words.next()?;
    let second = words.clone().next().map(String::as_str);
    is_named(first, second).then(|| parse(program, words.cloned()))
}

fn parse(program: &Program, words: impl Iterator<Item = String>) -> Result<Ask, Outcome> {
    let matches = command(program)
        .try_get_matches_from(words)
        .map_err(|error| outcome(&error, ""))?;
    let missing = |what| Outcome::Usage(format!("error: {what} is needed\n"));
    Ok(Ask {
        address: one(&matches, "address").ok_or_else(|| missing("ADDRESS"))?,
        method: one(&matches, "method").ok_or_else(|| missing("METHOD"))?,
        target: one(&matches, "path").ok_or_else(|| missing("PATH"))?,
        fields: all(&matches, "header"),
        variables: all(&matches, "var"),
        data: one(&matches, "data"),
        modifier1: one(&matches, "modifier1").unwrap_or_default(),
        timeout: one(&matches, "timeout").unwrap_or_default(),
    })
}

fn one<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
    matches.get_one(name).cloned()
}

fn all<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<T> {
    matches
        .get_many(name)
        .map(|found| found.cloned().collect())
        .unwrap_or_default()
}

fn method(word: &str) -> Result<String, String> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(String::from("not a method"));
    }
    Ok(word.to_ascii_uppercase())
}

fn target(word: &str) -> Result<String, String> {
    if !word.starts_with('/') || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(String::from(
            "must begin with a slash, and have what is not visible ASCII percent-encoded",
        ));
    }
    Ok(word.to_owned())
}

/// An address as a bind has it, that can be connected to.
fn address(word: &str) -> Result<Address, String> {
    let bind: Bind = word.parse()?;
    if bind.tls.is_some() || matches!(bind.speaks, Some(Speaks::Http | Speaks::Tcp(_))) {
        return Err(String::from("is not one where uwsgi is spoken"));
    }
    if matches!(bind.address, Address::Fd(_)) {
        return Err(String::from("is nothing to connect to"));
    }
    Ok(bind.address)
}

fn field(word: &str) -> Result<(String, String), String> {
    let (name, value) = word.split_once(':').ok_or("must be NAME: VALUE")?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(String::from("has no name before its colon"));
    }
    short(name, value.trim())
}

fn variable(word: &str) -> Result<(String, String), String> {
    let (name, value) = word.split_once('=').ok_or("must be NAME=VALUE")?;
    short(name, value)
}

/// A name and a value that a packet has room for.
fn short(name: &str, value: &str) -> Result<(String, String), String> {
    if name.len().saturating_add(value.len()) > MOST {
        return Err(format!("is longer than {MOST} bytes"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn data(word: &str) -> Result<Data, String> {
    Ok(match word.strip_prefix('@') {
        Some("-") => Data::Input,
        Some("") => return Err(String::from("names no file after the @")),
        Some(path) => Data::File(PathBuf::from(path)),
        None => Data::Text(word.to_owned()),
    })
}

fn command(program: &Program) -> Command {
    let name = program.name;
    Command::new(format!("{name} {NAME}"))
        .about("Sends one request by the uwsgi protocol, as nginx does by uwsgi_pass, and prints the answer")
        .no_binary_name(true)
        .disable_version_flag(true)
        .max_term_width(110)
        .arg(
            Arg::new("method")
                .value_name("METHOD")
                .required(true)
                .value_parser(method)
                .help("get, post, head, put or any other"),
        )
        .arg(
            Arg::new("address")
                .value_name("ADDRESS")
                .required(true)
                .value_parser(address)
                .help("Where the server listens: HOST:PORT, unix:PATH or unix:@ABSTRACT"),
        )
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .required(true)
                .value_parser(target)
                .help("The path, with a ? and the query if there is one"),
        )
        .arg(
            Arg::new("header")
                .short('H')
                .long("header")
                .value_name("NAME: VALUE")
                .action(ArgAction::Append)
                .value_parser(field)
                .help("A header field; may be repeated"),
        )
        .arg(
            Arg::new("var")
                .long("var")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .value_parser(variable)
                .help("A variable of the packet, in place of the one that would be sent; may be repeated"),
        )
        .arg(
            Arg::new("data")
                .short('d')
                .long("data")
                .value_name("TEXT")
                .value_parser(data)
                .help("The request's body; @FILE for what is in a file, @- for standard input"),
        )
        .arg(
            Arg::new("modifier1")
                .long("modifier1")
                .value_name("NUMBER")
                .default_value("0")
                .value_parser(value_parser!(u8))
                .help("The packet's first byte: what is asked for; 0 is a request to a web app"),
        )
        .arg(
            Arg::new("timeout")
                .short('t')
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(super::upgrade::duration)
                .default_value("30")
                .help("How long the server may be silent"),
        )
        .after_help(
            "The variables are those of nginx's uwsgi_params: --var SCRIPT_NAME=/app, --var REMOTE_ADDR=192.0.2.1 or \
             --var HTTPS=on says what nginx would say.\n\n\
             The status line, the header fields and the body go to standard output.\n\n\
             Exit codes: 0 answered by a status below 400, 1 no answer or half an answer, 2 command line, 22 answered by \
             a status of 400 or more.",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::AppArgument;

    const PROGRAM: Program = Program {
        name: "server",
        about: "",
        app: AppArgument::None,
        services: None,
    };

    fn ask(words: &[&str]) -> Option<Result<Ask, Outcome>> {
        let argv = std::iter::once("server").chain(words.iter().copied());
        let sources = Sources {
            argv: argv.map(str::to_owned).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            python: None,
        };
        asked(&PROGRAM, &sources)
    }

    #[test]
    fn the_first_word_decides() {
        assert!(ask(&[]).is_none());
        assert!(ask(&["uwsgi:application"]).is_none());
        // A module of that name, as Gunicorn would serve it.
        assert!(ask(&["uwsgi"]).is_none());
        assert!(ask(&["uwsgi", "-w", "2"]).is_none());
        let asked = ask(&[
            "uwsgi",
            "post",
            ":8000",
            "/a?b",
            "--header",
            "X-A: b: c",
            "--var",
            "A=b=c",
            "--data",
            "@-",
        ]);
        let text = |text: &str| text.to_owned();
        let expected = Ask {
            address: Address::Tcp {
                host: text("0.0.0.0"),
                port: 8000,
            },
            method: text("POST"),
            target: text("/a?b"),
            fields: vec![(text("X-A"), text("b: c"))],
            variables: vec![(text("A"), text("b=c"))],
            data: Some(Data::Input),
            modifier1: 0,
            timeout: Duration::from_secs(30),
        };
        assert_eq!(asked, Some(Ok(expected)));
    }

    #[test]
    fn addresses_are_those_of_a_bind() {
        for (word, expected) in [
            ("localhost:1", "localhost:1"),
            ("uwsgi://[::1]:1", "[::1]:1"),
            ("unix:a", "unix:a"),
            ("uwsgi:unix:/a", "unix:/a"),
            ("unix:@a", "unix:@a"),
        ] {
            assert_eq!(address(word), expected.parse());
        }
        for word in ["http://a:1", "https://a:1", "tcp://a:1=b", "fd://3"] {
            assert!(address(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_command_line_that_cannot_be_read_is_usage() {
        for words in [
            &["uwsgi", "get"][..],
            &["uwsgi", "get", "fd://3", "/"],
            &["uwsgi", "get", "localhost:x", "/"],
            &["uwsgi", "get", "unix:", "/"],
            &["uwsgi", "get", ":1", "a"],
            &["uwsgi", "get", ":1", "/a b"],
            &["uwsgi", "g t", ":1", "/"],
            &["uwsgi", "get", ":1", "/", "--header", "X"],
            &["uwsgi", "get", ":1", "/", "--var", "X"],
            &["uwsgi", "get", ":1", "/", "--data", "@"],
            &["uwsgi", "get", ":1", "/", "--modifier1", "256"],
            &["uwsgi", "get", ":1", "/", "--timeout", "-1"],
        ] {
            let found = ask(words);
            assert!(
                matches!(found, Some(Err(Outcome::Usage(_)))),
                "{words:?}: {found:?}"
            );
        }
        assert!(matches!(
            ask(&["uwsgi", "--help"]),
            Some(Err(Outcome::Help(_)))
        ));
    }
}
