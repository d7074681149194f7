//! What is written from the table of settings: `--print-config`, `config/rgun.toml`, `docs/SETTINGS.md`.

use super::merge::Source;
use super::{Config, SETTINGS};

/// Every setting with its source, sorted, as TOML that can be read again.
pub(crate) fn print(config: &Config, sources: &[Source]) -> String {
    let mut lines: Vec<_> = SETTINGS
        .iter()
        .zip(sources)
        .map(|(setting, source)| {
            format!("{} = {}  # {source}\n", setting.name, (setting.show)(config))
        })
        .collect();
    lines.sort();
    lines.concat()
}
