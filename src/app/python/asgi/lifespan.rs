//! The app is told of the worker's start and end: ASGI, "Lifespan Protocol".

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::oneshot;

use super::asyncio::{Asyncio, glue};
use crate::app::BootError;
use crate::app::python::load;
use crate::app::python::object::Ref;
use crate::config::AsgiLifespan;

/// What the protocol came to; the numbers are the glue's.
const STARTED: u8 = 0;
const UNSUPPORTED: u8 = 1;

/// The lifespan of an app in a worker.
#[derive(Default)]
pub(super) struct Lifespan {
    /// The glue's half, once the app has started.
    running: RefCell<Option<Ref>>,
}

impl Lifespan {
    /// Lets the app start.
    ///
    /// # Errors
    /// Where it cannot, or has to and does not want to.
    pub(super) async fn start(
        &self,
        asgi: &Asyncio,
        app: &Ref,
        state: &Bound<'static, PyDict>,
        how: AsgiLifespan,
    ) -> Result<(), BootError> {
        if how == AsgiLifespan::Off {
            return Ok(());
        }
        let py = asgi.py();
        let (answer, answered) = oneshot::channel();
        let begin = || -> PyResult<Ref> {
            let told = Told {
                answer: Cell::new(Some(answer)),
            };
            let told = Bound::new(py, told)?.getattr("told")?;
            let asgi = super::scope::versions(py)?;
            glue(py)?.call_method1("Lifespan", (app, asgi, state, told))
        };
        let lifespan = begin().map_err(|error| load::boot(py, &error))?;
        asgi.board.tell_loop();
        let (outcome, text) = answered.await.unwrap_or((UNSUPPORTED, String::new()));
        match (outcome, how) {
            (STARTED, _) => {
                self.running.replace(Some(lifespan));
                Ok(())
            }
            (UNSUPPORTED, AsgiLifespan::Auto) => {
                tracing::info!("The application does not support the lifespan protocol.");
                tracing::debug!("{text}");
                Ok(())
            }
            (UNSUPPORTED, AsgiLifespan::On | AsgiLifespan::Off) => {
                Err(BootError::Boot(format!(
                    "Exception in worker process\n{text}\nThe application's lifespan has failed."
                )))
            }
            _ => Err(BootError::Boot(format!(
                "Application startup failed.\n{text}"
            ))),
        }
    }

    /// The glue's half, if the app has to be told of the end.
    pub(super) fn take(&self) -> Option<Ref> {
        self.running.take()
    }
}

/// What the protocol is told of by the glue: first how the start went, later what fails.
#[pyclass(frozen, unsendable, module = "rgun_async._native")]
struct Told {
    answer: Cell<Option<oneshot::Sender<(u8, String)>>>,
}

#[pymethods]
impl Told {
    fn told(&self, outcome: u8, text: String) {
        if let Some(answer) = self.answer.take() {
            drop(answer.send((outcome, text)));
        } else {
            tracing::error!("{text}");
        }
    }
}
