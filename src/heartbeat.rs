//! placeholder
#[derive(Debug)]
pub struct Heartbeat;
