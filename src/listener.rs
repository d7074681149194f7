//! placeholder
#[derive(Debug)]
pub struct Listener;
