//! One guest, assembled when the test runs, under every engine: the same console, the same time, the same hash.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use atoll_jit::Mode;
use cpu_worker::Stopped;

/// Assembles a guest and wraps it as a kernel with the 64-bit boot protocol.
fn kernel(source: &str) -> Vec<u8> {
    let asm = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("guests")
        .join(source);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{source}.bin"));
    let status = Command::new("nasm")
        .args(["-f", "bin", "-o"])
        .arg(&out)
        .arg(&asm)
        .status()
        .expect("nasm runs (Debian package nasm)");
    assert!(status.success(), "nasm assembles {}", asm.display());
    wrap(&std::fs::read(out).unwrap())
}

/// A bzImage whose 64-bit entry point is `code`: setup header, and the code at 0x200 of the payload.
fn wrap(code: &[u8]) -> Vec<u8> {
    const SETUP: usize = 5 * 512;
    let payload = (0x200 + code.len()).next_multiple_of(16);
    let mut image = vec![0u8; SETUP + payload];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[4]);
    put(0x1f4, &((payload / 16) as u32).to_le_bytes());
    put(0x1fe, &0xaa55u16.to_le_bytes());
    put(0x201, &[0x66]);
    put(0x202, b"HdrS");
    put(0x206, &0x20fu16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x234, &[1]);
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &0x100_0000u64.to_le_bytes());
    put(0x260, &0x10_0000u32.to_le_bytes());
    put(SETUP + 0x200, code);
    image
}

fn config(engine: Mode) -> sim::Config {
    // Assembled once: the tests run side by side, and the assembler writes a file.
    static KERNEL: OnceLock<Vec<u8>> = OnceLock::new();
    sim::Config {
        memory_bytes: 32 << 20,
        kernel: KERNEL.get_or_init(|| kernel("hello.asm")).clone(),
        engine,
        vtime_limit_ns: Some(1_000_000_000),
        hash_every_ns: Some(100_000),
        ..sim::Config::default()
    }
}

fn run(engine: Mode) -> sim::Outcome {
    sim::run(config(engine))
}

#[test]
fn all_engines_agree_to_the_last_bit() {
    let interp = run(Mode::Interp);
    assert_eq!(interp.stopped, Stopped::PowerOff);
    let console = String::from_utf8_lossy(&interp.console).into_owned();
    assert!(console.starts_with("hello from the guest\n"), "{console}");
    assert_eq!(
        console.lines().nth(1).map(str::len),
        Some(16),
        "the checksum: {console}"
    );
    assert!(
        interp.now_ns > 2_000_000,
        "twenty ticks of 100 us: {} ns",
        interp.now_ns
    );
    for engine in [Mode::Interp, Mode::Jit, Mode::Lockstep] {
        assert_eq!(run(engine), interp, "{engine:?}");
    }
}

/// A page that is written and escapes the trail's notice would make two different runs look the same.
#[test]
fn the_trail_misses_no_page_that_was_written() {
    for engine in [Mode::Interp, Mode::Jit] {
        let (kept, whole) = sim::ram_hashes(config(engine));
        assert_eq!(kept, whole, "{engine:?}");
    }
}
