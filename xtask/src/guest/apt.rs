//! Debian packages by name, through apt's own client, without root and without touching the
//! machine's state.
//!
//! apt is given state and cache directories of our own. Its sources are the machine's, reduced
//! to the stanzas that carry the machine's own release and renamed to the suite that is wanted,
//! so no host name is written here and a mirror that the machine uses is used.
//!
//! A mirror in the middle of an update has lists that do not fit together, and some stay so for
//! days in suites that few ask for. Guests need the release only, so its updates are left out then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::guests_dir;
use crate::host::{self, output, progress, run};

/// The architecture of packages unless another is asked for.
pub(super) const AMD64: &str = "amd64";

/// apt, looking at one suite of one architecture.
#[derive(Debug)]
pub(super) struct Apt {
    suite: String,
    architecture: &'static str,
    dir: PathBuf,
}

impl Apt {
    /// Sets up apt for `suite` and reads the archive's lists, unless an earlier call did.
    pub(super) fn open(
        suite: &str,
        architecture: &'static str,
        sources: Option<&Path>,
    ) -> Result<Self> {
        let name = match architecture {
            AMD64 => suite.to_owned(),
            other => format!("{suite}-{other}"),
        };
        let dir = guests_dir().join("apt").join(name);
        let apt = Self {
            suite: suite.to_owned(),
            architecture,
            dir,
        };
        for sub in [
            "state/lists/partial",
            "cache/archives/partial",
            "packages",
            "sources.d",
        ] {
            fs::create_dir_all(apt.dir.join(sub))
                .with_context(|| format!("cannot write below {}", apt.dir.display()))?;
        }
        fs::write(apt.dir.join("state/status"), "")?;
        let lists = match sources {
            Some(file) => vec![
                fs::read_to_string(file)
                    .with_context(|| format!("cannot read {}", file.display()))?,
            ],
            None => vec![
                derive_sources(suite, Suites::WithUpdates)?,
                derive_sources(suite, Suites::ReleaseOnly)?,
            ],
        };
        if !apt.has_read(&lists)? {
            apt.update(&lists)?;
        }
        Ok(apt)
    }

    /// Whether an earlier call read one of these lists of sources.
    fn has_read(&self, lists: &[String]) -> Result<bool> {
        let is_current =
            |list: &String| fs::read_to_string(self.sources_file(list)).ok().as_ref() == Some(list);
        Ok(lists.iter().any(is_current) && self.has_lists()?)
    }

    /// The source list, for programs that run apt themselves.
    pub(super) fn sources(&self) -> Result<PathBuf> {
        let mut entries = fs::read_dir(self.sources_dir())?;
        let entry = entries.next().context("apt has no sources")?;
        Ok(entry?.path())
    }

    fn sources_dir(&self) -> PathBuf {
        self.dir.join("sources.d")
    }

    /// Reads the archive's lists by the first of these lists of sources that can be read.
    fn update(&self, lists: &[String]) -> Result<()> {
        progress(format!("reading the package lists of {}", self.suite));
        let mut result = Ok(());
        for (n, list) in lists.iter().enumerate() {
            if n > 0 {
                progress("the mirror's lists do not fit together; trying the release alone");
            }
            result = self.update_by(list);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn update_by(&self, list: &str) -> Result<()> {
        let file = self.sources_file(list);
        super::recreate(&self.sources_dir())?;
        fs::write(&file, list)?;
        let read = run(self
            .client("apt-get")
            .arg("update")
            .args(["-o", "APT::Update::Error-Mode=any"]));
        if read.is_err() {
            // What is left is not to be taken for lists that were read.
            super::recreate(&self.sources_dir())?;
        }
        read.with_context(|| {
            format!(
                "apt cannot read the lists of {}: it needs a Debian mirror that can be reached \
                 (another list of sources: --sources FILE); the sources tried:\n{list}",
                self.suite,
            )
        })
    }

    fn has_lists(&self) -> Result<bool> {
        let mut names = fs::read_dir(self.dir.join("state/lists"))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.any(|name| name.contains("_Packages")))
    }

    /// apt tells the two formats apart by the file's extension.
    fn sources_file(&self, list: &str) -> PathBuf {
        let deb822 = list.lines().any(|line| line.starts_with("Types:"));
        self.sources_dir().join(if deb822 {
            "atoll.sources"
        } else {
            "atoll.list"
        })
    }

    /// One of apt's programs, confined to our directories.
    fn client(&self, program: &str) -> Command {
        let mut command = host::command(program);
        let option = |name: &str, path: &str| format!("{name}={}", self.dir.join(path).display());
        for option in [
            option("Dir::State", "state"),
            option("Dir::State::status", "state/status"),
            option("Dir::Cache", "cache"),
            option("Dir::Etc::sourceparts", "sources.d"),
            "Dir::Etc::sourcelist=/dev/null".into(),
            // Root's apt would otherwise fetch as a user that may not write here.
            "APT::Sandbox::User=".into(),
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures={}", self.architecture),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// The package with a version in its name that a kernel metapackage stands for.
    pub(super) fn real_kernel(&self, metapackage: &str) -> Result<String> {
        let depends = output(self.client("apt-cache").args(["depends", metapackage]))?;
        depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
            .with_context(|| format!("{metapackage} names no kernel in {}", self.suite))
    }

    /// Downloads a package and unpacks its files below `tree`.
    pub(super) fn unpack(&self, package: &str, tree: &Path) -> Result<()> {
        progress(format!("fetching {package}"));
        let packages = self.dir.join("packages");
        run(self
            .client("apt-get")
            .args(["download", package])
            .current_dir(&packages))?;
        let deb = newest(&packages, &format!("{package}_"))?;
        fs::create_dir_all(tree)?;
        run(host::command("dpkg-deb").arg("-x").arg(&deb).arg(tree))
    }
}

/// The newest file in `dir` whose name begins with `prefix`.
fn newest(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    found.sort();
    found
        .pop()
        .map(|(_, path)| path)
        .with_context(|| format!("apt left no {prefix}*.deb in {}", dir.display()))
}

/// Which suites of a release are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suites {
    /// The release, its updates and its security updates, as far as the machine has them.
    WithUpdates,
    ReleaseOnly,
}

/// The machine's own sources, for `suite` instead of the machine's release.
fn derive_sources(suite: &str, suites: Suites) -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|value| value.trim_matches('"'))
    };
    let (Some("debian"), Some(codename)) = (field("ID="), field("VERSION_CODENAME=")) else {
        bail!(
            "this machine is not a Debian release, so its sources do not name Debian's packages; give a list with --sources FILE"
        );
    };
    let (mut stanzas, mut lines) = (Vec::new(), Vec::new());
    for file in source_files()? {
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if file
            .extension()
            .is_some_and(|extension| extension == "sources")
        {
            stanzas.extend(
                text.split("\n\n")
                    .filter_map(|stanza| rename_stanza(stanza, codename, suite, suites)),
            );
        } else {
            lines.extend(
                text.lines()
                    .filter_map(|line| rename_line(line, codename, suite, suites)),
            );
        }
    }
    ensure!(
        !(stanzas.is_empty() && lines.is_empty()),
        "the machine's apt sources name no suite of {codename}; give a list with --sources FILE"
    );
    // Both formats never go in one file; a machine that uses both has its Debian in one of them.
    Ok(if stanzas.is_empty() {
        lines.join("\n") + "\n"
    } else {
        stanzas.join("\n\n") + "\n"
    })
}

/// The machine's source lists, in apt's order.
fn source_files() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        for entry in entries {
            files.push(entry?.path());
        }
    }
    files.retain(|file| {
        file.is_file()
            && file
                .extension()
                .is_some_and(|e| e == "list" || e == "sources")
    });
    files.sort();
    Ok(files)
}

/// A suite of the machine's release (`bookworm`, `bookworm-updates`, ...), renamed.
fn rename_suite(word: &str, codename: &str, suite: &str, suites: Suites) -> Option<String> {
    match word.strip_prefix(codename)? {
        "" => Some(suite.to_owned()),
        tail if tail.starts_with('-') && suites == Suites::WithUpdates => {
            Some(format!("{suite}{tail}"))
        }
        _ => None,
    }
}

/// A deb822 stanza for the other suite, or nothing if it is not of the machine's release.
fn rename_stanza(stanza: &str, codename: &str, suite: &str, suites: Suites) -> Option<String> {
    let mut renamed = false;
    let lines: Vec<String> = stanza
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| match line.strip_prefix("Suites:") {
            Some(words) => {
                let suites: Vec<_> = words
                    .split_whitespace()
                    .filter_map(|word| rename_suite(word, codename, suite, suites))
                    .collect();
                renamed = !suites.is_empty();
                format!("Suites: {}", suites.join(" "))
            }
            None => line.to_owned(),
        })
        .collect();
    renamed.then(|| lines.join("\n"))
}

/// A one-line source for the other suite, or nothing if it is not of the machine's release.
fn rename_line(line: &str, codename: &str, suite: &str, suites: Suites) -> Option<String> {
    let line = line.trim();
    if !line.starts_with("deb ") {
        return None;
    }
    let word = line
        .split_whitespace()
        .find(|word| rename_suite(word, codename, suite, suites).is_some())?;
    Some(line.replacen(word, &rename_suite(word, codename, suite, suites)?, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_changes_only_its_suites() {
        let stanza = "Types: deb\n# a note\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main";
        assert_eq!(
            rename_stanza(stanza, "bookworm", "trixie", Suites::WithUpdates).as_deref(),
            Some(
                "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie trixie-updates\nComponents: main"
            )
        );
    }

    #[test]
    fn the_release_alone_is_one_suite() {
        let rename = |suites| rename_stanza(suites, "bookworm", "trixie", Suites::ReleaseOnly);
        assert_eq!(
            rename("Suites: bookworm bookworm-updates").as_deref(),
            Some("Suites: trixie")
        );
        assert_eq!(rename("Suites: bookworm-security"), None);
    }

    #[test]
    fn sources_of_others_are_left_out() {
        assert_eq!(
            rename_stanza(
                "Types: deb\nURIs: http://other.example\nSuites: nodistro",
                "bookworm",
                "trixie",
                Suites::WithUpdates
            ),
            None
        );
        assert_eq!(
            rename_line(
                "deb http://other.example cloud-bookworm main",
                "bookworm",
                "trixie",
                Suites::WithUpdates
            ),
            None
        );
        assert_eq!(
            rename_line(
                "deb-src http://mirror.example bookworm main",
                "bookworm",
                "trixie",
                Suites::WithUpdates
            ),
            None
        );
        assert_eq!(
            rename_line(
                "deb http://mirror.example bookworm-security main",
                "bookworm",
                "trixie",
                Suites::WithUpdates
            )
            .as_deref(),
            Some("deb http://mirror.example trixie-security main")
        );
    }
}
