//! Boot protocols on hand-made images: what a good one becomes, and that no image at all gets something outside of RAM.

use atoll_machine::firmware::{Boot, Chunk, LoadError, Module, Start, load};
use atoll_machine::{hostile, map};
use proptest::prelude::*;

const MEMORY: u64 = 64 << 20;

fn boot(kernel: &[u8]) -> Boot<'_> {
    Boot {
        kernel,
        modules: Vec::new(),
        command_line: "console=com0",
        memory_bytes: MEMORY,
        rsdp: 0xe_0000,
        long_mode: true,
    }
}

/// A writer of little-endian numbers at offsets.
struct Image(Vec<u8>);

impl Image {
    fn new(len: usize) -> Image {
        Image(vec![0; len])
    }
    fn put(mut self, at: usize, bytes: &[u8]) -> Image {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
    fn words(self, at: usize, words: &[u32]) -> Image {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.put(at, &bytes)
    }
    fn longs(self, at: usize, longs: &[u64]) -> Image {
        let bytes: Vec<u8> = longs.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.put(at, &bytes)
    }
    fn multiboot(self, at: usize, flags: u32) -> Image {
        self.words(
            at,
            &[0x1bad_b002, flags, 0u32.wrapping_sub(0x1bad_b002 + flags)],
        )
    }
    /// An ELF32 header with one segment: `bytes` from `offset` on, 0x2000 in memory, virtual 0xc1000000, physical 0x1000000.
    fn elf32(self, offset: u32, bytes: u32) -> Image {
        self.put(0, b"\x7fELF\x01\x01\x01")
            .put(16, &[2, 0, 3, 0, 1, 0, 0, 0])
            .words(24, &[0xc100_0010, 52])
            .put(42, &[32, 0, 1, 0])
            .words(
                52,
                &[1, offset, 0xc100_0000, 0x100_0000, bytes, 0x2000, 7, 0x1000],
            )
    }
    /// An ELF64 header with one segment at 2 MiB, and room for a note segment behind its header.
    fn elf64(self, headers: u8) -> Image {
        self.put(0, b"\x7fELF\x02\x01\x01")
            .put(16, &[2, 0, 62, 0, 1, 0, 0, 0])
            .longs(24, &[0x20_0100, 64])
            .put(54, &[56, 0, headers, 0])
            .words(64, &[1, 7])
            .longs(
                72,
                &[
                    0x1000,
                    0xffff_ffff_8020_0000,
                    0x20_0000,
                    0x10,
                    0x3000,
                    0x1000,
                ],
            )
    }
}

fn at<'a>(chunks: &'a [Chunk<'_>], address: u64) -> &'a [u8] {
    let chunk = chunks
        .iter()
        .find(|c| (c.address..c.end()).contains(&address));
    let chunk = chunk.unwrap_or_else(|| panic!("nothing lies at {address:#x}"));
    &chunk.bytes[(address - chunk.address) as usize..]
}

fn word(chunks: &[Chunk<'_>], address: u64) -> u64 {
    u32::from_le_bytes(at(chunks, address)[..4].try_into().unwrap()).into()
}

fn long(chunks: &[Chunk<'_>], address: u64) -> u64 {
    u64::from_le_bytes(at(chunks, address)[..8].try_into().unwrap())
}

fn text<'a>(chunks: &'a [Chunk<'_>], address: u64) -> &'a str {
    let bytes = at(chunks, address).split(|b| *b == 0).next().unwrap();
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn multiboot_elf_with_modules() {
    let image = Image::new(0x3000)
        .elf32(0x1000, 0x1800)
        .multiboot(0x1004, 3)
        .put(0x2000, b"data");
    let mut boot = boot(&image.0);
    boot.modules = vec![
        Module {
            bytes: b"first",
            text: "a arg",
        },
        Module {
            bytes: &[9; 5000],
            text: "b",
        },
    ];
    let (chunks, entry) = load(&boot).unwrap();
    assert_eq!(
        (entry.start, entry.ip, entry.ax),
        (Start::Flat32, 0x100_0010, 0x2bad_b002)
    );
    let kernel = &chunks[0];
    assert_eq!(
        (kernel.address, kernel.bytes.len(), kernel.zeroes),
        (0x100_0000, 0x1800, 0x800)
    );
    let info = entry.bx;
    let field = |n: u64| word(&chunks, info + 4 * n);
    assert_eq!(field(0), 0x24d);
    assert_eq!((field(1), field(2)), (639, (MEMORY >> 10) - 1024));
    assert_eq!(text(&chunks, field(4)), "kernel console=com0");
    assert_eq!(text(&chunks, field(16)), "Atoll");
    assert_eq!(field(5), 2);
    let module = |n: u64| -> Vec<u64> {
        (0..4)
            .map(|i| word(&chunks, field(6) + 16 * n + 4 * i))
            .collect()
    };
    let (first, second) = (module(0), module(1));
    assert_eq!((first[0], first[1] - first[0]), (0x100_2000, 5));
    assert_eq!((second[0], second[1] - second[0]), (0x100_3000, 5000));
    assert_eq!(
        (text(&chunks, first[2]), text(&chunks, second[2])),
        ("a arg", "b")
    );
    assert_eq!(&at(&chunks, first[0])[..5], b"first");
    // The map: entries of a size and twenty bytes; the first is low RAM.
    assert_eq!(field(11) % 24, 0);
    let map_at = field(12);
    assert_eq!(
        (
            word(&chunks, map_at),
            long(&chunks, map_at + 4),
            word(&chunks, map_at + 20)
        ),
        (20, 0, 1)
    );
    assert_eq!(long(&chunks, map_at + 12), map::LOW_MEMORY_END);
}

#[test]
fn multiboot_by_the_headers_addresses() {
    // (header address, load address, load end, end of the zeroes, entry), file offset 0x40 of the header, 0x400 bytes of file.
    let good = [
        ([0x10_0040, 0x10_0000, 0, 0, 0x10_0100], 0x400, 0),
        (
            [0x10_0040, 0x10_0040, 0x10_0100, 0x10_0200, 0x10_0050],
            0xc0,
            0x100,
        ),
    ];
    for (addresses, bytes, zeroes) in good {
        let image = Image::new(0x400)
            .multiboot(0x40, 1 << 16)
            .words(0x4c, &addresses);
        let (chunks, entry) = load(&boot(&image.0)).unwrap();
        let kernel = &chunks[0];
        let found = (kernel.address, kernel.bytes.len(), kernel.zeroes, entry.ip);
        assert_eq!(
            found,
            (addresses[1].into(), bytes, zeroes, addresses[4].into())
        );
    }
    let bad = [
        [0x10_0000, 0x10_0040, 0, 0, 0], // the header lies before the load
        [0x10_0080, 0x10_0000, 0, 0, 0], // the load begins before the file
        [0x10_0040, 0x10_0000, 0x10_1000, 0, 0], // it ends behind the file
        [0x10_0040, 0x10_0000, 0x0f_0000, 0, 0], // it ends before it begins
        [0x10_0040, 0x10_0000, 0x10_0100, 0x10_0050, 0], // the zeroes end within it
    ];
    for addresses in bad {
        let image = Image::new(0x400)
            .multiboot(0x40, 1 << 16)
            .words(0x4c, &addresses);
        assert!(
            matches!(load(&boot(&image.0)), Err(LoadError::Malformed(_))),
            "{addresses:x?}"
        );
    }
    let image = Image::new(0x400)
        .multiboot(0x40, 1 << 16)
        .words(0x4c, &[0xffff_0040, 0xffff_0000, 0, 0, 0]);
    assert!(matches!(
        load(&boot(&image.0)),
        Err(LoadError::TooLarge { .. })
    ));
}

#[test]
fn multiboot_refuses_what_it_does_not_know() {
    let image = Image::new(0x400).multiboot(0x40, 1 << 16 | 1 << 5);
    assert_eq!(
        load(&boot(&image.0)),
        Err(LoadError::MultibootFlags(1 << 5))
    );
    let image = Image::new(0x400).multiboot(0x40, 0);
    assert!(matches!(
        load(&boot(&image.0)),
        Err(LoadError::Malformed(_))
    ));
    // A header behind the first 8 KiB is none.
    let image = Image::new(0x4000).multiboot(0x2000, 1 << 16);
    assert!(matches!(load(&boot(&image.0)), Err(LoadError::Unknown(_))));
}

#[test]
fn pvh_start_info() {
    let image = Image::new(0x2000)
        .elf64(2)
        .words(120, &[4, 4])
        .longs(128, &[0x800, 0, 0, 0x3c, 0x3c, 4])
        // A note of another owner comes first.
        .words(0x800, &[4, 6, 18])
        .put(0x80c, b"GNU\0abcdef\0\0")
        .words(0x818, &[4, 8, 18])
        .put(0x824, b"Xen\0")
        .longs(0x828, &[0x20_0040]);
    let mut boot = boot(&image.0);
    boot.modules = vec![Module {
        bytes: b"initrd",
        text: "initrd",
    }];
    let (chunks, entry) = load(&boot).unwrap();
    assert_eq!((entry.start, entry.ip), (Start::Flat32, 0x20_0040));
    let info = entry.bx;
    assert_eq!(
        (word(&chunks, info), word(&chunks, info + 4)),
        (0x336e_c578, 1)
    );
    assert_eq!(word(&chunks, info + 12), 1);
    let list = long(&chunks, info + 16);
    assert_eq!(
        (long(&chunks, list), long(&chunks, list + 8)),
        (0x20_3000, 6)
    );
    assert_eq!(text(&chunks, long(&chunks, info + 24)), "console=com0");
    assert_eq!(long(&chunks, info + 32), 0xe_0000);
    let (table, entries) = (long(&chunks, info + 40), word(&chunks, info + 48));
    assert_eq!(
        (long(&chunks, table), word(&chunks, table + 16), entries),
        (0, 1, 6)
    );
}

#[test]
fn plain_elf_of_both_classes() {
    let image = Image::new(0x2000).elf64(1);
    let (chunks, entry) = load(&boot(&image.0)).unwrap();
    let Start::Long { cr3 } = entry.start else {
        panic!("{entry:?}")
    };
    assert_eq!(entry.ip, 0x20_0100);
    assert_eq!(long(&chunks, cr3), (cr3 + 0x1000) | 3);
    assert_eq!(
        text(&chunks, word(&chunks, entry.si + 0x228)),
        "console=com0"
    );
    assert_eq!(&at(&chunks, entry.si + 0x202)[..4], b"HdrS");
    let no_long = Boot {
        long_mode: false,
        ..boot(&image.0)
    };
    assert_eq!(load(&no_long), Err(LoadError::NeedsLongMode));

    let image = Image::new(0x2000).elf32(0x1000, 0x1000);
    let (_, entry) = load(&boot(&image.0)).unwrap();
    assert_eq!((entry.start, entry.ip), (Start::Flat32, 0x100_0010));
}

#[test]
fn elf_files_that_lie_are_refused() {
    let good = || Image::new(0x2000).elf32(0x1000, 0x1000);
    let bad = [
        good().put(5, &[2]),                // big endian
        good().put(18, &[40]),              // ARM
        good().put(16, &[1]),               // relocatable
        good().put(42, &[16]),              // program headers that are too short
        good().put(44, &[0]),               // none
        good().put(44, &[0xff, 0xff]),      // too many
        good().words(28, &[0xffff_fff0]),   // behind the file
        good().words(56, &[0x1800]),        // a segment behind the file
        good().words(68, &[0x1000, 0x800]), // longer in the file than in memory
    ];
    for (n, image) in bad.iter().enumerate() {
        assert!(
            matches!(load(&boot(&image.0)), Err(LoadError::Malformed(_))),
            "case {n}"
        );
    }
    let high = good().words(64, &[0xffff_f000]);
    assert!(matches!(
        load(&boot(&high.0)),
        Err(LoadError::TooLarge { .. })
    ));
}

#[test]
fn names_what_it_was_given_instead() {
    let cases = [
        (&b"\x1f\x8b\x08"[..], "gunzip"),
        (b"", "empty"),
        (b"MZ and so on", "no header"),
    ];
    for (kernel, word) in cases {
        assert!(load(&boot(kernel)).unwrap_err().to_string().contains(word));
    }
}

#[test]
fn a_kernel_of_less_than_its_setup_is_truncated() {
    for missing in [1, 8, 15] {
        let image = Image::new(5 * 512 - missing)
            .put(0x1f1, &[4])
            .put(0x1fe, &[0x55, 0xaa])
            .put(0x202, b"HdrS\x0f\x02")
            .put(0x211, &[1]);
        let found = load(&boot(&image.0));
        assert!(
            matches!(found, Err(LoadError::Truncated { .. })),
            "{found:?}"
        );
    }
}

/// Hostile numbers: small, around the ends of things, and anything.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        0u32..0x100,
        Just(u32::MAX),
        0xffff_f000u32..,
        0xf_f000u32..0x11_0000,
        (MEMORY as u32 - 0x1000)..(MEMORY as u32 + 0x1000),
        any::<u32>(),
    ]
}

/// A good image with words of its first KiB overwritten, and its end cut off.
fn spoilt(images: Vec<Image>) -> impl Strategy<Value = Vec<u8>> {
    let images: Vec<Vec<u8>> = images.into_iter().map(|image| image.0).collect();
    let patches = prop::collection::vec((0usize..0x3f0, number(), 1usize..=4), 0..4);
    (
        prop::sample::select(images),
        patches,
        prop::option::weighted(0.2, any::<prop::sample::Index>()),
    )
        .prop_map(|(mut image, patches, cut)| {
            for (at, value, bytes) in patches {
                image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            }
            if let Some(cut) = cut {
                image.truncate(cut.index(image.len()));
            }
            image
        })
}

fn good_images() -> Vec<Image> {
    let linux = |version: u8, long: u8| {
        Image::new(0x2000)
            .put(0x1f1, &[4])
            .words(0x1f4, &[0x100])
            .put(0x1fe, &[0x55, 0xaa, 0xeb, 0x66])
            .put(0x202, &[b'H', b'd', b'r', b'S', version, 2])
            .put(0x211, &[1])
            .words(0x214, &[0x10_0000])
            .words(0x22c, &[0x7fff_ffff])
            .put(0x234, &[1])
            .put(0x236, &[long])
            .words(0x238, &[255])
            .words(0x258, &[0x100_0000, 0, 0x10_0000])
    };
    vec![
        linux(0xf, 1),
        linux(0xf, 0),
        linux(4, 0),
        Image::new(0x2000).elf32(0x1000, 0x1000).multiboot(0x100, 3),
        Image::new(0x1000)
            .multiboot(0x40, 1 << 16)
            .words(0x4c, &[0x10_0040, 0x10_0000, 0, 0, 0x10_0100]),
        Image::new(0x2000).elf64(1),
        Image::new(0x2000)
            .elf64(2)
            .words(120, &[4, 4])
            .longs(128, &[0x200, 0, 0, 0x18, 0x18, 4])
            .words(0x200, &[4, 4, 18])
            .put(0x20c, b"Xen\0")
            .words(0x210, &[0x20_0040]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_the_image_says_stays_within_ram(
        image in spoilt(good_images()),
        surroundings: [u8; 4],
    ) {
        hostile::kernel(&[&surroundings[..], &image].concat());
    }
}
