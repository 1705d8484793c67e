//! Opening an image with everything it leans on.
//!
//! imago could follow the references of a qcow2 header by itself; here it never does. Each file of
//! the chain is found, allowed, locked, examined and opened by this module and handed over ready,
//! so that no byte of an untrusted header ever becomes a path that was not checked.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imago::format::PreallocateMode;
use imago::{
    DenyImplicitOpenGate, DynStorage, FormatAccess, FormatCreateBuilder, FormatDriverBuilder,
    Storage,
};

use crate::config::{Backing, Config, Format, Locking, Snapshot};
use crate::disk::{Disk, Parts};
use crate::error::{Error, Kind};
use crate::file::Held;
use crate::image::{Image, Qcow2, Store};
use crate::lock::Use;
use crate::probe::magic_of;
use crate::qcow2::{examine, l1_is_counted};

/// Guests address disks by sectors of this size.
pub(crate) const SECTOR: u64 = 512;
/// A longer chain is taken for a mistake; QEMU itself gets slow long before.
const LONGEST_CHAIN: usize = 200;

/// What a file of a chain is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The image that the configuration names.
    Image,
    /// The file that takes the writes of a snapshot.
    Overlay,
    /// A backing file.
    Backing,
}

/// Wraps the storage of each file as it is opened. For tests that count, delay or cut off writes.
pub type StorageHook<'a> = dyn FnMut(Role, imago::file::File) -> Box<dyn DynStorage> + 'a;

/// Opens the disk that `config` describes.
pub fn open(config: Config) -> Result<Disk, Error> {
    open_with(config, &mut |_, file| Box::new(file))
}

/// Opens the disk that `config` describes on storage that `hook` wraps.
pub fn open_with(config: Config, hook: &mut StorageHook<'_>) -> Result<Disk, Error> {
    let keeps_image = !matches!(config.snapshot, Snapshot::Off);
    let intent = if config.read_only || keeps_image {
        Use::Read
    } else {
        Use::Write
    };
    let mut chain = Chain {
        backing: &config.backing,
        locking: config.locking,
        direct: config.cache.is_direct(),
        hook,
        held: Vec::new(),
    };
    let (image, format) = chain.open_file(&config.path, config.format, intent, Role::Image)?;
    let size = whole_sectors(image.size(), format);
    let image = match config.snapshot {
        Snapshot::Off => image,
        Snapshot::Temporary => chain.overlay(image, size, unlinked_file()?)?,
        Snapshot::Overlay(file) => chain.overlay(image, size, file)?,
    };
    let guessed_raw = config.format.is_none() && format == Format::Raw && intent == Use::Write;
    let held = chain.held;
    Ok(Disk::new(Parts {
        image,
        held,
        size,
        format,
        read_only: config.read_only,
        cache: config.cache,
        discard: config.discard,
        detect_zeroes: config.detect_zeroes,
        syncs: config.cache.syncs() && !keeps_image,
        guards_probe: guessed_raw,
        has_metadata: keeps_image || format == Format::Qcow2,
    }))
}

/// What of an image's bytes a guest can address. A raw file is filled up to a whole sector when the
/// guest writes there; every program that makes qcow2 images makes them whole.
fn whole_sectors(bytes: u64, format: Format) -> u64 {
    match format {
        Format::Raw => bytes.next_multiple_of(SECTOR),
        Format::Qcow2 => bytes - bytes % SECTOR,
    }
}

/// What opening one file after another needs and gathers.
struct Chain<'a, 'h> {
    backing: &'a Backing,
    locking: Locking,
    direct: bool,
    hook: &'a mut StorageHook<'h>,
    held: Vec<Held>,
}

impl Chain<'_, '_> {
    fn open_file(
        &mut self,
        path: &Path,
        format: Option<Format>,
        intent: Use,
        role: Role,
    ) -> Result<(Image, Format), Error> {
        let held = Held::take(path, intent, self.locking)?;
        self.refuse_loop(&held)?;
        let format = match format {
            Some(format) => format,
            None => guess(&held)?,
        };
        if format == Format::Qcow2 {
            examine(&held.file, path, held.length)?;
        }
        let store = Store::from((self.hook)(role, held.open_data(self.direct)?));
        self.held.push(held);
        let writable = intent == Use::Write;
        let image = match format {
            Format::Raw => Image::raw(store, writable)
                .map_err(|source| Error::at("open raw image", path, source))?,
            Format::Qcow2 => self.open_qcow2(store, path, writable)?,
        };
        Ok((image, format))
    }

    fn refuse_loop(&self, next: &Held) -> Result<(), Error> {
        let identity = next.identity()?;
        for earlier in &self.held {
            if earlier.identity()? == identity {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!(
                        "image '{}' is its own backing file; name another with `qemu-img rebase -u`",
                        next.path.display()
                    ),
                ));
            }
        }
        if self.held.len() >= LONGEST_CHAIN {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "image '{}' is number {LONGEST_CHAIN} of a backing chain; shorten it with `qemu-img commit`",
                    next.path.display()
                ),
            ));
        }
        Ok(())
    }

    fn open_qcow2(&mut self, store: Store, path: &Path, writable: bool) -> Result<Image, Error> {
        let failed = |source| Error::at("open qcow2 image", path, source);
        // Read-only first: a refused backing file must leave no trace in the image.
        let image = Qcow2::open_image(Arc::clone(&store), false).map_err(failed)?;
        let format = image.implicit_backing_format().map(String::as_str);
        let backing = match image.implicit_backing_file() {
            Some(name) => Some(self.open_backing(path, name, format)?),
            None => None,
        };
        Image::qcow2(store, writable, backing).map_err(failed)
    }

    fn open_backing(
        &mut self,
        of: &Path,
        name: &str,
        format: Option<&str>,
    ) -> Result<Image, Error> {
        let path = backing_path(of, name)?;
        self.allow(of, &path)?;
        let format = match format {
            None => None,
            // "file" is what old versions of qemu-img wrote for raw.
            Some("raw" | "file") => Some(Format::Raw),
            Some("qcow2") => Some(Format::Qcow2),
            Some(other) => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "image '{}' has a backing file '{}' of format '{other}'; raw and qcow2 are served, \
                         convert it and `qemu-img rebase -u` the image",
                        of.display(),
                        path.display()
                    ),
                ));
            }
        };
        let opened = self.open_file(&path, format, Use::Read, Role::Backing);
        opened
            .map(|(image, _)| image)
            .map_err(|error| error.inside(&format!("backing file of '{}'", of.display())))
    }

    fn allow(&self, of: &Path, backing: &Path) -> Result<(), Error> {
        let allowed = match self.backing {
            Backing::Any => true,
            Backing::Deny => false,
            Backing::Within(directories) => {
                let real = backing
                    .canonicalize()
                    .map_err(|source| Error::at("open backing file", backing, source))?;
                directories.iter().any(|directory| {
                    directory
                        .canonicalize()
                        .is_ok_and(|directory| real.starts_with(directory))
                })
            }
        };
        if allowed {
            return Ok(());
        }
        Err(Error::new(
            Kind::BackingDenied,
            format!(
                "image '{of}' leans on backing file '{backing}', which its configuration does not allow; \
                 allow it by backing={backing} (or its directory) beside the disk's file, \
                 or detach the image with `qemu-img rebase -b ''`",
                of = of.display(),
                backing = backing.display()
            ),
        ))
    }

    /// Lays a qcow2 overlay in `file` over `base`.
    fn overlay(&mut self, base: Image, size: u64, file: File) -> Result<Image, Error> {
        let prepare = || -> io::Result<Image> {
            let plain = imago::file::File::try_from(file)?;
            let store = Store::from((self.hook)(Role::Overlay, plain));
            if !is_overlay(&store, size) {
                make_overlay(&store, size)?;
            }
            Image::qcow2(store, true, Some(base))
        };
        prepare().map_err(|source| Error::host("cannot prepare the overlay of snapshot=on", source))
    }
}

/// Whether a predecessor left an overlay of a disk of this size. One that died while making it left
/// nothing that a guest ever wrote; imago writes the size near the end, and after it only the
/// count of the L1 table.
fn is_overlay(store: &Store, size: u64) -> bool {
    use imago::format::drivers::FormatDriverInstance;
    Qcow2::open_image(Arc::clone(store), false).is_ok_and(|overlay| overlay.size() == size)
        && l1_is_counted(store).is_ok_and(|counted| counted)
}

fn make_overlay(store: &Store, size: u64) -> io::Result<()> {
    store.resize(0, imago::storage::PreallocateMode::None)?;
    let overlay = Qcow2::create_builder(Arc::clone(store))
        .size(size)
        .preallocate(PreallocateMode::None)
        .create_open(DenyImplicitOpenGate::default(), |store| {
            Ok(Qcow2::builder(store).write(true).backing(None))
        })?;
    FormatAccess::new(overlay).flush()
}

fn guess(held: &Held) -> Result<Format, Error> {
    match magic_of(&held.file).map_err(|source| Error::at("read image", &held.path, source))? {
        None => Ok(Format::Raw),
        Some("qcow2") => Ok(Format::Qcow2),
        Some(other) => Err(Error::new(
            Kind::Format,
            format!(
                "image '{}' looks like {other}, which is not served; convert it with `qemu-img convert -O qcow2`, \
                 or say format=raw to use its bytes as they are",
                held.path.display()
            ),
        )),
    }
}

/// The path that a header's backing file name means: relative to the image that names it.
fn backing_path(of: &Path, name: &str) -> Result<PathBuf, Error> {
    let plain = name.strip_prefix("file:").unwrap_or(name);
    // A colon before any slash is QEMU's syntax for a protocol ("nbd:...", "json:{...}").
    let before_slash = plain.split('/').next().unwrap_or_default();
    if before_slash.contains(':') {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "image '{}' names '{name}' as its backing file; only files are served, \
                 give it one with `qemu-img rebase`",
                of.display()
            ),
        ));
    }
    Ok(of.parent().unwrap_or(Path::new(".")).join(plain))
}

/// A file without a name. It lies where QEMU would put it: `/tmp` may be memory, which a guest's
/// writes should not fill.
fn unlinked_file() -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let directory =
        std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_TMPFILE)
        .mode(0o600)
        .open(&directory)
        .map_err(|source| {
            Error::at(
                "make a temporary file for snapshot=on in",
                &directory,
                source,
            )
        })
}
