//! The life of a device process, from its arguments to its exit status.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use atoll_abi::control::{Control as Order, Fault, FaultKind, LogLevel, Role};
use nix::sys::signalfd::SignalFd;

use crate::args::{Args, Command, parse};
use crate::attach::{Attachment, connect, fault, shake_hands};
use crate::control::{Control, spawn, take_signals};
use crate::sandbox::{self, Policy};

/// A kind of device process.
pub trait Device: Sized {
    /// The name of its binary.
    const BINARY: &'static str;
    /// What it is to the broker.
    const ROLE: Role;

    /// Opens everything that the configuration names. Afterwards the process can open nothing more
    /// than [`Device::policy`] says.
    fn open(attachment: &mut Attachment) -> Result<Self, Fault>;

    /// What it goes on needing.
    fn policy(&self) -> Policy;

    /// Serves until [`Control::ending`], and leaves everything in order.
    fn serve(self, control: &Control) -> Result<(), Fault>;
}

/// The whole of a device process's `main`.
pub fn run<D: Device>() -> ExitCode {
    let args = match parse(D::BINARY, std::env::args_os().skip(1)) {
        Ok(Command::Serve(args)) => args,
        Ok(Command::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("{}: {mistake}", D::BINARY);
            return ExitCode::from(2);
        }
    };
    match live::<D>(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::NoBroker(why)) => {
            eprintln!("{}: {why}", D::BINARY);
            ExitCode::FAILURE
        }
        Err(End::Fault(kind)) => match kind {
            FaultKind::Config => ExitCode::from(2),
            FaultKind::Locked => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        },
    }
}

/// How a process ends that does not end in good order.
enum End {
    /// There is nobody to tell but the user.
    NoBroker(String),
    /// The broker was told.
    Fault(FaultKind),
}

fn live<D: Device>(args: &Args) -> Result<(), End> {
    let signals = take_signals().map_err(End::NoBroker)?;
    let mut session = connect(&args.broker).map_err(End::NoBroker)?;
    let mut attachment =
        shake_hands(&mut session, D::ROLE, D::BINARY, &args.broker).map_err(End::NoBroker)?;
    let control = Control::new(&session).map_err(|fault| End::NoBroker(fault.what))?;
    // The default hook has printed where a panic happened; the broker learns that it did.
    let served = catch_unwind(AssertUnwindSafe(|| {
        let device = D::open(&mut attachment)?;
        begin(&device, args, &control, session, signals)?;
        if control.wait_start() {
            device.serve(&control)
        } else {
            Ok(())
        }
    }));
    let outcome =
        served.unwrap_or_else(|panic| Err(fault(FaultKind::Internal, describe(panic.as_ref()))));
    outcome.map_err(|fault| {
        let kind = fault.kind;
        control.send(&Order::Fault(fault));
        End::Fault(kind)
    })
}

fn begin<D: Device>(
    device: &D,
    args: &Args,
    control: &Control,
    session: atoll_transport::Session,
    signals: SignalFd,
) -> Result<(), Fault> {
    if args.sandbox {
        for missing in sandbox::enter(&device.policy()) {
            control.log(LogLevel::Info, format!("{}: sandbox: {missing}", D::BINARY));
        }
    }
    // The thread comes after the sandbox, so that it is inside as well.
    spawn(control, session, signals)?;
    control.send(&Order::Ready);
    Ok(())
}

fn describe(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a bug: {}", text.unwrap_or("panic"))
}
