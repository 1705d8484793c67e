//! The command line: QEMU's syntax, and one machine file.

use crate::draft::Draft;
use crate::options::Options;
use crate::problem::Origin;
use crate::settings::{self, Kind, SETTINGS};
use std::fmt::Write;

impl Draft {
    /// Reads flags, and hands every other argument back: machine files.
    ///
    /// A flag may have one dash or two. Its value is the next argument or, with two dashes, may
    /// follow an `=`.
    pub fn read_flags(&mut self, arguments: &[String]) -> Vec<String> {
        let mut files = Vec::new();
        let mut arguments = arguments.iter().peekable();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
                files.push(argument.clone());
                continue;
            };
            let (flag, mut inline) = match flag.strip_prefix('-') {
                Some(long) => match long.split_once('=') {
                    Some((flag, value)) => (flag, Some(value.to_owned())),
                    None => (long, None),
                },
                None => (flag, None),
            };
            let typed = argument.split('=').next().unwrap_or(argument);
            let origin = Origin::Flag(typed.to_owned());
            let Some(setting) = settings::find(flag) else {
                let known = settings::known_flags();
                self.problems.unknown(
                    &Origin::Whole,
                    "flag",
                    typed,
                    known.iter().map(String::as_str),
                );
                // What follows is most likely its value, and not a machine file.
                arguments.next_if(|next| !next.starts_with('-') && !next.ends_with(".toml"));
                continue;
            };
            if let Kind::Switch(apply) = setting.kind {
                if inline.is_some() {
                    self.problems.add(&origin, "takes no value");
                }
                apply(self, true);
                continue;
            }
            if let Kind::Refused(reason) = setting.kind {
                self.problems.add(&origin, reason);
                continue;
            }
            match inline.take().or_else(|| arguments.next().cloned()) {
                Some(value) => self.apply_text(setting, &origin, &value),
                None => self
                    .problems
                    .add(&origin, format!("needs a value: {}", setting.argument)),
            }
        }
        files
    }

    /// One setting from its text.
    pub(crate) fn apply_text(&mut self, setting: &settings::Setting, origin: &Origin, text: &str) {
        match setting.kind {
            Kind::Text(apply) => apply(self, origin, text),
            Kind::Group(implied, apply) => {
                if text.starts_with('{') {
                    match Options::from_json(text, origin) {
                        Ok(options) => apply(self, options),
                        Err(message) => self.problems.add(origin, message),
                    }
                } else {
                    apply(self, Options::from_commas(text, Some(implied), origin));
                }
            }
            Kind::Switch(apply) => match crate::units::boolean(text) {
                Ok(on) => apply(self, on),
                Err(message) => self.problems.add(origin, message),
            },
            Kind::Refused(reason) => self.problems.add(origin, reason),
        }
    }
}

/// Every flag with its argument and its meaning.
pub fn flags_help() -> String {
    let mut text = String::new();
    for setting in SETTINGS
        .iter()
        .filter(|s| !matches!(s.kind, Kind::Refused(_)))
    {
        let name = match setting.short {
            "" => settings::dashed(setting.name),
            short => format!("-{short}, {}", settings::dashed(setting.name)),
        };
        let head = format!("{name} {}", setting.argument);
        let _ = writeln!(text, "  {}\n      {}", head.trim_end(), setting.help);
    }
    text
}
