//! QEMU as a process: started, brought to the first instruction of interest, looked at as a whole, and then told to write down each
//! instruction.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::gdb::{Gdb, register};
use super::pipe::Pipe;
use super::registers::Registers;
use super::trace::Trace;

/// The machine that is started.
#[derive(Clone, Debug)]
pub struct Settings {
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub append: String,
    pub memory_mib: u64,
    /// A name that QEMU and Atoll both know.
    pub cpu: String,
    /// Further words for QEMU.
    pub more: Vec<OsString>,
    /// x87 and SSE as well.
    pub float: bool,
    /// How long QEMU may take to reach the start, or be silent.
    pub patience: Duration,
}

/// MSRs that no command of QEMU's shows, and that instructions use without naming them.
pub(super) const HIDDEN: [u32; 9] = [
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0102, // KERNEL_GS_BASE
    0xc000_0103, // TSC_AUX
];

/// A QEMU, stopped. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Qemu {
    _child: Guarded,
    gdb: Gdb,
    log: Option<Pipe>,
    dir: PathBuf,
    float: bool,
}

impl Qemu {
    /// Starts it, stopped before its first instruction. `dir` is for the socket and the image of memory.
    pub(super) fn start(settings: &Settings, dir: PathBuf) -> Result<Qemu> {
        let path = dir.join("gdb");
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        let mut command = Command::new("qemu-system-x86_64");
        // Firmware in system management mode is none of the guest's instructions; the count is the clock, as here. A log that QEMU
        // opens itself is written by lines, standard error by words.
        let words = "-machine pc,smm=off -accel tcg -icount shift=0 -nodefaults -display none -serial null -no-reboot -S -D /dev/stderr";
        command
            .args(words.split(' '))
            .args(["-cpu", &settings.cpu])
            .args(["-m", &settings.memory_mib.to_string()])
            .arg("-chardev")
            .arg(format!("socket,id=gdb,path={}", path.display()))
            .args(["-gdb", "chardev:gdb", "-append", &settings.append])
            .arg("-kernel")
            .arg(&settings.kernel);
        if let Some(initrd) = &settings.initrd {
            command.arg("-initrd").arg(initrd);
        }
        let child = command
            .args(&settings.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("qemu-system-x86_64 cannot be started (Debian package qemu-system-x86)")?;
        let mut child = Guarded(child);
        let errors = child.0.stderr.take().context("it was asked for")?;
        let mut log = Pipe::new(errors, settings.patience);
        let socket = accept(&listener, &mut child.0, &mut log)?;
        socket.set_read_timeout(Some(settings.patience))?;
        Ok(Qemu {
            _child: child,
            gdb: Gdb::new(socket)?,
            log: Some(log),
            dir,
            float: settings.float,
        })
    }

    /// Runs to this linear address, the `nth` time that it is reached.
    pub(super) fn go_to(&mut self, address: u64, nth: u64) -> Result<()> {
        for n in 0..nth.max(1) {
            if n != 0 {
                self.gdb.step()?;
            }
            self.gdb.go_to(address)?;
        }
        Ok(())
    }

    /// All registers that are compared, x87 and SSE included.
    pub(super) fn registers(&mut self) -> Result<Registers> {
        let text = self.gdb.monitor("info registers")?;
        let mut registers = Registers::default();
        for line in text.lines() {
            registers.read_line(line.trim_end());
        }
        ensure!(
            registers.float.is_some(),
            "QEMU prints its registers in another way: {text}"
        );
        Ok(registers)
    }

    /// The first `bytes` of guest-physical memory.
    pub(super) fn memory(&mut self, bytes: u64) -> Result<Vec<u8>> {
        let file = self.dir.join("memory");
        let command = format!("pmemsave 0 {bytes:#x} \"{}\"", file.display());
        let complaint = self.gdb.monitor(&command)?;
        let memory = std::fs::read(&file).with_context(|| format!("{command}: {complaint}"))?;
        ensure!(memory.len() as u64 == bytes, "{command}: {complaint}");
        Ok(memory)
    }

    /// The values of [`HIDDEN`]: its CPU is made to execute RDMSR where it stands, and all is put back. Only at CPL 0.
    pub(super) fn hidden(&mut self, at: &Registers) -> Result<Vec<(u32, u64)>> {
        const RDMSR: [u8; 2] = [0x0f, 0x32];
        let address = at.seg[1].base.wrapping_add(at.rip);
        let saved = self.gdb.read(address, RDMSR.len())?;
        self.gdb.write(address, &RDMSR)?;
        let mut values = Vec::new();
        for msr in HIDDEN {
            self.gdb.set_register(register::RCX, msr.into())?;
            self.gdb.set_register(register::RIP, at.rip)?;
            self.gdb.step()?;
            let after = self.registers()?;
            ensure!(
                after.rip != at.rip,
                "QEMU did not execute RDMSR at {address:#x}"
            );
            values.push((msr, after.gpr[2] << 32 | after.gpr[0] & 0xffff_ffff));
        }
        self.gdb.write(address, &saved)?;
        for (register, value) in [
            (register::RAX, at.gpr[0]),
            (register::RCX, at.gpr[1]),
            (register::RDX, at.gpr[2]),
            (register::RIP, at.rip),
        ] {
            self.gdb.set_register(register, value)?;
        }
        let after = self.registers()?;
        ensure!(after == *at, "QEMU's registers could not be put back");
        Ok(values)
    }

    /// Lets it run, writing down each instruction.
    pub(super) fn trace(&mut self) -> Result<Trace<Pipe>> {
        let float = if self.float { ",fpu" } else { "" };
        self.gdb.monitor("singlestep on")?;
        // in_asm tells which interrupts come from outside, int where.
        self.gdb
            .monitor(&format!("log cpu,int,in_asm,nochain{float}"))?;
        self.gdb.go()?;
        let log = self.log.take().context("it is traced already")?;
        Ok(Trace::new(log, self.float))
    }
}

/// A child that ends with its owner.
#[derive(Debug)]
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended by itself, and there is nobody to tell of errors.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// QEMU connects, or ends with a complaint.
fn accept(listener: &UnixListener, child: &mut Child, log: &mut Pipe) -> Result<UnixStream> {
    let (send, receive) = mpsc::channel();
    let listener = listener.try_clone()?;
    std::thread::spawn(move || send.send(listener.accept()));
    loop {
        match receive.recv_timeout(Duration::from_millis(50)) {
            Ok(accepted) => return Ok(accepted?.0),
            Err(_) if child.try_wait()?.is_some() => {
                let mut complaint = String::new();
                log.read_to_string(&mut complaint)?;
                bail!("QEMU ended at once: {complaint}");
            }
            Err(_) => {}
        }
    }
}
