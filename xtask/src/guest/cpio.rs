//! A file tree in memory, written as a `cpio` archive in the "newc" format that Linux unpacks.
//!
//! Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Owners are root and
//! times are zero, so equal trees give equal bytes, and a device node needs no privilege.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What stands at a path.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Dir,
    File { mode: u32, data: Vec<u8> },
    Symlink(String),
    CharDevice { major: u32, minor: u32 },
}

/// A tree by path, without a leading slash. A directory sorts before what lies in it, which is
/// the order in which the kernel needs them.
#[derive(Debug, Default, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Adds a node and the directories above it.
    pub(super) fn add(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.nodes
                .entry(path[..end].to_owned())
                .or_insert(Node::Dir);
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Adds an ordinary file.
    pub(super) fn file(&mut self, path: &str, mode: u32, data: impl Into<Vec<u8>>) {
        self.add(
            path,
            Node::File {
                mode,
                data: data.into(),
            },
        );
    }

    /// Adds directories.
    pub(super) fn dirs(&mut self, paths: &[&str]) {
        for path in paths {
            self.add(path, Node::Dir);
        }
    }

    /// Adds what lies in a directory of the host, as root's. Only files, directories and symbolic
    /// links: what else a root file system holds is made by the guest.
    pub(super) fn add_host_dir(&mut self, host: &Path, path: &str) -> io::Result<()> {
        for entry in fs::read_dir(host)? {
            let entry = entry?;
            let name = format!("{path}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.add(&name, Node::Dir);
                self.add_host_dir(&entry.path(), &name)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path())?;
                self.add(&name, Node::Symlink(target.to_string_lossy().into_owned()));
            } else if kind.is_file() {
                let mode = entry.metadata()?.permissions().mode() & 0o7777;
                self.file(&name, mode, fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// Writes the archive with its trailer.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (inode, (path, node)) in self.nodes.iter().enumerate() {
            let (mode, data, device): (u32, &[u8], (u32, u32)) = match node {
                Node::Dir => (0o040_755, &[], (0, 0)),
                Node::File { mode, data } => (0o100_000 | mode, data, (0, 0)),
                Node::Symlink(target) => (0o120_777, target.as_bytes(), (0, 0)),
                Node::CharDevice { major, minor } => (0o020_600, &[], (*major, *minor)),
            };
            entry(out, inode as u32 + 1, path, mode, data, device)?;
        }
        entry(out, 0, "TRAILER!!!", 0, &[], (0, 0))
    }
}

/// One header, name and content, each padded to four bytes.
fn entry(
    out: &mut impl Write,
    inode: u32,
    path: &str,
    mode: u32,
    data: &[u8],
    device: (u32, u32),
) -> io::Result<()> {
    let size = u32::try_from(data.len())
        .map_err(|_| io::Error::other(format!("{path} is too large for cpio")))?;
    let name_size = path.len() as u32 + 1;
    let fields = [
        inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
    ];
    out.write_all(b"070701")?;
    for field in fields {
        write!(out, "{field:08X}")?;
    }
    out.write_all(path.as_bytes())?;
    out.write_all(&[0])?;
    pad(out, 110 + name_size)?;
    out.write_all(data)?;
    pad(out, size)
}

fn pad(out: &mut impl Write, length: u32) -> io::Result<()> {
    out.write_all(&[0; 3][..(length.wrapping_neg() % 4) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_header_name_and_data_each_padded() {
        let mut tree = Tree::default();
        tree.file("a/b", 0o644, "xyz");
        let mut bytes = Vec::new();
        tree.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert!(
            bytes.starts_with(b"07070100000001000041ED"),
            "the directory above comes first, and is one"
        );
        let file = 110 + 2;
        assert_eq!(&bytes[file..file + 22], b"07070100000002000081A4");
        assert_eq!(&bytes[file + 54..file + 62], b"00000003", "the size field");
        assert_eq!(&bytes[file + 110..file + 114], b"a/b\0");
    }
}
