//! Cranelift: from a plan to position-independent machine code.

use rustix::time::{ClockId, clock_gettime};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;

use crate::emit::{Emitted, emit};
use crate::flow::Flow;
use crate::links::Link;
use crate::plan::Plan;

/// Instructions of Cranelift's form in a function at most. Each costs one or two microseconds, more the more there are; a guest chooses what it
/// executes, and shall not choose how long that is compiled. The largest region of a kernel's boot has 12 000.
const MAX_INSTRUCTIONS: usize = 16_000;

/// A region as machine code, not yet installed.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) plan: Plan,
    pub(crate) code: Vec<u8>,
    pub(crate) entries: Vec<i64>,
    pub(crate) links: Box<[Link]>,
    pub(crate) calls: Vec<Box<atoll_x86::Op>>,
    /// Passes through its entries that are left before it reports itself.
    pub(crate) counters: Box<[u32]>,
    pub(crate) ns: u64,
}

/// A compiler with its scratch memory.
pub(crate) struct Compiler {
    isa: OwnedTargetIsa,
    context: Context,
    builder: FunctionBuilderContext,
    show: bool,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").finish_non_exhaustive()
    }
}

impl Compiler {
    /// A compiler for this host.
    ///
    /// # Panics
    /// If Cranelift does not know the host, which is x86-64 by the crate's assembly.
    pub(crate) fn new() -> Compiler {
        let mut flags = settings::builder();
        for (name, value) in [
            // Mid-level optimisation would move and fold floating-point operations, whose flags the guest sees; what it does for integers the
            // translator does itself.
            ("opt_level", "none"),
            ("enable_pinned_reg", "true"),
            (
                "enable_verifier",
                if cfg!(debug_assertions) {
                    "true"
                } else {
                    "false"
                },
            ),
            ("unwind_info", "false"),
            // Tail calls need them.
            ("preserve_frame_pointers", "true"),
            ("enable_probestack", "false"),
            ("is_pic", "true"),
        ] {
            flags.set(name, value).expect("a setting of Cranelift's");
        }
        let isa = cranelift_native::builder()
            .expect("an x86-64 host")
            .finish(settings::Flags::new(flags))
            .expect("consistent settings");
        Compiler {
            isa,
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            show: std::env::var_os("ATOLL_JIT_CLIF").is_some(),
        }
    }

    /// Compiles a plan, or of one that is too dear as much as is not. None if Cranelift refuses the function (its limits on size); the code
    /// then stays interpreted.
    pub(crate) fn compile(&mut self, mut plan: Plan) -> Option<Compiled> {
        let start = cpu_ns();
        let mut emitted = self.emit(&mut plan);
        while self.context.func.dfg.num_insts() > MAX_INSTRUCTIONS && plan.len() > 1 {
            plan.halve();
            emitted = self.emit(&mut plan);
        }
        if self.show {
            eprintln!("{}", self.context.func.display());
        }
        let compiled = match self
            .context
            .compile(&*self.isa, &mut ControlPlane::default())
        {
            Ok(c) => c,
            Err(e) => {
                debug_assert!(false, "{:?}", e.inner);
                return None;
            }
        };
        debug_assert!(compiled.buffer.relocs().is_empty());
        Some(Compiled {
            code: compiled.code_buffer().to_vec(),
            entries: emitted.entries,
            links: emitted.links.finish(),
            calls: emitted.calls,
            counters: Box::default(),
            ns: cpu_ns() - start,
            plan,
        })
    }

    /// Translates a plan into the context's function.
    fn emit(&mut self, plan: &mut Plan) -> Emitted {
        let flow = Flow::new(plan);
        self.context.clear();
        emit(
            &mut self.context.func,
            &mut self.builder,
            self.isa.frontend_config(),
            plan,
            &flow,
        )
    }
}

/// What this thread has used of the CPU, in ns.
fn cpu_ns() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
