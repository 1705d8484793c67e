//! Boots a kernel in one process: `boot KERNEL INITRD APPEND interp|jit|lockstep [VIRTUAL_MS [DISK.raw]]`. For work on the engine.
//!
//! The environment's CPU and MEMORY_MIB choose the model and the size; an INITRD of /dev/null is none.

use std::io::Write;
use std::time::Instant;

use atoll_jit::Mode;
use machine_spec::CpuModel;

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, initrd, append, engine, rest @ ..] = args.as_slice() else {
        eprintln!("usage: boot KERNEL INITRD APPEND interp|jit|lockstep [VIRTUAL_MS [DISK.raw]]");
        std::process::exit(2);
    };
    let variable = |name: &str| std::env::var(name).ok();
    let config = sim::Config {
        memory_bytes: variable("MEMORY_MIB")
            .and_then(|mib| mib.parse::<u64>().ok())
            .unwrap_or(256)
            << 20,
        cpu: variable("CPU").map_or(CpuModel::Atoll, |name| {
            CpuModel::named(&name).expect("CPU names a model")
        }),
        kernel: std::fs::read(kernel)?,
        initrd: std::fs::read(initrd)?,
        append: append.clone(),
        engine: match engine.as_str() {
            "jit" => Mode::Jit,
            "lockstep" => Mode::Lockstep,
            _ => Mode::Interp,
        },
        vtime_limit_ns: rest
            .first()
            .and_then(|ms| ms.parse::<u64>().ok())
            .map(|ms| ms * 1_000_000),
        disk: rest.get(1).map(std::fs::read).transpose()?,
        echo: Some(|bytes| {
            let mut out = std::io::stdout();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        }),
        ..sim::Config::default()
    };
    let start = Instant::now();
    let (outcome, stats) = sim::run_with_stats(config);
    let seconds = start.elapsed().as_secs_f64();
    let mips = outcome.instructions as f64 / seconds / 1e6;
    println!();
    println!(
        "{:?} after {} instructions, {} ns virtual, {seconds:.2} s, {mips:.0} MIPS",
        outcome.stopped, outcome.instructions, outcome.now_ns
    );
    println!("hash {:02x?}", &outcome.hash[..8]);
    println!("{stats:?}");
    Ok(())
}
