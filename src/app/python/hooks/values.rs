//! Settings' values between Python and us.

use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
    PyType,
};

use crate::config::{FUNCTION, Item};

/// How deep a value may be nested; what refers to itself would have no end.
const DEEPEST: usize = 16;

/// A Python value as settings have it.
pub(super) fn item(value: &Bound<'_, PyAny>) -> PyResult<Item> {
    nested(value, DEEPEST)
}

fn nested(value: &Bound<'_, PyAny>, deeper: usize) -> PyResult<Item> {
    let Some(deeper) = deeper.checked_sub(1) else {
        return Ok(Item::Other("a nested value".into()));
    };
    let list = |items: PyResult<Bound<'_, pyo3::types::PyIterator>>| {
        let items: PyResult<Vec<Item>> = items?.map(|item| nested(&item?, deeper)).collect();
        items.map(Item::List)
    };
    if value.is_none() {
        return Ok(Item::Nothing);
    }
    if let Ok(switch) = value.cast::<PyBool>() {
        return Ok(Item::Bool(switch.is_true()));
    }
    if value.is_instance_of::<PyString>() {
        return Ok(Item::Text(value.extract()?));
    }
    if value.is_instance_of::<PyInt>() {
        // An enum's number, too.
        let number = value.py().get_type::<PyInt>().call1((value,))?;
        return Ok(Item::Number(number.str()?.to_string()));
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(Item::Number(value.str()?.to_string()));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Item::Text(
            String::from_utf8_lossy(bytes.as_bytes()).into_owned(),
        ));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut pairs = Vec::new();
        for (name, value) in dict.iter() {
            pairs.push((name.str()?.to_string(), nested(&value, deeper)?));
        }
        return Ok(Item::Table(pairs));
    }
    if value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
        || value.is_instance_of::<PySet>()
        || value.is_instance_of::<PyFrozenSet>()
    {
        return list(value.try_iter());
    }
    if value.hasattr("__fspath__")? && !value.is_instance_of::<PyType>() {
        let path = value.call_method0("__fspath__")?;
        return Ok(Item::Text(path.str()?.to_string()));
    }
    if value.is_callable() {
        return Ok(Item::Other(FUNCTION.into()));
    }
    let class = value.get_type().name()?;
    Ok(Item::Other(format!("an object of class {class}").into()))
}

/// A setting's value as Python has it.
pub(super) fn object<'py>(py: Python<'py>, item: &Item) -> PyResult<Bound<'py, PyAny>> {
    Ok(match item {
        Item::Nothing | Item::Other(_) => py.None().into_bound(py),
        Item::Bool(switch) => PyBool::new(py, *switch).to_owned().into_any(),
        Item::Text(text) => PyString::new(py, text).into_any(),
        Item::Number(number) => match number.parse::<i64>() {
            Ok(number) => number.into_pyobject(py)?.into_any(),
            Err(_) => py.get_type::<PyFloat>().call1((number,))?,
        },
        Item::List(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(object(py, item)?)?;
            }
            list.into_any()
        }
        Item::Table(pairs) => {
            let dict = PyDict::new(py);
            for (name, item) in pairs {
                dict.set_item(name, object(py, item)?)?;
            }
            dict.into_any()
        }
    })
}
