//! The handler of a lifted instruction: the family's function with kind, width and operand places fixed for the forms
//! that programs spend their time in, and one that looks at the `Op` for all others.

use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::Stop;
use crate::op::{AH, Arg, Cond, Handler, Kind, Op, OpFlags, Reg, Width};
use crate::semantics::{self, alu, bit, branch, moves, muldiv, shift, stack};

fn generic(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    semantics::execute(cpu, op)
}

/// A match on a value that hands each listed variant on as a constant.
macro_rules! fix {
    ($value:expr, $type:ident [$($variant:ident)*], |$name:ident| $body:expr, else $default:expr) => {
        match $value {
            $($type::$variant => {
                #[allow(non_upper_case_globals)]
                const $name: $type = $type::$variant;
                $body
            })*
            _ => $default,
        }
    };
}

/// The same for the four widths.
macro_rules! by_width {
    ($w:expr, |$name:ident| $body:expr) => {
        match $w {
            Width::B => {
                const $name: Width = Width::B;
                $body
            }
            Width::W => {
                const $name: Width = Width::W;
                $body
            }
            Width::D => {
                const $name: Width = Width::D;
                $body
            }
            Width::Q => {
                const $name: Width = Width::Q;
                $body
            }
        }
    };
}

fn is_high(r: Reg) -> bool {
    r >= AH
}

/// The function to call for `op`.
pub(crate) fn handler(op: &Op) -> Handler {
    // Segmented code, and the high byte registers, which the fixed forms test for in vain, stay general.
    let high = op.width == Width::B
        && (op.dst_arg == Arg::Reg && is_high(op.dst) || op.src_arg == Arg::Reg && is_high(op.src));
    if op.has(OpFlags::SEG_CHECK) || high {
        return generic;
    }
    use Kind::*;
    match op.kind {
        Nop => |_, _| Ok(()),
        Add | Or | Adc | Sbb | And | Sub | Xor | Cmp | Test => binary(op),
        Inc | Dec | Neg | Not => unary(op),
        Mov => mov(op),
        Movzx | Movsx => extend(op),
        Lea => lea(op),
        Shl | Shr | Sar | Rol | Ror => shifts(op),
        Push | Pop => stack_move(op),
        Jcc => jcc(op),
        Setcc | Cmovcc => conditional(op),
        Jmp | Call | Ret | JmpInd | CallInd | Leave => transfer(op),
        Imul2 | Imul3 | Mul | Imul1 | Div | Idiv => multiply(op),
        Xchg | Xadd | Cmpxchg | Bt | Bts | Btr | Btc | Bsf | Bsr => atomics(op),
        _ => generic,
    }
}

fn binary(op: &Op) -> Handler {
    fix!(op.kind, Kind [Add Or Adc Sbb And Sub Xor Cmp Test], |K| {
        by_width!(op.width, |W| match (op.dst_arg, op.src_arg) {
            (Arg::Reg, Arg::Reg) => |c, o| alu::binary(c, o, K, W, Arg::Reg, Arg::Reg),
            (Arg::Reg, Arg::Imm) => |c, o| alu::binary(c, o, K, W, Arg::Reg, Arg::Imm),
            (Arg::Reg, Arg::Mem) => |c, o| alu::binary(c, o, K, W, Arg::Reg, Arg::Mem),
            (Arg::Mem, Arg::Reg) => |c, o| alu::binary(c, o, K, W, Arg::Mem, Arg::Reg),
            (Arg::Mem, Arg::Imm) => |c, o| alu::binary(c, o, K, W, Arg::Mem, Arg::Imm),
            _ => generic,
        })
    }, else generic)
}

fn unary(op: &Op) -> Handler {
    fix!(op.kind, Kind [Inc Dec Neg Not], |K| {
        by_width!(op.width, |W| match op.dst_arg {
            Arg::Reg => |c, o| alu::unary(c, o, K, W, Arg::Reg),
            _ => |c, o| alu::unary(c, o, K, W, Arg::Mem),
        })
    }, else generic)
}

fn mov(op: &Op) -> Handler {
    by_width!(op.width, |W| match (op.dst_arg, op.src_arg) {
        (Arg::Reg, Arg::Reg) => |c, o| moves::mov(c, o, W, Arg::Reg, Arg::Reg),
        (Arg::Reg, Arg::Imm) => |c, o| moves::mov(c, o, W, Arg::Reg, Arg::Imm),
        (Arg::Reg, Arg::Mem) => |c, o| moves::mov(c, o, W, Arg::Reg, Arg::Mem),
        (Arg::Mem, Arg::Reg) => |c, o| moves::mov(c, o, W, Arg::Mem, Arg::Reg),
        (Arg::Mem, Arg::Imm) => |c, o| moves::mov(c, o, W, Arg::Mem, Arg::Imm),
        _ => generic,
    })
}

fn extend(op: &Op) -> Handler {
    if op.width2 == Width::B && op.src_arg == Arg::Reg && is_high(op.src) {
        return generic;
    }
    fix!(op.kind, Kind [Movzx Movsx], |K| {
        by_width!(op.width, |W| by_width!(op.width2, |W2| match op.src_arg {
            Arg::Reg => |c, o| moves::extend(c, o, K, W, W2, Arg::Reg),
            _ => |c, o| moves::extend(c, o, K, W, W2, Arg::Mem),
        }))
    }, else generic)
}

fn lea(op: &Op) -> Handler {
    by_width!(op.width, |W| |c, o| moves::lea(c, o, W))
}

fn shifts(op: &Op) -> Handler {
    fix!(op.kind, Kind [Shl Shr Sar Rol Ror], |K| {
        by_width!(op.width, |W| match (op.dst_arg, op.src_arg) {
            (Arg::Reg, Arg::Imm) if op.imm != 0 => {
                |c, o| shift::shift(c, o, K, W, Arg::Reg, Arg::Imm)
            }
            (Arg::Reg, Arg::Reg) => |c, o| shift::shift(c, o, K, W, Arg::Reg, Arg::Reg),
            _ => generic,
        })
    }, else generic)
}

/// Whether stack addresses need nothing added: everything but segmented modes.
fn flat_stack(op: &Op) -> bool {
    !op.has(OpFlags::SEG_CHECK | OpFlags::SEG_BASE)
}

fn stack_move(op: &Op) -> Handler {
    if !flat_stack(op) {
        return generic;
    }
    fix!(op.width, Width [W D Q], |W| match (op.kind, op.src_arg, op.dst_arg) {
        (Kind::Push, Arg::Reg, _) => |c, o| stack::push(c, o, W, Arg::Reg),
        (Kind::Push, Arg::Imm, _) => |c, o| stack::push(c, o, W, Arg::Imm),
        (Kind::Push, Arg::Mem, _) => |c, o| stack::push(c, o, W, Arg::Mem),
        (Kind::Pop, _, Arg::Reg) => |c, o| stack::pop(c, o, W, Arg::Reg),
        _ => generic,
    }, else generic)
}

/// A match on the condition code.
macro_rules! by_condition {
    ($sub:expr, |$name:ident| $body:expr) => {
        fix!(
            Cond::from_bits($sub),
            Cond [O No B Ae E Ne Be A S Ns P Np L Ge Le G],
            |$name| $body,
            else generic
        )
    };
}

fn jcc(op: &Op) -> Handler {
    if op.width != Width::Q {
        return |c, o| branch::jcc(c, o);
    }
    #[allow(unreachable_patterns)]
    {
        by_condition!(op.sub, |C| |c, o| {
            if c.cond(C) {
                let target = c.state.rip().wrapping_add(o.imm);
                c.state.set_rip(target);
            }
            Ok(())
        })
    }
}

fn conditional(op: &Op) -> Handler {
    if op.kind == Kind::Setcc {
        return match op.dst_arg {
            Arg::Reg => |c, o| moves::setcc(c, o, Arg::Reg),
            _ => |c, o| moves::setcc(c, o, Arg::Mem),
        };
    }
    by_width!(op.width, |W| match op.src_arg {
        Arg::Reg => |c, o| moves::cmov(c, o, W, Arg::Reg),
        _ => |c, o| moves::cmov(c, o, W, Arg::Mem),
    })
}

fn transfer(op: &Op) -> Handler {
    if op.width != Width::Q || !op.has(OpFlags::LONG) {
        return generic;
    }
    match (op.kind, op.src_arg) {
        (Kind::Jmp, _) => |c, o| branch::jmp(c, o),
        (Kind::Call, _) => |c, o| branch::call(c, o, Width::Q),
        (Kind::Ret, _) => |c, o| branch::ret(c, o, Width::Q),
        (Kind::JmpInd, Arg::Reg) => |c, o| branch::jmp_indirect(c, o, Width::Q, Arg::Reg),
        (Kind::JmpInd, _) => |c, o| branch::jmp_indirect(c, o, Width::Q, Arg::Mem),
        (Kind::CallInd, Arg::Reg) => |c, o| branch::call_indirect(c, o, Width::Q, Arg::Reg),
        (Kind::CallInd, _) => |c, o| branch::call_indirect(c, o, Width::Q, Arg::Mem),
        (Kind::Leave, _) => |c, o| stack::leave(c, o, Width::Q),
        _ => generic,
    }
}

fn multiply(op: &Op) -> Handler {
    fix!(op.kind, Kind [Imul2 Imul3], |K| {
        return by_width!(op.width, |W| match op.src_arg {
            Arg::Reg => |c, o| muldiv::imul(c, o, K, W, Arg::Reg),
            _ => |c, o| muldiv::imul(c, o, K, W, Arg::Mem),
        });
    }, else {});
    fix!(op.kind, Kind [Mul Imul1], |K| {
        return by_width!(op.width, |W| |c, o| muldiv::widening(c, o, K, W, o.src_arg));
    }, else {});
    fix!(op.kind, Kind [Div Idiv], |K| {
        by_width!(op.width, |W| |c, o| muldiv::divide(c, o, K, W, o.src_arg))
    }, else generic)
}

fn atomics(op: &Op) -> Handler {
    let (d, s) = (op.dst_arg, op.src_arg);
    match op.kind {
        Kind::Xchg => by_width!(op.width, |W| |c, o| moves::xchg(c, o, W, o.dst_arg)),
        Kind::Xadd => by_width!(op.width, |W| |c, o| alu::xadd(c, o, W, o.dst_arg)),
        Kind::Cmpxchg => by_width!(op.width, |W| |c, o| alu::cmpxchg(c, o, W, o.dst_arg)),
        Kind::Bsf | Kind::Bsr => fix!(op.kind, Kind [Bsf Bsr], |K| {
            by_width!(op.width, |W| |c, o| bit::scan(c, o, K, W, o.src_arg))
        }, else generic),
        _ if d == Arg::Reg || s == Arg::Imm => fix!(op.kind, Kind [Bt Bts Btr Btc], |K| {
            by_width!(op.width, |W| |c, o| bit::test(c, o, K, W, o.dst_arg, o.src_arg))
        }, else generic),
        _ => generic,
    }
}
