//! What is written from the table of settings: `--print-config`, `config/rgun.toml`, `docs/SETTINGS.md`.

use super::merge::Source;
use super::{Config, SETTINGS};

/// Every setting with its source, sorted, as TOML that can be read again.
pub(crate) fn print(config: &Config, sources: &[Source]) -> String {
    let mut lines: Vec<_> = SETTINGS
        .iter()
        .zip(sources)
        .map(|(setting, source)| {
            format!(
                "{} = {}  # {source}\n",
                setting.name,
                (setting.show)(config)
            )
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// The two files of the repository that are generated, and the test that keeps them so.
#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::super::{FOREIGN, Setting, Verdict};
    use super::*;

    const WIDTH: usize = 100;

    fn sections() -> Vec<(&'static str, Vec<&'static Setting>)> {
        let mut sections: Vec<(&str, Vec<&Setting>)> = Vec::new();
        for setting in SETTINGS {
            match sections.last_mut() {
                Some((name, settings)) if *name == setting.section => settings.push(setting),
                _ => sections.push((setting.section, vec![setting])),
            }
        }
        sections
    }

    fn comment(text: &str) -> String {
        let mut lines = vec![String::from("#")];
        for word in text.split(' ') {
            if lines.last().unwrap().len() + 1 + word.len() > WIDTH {
                lines.push(String::from("#"));
            }
            let line = lines.last_mut().unwrap();
            line.push(' ');
            line.push_str(word);
        }
        lines.join("\n") + "\n"
    }

    fn toml_file() -> String {
        let mut text = comment(
            "Every setting of rgun-async with its default: remove the # before a line and change it. A file of the name \
             rgun.toml in the directory of the start is read by itself, another by -c FILE. Flags and variables come \
             before the file. Generated from src/config/settings.rs.",
        );
        for (section, settings) in sections() {
            let _ = write!(text, "\n# ---- {section} ----\n");
            for setting in settings {
                text.push('\n');
                for paragraph in setting.paragraphs() {
                    text.push_str(&comment(&paragraph.replace('`', "")));
                }
                let _ = writeln!(text, "#{} = {}", setting.name, setting.default_text());
            }
        }
        text
    }

    fn settings_page() -> String {
        let cell = |text: &str| text.replace('|', "\\|");
        let mut text = String::from(
            "# Settings\n\n\
             Generated from `src/config/settings.rs`. Each setting is a key of the TOML file (`-c FILE`, else `./rgun.toml`),\n\
             a global of the Python file (`-c FILE.py`, else `./gunicorn.conf.py`), a variable and a flag. The later over the\n\
             earlier: defaults, file, variables, flags in `RGUN_CMD_ARGS` (without it `GUNICORN_CMD_ARGS`), flags.\n\n\
             - A list is repeated as a flag (`-b A -b B`), an array in the file, and has commas in a variable. The pairs of\n  \
               `raw_env` and `secure_scheme_headers` are words in a variable, quoted as for a shell.\n\
             - Times are seconds, or have a unit: `30`, `0.5`, `500ms`, `2m`, `1h`. Sizes are bytes, or have a unit of 1024s:\n  \
               `8190`, `64k`, `1MiB`, `1GiB`. An empty text is \"none\" where a setting may be without a value.\n\
             - On reload (HUP): *at once*: the master takes it. *new workers*: the workers that a reload starts have it.\n  \
               *listeners anew*: sockets are bound again. *restart*: it is read at the start only.\n",
        );
        for (section, settings) in sections() {
            let _ = write!(
                text,
                "\n## {section}\n\n| Setting | Flag | Variable | Default | On reload | What it is |\n|---|---|---|---|---|---|\n"
            );
            for setting in settings {
                let flags: Vec<_> = setting
                    .flags
                    .iter()
                    .map(|flag| format!("`{flag}`"))
                    .collect();
                let flags = if flags.is_empty() {
                    "the argument".to_owned()
                } else {
                    flags.join(" ")
                };
                let default = match setting.default_text().as_str() {
                    "\"\"" | "[]" => "none".to_owned(),
                    default => format!("`{}`", cell(default)),
                };
                let _ = writeln!(
                    text,
                    "| `{}` | {flags} | `{}` | {default} | {} | {} |",
                    setting.name,
                    setting.variable(),
                    setting.reload.name(),
                    cell(&setting.paragraphs().join(" ")),
                );
            }
        }
        text.push_str(
            "\n## Gunicorn's settings that are not here\n\n\
             They are recognised, as flags and as keys, and answered: *warning*: the server starts without it. *mistake*: the\n\
             service would be open or broken without it. Gunicorn's default, given explicitly, is never either.\n\n\
             | Setting | Flag | What becomes of it | Answer |\n|---|---|---|---|\n",
        );
        for foreign in FOREIGN {
            let flags: Vec<_> = foreign
                .flags
                .iter()
                .map(|flag| format!("`{flag}`"))
                .collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                foreign.name,
                flags.join(" "),
                match foreign.verdict {
                    Verdict::Obeyed => "nothing is missing".to_owned(),
                    Verdict::Noted => "warning".to_owned(),
                    Verdict::Refused => "mistake".to_owned(),
                    Verdict::Hook => "called, from a Python file".to_owned(),
                },
                cell(foreign.answer)
            );
        }
        text
    }

    fn generated(name: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("RGUN_REGENERATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == text,
            "{name} is not what src/config/settings.rs says; run: RGUN_REGENERATE=1 cargo test --lib generate"
        );
    }

    #[test]
    fn the_files_are_what_the_table_generates() {
        generated("config/rgun.toml", &toml_file());
        generated("docs/SETTINGS.md", &settings_page());
    }

    #[test]
    fn the_generated_file_without_its_comment_signs_is_the_defaults() {
        let keys: String = toml_file()
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|line| !line.starts_with(' ')))
            .fold(String::new(), |text, line| text + line + "\n");
        let table: toml::Table = keys.parse().unwrap();
        assert_eq!(table.len(), SETTINGS.len());
    }
}
