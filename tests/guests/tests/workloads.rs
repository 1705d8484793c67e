//! Programs that check the computer they run on, in a Debian: stress-ng, openssl, Python's own tests, and x87 arithmetic of an i386
//! program, of which the host runs the same binary. Slow: `make workloads`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use guest_tests::{Boot, guest};

const PROGRAMS: &[&str] = &["digests.sh", "stress.sh"];

/// The modules of Python's tests that compute.
const PYTHON: &str =
    "test_math test_float test_cmath test_struct test_zlib test_hashlib test_decimal";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("programs")
        .join(name)
}

/// Runs a command of the host; what it prints.
#[track_caller]
fn host(dir: &Path, words: &[&str]) -> String {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("they print text")
}

/// Puts the programs into `dir`, and an archive of them behind it; the archive.
fn archive(dir: &Path) -> PathBuf {
    let i387 = source("i387.c");
    let flags = "-m32 -mfpmath=387 -mno-sse -O2 -frounding-math -static -o i387";
    let mut compile: Vec<&str> = ["gcc"].into_iter().chain(flags.split(' ')).collect();
    compile.extend([i387.to_str().expect("the path is text"), "-lm"]);
    host(dir, &compile);
    for name in PROGRAMS {
        fs::copy(source(name), dir.join(name)).expect("there is room for a small file");
    }
    let mut pack = vec!["tar", "-cf", "programs.tar", "i387"];
    pack.extend(PROGRAMS);
    host(dir, &pack);
    dir.join("programs.tar")
}

/// All of it, with this model of the CPU.
fn check(cpu: &str) {
    guest("debian-workloads");
    let dir = tempfile::tempdir().expect("there is room for temporary files");
    let archive = archive(dir.path());
    // The same two lines on both sides.
    let x87 = "./i387 | sha256sum";
    let digests = "sh digests.sh | sha256sum";
    let expected = [x87, digests].map(|line| host(dir.path(), &["sh", "-c", line]));
    let outcome = Boot::debian_disk("debian-workloads")
        .raw_drive(&archive)
        .args(["-cpu", cpu])
        .debian_commands(&[
            "tar -xf /dev/vdb",
            x87,
            digests,
            "sh stress.sh",
            // With a word at each test: all of test_decimal is minutes of silence on a busy host.
            &format!("python3 -m test -v {PYTHON}"),
            "openssl speed -seconds 1 -bytes 8192 sha256 aes-256-cbc 2>&1 | tail -n 5",
        ])
        .run()
        .expect_code(0);
    println!("{}", outcome.console);
    let mut outcome = outcome.expect_console("Tests result: SUCCESS");
    for sum in expected {
        outcome = outcome.expect_console(sum.trim_end());
    }
    let lines = outcome.console.lines();
    let (passed, failed): (Vec<&str>, Vec<&str>) = lines
        .filter(|line| line.contains(": passed") || line.contains(": failed"))
        .partition(|line| line.contains(": passed"));
    assert_eq!(failed, Vec::<&str>::new());
    assert!(passed.len() > 30, "stress-ng ran only {passed:?}");
}

#[test]
#[ignore = "slow; make workloads"]
fn the_default_cpu_computes_right() {
    check("atoll");
}

/// With AVX2, FMA, BMI, AES and SHA: the same programs take other paths.
#[test]
#[ignore = "slow; make workloads"]
fn the_cpu_that_has_everything_computes_right() {
    check("max");
}
