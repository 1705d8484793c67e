//! `cargo xtask tidy`: the design's nevers, enforced on every file and every manifest.
//!
//! `dependencies` knows who may depend on whom, `sources` what may stand in a file. Both are
//! tables with a reason in each row; a rule that has to give way is changed there, in the open.

mod dependencies;
mod lexer;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host;

/// Everything that breaks a rule, a line each; empty when the tree is tidy.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut faults = dependencies::check(root)?;
    faults.extend(sources::check(root, &files(root)?)?);
    Ok(faults)
}

/// The files that are in the repository or would be after `git add`.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = host::command("git");
    git.current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let names = host::output(&mut git)?;
    let mut files: Vec<PathBuf> = names.split_terminator('\0').map(PathBuf::from).collect();
    // A file that was removed and not yet staged is still listed.
    files.retain(|file| root.join(file).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let faults = super::check(&crate::host::workspace()).unwrap();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }
}
