//! Texts that are set by name: interned, and made once.

/// A struct of such texts, each a field; with `new`, which makes them. All of it is as visible as is said of the struct.
macro_rules! texts {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($field:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        $vis struct $name {
            $($vis $field: ::pyo3::Bound<'static, ::pyo3::types::PyString>),+
        }
        impl $name {
            $vis fn new(py: ::pyo3::Python<'static>) -> Self {
                Self { $($field: ::pyo3::types::PyString::intern(py, $text)),+ }
            }
        }
    };
}

pub(super) use texts;
