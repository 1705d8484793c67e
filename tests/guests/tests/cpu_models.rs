//! A CPU model is what /proc/cpuinfo says, and what it says is what works.

use std::path::Path;
use std::process::Command;

use guest_tests::Boot;

/// Compiles a program of `programs/`.
fn program(source: &str, flags: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let file = directory.path().join("program");
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("programs")
        .join(source);
    let status = Command::new("gcc")
        .args(["-O2", "-static", "-o"])
        .arg(&file)
        .arg(source)
        .args(flags)
        .status()
        .expect("gcc can be run");
    assert!(status.success(), "gcc compiles the program");
    std::fs::read(file).expect("gcc wrote the program")
}

#[test]
fn haswell_has_avx2() {
    Boot::shell_with("linux-cloud", &[("bin/avx2", program("avx2.c", &["-lm"]))])
        .args(["-cpu", "Haswell"])
        .commands(&["grep -q ' avx2 ' /proc/cpuinfo && echo it has AVX2", "avx2"])
        .run()
        .expect_code(0)
        .expect_console("\nit has AVX2")
        .expect_console("\navx2 right");
}

#[test]
fn a_pentium_iii_has_sse_and_no_sse2() {
    let sse2 = program("sse2.S", &["-m32", "-nostdlib"]);
    let outcome = Boot::shell_with("linux-686", &[("bin/sse2", sse2)])
        .args(["-cpu", "pentium3"])
        .commands(&[
            "grep -q ' sse ' /proc/cpuinfo && echo it has SSE",
            "grep -q ' sse2 ' /proc/cpuinfo || echo and no SSE2",
            "sse2; echo ended with $?",
        ])
        .run()
        .expect_code(0);
    outcome
        .expect_console("\nit has SSE")
        .expect_console("\nand no SSE2")
        .expect_console("\nsse")
        // 128 + SIGILL.
        .expect_console("\nended with 132");
}

/// Linux takes it for granted that a processor of AMD's with long mode has PREFETCHW, whether CPUID says so or not.
#[test]
fn linux_runs_on_the_first_of_amds_64_bit_processors() {
    Boot::shell("linux-cloud")
        .args(["-cpu", "qemu64"])
        .commands(&["grep -q AuthenticAMD /proc/cpuinfo && echo it is of AMD"])
        .run()
        .expect_code(0)
        .expect_console("\nit is of AMD");
}
