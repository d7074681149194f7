//! From `module:attribute` to a callable, as Gunicorn's `import_app` does it (`gunicorn/util.py`), with two additions:
//! without an attribute `app` is taken where there is no `application`, and the attribute may be dotted.

use std::path::{Path, PathBuf};

use pyo3::exceptions::{
    PyAttributeError, PyImportError, PySyntaxError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::object::Ref;
use super::traceback;
use crate::app::BootError;

/// Makes `os.environ` what the environment is: it was read at the start of the interpreter, and `--env` came after that.
pub(super) fn sync_environment(py: Python<'static>) -> Result<(), BootError> {
    let sync = || -> PyResult<()> {
        let environ = py.import("os")?.getattr("environ")?;
        let before = environ.call_method0("copy")?.cast_into::<PyDict>()?;
        for (name, value) in std::env::vars_os() {
            if !before
                .get_item(&name)?
                .is_some_and(|old| old.eq(&value).unwrap_or(false))
            {
                environ.set_item(&name, value)?;
            }
            before.set_item(name, py.None())?;
        }
        for (name, value) in before.iter() {
            if !value.is_none() {
                environ.del_item(name)?;
            }
        }
        Ok(())
    };
    sync().map_err(|error| boot(py, &error))
}

/// Puts the working directory, then `extra`, at the front of `sys.path`.
///
/// Gunicorn: `Application.chdir` and `--pythonpath`.
pub(super) fn extend_path<'a>(
    py: Python<'static>,
    extra: impl Iterator<Item = &'a Path>,
) -> Result<(), BootError> {
    let extend = || -> PyResult<()> {
        let path = py.import("sys")?.getattr("path")?.cast_into::<PyList>()?;
        let here = py.import("os")?.call_method0("getcwd")?;
        if !path.contains(&here)? {
            path.insert(0, here)?;
        }
        let absolute = py.import("os.path")?.getattr("abspath")?;
        for entry in extra {
            let entry = absolute.call1((entry,))?;
            if !path.contains(&entry)? {
                path.insert(0, entry)?;
            }
        }
        Ok(())
    };
    extend().map_err(|error| boot(py, &error))
}

/// Imports `module` and finds, or makes, the app in it.
pub(super) fn app(
    py: Python<'static>,
    module: &str,
    attribute: Option<&str>,
) -> Result<Ref, BootError> {
    let imported = import(py, module)?;
    let app = match attribute {
        Some(expression) => evaluate(py, &imported, module, expression)?,
        None => default(py, &imported, module)?,
    };
    if app.is_none() {
        let name = attribute.unwrap_or("application");
        return Err(BootError::Load(format!(
            "Failed to find application object: '{name}'"
        )));
    }
    if !app.is_callable() {
        return Err(BootError::Load(
            "Application object must be callable.".into(),
        ));
    }
    Ok(app)
}

/// The source files of all modules that are loaded, sorted.
pub(super) fn files(py: Python<'_>) -> PyResult<Vec<PathBuf>> {
    let modules = py.import("sys")?.getattr("modules")?;
    // A copy: another thread may import.
    let modules = modules.call_method0("copy")?.cast_into::<PyDict>()?;
    let mut files = Vec::new();
    for module in modules.values() {
        // By the module's own dict: some make attributes up, or import something when they are asked.
        let Ok(module) = module.cast_into::<PyModule>() else {
            continue;
        };
        let Some(file) = module.dict().get_item("__file__")? else {
            continue;
        };
        if let Ok(file) = file.extract::<PathBuf>()
            && file.is_absolute()
        {
            let is_compiled = file.extension().is_some_and(|end| end == "pyc");
            files.push(if is_compiled {
                file.with_extension("py")
            } else {
                file
            });
        }
    }
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

/// A failure of code that is not ours, with its whole traceback.
pub(super) fn boot(py: Python<'_>, error: &PyErr) -> BootError {
    BootError::Boot(format!(
        "Exception in worker process\n{}",
        traceback::text(py, error)
    ))
}

fn import(py: Python<'static>, module: &str) -> Result<Ref, BootError> {
    let imported = py
        .import("importlib")
        .and_then(|importlib| importlib.call_method1("import_module", (module,)));
    imported.map_err(|error| {
        let file = Path::new(module);
        let is_file = file.extension().is_some_and(|end| end == "py") && file.exists();
        if is_file && error.is_instance_of::<PyImportError>(py) {
            let stem = file.with_extension("");
            return BootError::Boot(format!(
                "Failed to find application, did you mean '{}'?",
                stem.display()
            ));
        }
        boot(py, &error)
    })
}

fn default(py: Python<'static>, imported: &Ref, module: &str) -> Result<Ref, BootError> {
    for name in ["application", "app"] {
        match imported.getattr(name) {
            Ok(app) => return Ok(app),
            Err(error) if error.is_instance_of::<PyAttributeError>(py) => {}
            Err(error) => return Err(boot(py, &error)),
        }
    }
    Err(BootError::Load(format!(
        "Failed to find attribute 'application' in '{module}'."
    )))
}

/// `name`, `dotted.name`, or a call of either with literal arguments.
fn evaluate(
    py: Python<'static>,
    imported: &Ref,
    module: &str,
    expression: &str,
) -> Result<Ref, BootError> {
    let refused = || {
        BootError::Load(format!(
            "Failed to parse '{expression}' as an attribute name or function call."
        ))
    };
    if let Some(names) = plain(expression) {
        // The usual case needs no parser.
        return find(py, imported, module, &names);
    }
    let ast = py.import("ast").map_err(|error| boot(py, &error))?;
    let parsed = ast
        .call_method1("parse", (expression, "<app>", "eval"))
        .and_then(|tree| tree.getattr("body"))
        .map_err(|error| {
            if error.is_instance_of::<PySyntaxError>(py)
                || error.is_instance_of::<PyValueError>(py)
            {
                refused()
            } else {
                boot(py, &error)
            }
        })?;
    if kind(&parsed) != "Call" {
        let names = dotted(&parsed).ok_or_else(refused)?;
        return find(py, imported, module, &names);
    }
    let function = parsed.getattr("func").map_err(|error| boot(py, &error))?;
    let names = dotted(&function).ok_or_else(|| {
        BootError::Load(format!(
            "Function reference must be a simple name: '{expression}'"
        ))
    })?;
    let (positional, keyword) = literals(&ast, &parsed).map_err(|_| {
        BootError::Load(format!(
            "Failed to parse arguments as literal values: '{expression}'"
        ))
    })?;
    let factory = find(py, imported, module, &names)?;
    factory.call(positional, Some(&keyword)).map_err(|error| {
        // A call that failed before it entered the function has no frame of it: the arguments are wrong.
        if error.is_instance_of::<PyTypeError>(py) && error.traceback(py).is_none() {
            BootError::Load(traceback::line(py, &error))
        } else {
            boot(py, &error)
        }
    })
}

/// `a.b` as its names, if there is nothing but letters in them.
fn plain(expression: &str) -> Option<Vec<String>> {
    let is_plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let names: Vec<_> = expression.split('.').map(str::to_owned).collect();
    names.iter().all(|name| is_plain(name)).then_some(names)
}

/// The class name of a syntax tree's node.
fn kind(node: &Ref) -> String {
    node.get_type()
        .name()
        .map_or_else(|_| String::new(), |name| name.to_string())
}

/// `a.b.c` as its names, if `node` is nothing else.
fn dotted(node: &Ref) -> Option<Vec<String>> {
    match kind(node).as_str() {
        "Name" => Some(vec![node.getattr("id").ok()?.extract().ok()?]),
        "Attribute" => {
            let mut names = dotted(&node.getattr("value").ok()?)?;
            names.push(node.getattr("attr").ok()?.extract().ok()?);
            Some(names)
        }
        _ => None,
    }
}

fn find(
    py: Python<'static>,
    imported: &Ref,
    module: &str,
    names: &[String],
) -> Result<Ref, BootError> {
    let mut found = imported.clone();
    let mut place = module.to_owned();
    for name in names {
        found = found.getattr(name.as_str()).map_err(|error| {
            if error.is_instance_of::<PyAttributeError>(py) {
                BootError::Load(format!("Failed to find attribute '{name}' in '{place}'."))
            } else {
                boot(py, &error)
            }
        })?;
        place = format!("{place}.{name}");
    }
    Ok(found)
}

/// The arguments of a call, each by `ast.literal_eval`.
fn literals<'py>(
    ast: &Bound<'py, PyModule>,
    call: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
    let literal = ast.getattr("literal_eval")?;
    let mut positional = Vec::new();
    for argument in call.getattr("args")?.try_iter()? {
        positional.push(literal.call1((argument?,))?);
    }
    let keyword = PyDict::new(ast.py());
    for argument in call.getattr("keywords")?.try_iter()? {
        let argument = argument?;
        let name = argument.getattr("arg")?;
        if name.is_none() {
            return Err(PyValueError::new_err("`**` is not a literal"));
        }
        keyword.set_item(name, literal.call1((argument.getattr("value")?,))?)?;
    }
    Ok((PyTuple::new(ast.py(), positional)?, keyword))
}
