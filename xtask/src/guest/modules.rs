//! Kernel modules with what they depend on, in the order in which they load.
//!
//! A Debian kernel package has no `modules.dep` (it is made at installation), so dependencies
//! are read from the modules' own `.modinfo` strings: `depends=` and `softdep=pre:`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host;

/// A module as the kernel takes it, uncompressed.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) data: Vec<u8>,
}

/// The modules called `wanted` and all that they need, dependencies first. A name that the
/// kernel has built in has no file and is left out.
pub(super) fn closure(kernel_tree: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    for root in ["lib/modules", "usr/lib/modules"] {
        collect(&kernel_tree.join(root), &mut files)?;
    }
    let mut loader = Loader {
        files,
        seen: BTreeSet::new(),
        order: Vec::new(),
    };
    for name in wanted {
        loader.visit(name)?;
    }
    Ok(loader.order)
}

struct Loader {
    files: BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    order: Vec<Module>,
}

impl Loader {
    fn visit(&mut self, name: &str) -> Result<()> {
        let name = canonical(name);
        let Some(path) = self
            .files
            .get(&name)
            .filter(|_| self.seen.insert(name.clone()))
        else {
            return Ok(());
        };
        let data = read(path)?;
        for dependency in dependencies(&data) {
            self.visit(&dependency)?;
        }
        self.order.push(Module { name, data });
        Ok(())
    }
}

/// The kernel takes `-` and `_` for the same in a module's name.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(canonical(name), path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        return host::output_bytes(host::command("xz").arg("-dc").arg(path));
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The names in the module's `depends=` and `softdep=pre:` strings.
fn dependencies(module: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for string in module
        .split(|byte| *byte == 0)
        .filter_map(|bytes| std::str::from_utf8(bytes).ok())
    {
        if let Some(list) = string.strip_prefix("depends=") {
            names.extend(
                list.split(',')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned),
            );
        } else if let Some(list) = string.strip_prefix("softdep=pre:") {
            names.extend(
                list.split_whitespace()
                    .take_while(|word| !word.ends_with(':'))
                    .map(str::to_owned),
            );
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let module = b"\x7fELF\0license=GPL\0softdep=pre: crc32c post: other\0depends=mbcache,jbd2\0name=ext4\0";
        assert_eq!(dependencies(module), ["crc32c", "mbcache", "jbd2"]);
        assert!(dependencies(b"depends=\0").is_empty());
    }
}
