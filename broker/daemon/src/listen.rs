//! The broker's socket in the file system.

use atoll_transport::{Listener, Session};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Listens at `path`. A socket that a broker which was killed left behind is removed; a live one is not.
pub(crate) fn bind(path: &Path) -> Result<Listener, String> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket {
        if Session::connect(path).is_ok() {
            return Err(format!("another broker listens at '{}'", path.display()));
        }
        // If it cannot be removed, binding says so.
        let _ = std::fs::remove_file(path);
    }
    Listener::bind(path).map_err(|error| format!("cannot listen at '{}': {error}", path.display()))
}
