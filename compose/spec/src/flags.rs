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
                arguments.next_if(|next| is_likely_value(next));
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
                arguments.next_if(|next| is_likely_value(next));
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

/// Whether what follows a flag that is not served is most likely its value, and not a machine file.
fn is_likely_value(word: &str) -> bool {
    !word.starts_with('-') && !word.ends_with(".toml")
}

/// What a flag can be given, if the arguments ask for that: `-cpu help`, `-d help` and the like.
pub fn choices(arguments: &[String]) -> Option<String> {
    let asks = |value: &str| matches!(value, "help" | "?");
    let apart = arguments
        .windows(2)
        .filter(|pair| asks(&pair[1]))
        .map(|pair| pair[0].as_str());
    let joined = arguments
        .iter()
        .filter_map(|word| word.split_once('=').filter(|(_, value)| asks(value)))
        .map(|(flag, _)| flag);
    apart
        .chain(joined)
        .filter_map(|flag| flag.strip_prefix("--").or(flag.strip_prefix('-')))
        .find_map(|flag| settings::choices(settings::find(flag)?))
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
