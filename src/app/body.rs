//! The request body as an app sees it.
/// placeholder
#[derive(Debug)]
pub struct Body;
