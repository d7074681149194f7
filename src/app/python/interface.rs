//! Which driver an app gets where `--worker-class auto` leaves it open.
//!
//! gevent has to patch the standard library before the app is imported, and asyncio must not be patched: so the kind of
//! the app is guessed from its source first, and seen for certain once it is there. Where the guess was wrong the worker says so
//! to the master, and its successors are made for what the app is.

use std::path::{Path, PathBuf};

use pyo3::intern;
use pyo3::prelude::*;

use super::object::Ref;
use crate::channel::Interface;

/// How much of a module is read.
const READ_UP_TO: u64 = 256 * 1024;

/// What only the source of an ASGI app is likely to have.
const SIGNS: [&str; 11] = [
    "fastapi",
    "starlette",
    "quart",
    "litestar",
    "blacksheep",
    "falcon.asgi",
    "get_asgi_application",
    "ASGIApp",
    "ProtocolTypeRouter",
    "scope, receive, send",
    "WsgiToAsgi",
];

/// What the source of `module` looks like, where it can be found under one of `directories`.
pub(super) fn guess(
    module: &str,
    attribute: Option<&str>,
    directories: &[PathBuf],
) -> Option<Interface> {
    let relative: PathBuf = module.split('.').collect();
    let source = directories.iter().find_map(|directory| {
        let file = directory.join(format!("{}.py", relative.display()));
        read(&file).or_else(|| read(&directory.join(&relative).join("__init__.py")))
    })?;
    Some(judge(&source, attribute))
}

fn read(file: &Path) -> Option<String> {
    use std::io::Read;

    let mut bytes = Vec::new();
    let file = std::fs::File::open(file).ok()?;
    file.take(READ_UP_TO).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn judge(source: &str, attribute: Option<&str>) -> Interface {
    let names = match attribute {
        Some(expression) => [first_name(expression), ""],
        None => ["application", "app"],
    };
    let is_coroutine = names
        .iter()
        .filter(|name| !name.is_empty())
        .any(|name| source.contains(&format!("async def {name}(")));
    if is_coroutine || SIGNS.iter().any(|sign| has_word(source, sign)) {
        Interface::Asgi
    } else {
        Interface::Wsgi
    }
}

/// `create` of `create("x").app`.
fn first_name(expression: &str) -> &str {
    let end = expression
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(expression.len());
    &expression[..end]
}

/// Whether `word` stands in `text`, and not as a part of a longer name.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !part(before) && !part(after)
    })
}

/// `CO_COROUTINE` of `inspect`.
const COROUTINE: u32 = 0x80;

/// What a callable is: ASGI if it makes coroutines or takes three arguments, WSGI if it takes two; `None` where that cannot
/// be seen.
pub(super) fn of(app: &Ref) -> PyResult<Option<Interface>> {
    let py = app.py();
    let mut callable = app.clone();
    let mut bound = 0;
    // Wrappers: a partial's arguments are not counted, as its function's signature may have anything in their place.
    for _ in 0..8 {
        if let Some(function) = callable.getattr_opt(intern!(py, "__func__"))? {
            callable = function;
            bound = 1;
        } else if let Some(function) = callable.getattr_opt(intern!(py, "func"))?
            && callable.getattr_opt(intern!(py, "keywords"))?.is_some()
        {
            callable = function;
        } else {
            break;
        }
    }
    let mut code = callable.getattr_opt(intern!(py, "__code__"))?;
    if code.is_none() {
        bound = 1;
        let call = callable.get_type().getattr_opt(intern!(py, "__call__"))?;
        code = match call {
            Some(call) => call.getattr_opt(intern!(py, "__code__"))?,
            None => None,
        };
    }
    let Some(code) = code else {
        return Ok(None);
    };
    let flags: u32 = code.getattr(intern!(py, "co_flags"))?.extract()?;
    if flags & COROUTINE != 0 {
        return Ok(Some(Interface::Asgi));
    }
    let count: usize = code.getattr(intern!(py, "co_argcount"))?.extract()?;
    Ok(match count.saturating_sub(bound) {
        2 => Some(Interface::Wsgi),
        3 => Some(Interface::Asgi),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frameworks_are_known_by_their_names() {
        for source in [
            "from fastapi import FastAPI\napp = FastAPI()",
            "import starlette.applications",
            "from django.core.asgi import get_asgi_application",
            "async def app(scope, receive, send):\n    pass",
        ] {
            assert_eq!(judge(source, None), Interface::Asgi, "{source}");
        }
        for source in [
            "from flask import Flask\napp = Flask(__name__)",
            "from django.core.wsgi import get_wsgi_application",
            "from quarter import app",
            "async def other():\n    pass\ndef app(environ, start_response):\n    pass",
        ] {
            assert_eq!(judge(source, None), Interface::Wsgi, "{source}");
        }
    }

    #[test]
    fn the_attribute_decides_which_function_counts() {
        let source = "async def live(s, r, t): pass\ndef app(e, s): pass";
        assert_eq!(judge(source, Some("live")), Interface::Asgi);
        assert_eq!(judge(source, Some("app")), Interface::Wsgi);
        assert_eq!(first_name("create('x').app"), "create");
    }

    #[test]
    fn a_module_that_is_not_there_is_not_guessed() {
        assert_eq!(guess("no.such", None, &[PathBuf::from("/nowhere")]), None);
    }
}
