//! x87 in emitted code: the host's own instruction on the guest's unit, which the host holds meanwhile (`hostfp::live`).
//!
//! A block loads the unit before its first x87 instruction unless it is loaded already; the thunks take it back before Rust runs. So
//! regions hand it on to each other, and a loop of theirs loads it once.
//!
//! Invariants: regions with [`Class::Host`](crate::effects::Class::Host) are made for modes without [`mode::X87`](atoll_x86::state::mode::X87)
//! alone, so nothing that an instruction raises is unmasked, and nothing is ever pending. An instruction leaves, if at all, before
//! its stub. The control word in the state is that of the host's unit; the pointers are in the state alone.

use atoll_hostfp::live::{self, Form};
use atoll_x86::eval::Eval;
use atoll_x86::flags::{CF, FlagOp, PF, ZF};
use atoll_x86::op::{Arg, Cond, Op, OpFlags, RAX, Width};
use atoll_x86::semantics::x87::control_word;
use atoll_x86::state::X87_MASKS;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::Emitter;
use super::eval::{Truth, Untranslatable};
use crate::abi::{self, Helper};

impl Emitter<'_, '_> {
    pub(super) fn x87(&mut self, op: &Op, form: Form) -> Result<(), Untranslatable> {
        match form {
            Form::Stack => {
                self.load_x87();
                self.note(None);
                self.stub(op.imm as u16, None);
            }
            Form::Load(bytes) | Form::Store(bytes) => {
                let address = self.ea(op, bytes)?;
                let host = self.host(address, bytes, matches!(form, Form::Store(_)));
                self.load_x87();
                self.note(Some((op, address)));
                self.stub(op.imm as u16, Some(host));
            }
            Form::Flags => self.x87_flags(op),
            Form::Move => {
                self.load_x87();
                let c = self.cond(Cond::from_bits(op.sub));
                let c = self.truth_value(Width::Q, c);
                self.note(None);
                self.stub(op.imm as u16, Some(c));
            }
            Form::Clear => {
                self.load_x87();
                self.stub(op.imm as u16, None);
            }
            Form::LoadControl => self.x87_load_control(op)?,
            Form::StoreControl => {
                let address = self.ea(op, 2)?;
                let v = self.load_state(types::I16, abi::X87_CONTROL);
                self.store(Width::W, address, v)?;
            }
            Form::StoreStatus => self.x87_store_status(op)?,
            Form::Wait => {}
        }
        Ok(())
    }

    /// Has the host's unit hold the guest's.
    fn load_x87(&mut self) {
        if std::mem::replace(&mut self.x87_loaded, true) {
            return;
        }
        let loaded = self.load_state(types::I64, abi::helper(Helper::X87Loaded));
        let (on, load) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(load);
        self.b.ins().brif(loaded, on, &[], load, &[]);
        self.b.switch_to_block(load);
        self.call_preserving(Helper::LoadX87);
        self.b.ins().jump(on, &[]);
        self.b.switch_to_block(on);
    }

    /// FIP, and FDP for an instruction with a memory operand at this linear address.
    fn note(&mut self, data: Option<(&Op, Value)>) {
        let ip = self.rip_of(self.at);
        self.store_state(ip, abi::X87_IP);
        if let Some((op, address)) = data {
            let offset = if op.has(OpFlags::SEG_BASE) {
                let base = self.seg_base(op.seg);
                self.b.ins().isub(address, base)
            } else {
                address
            };
            self.store_state(offset, abi::X87_DP);
        }
    }

    fn stub(&mut self, code: u16, argument: Option<Value>) {
        let stubs = self.load_state(types::I64, abi::helper(Helper::X87Stubs));
        let stub = self.b.ins().iadd_imm_s(stubs, live::stub(code) as i64);
        let sig = self.preserving_sigs[argument.iter().len()];
        self.b.ins().call_indirect(sig, stub, argument.as_slice());
    }

    /// The address of a word for stubs to write to.
    fn scratch(&mut self) -> Value {
        let cpu = self.cpu();
        self.b.ins().iadd_imm_s(cpu, i64::from(abi::ANSWER))
    }

    fn x87_flags(&mut self, op: &Op) {
        self.load_x87();
        self.note(None);
        let scratch = self.scratch();
        self.stub(op.imm as u16, Some(scratch));
        let bits = self.load_state(types::I8, abi::ANSWER);
        let bits = self.b.ins().uextend(types::I64, bits);
        let bits = self.b.ins().band_imm_s(bits, (ZF | PF | CF) as i64);
        self.flags(FlagOp::Real, Width::Q, bits, bits, bits);
    }

    /// FLDCW: a word that unmasks something changes the mode and is the interpreter's.
    fn x87_load_control(&mut self, op: &Op) -> Result<(), Untranslatable> {
        let address = self.ea(op, 2)?;
        let v = self.load(Width::W, address)?;
        let masks = self.b.ins().band_imm_s(v, i64::from(X87_MASKS));
        let open = self
            .b
            .ins()
            .icmp_imm_s(IntCC::NotEqual, masks, i64::from(X87_MASKS));
        let exit = self.exit_before();
        self.leave_if(Truth::plain(open), exit);
        self.load_x87();
        let (kept, set) = (control_word(u16::MAX), control_word(0));
        let v = self.b.ins().band_imm_s(v, i64::from(kept));
        let v = self.b.ins().bor_imm_s(v, i64::from(set));
        self.store_state(v, abi::X87_CONTROL);
        let cpu = self.cpu();
        let home = self.b.ins().iadd_imm_s(cpu, i64::from(abi::X87_CONTROL));
        self.stub(op.imm as u16, Some(home));
        Ok(())
    }

    fn x87_store_status(&mut self, op: &Op) -> Result<(), Untranslatable> {
        if op.dst_arg == Arg::Mem {
            let address = self.ea(op, 2)?;
            let host = self.host(address, 2, true);
            self.load_x87();
            self.stub(live::STORE_STATUS, Some(host));
            return Ok(());
        }
        self.load_x87();
        let scratch = self.scratch();
        self.stub(live::STORE_STATUS, Some(scratch));
        let v = self.load_state(types::I16, abi::ANSWER);
        self.set_reg(Width::W, RAX, v);
        Ok(())
    }
}
