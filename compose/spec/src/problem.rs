//! What is wrong with a configuration, where, and what was probably meant.
//!
//! A problem never stops the reading: all of them are collected and shown together.

use std::fmt;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line; the flag as it was typed.
    Flag(String),
    /// In the machine file.
    File { name: String, line: usize },
    /// Nowhere: it follows from the machine as a whole.
    Whole,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}: "),
            Self::File { name, line } => write!(f, "{name}:{line}: "),
            Self::Whole => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.message)
    }
}

/// All problems of a configuration, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn add(&mut self, origin: &Origin, message: impl Into<String>) {
        self.0.push(Problem {
            origin: origin.clone(),
            message: message.into(),
        });
    }

    /// A word that is not one of `known`.
    pub(crate) fn unknown<'a>(
        &mut self,
        origin: &Origin,
        what: &str,
        word: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        let meant = match nearest(word, known) {
            Some(near) => format!("; did you mean \"{near}\"?"),
            None => String::new(),
        };
        self.add(origin, format!("unknown {what} \"{word}\"{meant}"));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// The known word with the least edit distance, unless so many letters differ that it would be a
/// guess: half of the typed word, and never more than three.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count().div_ceil(2)).min(3);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The restricted Damerau-Levenshtein distance: insertions, deletions, substitutions, and swaps of
/// two neighbours, each counted once; letters that differ only in case count as equal.
fn distance(a: &str, b: &str) -> usize {
    let letters = |s: &str| s.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j - 1] + same).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("kernel", "kernel", 0),
            ("kernel", "KERNEL", 0),
            ("kernle", "kernel", 1),
            ("knel", "kernel", 2),
            ("append", "apend", 1),
            ("drive", "device", 3),
        ];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_word_or_none() {
        let known = ["-kernel", "-initrd", "-append", "-m"];
        assert_eq!(nearest("-kernal", known), Some("-kernel"));
        assert_eq!(nearest("-x", known), Some("-m"));
        assert_eq!(nearest("-something", known), None);
    }
}
