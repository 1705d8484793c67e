//! Sockets in the file system.

use atoll_transport::Listener;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Listens at `path`.
pub(crate) fn bind(path: &Path) -> Result<Listener, String> {
    make_way(path)?;
    Listener::bind(path).map_err(|error| format!("cannot listen at '{}': {error}", path.display()))
}

/// Removes a socket that somebody who was killed left behind; one on which somebody listens is left alone, and said to be.
pub(crate) fn make_way(path: &Path) -> Result<(), String> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    if UnixStream::connect(path).is_ok() {
        return Err(format!("somebody listens at '{}' already", path.display()));
    }
    // If it cannot be removed, binding says so.
    let _ = std::fs::remove_file(path);
    Ok(())
}
