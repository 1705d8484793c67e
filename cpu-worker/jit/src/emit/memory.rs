//! Guest memory: the inline lookup in the TLB, and the cold call behind it.

use atoll_mmu::DATA_ENTRIES;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Opcode, Value, types};

use super::{Emitter, plain};
use crate::abi::{self, Helper};

impl Emitter<'_, '_> {
    /// The host address to use for one access of `bytes` at `va`; leaves before the instruction where there is none.
    pub(super) fn host(&mut self, va: Value, bytes: u32, write: bool) -> Value {
        let exit = self.shared_exit();
        let set = self.load_state(types::I64, abi::DATA_SET);
        let shifted = self.b.ins().ushr_imm_u(va, 7);
        let mask = (DATA_ENTRIES as i64 - 1) * 32;
        let index = self.b.ins().band_imm_s(shifted, mask);
        let entry = self.b.ins().iadd(set, index);
        // Each load right before its only use, so that it becomes the operand of an instruction.
        let addend = self.b.ins().load(types::I64, plain(), entry, 16);
        let host = self.b.ins().iadd(va, addend);
        let last = self.last_byte(va, i64::from(bytes));
        let page = self.b.ins().band_imm_s(last, -4096);
        let tag = self
            .b
            .ins()
            .load(types::I64, plain(), entry, if write { 8 } else { 0 });
        let hit = self.b.ins().icmp(IntCC::Equal, page, tag);
        let (on, miss) = (self.b.create_block(), self.b.create_block());
        self.b.append_block_param(on, types::I64);
        self.b
            .ins()
            .brif(hit, on, &[BlockArg::Value(host)], miss, &[]);
        self.b.set_cold_block(miss);
        self.b.switch_to_block(miss);
        self.store_state(va, abi::ASKED_VA);
        let what = i64::from(bytes) | i64::from(write) << 8;
        let what = self.b.ins().iconst(types::I64, what);
        self.store_state(what, abi::ASKED_WHAT);
        self.call_preserving(Helper::Memory);
        let answer = self.load_state(types::I64, abi::ANSWER);
        // A block apart, which is in no loop: what it uses need not be at hand within one.
        let fail = self.b.create_block();
        self.b.set_cold_block(fail);
        self.b
            .ins()
            .brif(answer, on, &[BlockArg::Value(answer)], fail, &[]);
        self.b.switch_to_block(fail);
        let here = self.here();
        self.b.ins().jump(exit, &here);
        self.b.switch_to_block(on);
        self.b.block_params(on)[0]
    }

    /// The address of the last byte of an access.
    fn last_byte(&mut self, va: Value, bytes: i64) -> Value {
        if bytes == 1 {
            return va;
        }
        let dfg = &self.b.func.dfg;
        let is_sum = dfg
            .value_def(va)
            .inst()
            .is_some_and(|i| dfg.insts[i].opcode() == Opcode::Iadd);
        if is_sum {
            // As an addition Cranelift would merge it with that one, and do that twice, from registers that are not at hand any more.
            let back = self.b.ins().iconst(types::I64, 1 - bytes);
            return self.b.ins().isub(va, back);
        }
        self.b.ins().iadd_imm_s(va, bytes - 1)
    }

    /// The arithmetic flags of the state, as bits.
    pub(super) fn flag_bits_of_state(&mut self) -> Value {
        self.call_preserving(Helper::FlagBits);
        self.load_state(types::I64, abi::ANSWER)
    }

    /// Calls a helper that changes no register.
    pub(super) fn call_preserving(&mut self, helper: Helper) {
        let function = self.load_state(types::I64, abi::helper(helper));
        let sig = self.preserving_sigs[0];
        self.b.ins().call_indirect(sig, function, &[]);
    }
}
